"""Which cells a study has, and what their seeds depend on."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.errors import ConfigError
from vitcnn.models.config import ViT
from vitcnn.seeds import role_seed
from vitcnn.study.budget import Budget
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells
from vitcnn.study.recipe import Recipe

PLACE = {"dataset": "digits", "validation": 297, "n": 50, "seed": 0}
VIT = Cell(**PLACE, arch=ViT(), recipe=Recipe(), budget=Budget(images_seen=1000))


# ---- the matrix ----


def test_there_is_one_cell_per_model_size_and_seed(study):
    made = cells(study("sizes=[50,100,200]", "seeds=4"))
    assert len({c.id for c in made}) == len(made) == 3 * 3 * 4
    assert {(c.model, c.n, c.seed) for c in made} == {
        (e, n, s) for e in ("vit", "cnn", "linear") for n in (50, 100, 200) for s in range(4)
    }
    assert {c.role for c in made} == {"main"}


def test_cells_of_another_study_or_model_name_are_shared(study):
    mine = {c.id for c in cells(study("sizes=[50]"))}
    assert {c.id for c in cells(study("name=other", "sizes=[50]", "models={mine: {arch: vit}}"))} < mine


def test_linear_has_neither_recipe_nor_budget_nor_steps(study):
    (cell,) = cells(study("models=[linear]", "sizes=[50]", "seeds=1"))
    assert (cell.recipe, cell.budget, cell.steps) == (None, None, 0)


@pytest.mark.parametrize(
    ("budget", "n", "steps"),
    [
        ({"images_seen": 1280}, 50, 10),
        ({"images_seen": 1281}, 200, 11),
        ({"epochs": 3}, 128, 3),
        ({"epochs": 0.1}, 50, 1),
        ({"epochs": 1.1}, 51_200, 440),
        ({"epochs": 1.1}, 51_201, 441),
    ],
)
def test_steps_are_the_budget_rounded_up_to_whole_batches_and_rounding_adds_none(budget, n, steps):
    cell = VIT.model_copy(update={"n": n, "budget": Budget(**budget)})
    assert cell.recipe.batch_size == 128
    assert cell.steps == steps


@pytest.mark.parametrize("budget", ["{images_seen: 1000}", "{epochs: 4}"])
def test_budget_check_doubles_the_pair_at_the_two_end_sizes(study, budget):
    loaded = study(
        "budget_check={seeds: [0, 2]}", f"budget={budget}", "seeds=3", "sizes=[50,100,200]", "models=[vit,cnn,swin]"
    )
    made = cells(loaded)
    main, checks = [[c for c in made if c.role == role] for role in ("main", "budget-check")]
    assert len(main) == 3 * 3 * 3
    assert {(c.model, c.n, c.seed) for c in checks} == {
        (e, n, s) for e in ("vit", "cnn") for n in (50, 200) for s in (0, 2)
    }
    assert len(checks) == 8
    assert {c.budget for c in checks} == {loaded.budget[0].times(2)}
    kind = next(iter(loaded.budget[0].model_dump(exclude_none=True)))
    assert getattr(checks[0].budget, kind) == 2 * getattr(loaded.budget[0], kind)
    assert {c.id for c in checks}.isdisjoint(c.id for c in main)


def test_budget_check_takes_its_factor_and_pair_from_the_study(study):
    made = cells(study("budget_check={factor: 3}", "pair=[swin,cnn]", "models=[vit,cnn,swin]", "seeds=1"))
    checks = [c for c in made if c.role == "budget-check"]
    assert Counter(c.model for c in checks) == {"swin": 2, "cnn": 2}
    assert {c.budget.images_seen for c in checks} == {3000}


@pytest.mark.parametrize("override", ["models={a: {arch: vit}, b: {arch: vit, width: 96}}", "grid.lr=[0.001,1e-3]"])
def test_duplicate_cells_are_refused(study, override):
    with pytest.raises(ConfigError, match="are the same cell"):
        cells(study(override))


def test_a_grid_makes_search_cells_each_with_its_point_as_variant(study):
    made = cells(study("grid={lr: [0.002, 0.004], augment: [none, 'shift:1']}", "sizes=[50]", "seeds=1"))
    trained = {c.variant: c.recipe for c in made if c.model == "vit"}
    assert trained == {
        "lr=0.002 augment=none": Recipe(lr=0.002),
        "lr=0.002 augment=shift:1": Recipe(lr=0.002, augment="shift:1"),
        "lr=0.004 augment=none": Recipe(lr=0.004),
        "lr=0.004 augment=shift:1": Recipe(lr=0.004, augment="shift:1"),
    }
    assert {c.role for c in made} == {"search"}
    assert Counter(c.model for c in made) == {"vit": 4, "cnn": 4, "linear": 1}


# ---- seeds ----


def test_role_seeds_are_what_they_were_when_the_first_records_were_committed():
    assert role_seed(0, "init") == 7885824881599989479
    assert role_seed(0, "order", 7) == 9203259192984464309


def test_role_seeds_differ_by_purpose_seed_and_step():
    steps = [(), *((step,) for step in range(20))]
    made = [role_seed(seed, p, *more) for seed in range(20) for p in ("subset", "init", "order") for more in steps]
    assert len(set(made)) == len(made) == 20 * 3 * 21


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**63), st.sampled_from(["subset", "init", "order"]), st.lists(st.integers(0, 10**9), max_size=2))
def test_role_seeds_fit_torch_and_numpy_and_repeat(seed, purpose, more):
    made = role_seed(seed, purpose, *more)
    assert 0 <= made < 2**63
    assert made == role_seed(seed, purpose, *more)
