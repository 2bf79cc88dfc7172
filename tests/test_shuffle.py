"""The dial: words and pixels change places by a stated share, for every image alike, and a ViT cannot care."""

import copy
import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from building import RGB, Spy, lane_on, made, shaken
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vitcnn.data.permutation import Shuffle, order, word_side
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.rng import states
from vitcnn.data.sources.fetch import load
from vitcnn.errors import ConfigError
from vitcnn.models.build import preprocess
from vitcnn.models.config import CNN, ViT, ViTWindow
from vitcnn.seeds import role_seed
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.study.recipe import Recipe
from vitcnn.training.train import train_cell

ALL = Shuffle(words=1, pixels=1)


def by_words(size: int, side: int) -> np.ndarray:
    """(words, pixels of a word): where they are in an image of size² pixels, both counted row by row."""
    grid = size // side
    return np.arange(size**2).reshape(grid, side, grid, side).swapaxes(1, 2).reshape(grid**2, side**2)


def taken_apart(size: int, shuffle: Shuffle) -> tuple[np.ndarray, np.ndarray]:
    """(the word that comes to stand at each word's place, the pixel at each pixel's place in it); words stay whole."""
    side, moved = word_side(size, shuffle), order(size, shuffle)
    assert sorted(moved) == list(range(size**2))
    paths = by_words(size, side)
    number = np.empty(size**2, np.int64)
    number[paths.ravel()] = np.arange(size**2)
    word, pixel = np.divmod(number[moved][paths], side**2)
    assert (word == word[:, :1]).all()
    assert (pixel == pixel[:1]).all()
    return word[:, 0], pixel[0]


def displaced(permutation: np.ndarray) -> set[int]:
    return set(np.flatnonzero(permutation != np.arange(len(permutation))))


def pictures(count: int = 4, size: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def moving(size: int, shuffle: Shuffle) -> Tensor:
    return torch.from_numpy(order(size, shuffle))


# ---- the permutation ----


def movable(share: float, count: int) -> bool:
    return not share or round(share * count) > 1


shares = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0]) | st.floats(0, 1)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), shares, shares, st.integers(0, 2**40))
def test_the_stated_share_of_words_moves_whole_and_of_pixels_the_same_in_every_word(grid, side, words, pixels, seed):
    shuffle = Shuffle(words=words, pixels=pixels, word=side, seed=seed)
    assume(movable(words, grid**2) and movable(pixels, side**2))
    for permutation, share in zip(taken_apart(grid * side, shuffle), (words, pixels), strict=True):
        assert len(displaced(permutation)) == round(share * len(permutation))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([8, 28, 32, 96]), st.tuples(shares, shares), st.tuples(shares, shares), st.integers(0, 2**40))
