"""Whatever a study, a record or a folder of images holds, what comes out is itself or an error that a person can mend.

Cases that once came out as something else are kept as examples.
"""

import copy
import io
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitcnn.data.sources.cache import FetchError
from vitcnn.data.sources.fetch import fetch
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.store.records import read_record
from vitcnn.study import yaml_file
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

RECORDS = Path(__file__).parent.parent / "results" / "fashion-mnist" / "records"


def fuzz(examples: int):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)


ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 3, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf")),
        *(
            "",
            " ",
            "vit",
            "cnn",
            "timm/x",
            "timm/",
            "import:a:b",
            "import:os:system",
            "import:..:x",
            "folder:.",
            "digits",
        ),
        *(
            "none",
            "strong",
            "shift:99",
            "a\0b",
            "\ud800",
            "x" * 300,
            "../x",
            "1e3",
            "torchvision:",
            [],
            {},
            [[]],
            {"": None},
        ),
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

    @fuzz(80)
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


PIECES = [
    *(
        "a",
        "sizes",
        ": ",
        ":",
        "- ",
        "\n",
        "  ",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "<<",
        "? ",
        "!!",
        "!!int ",
    ),
    *("!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!pairs ", "!!python/name:os", "'"),
    *(
        '"',
        "|",
        ">",
        "#",
        "%",
        "---",
        "...",
        "0x",
        "1_0",
        "190:20:30",
        "2026-99-99",
        "\\",
        "\0",
        "é",
        "\ud800",
        "\ufeff",
    ),
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


# ---- folders ----


def image(mode: str, size: tuple[int, int], form: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


KINDS = [("RGB", 8, "PNG"), ("L", 1, "PNG"), ("CMYK", 5, "JPEG"), ("P", 8, "GIF"), ("I;16", 8, "PNG"), ("F", 4, "TIFF")]
GOOD = [image(mode, (side, 8), form) for mode, side, form in [*KINDS, ("RGBA", 3, "WEBP")]]
FOLDERS = st.sampled_from(
    ["cat", "Cat", "dog", "猫", "train", "test", "val", ".hidden", "x.jpg", "a b", os.fsdecode(b"\xe9")]
)
FILES = st.sampled_from(
    ["0.png", "1.jpg", "2.JPEG", "3.gif", "4.tiff", "5.webp", "n.txt", ".6.png", os.fsdecode(b"\xff.png")]
)
CONTENT = (
    st.sampled_from([*GOOD, *(good[: len(good) // 2] for good in GOOD), b"", b"text"])
    | st.binary(max_size=30)
    | st.tuples(st.sampled_from(GOOD), st.integers(0, 60), st.integers(0, 255)).map(
        lambda what: what[0][: what[1]] + bytes([what[2]]) + what[0][what[1] + 1 :]
    )
)
LINKS = st.sampled_from([".", "..", "cat", "0.png", "nowhere", "self"])
TREES = st.lists(
    st.tuples(st.lists(FOLDERS, max_size=3), FILES, CONTENT | LINKS.map(str) | st.just(None)), min_size=1, max_size=10
)


@fuzz(60)
@given(TREES, st.booleans())
@example([(["cat"], "0.png", GOOD[0]), (["dog"], "0.png", GOOD[0]), (["dog"], "1.jpg", "nowhere")], False)  # OSError
@example([([os.fsdecode(b"\xe9")], "0.png", GOOD[0])], False)  # an error that could not be printed
@example([(["cat"], "0.png", GOOD[0]), ([os.fsdecode(b"\xe9")], "0.png", GOOD[0])], True)  # ValidationError
def test_a_tree_of_odd_files_is_a_data_set_or_an_error_that_names_it(tree, skip):
    """Files of any content, links (to what their text says) and pipes (None) under any names."""
    with tempfile.TemporaryDirectory() as text:
        root, cache = Path(text) / "images", Path(text) / "cache"
        root.mkdir()
        for folders, name, content in tree:
            where = root.joinpath(*folders)
            if os.path.lexists(where / name):  # a pipe among them would wait for its reader
                continue
            try:
                where.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    (where / name).write_bytes(content)
                elif content is None:
                    os.mkfifo(where / name)
                else:
                    (where / name).symlink_to(content)
            except OSError:  # a file or a link stands where a folder should
                continue
        said = []
        try:
            fetch(parse_dataset(f"folder:{root}"), cache, skip_unreadable=skip, say=said.append)
        except (ConfigError, FetchError) as error:
            said.append(str(error))
            assert str(root) in said[-1]
        "\n".join(said).encode()  # can be printed
