"""The dial: patches and pixels change places by a stated share, for every image alike, and a ViT cannot care."""

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

from vitcnn.data.permutation import Permutation, order, patch_side
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.rng import states
from vitcnn.data.sources.fetch import load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.models.build import preprocess
from vitcnn.models.config import CNN, ViT, ViTWindow
from vitcnn.seeds import role_seed
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.study.recipe import Recipe
from vitcnn.training.train import train_cell

ALL = Permutation(patches=1, pixels=1)


def by_tokens(size: int, side: int) -> np.ndarray:
    """(patches, pixels of a patch): where they are in an image of size² pixels, both counted row by row."""
    grid = size // side
    return np.arange(size**2).reshape(grid, side, grid, side).swapaxes(1, 2).reshape(grid**2, side**2)


def taken_apart(size: int, permutation: Permutation) -> tuple[np.ndarray, np.ndarray]:
    """(the patch that comes to stand at each patch's place, the pixel at each pixel's place in it); patches stay whole."""
    side, moved = patch_side(size, permutation), order(size, permutation)
    assert sorted(moved) == list(range(size**2))
    paths = by_tokens(size, side)
    number = np.empty(size**2, np.int64)
    number[paths.ravel()] = np.arange(size**2)
    patch, pixel = np.divmod(number[moved][paths], side**2)
    assert (patch == patch[:, :1]).all()
    assert (pixel == pixel[:1]).all()
    return patch[:, 0], pixel[0]


def displaced(permutation: np.ndarray) -> set[int]:
    return set(np.flatnonzero(permutation != np.arange(len(permutation))))


def pictures(count: int = 4, size: int = 32, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def moving(size: int, permutation: Permutation) -> Tensor:
    return torch.from_numpy(order(size, permutation))


# ---- the permutation ----


def movable(share: float, count: int) -> bool:
    return not share or round(share * count) > 1


shares = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0]) | st.floats(0, 1)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), shares, shares, st.integers(0, 2**40))
def test_the_stated_share_of_tokens_moves_whole_and_of_pixels_the_same_in_every_token(
    grid, side, patches, pixels, seed
):
    permutation = Permutation(patches=patches, pixels=pixels, patch=side, seed=seed)
    assume(movable(patches, grid**2) and movable(pixels, side**2))
    for permutation, share in zip(taken_apart(grid * side, permutation), (patches, pixels), strict=True):
        assert len(displaced(permutation)) == round(share * len(permutation))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([8, 28, 32, 96]), st.tuples(shares, shares), st.tuples(shares, shares), st.integers(0, 2**40))
