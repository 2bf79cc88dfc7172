"""What the id of a cell depends on."""

import pytest

from vitcnn.data.permutation import Permutation
from vitcnn.errors import Frozen
from vitcnn.models.config import CNN, RNN, SASA, CNNAttention, Hybrid, Linear, Mixer, Swin, ViT, ViTWindow
from vitcnn.models.registry import ARCHS, Imported, Timm
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
