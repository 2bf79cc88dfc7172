"""Studies typed late at night, and studies of strangers: each is answered by a sentence, soon and in little memory."""

import os
import time
import tracemalloc

import pytest

from vitcnn.errors import ConfigError
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells
from vitcnn.study.yaml_file import LIMIT, dump, parse

REST = {"dataset": "digits", "sizes": "[50, 200]", "seeds": "2", "models": "[vit, cnn, linear]",
        "budget": "{images_seen: 1000}"}  # fmt: skip


def text(**changed: str | None) -> str:
    """A small study with some of its lines changed, added, or left out (None)."""
    return "".join(f"{key}: {value}\n" for key, value in (REST | changed).items() if value is not None)


@pytest.fixture
def said(study):
    """`said(text)`: the one message that a study is answered with."""

    def refuse(what: str) -> str:
        with pytest.raises(ConfigError) as caught:
            cells(study(text=what))
        return str(caught.value)

    return refuse


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"sizes": None}, "sizes: is missing"),
        ({"budget": None}, "budget: is missing"),
        ({"models": None}, "models: is missing; give a list of names, such as [vit, cnn, linear]"),
        ({"models": "[]"}, "models: give at least one"),
        ({"models": "{}"}, "models: give at least one"),
        ({"seeds": "[]"}, "seeds: give at least one"),
        ({"grid": "{lr: []}"}, "grid.lr: give at least one (got [])"),
        ({"pair": "[vit]"}, "pair.1: is missing"),
        ({"pair": "[vit, vit]"}, "pair: give two different models, not 'vit' twice"),
        ({"sizes": "50"}, "sizes: Input should be a list, such as [1, 2] (got 50)"),
        ({"sizes": "[50.5]"}, "sizes.0: Input should be a valid integer"),
        ({"sizes": "[.nan]"}, "sizes.0: Input should be a finite number (got nan)"),
        ({"sizes": "[-.inf]"}, "sizes.0: Input should be a finite number (got -inf)"),
        ({"recipe": "{lr: .nan}"}, "recipe.lr: Input should be a finite number (got nan)"),
        ({"recipe": "{lr: 1e400}"}, "recipe.lr: Input should be a finite number (got inf)"),
        ({"recipe": "fast"}, "recipe: Input should be a mapping of keys to values (got 'fast')"),
        ({"recipe": ""}, "recipe: Input should be a mapping of keys to values (got None)"),
        ({"budget": "100"}, "budget: a budget such as {images_seen: 20_000}, or a list of them, not 100"),
        ({"seeds": "-3"}, "seeds: give a list of seeds, or their number: 1 to 10,000, not -3"),
        ({"seeds": "[-3]"}, "seeds.0: Input should be greater than or equal to 0 (got -3)"),
        ({"models": "[[vit]]"}, "models: give a list of names, or names with options, not [['vit']]"),
        ({"models": "{vit: [1]}"}, "models: vit: options must be a mapping of keys to values, not [1]"),
        ({"models": "{vit: {arch: [1]}}"}, "models: unknown architecture [1]; known: cnn"),
        ({"models": "{true: {arch: vit}}"}, "models: True is not a valid name; write it in quotes"),
        ({"models": "{1: {arch: vit}, '1': {arch: cnn}}"}, "models: 1 is not a valid name; write it in quotes"),
        ({"models": "{../x: {arch: vit}}"}, "a model's name begins with a letter or digit (A-Z, a-z, 0-9)"),
        ({"models": '{"a\\e[2J": {arch: vit}}'}, "a model's name begins with a letter or digit (A-Z, a-z, 0-9)"),
        ({"models": '{"a\\nb": {arch: vit}}'}, "a model's name begins with a letter or digit (A-Z, a-z, 0-9)"),
        ({"name": "../../x"}, "name: not a valid name: use letters, digits, '.', '_' and '-'"),
        ({"name": '"a\\n"'}, "name: not a valid name"),
        ({"dataset": "'folder:'"}, "'folder:': write folder:PATH, in printable characters"),
        ({"dataset": '"folder:a\\0b"'}, "'folder:a\\x00b': write folder:PATH, in printable characters"),
        ({"dataset": "folder:" + 5000 * "x"}, "is not in the data cache"),
        ({"recipes": '"a\\0"'}, "not a file written by `vitcnn select`"),
    ],
)
def test_a_wrong_value_is_refused_with_where_and_why(changed, why, said):
    assert why in said(text(**changed))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"seeds": "1_000_000_000"}, "seeds: give a list of seeds, or their number: 1 to 10,000, not 1,000,000,000"),
        ({"seeds": f"[{10**50}]"}, "line 3, column 9: not a number of at most 64 bits"),
        ({"sizes": f"[{'9' * 5000}]"}, "line 2, column 9: not a number of at most 64 bits"),
        ({"recipe": "{batch_size: 2000}"}, "recipe.batch_size: a batch of 2,000 images exceeds budget.images_seen"),
        ({"recipe": "{batch_size: 1_000_000_000}"}, "recipe.batch_size: Input should be less than or equal to 1048576"),
        ({"budget": f"{{images_seen: {10**15}}}"}, "budget.images_seen: Input should be less than or equal to 1000000"),
        ({"budget": "{epochs: 1.0e308}"}, "budget.epochs: Input should be less than or equal to 1000000 (got 1e+308)"),
        (
            {"budget": f"{{images_seen: {10**12}}}", "budget_check": "{factor: 2}"},
            "budget_check.factor: 2 times this budget exceeds the maximum",
        ),
        ({"budget_check": "{factor: 1.0e308}"}, "budget_check.factor: Input should be less than or equal to 100"),
        (
            {"grid": f"{{lr: {[i / 1000 for i in range(1, 999)]}, weight_decay: {[i / 1000 for i in range(999)]}}}"},
            "the study has 11,964,024 cells, more than 100,000; use fewer sizes, seeds or trials",
        ),
        ({"sizes": str([50] * 60_000)}, "sizes: 50 appears more than once"),
        ({"models": str(["vit"] * 30_000)}, "models: vit appears more than once"),
    ],
)
def test_huge_numbers_are_refused_at_once(changed, why, said):
    began = time.process_time()
    assert why in said(text(**changed))
    assert time.process_time() - began < 20  # hours, before


