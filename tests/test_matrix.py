"""Which cells a study has, and what their ids and seeds depend on."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.data.permutation import Permutation
from vitcnn.errors import ConfigError, Frozen
from vitcnn.models.config import CNN, RNN, SASA, CNNAttention, Hybrid, Linear, Mixer, Swin, ViT, ViTWindow
from vitcnn.models.registry import ARCHS, Imported, Timm
from vitcnn.seeds import role_seed
from vitcnn.study.budget import Budget
from vitcnn.study.cell import LABELS, Cell
from vitcnn.study.matrix import cells
from vitcnn.study.recipe import Recipe

PLACE = {"dataset": "digits", "validation": 297, "n": 50, "seed": 0}
VIT = Cell(**PLACE, arch=ViT(), recipe=Recipe(), budget=Budget(images_seen=1000))
CNN_ = Cell(**PLACE, arch=CNN(), recipe=Recipe(lr=0.002), budget=Budget(images_seen=1000))
LINEAR = Cell(**PLACE, arch=Linear())

WORDS = {
    "width": (96, 48),
    "depth": (4, 2),
    "patch_size": (16, 8),
    "image_size": (None, 128),
    "mlp_ratio": (4.0, 2.0),
    "drop_path": (0.0, 0.1),
}
VIT_FIELDS = WORDS | {
    "heads": (3, 4),
    "positions": ("learned", "sinusoidal"),
    "score": ("scaled", "additive"),
    "weights": ("softmax", "relu/n"),
}
# The default of every field and another value. A new field without a line here fails a test below.
FIELDS = {
    Recipe: {
        "lr": (0.001, 0.002),
        "weight_decay": (0.05, 0.0),
        "warmup": (0.1, 0.2),
        "batch_size": (128, 64),
        "label_smoothing": (0.1, 0.0),
        "clip_norm": (1.0, 0.0),
        "augment": ("none", "shift:1"),
        "init": ("xavier", "normal"),
        "precision": ("float32", "bf16"),
    },
    ViT: VIT_FIELDS,
    Hybrid: VIT_FIELDS,
    ViTWindow: VIT_FIELDS | {"window": (3, 5)},
    Swin: {
        "width": (60, 48),
        "depths": ((1, 2), (2, 2)),
        "heads": ((2, 4), (2, 2)),
        "window": (4, 2),
        "patch_size": (8, 4),
        "image_size": (None, 128),
        "drop_path": (0.0, 0.1),
    },
    CNN: {
        "channels": ((16, 48, 192), (8, 48, 192)),
        "blocks": ((1, 1, 1), (1, 2, 1)),
        "stem_stride": (2, 1),
        "image_size": (None, 64),
    },
    Mixer: WORDS | {"depth": (6, 2), "token_ratio": (0.5, 1.0)},
    RNN: WORDS | {"mlp_ratio": (3.0, 2.0)},
    CNNAttention: {
        "channels": ((16, 48, 192), (8, 48, 192)),
        "blocks": ((1, 1, 1), (1, 2, 1)),
        "stem_stride": (2, 1),
        "image_size": (None, 64),
        "gate": (4.0, 1.0),
        "sharpness": (4.0, 2.0),
        "head_width": (8, 4),
    },
    SASA: {
        "channels": ((16, 48, 352), (16, 48, 192)),
        "blocks": ((1, 1, 1), (1, 2, 1)),
        "stem_stride": (2, 1),
        "image_size": (None, 64),
        "window": (5, 3),
        "head_width": (16, 8),
    },
    Linear: {"C": ((0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0), (1.0,))},
}
OTHER_CELL = {
    "dataset": "fashion-mnist",
    "validation": 296,
    "n": 51,
    "seed": 1,
    "arch": CNN(),
    "recipe": Recipe(lr=0.002),
    "budget": Budget(images_seen=1001),
    "resolution": 32,
    "content": "0123456789abcdef",
    "permutation": Permutation(),
    "init_from": "0123456789ab",
}


def with_part(part: Frozen) -> Cell:
    return VIT.model_copy(update={"recipe" if isinstance(part, Recipe) else "arch": part})


# ---- the cell id ----


@pytest.mark.parametrize(
    ("cell", "golden"),
    # A change here orphans every committed record: the ids in results/ would no longer be those of their cells.
    [(VIT, "d24e0a90b85c"), (CNN_, "489a2f9fc217"), (LINEAR, "d0676b2ed8d2")],
    ids=["vit", "cnn", "linear"],
)
def test_ids_are_what_they_were_when_the_first_records_were_committed(cell, golden):
    assert cell.id == golden


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in FIELDS.items() for field in fields])
def test_every_scientific_field_changes_the_id_and_its_default_does_not(kind, field):
    default, other = FIELDS[kind][field]
    assert with_part(kind(**{field: default})).id == with_part(kind()).id
    assert with_part(kind(**{field: other})).id != with_part(kind()).id


@pytest.mark.parametrize(("field", "other"), OTHER_CELL.items())
def test_what_a_cell_itself_says_changes_the_id(field, other):
    assert VIT.model_copy(update={field: other}).id != VIT.id


def test_the_content_of_a_folder_stands_for_the_way_to_it():
    here, there = (
        VIT.model_copy(update={"dataset": name, "resolution": size, "content": "0123456789abcdef"})
        for name, size in (("folder:/a", 32), ("folder:~/elsewhere", None))
    )
    assert here.id == there.id != VIT.id
    assert here.model_copy(update={"content": "f" * 16}).id != here.id


@pytest.mark.parametrize("budget", [{"images_seen": 1001}, {"epochs": 20}, {"epochs": 1000}])
def test_the_budget_changes_the_id(budget):
    assert VIT.model_copy(update={"budget": Budget(**budget)}).id != VIT.id


def test_no_scientific_field_is_forgotten_above():
    assert set(OTHER_CELL) == set(Cell.model_fields) - LABELS
    assert set(Budget.model_fields) == {"images_seen", "epochs"}
    assert set(ARCHS.values()) <= {*FIELDS, Timm, Imported}
    for kind, fields in FIELDS.items():
        assert set(fields) == set(kind.model_fields) - {"name"}


@pytest.mark.parametrize("kind", FIELDS)
def test_defaults_are_what_they_were_when_the_first_records_were_committed(kind):
    """Ids leave defaults out: under a changed default, old records would pass for cells that were trained otherwise."""
    assert kind().model_dump(exclude={"name"}) == {field: default for field, (default, _) in FIELDS[kind].items()}


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("study", "other"),
        ("model", "other"),
        ("role", "budget-check"),
        ("variant", "lr=0.1"),
    ],
)
def test_labels_do_not_change_the_id(label, value):
    assert label in LABELS
    assert VIT.model_copy(update={label: value}).id == VIT.id


def test_every_label_is_tested_above():
    assert {"study", "model", "role", "variant", "init_from_study"} == LABELS


def test_the_name_of_another_study_to_begin_with_is_a_label_but_the_new_head_is_not():
    begun = VIT.model_copy(update={"init_from": "0" * 12})
    there = [begun.model_copy(update={"init_from_study": name}) for name in ("one", "other")]
    assert there[0].id == there[1].id != begun.id


def test_validation_given_as_the_data_sets_own_number_has_the_same_ids(study):
    assert [c.id for c in cells(study("validation=297"))] == [c.id for c in cells(study())]


def test_two_models_at_their_defaults_have_two_ids():
    assert len({VIT.model_copy(update={"arch": kind()}).id for kind in (ViT, Swin, CNN, Linear)}) == 4


def test_a_cell_read_back_from_json_has_its_id():
    for cell in (VIT, CNN_, LINEAR):
        assert Cell.model_validate_json(cell.model_dump_json()).id == cell.id


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
    ],
)
def test_steps_are_the_budget_rounded_up_to_whole_batches(budget, n, steps):
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