def test_a_larger_share_moves_what_a_smaller_one_moves_and_more(size, patches, pixels, seed):
    side = size // max(4, -(-size // 16))
    assume(all(movable(w, (size // side) ** 2) and movable(p, side**2) for w, p in zip(patches, pixels, strict=True)))
    small, large = (
        taken_apart(size, Permutation(patches=pick(patches), pixels=pick(pixels), seed=seed)) for pick in (min, max)
    )
    for few, many in zip(small, large, strict=True):
        assert displaced(few) <= displaced(many)


def test_tokens_and_pixels_move_independently():
    patches, pixels = taken_apart(32, ALL)
    assert np.array_equal(taken_apart(32, Permutation(patches=1))[0], patches)
    assert np.array_equal(taken_apart(32, Permutation(pixels=1))[1], pixels)
    assert not displaced(taken_apart(32, Permutation(patches=1))[1])
    assert not displaced(taken_apart(32, Permutation(pixels=1))[0])
    same = Permutation(patches=1, pixels=1, patch=6)  # 36 patches of 36 pixels: two permutations all the same
    assert not np.array_equal(*taken_apart(36, same))


def test_everything_moved_is_one_circle_and_nothing_moved_the_image_itself():
    for permutation in taken_apart(32, ALL):
        at, steps = permutation[0], 1
        while at != 0:
            at, steps = permutation[at], steps + 1
        assert steps == len(permutation)
    assert np.array_equal(order(32, Permutation()), np.arange(32**2))


def test_the_seed_decides_the_order():
    first, again, other = (order(32, Permutation(patches=1, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_orders_are_what_they_were_when_the_first_records_were_committed():
    digest = hashlib.sha256(order(32, Permutation(patches=0.5, pixels=1)).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "ad3b248663c2915a"


@pytest.mark.parametrize(
    ("size", "side", "patches"), [(8, 2, 16), (28, 7, 16), (32, 8, 16), (64, 16, 16), (96, 16, 36), (224, 16, 196)]
)
def test_tokens_are_those_that_a_vit_of_16_pixel_patches_is_shown(size, side, patches):
    assert patch_side(size, Permutation()) == side
    assert len(taken_apart(size, ALL)[0]) == patches


@pytest.mark.parametrize(
    ("size", "patch", "said"),
    [
        (100, None, "an image of 100 pixels is not made of 7×7 whole patches; give `patch`, its native pixels a side"),
        (30, None, "an image of 30 pixels is not made of 4×4 whole patches"),
        (15, None, "an image of 15 pixels is not made of 4×4 whole patches"),
        (3, None, "an image of 3 pixels is not made of 4×4 whole patches"),
        (32, 5, "an image of 32 pixels is not made of patches of 5×5"),
        (32, 64, "an image of 32 pixels is not made of patches of 64×64"),
    ],
)
def test_tokens_that_are_not_whole_are_refused(size, patch, said):
    with pytest.raises(ConfigError) as caught:
        order(size, Permutation(patches=1, patch=patch))
    assert said in str(caught.value)


# ---- what the network sees ----


@pytest.mark.parametrize(
    "permutation", [ALL, Permutation(patches=0.5), Permutation(pixels=0.3, seed=4), Permutation(patches=1, patch=4)]
)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixels_change_places_and_then_each_becomes_a_square(factor, permutation):
    images, moved = pictures(), order(32, permutation)
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
    plain, empty = (preprocess(ViT(), RGB, images, 64, permutation) for permutation in (None, Permutation()))
    scaled = (images.float() / 255 - plain.mean) / plain.std
    torch.testing.assert_close(plain(images), F.interpolate(scaled, (64, 64), mode="bilinear"), rtol=0, atol=1e-6)
    assert torch.equal(empty(images), scaled.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert torch.equal(plain.mean, empty.mean)
    assert torch.equal(plain.std, empty.std)


@pytest.mark.parametrize(("size", "shown"), [(28, 64), (28, 32), (8, 64), (8, 32), (96, 128), (32, 32), (28, 30)])
def test_tokens_stay_whole_at_whatever_size_they_are_shown(size, shown):
    """Enlarging and then moving the patches is moving them and then enlarging; where they end between two of the enlarged
    image's pixels (28 at 30), at least no colour is mixed."""
    images, permutation = pictures(2, size), Permutation(patches=1)
    patches, grid = taken_apart(size, permutation)[0], size // patch_side(size, permutation)
    straight, moved = (Preprocess.of(images, shown, moving(size, s))(images) for s in (Permutation(), permutation))
    if shown % grid == 0:
        side = shown // grid
        patches = F.unfold(straight, side, stride=side)[..., patches]
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

SETTINGS = [Permutation(patches=1), Permutation(pixels=1), ALL, Permutation(patches=0.5, pixels=0.3, seed=3)]


def ready(arch) -> nn.Module:
    return shaken(made(arch)).eval().requires_grad_(False)


def seen(size: int, permutation: Permutation) -> Tensor:
    images = pictures()
    return Preprocess.of(images, size, moving(32, permutation))(images)


@pytest.mark.parametrize("permutation", SETTINGS, ids=str)
def test_a_vit_whose_weights_moved_along_sees_what_it_saw_before(permutation):
    vit = ready(ViT())
    other, (patches, pixels) = copy.deepcopy(vit), taken_apart(32, permutation)
    other.positions.copy_(vit.positions[patches])
    native = vit.embed.weight.unflatten(2, (8, 2)).unflatten(4, (8, 2)).permute(0, 1, 2, 4, 3, 5)  # (D, C, 8, 8, 2, 2)
    moved = native.flatten(2, 3)[:, :, pixels].unflatten(2, (8, 8)).permute(0, 1, 2, 4, 3, 5)
    other.embed.weight.copy_(moved.flatten(4, 5).flatten(2, 3))
    before = vit(seen(64, Permutation()))
    assert torch.allclose(other(seen(64, permutation)), before, atol=1e-5)
    assert (vit(seen(64, permutation)) - before).abs().max() > 1e-3  # its old weights do not do


@pytest.mark.parametrize("permutation", SETTINGS, ids=str)
def test_the_cnn_and_the_windowed_vit_see_another_image(permutation):
    cnn = ready(CNN())
    assert (cnn(seen(32, permutation)) - cnn(seen(32, Permutation()))).abs().max() > 1e-3
    if permutation.patches:
        window, patches = (
            ready(ViTWindow()),
            taken_apart(32, Permutation(patches=permutation.patches, seed=permutation.seed))[0],
        )
        before = window(seen(64, Permutation()))
        window.positions.copy_(window.positions[patches])
        after = window(seen(64, Permutation(patches=permutation.patches, seed=permutation.seed)))
        assert (after - before).abs().max() > 1e-4  # positions that move along are not enough: its neighbours changed


# ---- the study ----


def settings_of(made: list[Cell], model: str) -> list[Permutation | None]:
    return [cell.permutation for cell in made if cell.model == model]


def test_every_setting_makes_every_trained_cell_once_and_the_baseline_is_fitted_once(study):
    one, dial = Permutation(patches=1), [Permutation(), Permutation(patches=0.5), Permutation(patches=1, pixels=1)]
    alone = cells(study("permutation={patches: 1}"))
    assert Counter(settings_of(alone, "vit")) == Counter(settings_of(alone, "cnn")) == {one: 4}
    assert settings_of(alone, "linear") == [None] * 4
    several = cells(study("permutation=[{patches: 0},{patches: 0.5},{patches: 1, pixels: 1}]"))
    assert Counter(settings_of(several, "vit")) == Counter(settings_of(several, "cnn")) == dict.fromkeys(dial, 4)
    assert settings_of(several, "linear") == [None] * 4
    assert len({cell.id for cell in several}) == len({cell.title for cell in several}) == len(several) == 2 * 4 * 3 + 4
    assert settings_of(cells(study()), "vit") == [None] * 4


def test_a_setting_is_the_same_however_it_is_written_and_no_setting_is_another_than_an_empty_one(study):
    ids = {
        text: cells(study(*([text] if text else []), "models=[vit]", "sizes=[50]", "seeds=1"))[0].id
        for text in (
            "",
            "permutation={patches: 0}",
            "permutation={patches: 1}",
            "permutation=[{patches: 1.0, seed: 0}]",
            "permutation.patches=1",
        )
    }
    none, empty, *ones = ids.values()
    assert len({none, empty, *ones}) == 3
    assert len(set(ones)) == 1


@pytest.mark.parametrize(
    "other", [{"patches": 0.5}, {"pixels": 1}, {"patch": 4}, {"seed": 1}, {"patches": 0.5, "pixels": 0.5}], ids=str
)
def test_every_part_of_a_setting_changes_the_id_and_survives_json(other):
    cell = Cell(
        dataset="digits", validation=297, n=50, seed=0, arch=ViT(), recipe=Recipe(), permutation=Permutation(patches=1)
    )
    changed = cell.model_copy(update={"permutation": Permutation(**{"patches": 1} | other)})
    assert changed.id != cell.id
    assert Cell.model_validate_json(changed.model_dump_json()).id == changed.id


@pytest.mark.parametrize(
    ("permutation", "said"),
    [
        (Permutation(), "not permuted"),
        (Permutation(patches=1), "all patches permuted"),
        (Permutation(patches=0.5, pixels=0.5), "50% of the patches and pixels permuted"),
        (Permutation(patches=1, pixels=1), "all patches and pixels permuted"),
        (Permutation(pixels=0.5), "50% of the pixels permuted"),
        (Permutation(patches=0.25, pixels=1), "25% of the patches and all pixels permuted"),
    ],
)
def test_a_setting_is_said_in_tokens(permutation, said):
    assert str(permutation) == said


def test_the_budget_check_is_made_at_every_setting(study):
    made = cells(study("permutation=[{patches: 0},{patches: 1}]", "budget_check={}", "seeds=1"))
    checks = Counter((c.model, c.n, c.permutation.patches) for c in made if c.role == "budget-check")
    assert checks == {(model, n, patches): 1 for model in ("vit", "cnn") for n in (50, 200) for patches in (0, 1)}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "permutation=[{patches: 1},{pixels: 1},{patches: 1.0}]",
            "permutation: the same setting stands there more than once",
        ),
        ("permutation={patches: 1.5}", "patches: Input should be less than or equal to 1 (got 1.5)"),
        (
            "permutation=[{},{pixels: -0.1}]",
            "permutation.1.pixels: Input should be greater than or equal to 0 (got -0.1)",
        ),
        ("permutation={patches: most}", "patches: Input should be a valid number"),
        ("permutation={seed: -1}", "seed: Input should be greater than or equal to 0 (got -1)"),
        ("permutation={patch: 0}", "patch: Input should be greater than 0 (got 0)"),
        ("permutation={patch: 3}", "permutation: an image of 8 pixels is not made of patches of 3×3; give `patch`"),
        ("permutation=1", "permutation: a setting such as {patches: 1}, or a list of them, not 1"),
        ("permutation={patches: 0.05}", "permutation: 0.05 of 16 patches is fewer than two: nothing can change places"),
        ("permutation=[{patches: 0}, {patches: 0, seed: 1}]", "two settings put every pixel in the same place"),
        ("permutation={patches: 1, patch: 8}", "permutation: 1 of 1 patches is fewer than two"),
    ],
)
def test_a_wrong_setting_is_refused(study, override, said):
    with pytest.raises(ConfigError) as caught:
        cells(study(override))
    assert said in str(caught.value)


def test_an_unknown_key_of_a_setting_names_the_nearest_one(study):
    with pytest.raises(ConfigError, match=r"did you mean 'patches'\? known: patch, patches, pixels, seed$"):
        study("permutation={patchs: 1}")


def test_a_search_is_made_at_one_setting(study):
    grid = "grid={lr: [0.001, 0.002]}"
    with pytest.raises(
        ConfigError, match="permutation: a search is made at one setting; the recipes that it finds serve all"
    ):
        cells(study(grid, "permutation=[{patches: 0},{patches: 1}]"))
    assert Counter(settings_of(cells(study(grid, "permutation={patches: 1}")), "vit")) == {Permutation(patches=1): 8}


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
        study(
            "models={vit: {width: 8, depth: 1, heads: 1, patch_size: 4}}",
            "permutation={patches: 1, pixels: 1, seed: 5}",
        )
    )
    cell, calls, look = made[0].model_copy(update={"budget": made[0].budget.times(0.256)}), [], Preprocess.forward

    def recorded(self: Preprocess, images: Tensor) -> Tensor:
        calls.append((images, look(self, images), self))
        return calls[-1][1]

    monkeypatch.setattr(Preprocess, "forward", recorded)
    train_cell(cell, paths=StudyPaths("spied", tmp_path, tmp_path))
    moved, arrays = order(8, cell.permutation), load(parse_dataset("digits")).arrays
    for images, shown, self in calls:
        pixels = ((images.float() / 255 - self.mean) / self.std).flatten(2)[..., moved].view(images.shape)
        assert torch.equal(shown, pixels.repeat_interleave(2, -1).repeat_interleave(2, -2))
    given = Counter(len(images) for images, *_ in calls)
    # steps; validation (297), watched and scored, in batches of 125; trained on, scored; the test set (500)
    assert given == {128: 2, 125: 2 * 2 + 4, 47: 2, 50: 1}
    tested = torch.cat([images for images, *_ in calls[-4:]])
    assert np.array_equal(tested.permute(0, 2, 3, 1).numpy(), arrays.test_images)