def test_many_mistakes_are_ten_and_a_number(said):
    message = said(text(**{f"key{i}": "1" for i in range(100)}))
    assert message.count("unknown key") == 10
    assert message.endswith("… and 90 more mistakes")


def test_a_long_value_is_cut_short_in_the_message(said):
    assert len(said(text(sizes="x" * 100_000))) < 400
    assert len(said(text(models=str([[1] * 1000] * 50)))) < 400


# ---- the file ----


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (text().encode("utf-16"), "byte 0 is not UTF-8; save the file as UTF-8 text"),
        (b"# caf\xe9\n" + text().encode(), "byte 5 is not UTF-8"),
        (text().encode() + b"\0", "not valid YAML: unacceptable character"),
        (b"", "expected a mapping of keys to values, found NoneType"),
        (text().encode() + b"---\na: 1\n", "line 6, column 1: a second document begins here"),
        (text().encode() + b"#" * LIMIT, "larger than 256 KiB, too large for a study"),
        (text().encode() + b"sizes: [70]\n", "not valid YAML: line 6, column 1: 'sizes' appears twice"),
        (text(models="{vit: {depth: 2, depth: 4}}").encode(), "line 4, column 26: 'depth' appears twice"),
        (
            text(validation="!!int abc").encode(),
            "line 6, column 13: a tag (tag:yaml.org,2002:int); only plain values are allowed",
        ),
        (
            text(validation="2026-99-99").encode(),
            "validation: Input should be a valid integer, unable to parse string as an integer (got '2026-99-99')",
        ),
        (text(recipe="*nope").encode(), "line 6, column 9: found undefined alias 'nope'"),
        (text(models="&a [*a]").encode(), "line 4, column 13: an alias inside its own anchor"),
        (text(recipe="&a {lr: *a}").encode(), "line 6, column 17: an alias inside its own anchor"),
        (text(recipe="[" * 20_000).encode(), "nested more than 50 deep"),
        (text(recipe="{a: " * 3000).encode(), "nested more than 50 deep"),
        (text(recipe="&a {lr: &a 1}").encode(), "line 6, column 17: a second anchor &a"),
        (b"%YAML 1.1\n---\n" + text().encode(), "remove the line `%YAML`"),
        (text(recipe="\n\tlr: 1").encode(), "line 7, column 1: a tab; indent with spaces"),
        (text(recipe="\n    lr: 1\n  warmup: 0").encode(), "line 8, column 3: the indentation differs from"),
        (
            text(recipe="fast\n  lr: 1").encode(),
            "line 7, column 5: `key: value` is not allowed here; check the indentation",
        ),
    ],
)
def test_a_file_that_is_no_study_is_refused_with_the_line(content, why, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


def test_a_folder_given_for_a_study_is_said(vitcnn, tmp_path):
    code, _, err = vitcnn("plan", tmp_path)
    assert (code, err) == (2, f"vitcnn: {tmp_path}: Is a directory; expected a YAML file\n")


def bomb(of: str, levels: int = 12) -> str:
    """Billion laughs: every level has nine aliases of the one before."""
    lines = [f"a0: &a0 {of}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines) + f"\n{text(sizes=f'*a{levels - 1}')}"


def merging_bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines) + f"\n{text(recipe=f'*a{levels - 1}')}"


@pytest.mark.parametrize(
    "what",
    [bomb("[1, 1, 1, 1]"), bomb("lol"), bomb("{a: 1}"), merging_bomb(),
     f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 30_000}]\n{text()}"],
    ids=["lists", "tokens", "mappings", "merges", "one long token"],
)  # fmt: skip
def test_a_yaml_bomb_is_refused_before_it_is_made(what, said):
    began = time.process_time()
    tracemalloc.start()
    try:
        message = said(what)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert f"more than {LIMIT:,} characters with all aliases" in message
    assert most < 100e6
    assert time.process_time() - began < 10


