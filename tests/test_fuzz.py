"""Whatever a study or a record holds, what comes out is itself or an error that a person can mend.

Cases that once came out as something else are kept as examples.
"""

import copy
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vitcnn.errors import ConfigError
from vitcnn.store.records import read_record
from vitcnn.study import yaml_file
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

RECORDS = Path(__file__).parent.parent / "results" / "fashion-mnist" / "reference" / "records"


def fuzz(examples: int):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)


WORDS = "vit cnn timm/x timm/ import:a:b import:os:system import:..:x folder:. digits none strong shift:99 ../x 1e3"
ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 3, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf")),
        *(*WORDS.split(), "torchvision:", "", " ", "a\0b", "\ud800", "x" * 300, [], {}, [[]], {"": None}),
    ]
)
VALUES = st.recursive(
    ODD | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def paths(tree, here: tuple = ()) -> list[tuple]:
    """Where something stands in lists and mappings of each other."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [here, *(path for key, value in items for path in paths(value, (*here, key)))]


def put(tree, path: tuple, value):
    """`tree` with another value at a path; a copy."""
    if not path:
        return value
    tree = copy.deepcopy(tree)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree


# ---- studies ----

STUDY = {
    "name": "fuzz",
    "dataset": "digits",
    "sizes": [50, 200],
    "seeds": 2,
    "models": {
        "vit": {"depth": 2, "recipe": {"lr": 0.01}},
        "big": {"arch": "vit", "image_size": 64},
        "swin": {"arch": "swin", "depths": [1, 2]},
        "on": {"arch": "vit", "init_from": "big", "image_size": 64},
        "linear": {"C": [1.0]},
    },
    "budget": {"images_seen": 1000},
    "validation": 200,
    "recipe": {"lr": 0.1, "augment": "shift:1"},
    "grid": {"warmup": [0.1]},
    "pair": ["vit", "linear"],
    "budget_check": {"factor": 2.0, "seeds": [0]},
    "permutation": [{"tokens": 1.0, "token": 2}],
    "recipes": "r.yaml",
}
RECIPES = {"search": "s", "models": {name: {50: {"lr": 0.1}} for name in ("vit", "swin", "big", "on")}}


def study_or_error(text: bytes, recipes: bytes = b"") -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fuzz.yaml").write_bytes(text)
        (Path(folder) / "r.yaml").write_bytes(recipes)
        try:
            cells(load_study(Path(folder) / "fuzz.yaml"))
        except ConfigError as error:
            said = str(error)
        else:
            return
    assert 0 < len(said) < 5000


def dump(tree) -> bytes:
    return yaml_file.dump(tree).encode(errors="surrogatepass")


@pytest.mark.parametrize("drop", [(), ("grid", "budget_check", "recipes"), ("permutation", "grid", "recipes")])
def test_a_study_with_something_odd_in_it_loads_or_is_a_config_error(drop):
    tree = {key: value for key, value in STUDY.items() if key not in drop}
    recipes = dump(RECIPES)
    study_or_error(dump(tree), recipes)

    @fuzz(50)
    @given(st.sampled_from(paths(tree)), VALUES)
    @example(("models", "big", "arch"), [1])  # TypeError: unhashable
    @example(("seeds",), 2**62)  # MemoryError
    @example(("dataset",), "folder:a\0b")  # ValueError: embedded null byte
    @example(("dataset",), "folder:" + "x" * 300)  # OSError: File name too long
    def holds(path, value):
        study_or_error(dump(put(tree, path, value)), recipes)

    holds()


@fuzz(80)
@given(st.sampled_from(paths(RECIPES)), VALUES)
def test_recipes_with_something_odd_in_them_load_or_are_a_config_error(path, value):
    tree = {key: value for key, value in STUDY.items() if key not in ("recipe", "grid")}
    study_or_error(dump(tree), dump(put(RECIPES, path, value)))


MARKS = r"""a sizes : [ ] { } , *a << !! !!python/name:os ' " | > # % --- ... 0x 1_0 190:20:30 2026-99-99 \ é"""
PIECES = [
    *(": ", "- ", "\n", "  ", "\t", "&a ", "? ", "!! ", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary "),
    *("!!set ", "!!omap ", "!!pairs ", "\0", "\ud800", "\ufeff", *MARKS.split()),
]


@fuzz(300)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("a: !!int ''")  # IndexError
@example("a: !!bool a")  # KeyError
@example("a: !!timestamp a")  # AttributeError
@example("a: 2026-99-99")  # ValueError
@example("\0")  # ReaderError of the constructor
@example("[" * 2000)  # RecursionError
def test_pieces_of_yaml_load_or_are_a_config_error(text):
    study_or_error(text.encode(errors="surrogatepass"))


@fuzz(60)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_study_with_other_bytes_in_it_loads_or_is_a_config_error(place, other):
    whole = dump({key: value for key, value in STUDY.items() if key != "recipes"})
    place %= len(whole)
    study_or_error(whole[:place] + other + whole[place + len(other) :])


# ---- records ----


def record_or_error(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            said = f"{path.parent / read_record(path).id}.json"
        except ValueError as error:
            said = str(error)
    assert said.startswith(str(path))


REAL = min(path for path in RECORDS.glob("*.json") if '"recipe":{' in path.read_text())
TREE = {key: value for key, value in json.loads(REAL.read_text()).items() if key != "sum"}  # whatever is then in it
TREE["curve"] = TREE["curve"][:2]


@fuzz(150)
@given(st.sampled_from(paths(TREE)), VALUES)
@example(("cell", "arch"), [])  # an error that did not name the file
def test_a_record_with_something_odd_in_it_is_read_or_named(path, value):
    record_or_error(REAL.name, json.dumps(put(TREE, path, value)).encode(errors="surrogatepass"))


@fuzz(60)
@given(st.integers(0, 100_000), st.binary(min_size=1, max_size=3))
def test_a_record_with_other_bytes_in_it_is_read_or_named(place, other):
    whole = REAL.read_bytes()
    place %= len(whole)
    record_or_error(REAL.name, whole[:place] + other + whole[place + len(other) :])
    record_or_error(REAL.name, whole[:place])


@fuzz(20)
@given(st.binary(max_size=40))
@example(b"[" * 100_000)
@example(b'{"schema_":1,"id":' + b"9" * 10_000 + b"}")
def test_any_bytes_are_no_record(content):
    record_or_error("0123456789ab.json", content)
