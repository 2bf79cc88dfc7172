"""configs/README.md names every key of a study, with the default that it has."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from vitcnn.data.permutation import Permutation
from vitcnn.models.registry import ARCHS
from vitcnn.study.budget import BudgetCheck, Pretrain
from vitcnn.study.recipe import Recipe
from vitcnn.study.schema import Study, StudyModel

TEXT = (Path(__file__).parents[1] / "configs" / "README.md").read_text(encoding="utf-8")
ROWS = {row[0]: row[1:] for row in (re.split(r" \| ", line.strip("| ")) for line in TEXT.splitlines() if "|" in line)}
FILLED_IN = {"chosen", "search", "before", "weights_sha256", "source_sha256", "name"}
FAMILY = {"vit-window": "vit", "hybrid": "vit", "sasa": "cnn", "cnn-attention": "cnn"}


def written(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value).lower()


def test_every_key_of_a_study_and_of_a_model_has_a_row():
    keys = set(Study.model_fields) - FILLED_IN
    assert keys <= {row.strip("`") for row in ROWS}
    assert {f"`{key}`" for key in set(StudyModel.model_fields) - {"name", "arch"}} <= set(ROWS)


@pytest.mark.parametrize(
    ("row", "part"), [("permutation", Permutation), ("budget_check", BudgetCheck), ("pretrain", Pretrain)]
)
def test_every_key_of_a_part_is_in_its_row(row: str, part: type[BaseModel]):
    assert [key for key in part.model_fields if not re.search(rf"\b{key}\b", " ".join(ROWS[f"`{row}`"]))] == []


def test_every_field_of_a_recipe_stands_there_with_its_default():
    assert {key: ROWS[f"`{key}`"][0] for key in Recipe.model_fields} == {
        key: written(field.default) for key, field in Recipe.model_fields.items()
    }


@pytest.mark.parametrize("name", ARCHS)
def test_every_option_of_a_network_stands_there_with_its_default(name: str):
    said = ROWS[f"`{name}`"][0]
    family = ARCHS[FAMILY[name]].model_fields if name in FAMILY else {}
    for key, field in ARCHS[name].model_fields.items():
        if key in FILLED_IN or (key in family and family[key].default == field.default):
            continue
        default = "" if field.default is None or field.default == {} else f" {written(field.default)}"
        assert re.search(rf"`{key}`{re.escape(default)}(?=[ ,;:)]|$)", said), f"{name}: {key}{default}"


def test_no_option_stands_there_that_is_none():
    for name, fields in ARCHS.items():
        known = set(fields.model_fields) | set(ARCHS[FAMILY.get(name, name)].model_fields)
        assert set(re.findall(r"`(\w+)`", ROWS[f"`{name}`"][0])) <= known | {"cifar", "imagenet"}