def test_anchors_aliases_and_merges_are_read_as_ever(study):
    what = text(
        models="{vit: &small {recipe: &slow {lr: 0.001, warmup: 0.2}, arch: vit}, deep: {<<: *small, depth: 8},"
        " cnn: {recipe: *slow}, wide: {<<: [*small, {width: 48}], depth: 2}}"
    )
    loaded = study(text=what)
    assert {e.name: (e.recipe.get("lr"), getattr(e.arch, "depth", None)) for e in loaded.models} == {
        "vit": (0.001, 4),
        "deep": (0.001, 8),
        "cnn": (0.001, None),
        "wide": (0.001, 2),
    }
    assert loaded == study(text=dump(parse(what)))


@pytest.mark.parametrize("where", ["recipe", "models", "name"])
@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object/apply:os.mkdir", "!!python/name:os"]
)
def test_yaml_that_would_run_code_is_refused_and_runs_none(tag, where, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "only plain values are allowed" in said(text(**{where: f"{tag} [pwned]"}))
    assert os.listdir() == ["small.yaml"]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("sizes=!!python/name:os.system", "only plain values are allowed"),
        ("sizes=[1", "not valid YAML"),
        (f"sizes=[{10**50}]", "not a number of at most 64 bits"),
        ("recipe={lr: 1, lr: 2}", "'lr' appears twice"),
    ],
)
def test_an_override_is_read_with_the_same_care(override, why, study):
    with pytest.raises(ConfigError, match=why) as caught:
        study(override)
    assert str(caught.value).startswith(f"{override!r}: ")


def test_a_strangers_recipes_are_read_with_the_same_care(study, tmp_path):
    for content in (
        "!!python/object/apply:os.mkdir [pwned]",
        bomb("x"),
        "{search: a, models: {vit: {1: {}}}, search: b}",
        "{search: a, models: {vit: {1: 3}}}",
    ):
        (tmp_path / "r.yaml").write_text(content)
        with pytest.raises(ConfigError, match="not a file written by `vitcnn select`"):
            study("recipes=r.yaml")