def test_a_larger_share_moves_what_a_smaller_one_moves_and_more(size, words, pixels, seed):
    side = size // max(4, -(-size // 16))
    assume(all(movable(w, (size // side) ** 2) and movable(p, side**2) for w, p in zip(words, pixels, strict=True)))
    small, large = (
        taken_apart(size, Shuffle(words=pick(words), pixels=pick(pixels), seed=seed)) for pick in (min, max)
    )
    for few, many in zip(small, large, strict=True):
        assert displaced(few) <= displaced(many)


def test_words_and_pixels_move_independently():
    words, pixels = taken_apart(32, ALL)
    assert np.array_equal(taken_apart(32, Shuffle(words=1))[0], words)
    assert np.array_equal(taken_apart(32, Shuffle(pixels=1))[1], pixels)
    assert not displaced(taken_apart(32, Shuffle(words=1))[1])
    assert not displaced(taken_apart(32, Shuffle(pixels=1))[0])
    same = Shuffle(words=1, pixels=1, word=6)  # 36 words of 36 pixels: two permutations all the same
    assert not np.array_equal(*taken_apart(36, same))


def test_everything_moved_is_one_circle_and_nothing_moved_the_image_itself():
    for permutation in taken_apart(32, ALL):
        at, steps = permutation[0], 1
        while at != 0:
            at, steps = permutation[at], steps + 1
        assert steps == len(permutation)
    assert np.array_equal(order(32, Shuffle()), np.arange(32**2))


def test_the_seed_decides_the_order():
    first, again, other = (order(32, Shuffle(words=1, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_orders_are_what_they_were_when_the_first_records_were_committed():
    digest = hashlib.sha256(order(32, Shuffle(words=0.5, pixels=1)).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "ad3b248663c2915a"


@pytest.mark.parametrize(
    ("size", "side", "words"), [(8, 2, 16), (28, 7, 16), (32, 8, 16), (64, 16, 16), (96, 16, 36), (224, 16, 196)]
)
def test_words_are_those_that_a_vit_of_16_pixel_patches_is_shown(size, side, words):
    assert word_side(size, Shuffle()) == side
    assert len(taken_apart(size, ALL)[0]) == words


@pytest.mark.parametrize(
    ("size", "word", "said"),
    [
        (100, None, "an image of 100 pixels is not made of 7×7 whole words; give `word`, its native pixels a side"),
        (30, None, "an image of 30 pixels is not made of 4×4 whole words"),
        (15, None, "an image of 15 pixels is not made of 4×4 whole words"),
        (3, None, "an image of 3 pixels is not made of 4×4 whole words"),
        (32, 5, "an image of 32 pixels is not made of words of 5×5"),
        (32, 64, "an image of 32 pixels is not made of words of 64×64"),
    ],
)
def test_words_that_are_not_whole_are_refused(size, word, said):
    with pytest.raises(ConfigError) as caught:
        order(size, Shuffle(words=1, word=word))
    assert said in str(caught.value)


# ---- what the network sees ----


@pytest.mark.parametrize("shuffle", [ALL, Shuffle(words=0.5), Shuffle(pixels=0.3, seed=4), Shuffle(words=1, word=4)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixels_change_places_and_then_each_becomes_a_square(factor, shuffle):
    images, moved = pictures(), order(32, shuffle)
    seen_by = Preprocess.of(images, 32 * factor, torch.from_numpy(moved))
    plain = Preprocess.of(images, 32)(images)
    seen = seen_by(images)
    assert seen.shape == (4, 3, 32 * factor, 32 * factor)
    for place, source in enumerate(moved):
        (y, x), (from_y, from_x) = divmod(place, 32), divmod(int(source), 32)
        square = seen[..., y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert torch.equal(square, plain[..., from_y, from_x, None, None].expand_as(square))


def test_without_a_shuffle_images_are_resized_bilinearly_and_with_an_empty_one_by_nearest_neighbour():
    images = pictures()
    plain, empty = (preprocess(ViT(), RGB, images, 64, shuffle) for shuffle in (None, Shuffle()))
    scaled = (images.float() / 255 - plain.mean) / plain.std
    torch.testing.assert_close(plain(images), F.interpolate(scaled, (64, 64), mode="bilinear"), rtol=0, atol=1e-6)
    assert torch.equal(empty(images), scaled.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(plain.mean, empty.mean)
    assert torch.equal(plain.std, empty.std)


@pytest.mark.parametrize(("size", "shown"), [(28, 64), (28, 32), (8, 64), (8, 32), (96, 128), (32, 32), (28, 30)])
def test_words_stay_whole_at_whatever_size_they_are_shown(size, shown):
    """Enlarging and then moving the words is moving them and then enlarging; where they end between two of the enlarged
    image's pixels (28 at 30), at least no colour is mixed."""
    images, shuffle = pictures(2, size), Shuffle(words=1)
    words, grid = taken_apart(size, shuffle)[0], size // word_side(size, shuffle)
    straight, moved = (Preprocess.of(images, shown, moving(size, s))(images) for s in (Shuffle(), shuffle))
    if shown % grid == 0:
        side = shown // grid
        patches = F.unfold(straight, side, stride=side)[..., words]
        assert torch.equal(F.fold(patches, (shown, shown), side, stride=side), moved)
    for channel in range(3):
        assert set(moved[:, channel].unique().tolist()) <= set(straight[:, channel].unique().tolist())


def test_images_that_lie_otherwise_in_memory_are_moved_alike():
    images = pictures()
    seeing = Preprocess.of(images, 64, moving(32, ALL))
    assert not images.mT.is_contiguous()
    for other in (images.mT, images.to(memory_format=torch.channels_last), images[..., ::2, ::2].repeat(1, 1, 2, 2)):
        assert torch.equal(seeing(other), seeing(other.contiguous()))


# ---- a ViT with learned positions cannot care, a CNN must ----

SETTINGS = [Shuffle(words=1), Shuffle(pixels=1), ALL, Shuffle(words=0.5, pixels=0.3, seed=3)]


def ready(model) -> nn.Module:
    return shaken(made(model)).eval().requires_grad_(False)


def seen(size: int, shuffle: Shuffle) -> Tensor:
    images = pictures()
    return Preprocess.of(images, size, moving(32, shuffle))(images)


@pytest.mark.parametrize("shuffle", SETTINGS, ids=str)
def test_a_vit_whose_weights_moved_along_sees_what_it_saw_before(shuffle):
    vit = ready(ViT())
    other, (words, pixels) = copy.deepcopy(vit), taken_apart(32, shuffle)
    other.positions.copy_(vit.positions[words])
    native = vit.embed.weight.unflatten(2, (8, 2)).unflatten(4, (8, 2)).permute(0, 1, 2, 4, 3, 5)  # (D, C, 8, 8, 2, 2)
    moved = native.flatten(2, 3)[:, :, pixels].unflatten(2, (8, 8)).permute(0, 1, 2, 4, 3, 5)
    other.embed.weight.copy_(moved.flatten(4, 5).flatten(2, 3))
    before = vit(seen(64, Shuffle()))
    assert torch.allclose(other(seen(64, shuffle)), before, atol=1e-5)
    assert (vit(seen(64, shuffle)) - before).abs().max() > 1e-3  # its old weights do not do


@pytest.mark.parametrize("shuffle", SETTINGS, ids=str)
def test_the_cnn_and_the_windowed_vit_see_another_image(shuffle):
    cnn = ready(CNN())
    assert (cnn(seen(32, shuffle)) - cnn(seen(32, Shuffle()))).abs().max() > 1e-3
    if shuffle.words:
        window, words = ready(ViTWindow()), taken_apart(32, Shuffle(words=shuffle.words, seed=shuffle.seed))[0]
        before = window(seen(64, Shuffle()))
        window.positions.copy_(window.positions[words])
        after = window(seen(64, Shuffle(words=shuffle.words, seed=shuffle.seed)))
        assert (after - before).abs().max() > 1e-4  # positions that move along are not enough: its neighbours changed


# ---- the study ----


def settings_of(made: list[Cell], entrant: str) -> list[Shuffle | None]:
    return [cell.shuffle for cell in made if cell.entrant == entrant]


def test_every_setting_makes_every_trained_cell_once_and_the_floor_is_fitted_once(study):
    one, dial = Shuffle(words=1), [Shuffle(), Shuffle(words=0.5), Shuffle(words=1, pixels=1)]
    alone = cells(study("shuffle={words: 1}"))
    assert Counter(settings_of(alone, "vit")) == Counter(settings_of(alone, "cnn")) == {one: 4}
    assert settings_of(alone, "linear") == [None] * 4
    several = cells(study("shuffle=[{words: 0},{words: 0.5},{words: 1, pixels: 1}]"))
    assert Counter(settings_of(several, "vit")) == Counter(settings_of(several, "cnn")) == dict.fromkeys(dial, 4)
    assert settings_of(several, "linear") == [None] * 4
    assert len({cell.id for cell in several}) == len({cell.title for cell in several}) == len(several) == 2 * 4 * 3 + 4
    assert settings_of(cells(study()), "vit") == [None] * 4


def test_a_setting_is_the_same_however_it_is_written_and_no_setting_is_another_than_an_empty_one(study):
    ids = {
        text: cells(study(*([text] if text else []), "entrants=[vit]", "sizes=[50]", "seeds=1"))[0].id
        for text in (
            "",
            "shuffle={words: 0}",
            "shuffle={words: 1}",
            "shuffle=[{words: 1.0, seed: 0}]",
            "shuffle.words=1",
        )
    }
    none, empty, *ones = ids.values()
    assert len({none, empty, *ones}) == 3
    assert len(set(ones)) == 1


@pytest.mark.parametrize(
    "other", [{"words": 0.5}, {"pixels": 1}, {"word": 4}, {"seed": 1}, {"words": 0.5, "pixels": 0.5}], ids=str
)
def test_every_part_of_a_setting_changes_the_id_and_survives_json(other):
    cell = Cell(dataset="digits", validation=297, n=50, seed=0, model=ViT(), recipe=Recipe(), shuffle=Shuffle(words=1))
    changed = cell.model_copy(update={"shuffle": Shuffle(**{"words": 1} | other)})
    assert changed.id != cell.id
    assert Cell.model_validate_json(changed.model_dump_json()).id == changed.id


@pytest.mark.parametrize(
    ("shuffle", "said"),
    [
        (Shuffle(), "not shuffled"),
        (Shuffle(words=1), "all words shuffled"),
        (Shuffle(words=0.5, pixels=0.5), "50% of the words and pixels shuffled"),
        (Shuffle(words=1, pixels=1), "all words and pixels shuffled"),
        (Shuffle(pixels=0.5), "50% of the pixels shuffled"),
        (Shuffle(words=0.25, pixels=1), "25% of the words and all pixels shuffled"),
    ],
)
def test_a_setting_is_said_in_words(shuffle, said):
    assert str(shuffle) == said


def test_the_budget_check_is_made_at_every_setting(study):
    made = cells(study("shuffle=[{words: 0},{words: 1}]", "budget_check={}", "seeds=1"))
    checks = Counter((c.entrant, c.n, c.shuffle.words) for c in made if c.role == "budget-check")
    assert checks == {(entrant, n, words): 1 for entrant in ("vit", "cnn") for n in (50, 200) for words in (0, 1)}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("shuffle=[{words: 1},{pixels: 1},{words: 1.0}]", "shuffle: the same setting stands there more than once"),
        ("shuffle={words: 1.5}", "words: Input should be less than or equal to 1 (got 1.5)"),
        ("shuffle=[{},{pixels: -0.1}]", "shuffle.1.pixels: Input should be greater than or equal to 0 (got -0.1)"),
        ("shuffle={words: most}", "words: Input should be a valid number"),
        ("shuffle={seed: -1}", "seed: Input should be greater than or equal to 0 (got -1)"),
        ("shuffle={word: 0}", "word: Input should be greater than 0 (got 0)"),
        ("shuffle={word: 3}", "shuffle: an image of 8 pixels is not made of words of 3×3; give `word`"),
        ("shuffle=1", "shuffle: a setting such as {words: 1}, or a list of them, not 1"),
        ("shuffle={words: 0.05}", "shuffle: 0.05 of 16 words is fewer than two: nothing can change places"),
        ("shuffle=[{words: 0}, {words: 0, seed: 1}]", "two settings put every pixel in the same place"),
        ("shuffle={words: 1, word: 8}", "shuffle: 1 of 1 words is fewer than two"),
    ],
)
def test_a_wrong_setting_is_refused(study, override, said):
    with pytest.raises(ConfigError) as caught:
        cells(study(override))
    assert said in str(caught.value)


def test_an_unknown_key_of_a_setting_names_the_nearest_one(study):
    with pytest.raises(ConfigError, match=r"did you mean 'words'\? known: pixels, seed, word, words$"):
        study("shuffle={wrds: 1}")


def test_a_search_is_made_at_one_setting(study):
    grid = "grid={lr: [0.001, 0.002]}"
    with pytest.raises(
        ConfigError, match="shuffle: a search is made at one setting; the recipes that it finds serve all"
    ):
        cells(study(grid, "shuffle=[{words: 0},{words: 1}]"))
    assert Counter(settings_of(cells(study(grid, "shuffle={words: 1}")), "vit")) == {Shuffle(words=1): 8}


# ---- training ----


def test_augmentation_comes_first_and_moves_native_pixels():
    images, moved, spy = pictures(6), order(32, ALL), Spy()
    seeing = Preprocess.of(images, 64, torch.from_numpy(moved))
    lane = lane_on(spy, images, seeing, Recipe(augment="flip+shift:3", batch_size=6))
    lane.advance(0, 1)
    lane(images)
    order_of_step = lane.feed.stream.indices(0)
    params = lane.augmentation.sample_params(states(role_seed(7, "augment"), torch.arange(6)))
    changed = lane.augmentation(images[order_of_step], params)
    for raw, shown in zip((changed, images), spy.shown, strict=True):
        pixels = ((raw.float() / 255 - seeing.mean) / seeing.std).flatten(2)[..., moved].view(6, 3, 32, 32)
        assert torch.equal(shown, pixels.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert not torch.equal(*spy.shown)


def test_training_validation_and_test_images_are_all_moved_by_the_same_order(study, tmp_path, monkeypatch):
    made = cells(
        study("entrants={vit: {width: 8, depth: 1, heads: 1, patch_size: 4}}", "shuffle={words: 1, pixels: 1, seed: 5}")
    )
    cell, calls, look = made[0].model_copy(update={"budget": made[0].budget.times(0.256)}), [], Preprocess.forward

    def recorded(self: Preprocess, images: Tensor) -> Tensor:
        calls.append((images, look(self, images), self))
        return calls[-1][1]

    monkeypatch.setattr(Preprocess, "forward", recorded)
    train_cell(cell, paths=StudyPaths("spied", tmp_path, tmp_path))
    moved, arrays = order(8, cell.shuffle), load("digits").arrays
    for images, shown, self in calls:
        pixels = ((images.float() / 255 - self.mean) / self.std).flatten(2)[..., moved].view(images.shape)
        assert torch.equal(shown, pixels.repeat_interleave(2, -1).repeat_interleave(2, -2))
    given = Counter(len(images) for images, *_ in calls)
    # steps; validation (297), watched and scored, in batches of 125; trained on, scored; the test set (500)
    assert given == {128: 2, 125: 2 * 2 + 4, 47: 2, 50: 1}
    tested = torch.cat([images for images, *_ in calls[-4:]])
    assert np.array_equal(tested.permute(0, 2, 3, 1).numpy(), arrays.test_images)
