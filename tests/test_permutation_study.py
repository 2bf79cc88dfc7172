"""A study at several permutations: its cells, what is refused, and what a training is shown."""

from collections import Counter

import numpy as np
import pytest
import torch
from augmenting import pictures
from building import Spy, lane_on
from torch import Tensor

from vitcnn.data.permutation import Permutation, order
from vitcnn.data.preprocess import Preprocess
from vitcnn.data.rng import states
from vitcnn.data.sources.fetch import load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.models.config import ViT
from vitcnn.seeds import role_seed
from vitcnn.store.paths import StudyPaths
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.study.recipe import Recipe
from vitcnn.training.train import train_cell

ALL = Permutation(patches=1, pixels=1)


# ---- the study ----


def settings_of(made: list[Cell], model: str) -> list[Permutation | None]:
    return [cell.permutation for cell in made if cell.model == model]


def test_every_setting_makes_every_trained_cell_once_and_the_baseline_is_fitted_once(study):
    one, permutations = (
        Permutation(patches=1),
        [Permutation(), Permutation(patches=0.5), Permutation(patches=1, pixels=1)],
    )
    alone = cells(study("permutation={patches: 1}"))
    assert Counter(settings_of(alone, "vit")) == Counter(settings_of(alone, "cnn")) == {one: 4}
    assert settings_of(alone, "linear") == [None] * 4
    several = cells(study("permutation=[{patches: 0},{patches: 0.5},{patches: 1, pixels: 1}]"))
    assert (
        Counter(settings_of(several, "vit")) == Counter(settings_of(several, "cnn")) == dict.fromkeys(permutations, 4)
    )
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
            "permutation: the same setting appears more than once",
        ),
        ("permutation={patches: 1.5}", "patches: Input should be less than or equal to 1 (got 1.5)"),
        (
            "permutation=[{},{pixels: -0.1}]",
            "permutation.1.pixels: Input should be greater than or equal to 0 (got -0.1)",
        ),
        ("permutation={patches: most}", "patches: Input should be a valid number"),
        ("permutation={seed: -1}", "seed: Input should be greater than or equal to 0 (got -1)"),
        ("permutation={patch: 0}", "patch: Input should be greater than 0 (got 0)"),
        ("permutation={patch: 3}", "permutation: an image of 8 pixels cannot be cut into patches of 3×3; set `patch`"),
        ("permutation=1", "permutation: give a setting such as {patches: 1}, or a list of them, not 1"),
        (
            "permutation={patches: 0.05}",
            "permutation: 0.05 of 16 patches is fewer than two, so nothing can be permuted",
        ),
        ("permutation=[{patches: 0}, {patches: 0, seed: 1}]", "two settings give the same permutation"),
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
    with pytest.raises(ConfigError, match="permutation: a search takes one setting; its recipes apply to all"):
        cells(study(grid, "permutation=[{patches: 0},{patches: 1}]"))
    assert Counter(settings_of(cells(study(grid, "permutation={patches: 1}")), "vit")) == {Permutation(patches=1): 8}


# ---- training ----


def test_augmentation_comes_first_and_moves_native_pixels():
    images, moved, spy = pictures(6, size=32), order(32, ALL), Spy()
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
