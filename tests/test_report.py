"""A report holds the records' numbers, says first what has to be said first, and shows what is missing as missing."""

import random
import re

import matplotlib.image
import numpy as np
import pytest
from synthetic import every, make_study, rows, spread, write

from vitcnn.report.markdown import bullets, escape, paragraph, table
from vitcnn.report.report import report_text, write_report
from vitcnn.report.tables import MISSING
from vitcnn.study.matrix import describe_budget

NAMES = ("accuracy", "gap", "overfitting", "curves")
PARTIAL = """
dataset: digits
sizes: [50, 100, 200, 400]
seeds: 2
models: {"vit|16": {arch: vit}, cnn: {}, linear: {}}
pair: [cnn, "vit|16"]
budget: {images_seen: 1280}
"""


def accuracy(cell) -> float:
    """The ViT falls below linear's 0.6 at the largest n only; seeds 0.02 apart."""
    level = {"vit": 0.7, "swin": 0.8, "cnn": 0.9, "linear": 0.6}[cell.model]
    return level + 0.02 * cell.seed - (0.3 if (cell.model, cell.n) == ("vit", 1000) else 0)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """(report.md, its folder) of a whole study of three models and the baseline, 3 sizes, 3 seeds."""
    study, all_cells, paths = make_study(tmp_path_factory.mktemp("full"))
    write(every(all_cells, accuracy), paths)
    return write_report(study, all_cells, paths).read_text(encoding="utf-8"), paths.report


def lost(cell) -> bool:
    """No floor at all, no CNN from 200 on, and one ViT."""
    return cell.model == "linear" or (cell.model == "cnn" and cell.n >= 200) or cell.title == "vit|16-n50-s1"


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """(first report.md, second one, their folders): the same records twice, shuffled, a broken file among them."""
    out = []
    for seed in (1, 2):
        study, all_cells, paths = make_study(tmp_path_factory.mktemp("partial"), text=PARTIAL, name="partial")
        records = every([c for c in all_cells if not lost(c)], lambda c: 0.5 + 0.1 * (c.model == "cnn"))
        write(random.Random(seed).sample(records, len(records)), paths)
        paths.record("half").write_text('{"id": "ha')
        out.append((write_report(study, all_cells, paths).read_text(encoding="utf-8"), paths.report))
    return [text for text, _ in out], [folder for _, folder in out]


# ---- a whole study ----


def test_the_table_has_the_mean_interval_and_seeds_of_every_model_at_every_n(full):
    head, *lines = rows(full[0], "Accuracy against data")
    assert head == ["n", "vit", "swin", "cnn", "linear"]
    assert [line[0] for line in lines] == ["50", "200", "1,000"]
    levels = {"vit": 0.7, "swin": 0.8, "cnn": 0.9, "linear": 0.6}
    for line in lines:
        for name, shown in zip(head[1:], line[1:], strict=True):
            level = 0.4 if (name, line[0]) == ("vit", "1,000") else levels[name]
            assert shown == spread([level, level + 0.02, level + 0.04]), (name, line[0])


def test_the_gap_and_the_overfitting_have_a_sign_and_their_seeds(full):
    assert [line[1] for line in rows(full[0], "Gap")[1:]] == ["+20.0 ± 0.0 (3 seeds)"] * 2 + ["+50.0 ± 0.0 (3 seeds)"]
    assert rows(full[0], "Overfitting")[1][1] == "+10.0 ± 0.0 (3 seeds)"


def test_every_model_stands_beside_the_pairs_second_paired_by_the_seeds_that_both_have(tmp_path):
    study, all_cells, paths = make_study(tmp_path, "pair=[cnn, swin]")
    rng = np.random.default_rng(0)
    draws = {c.id: rng.uniform(0.3, 0.9) for c in all_cells}
    gone = {"cnn-n50-s1", "swin-n50-s2", "linear-n1000-s0", "linear-n1000-s2", *(f"vit-n200-s{s}" for s in range(3))}
    records = every([c for c in all_cells if c.title not in gone], lambda c: draws[c.id])
    write(records, paths)
    text = report_text(study, all_cells, paths)
    assert "Every model minus swin, paired by seed, in points" in text.split("## Gap\n")[1].split("\n## ")[0]
    got = {r.cell.title: r.test.accuracy for r in records}

    def shown(name: str, n: int) -> str:
        pairs = [(f"{name}-n{n}-s{s}", f"swin-n{n}-s{s}") for s in range(3)]
        gaps = [got[a] - got[b] for a, b in pairs if {a, b} <= got.keys()]
        if len(gaps) < 2:
            return f"{100 * gaps[0]:+.1f} (1 seed)" if gaps else MISSING
        return spread(gaps, signed=True)

    head, *lines = rows(text, "Gap", 1)
    assert head == ["n", "vit − swin", "cnn − swin", "linear − swin"]
    assert [line[0] for line in lines] == ["50", "200", "1,000"]
    for n, line in zip((50, 200, 1000), lines, strict=True):
        assert line[1:] == [shown(name, n) for name in ("vit", "cnn", "linear")]
    assert (lines[0][2][-8:], lines[1][1], lines[2][3][-8:]) == ("(1 seed)", MISSING, "(1 seed)")
    assert [line[2] for line in lines] == [line[1] for line in rows(text, "Gap")[1:]]


def test_a_pair_that_is_alone_with_the_baseline_has_one_table_of_gaps(partial):
    assert "Every model minus" not in partial[0][0]


def test_who_loses_to_the_baseline_is_said_before_anything_else(full):
    first, second = [line for line in full[0].splitlines() if line][:2]
    assert first == "# trio"
    assert second.startswith("**vit is not above the linear baseline at n = 1,000: 42.0% against 62.0% (3 and 3 seeds)")
    assert "above the linear baseline at its largest" not in full[0]
    assert "missing" not in full[0]


def test_budget_size_recipe_and_makers_are_stated(full):
    assert "1,280 images seen: 25.6 epochs at n = 50, 1.3 at n = 1,000" in full[0]
    assert "4 models × 3 sizes × 3 seeds" in full[0]
    assert "At n = 1,000 every seed trains on the same images" in full[0]
    assert rows(full[0], "Recipes")[1] == ["50", *["batch_size 64"] * 3, "C 0.1"]
    cost = {line[0]: line[1:] for line in rows(full[0], "Models")[1:]}
    assert cost["vit"][:5] == ["500,000", "9,000,000", "64 px", "16", "2"]
    assert cost["linear"] == ["650", "640", "8 px", "–", "–", "–"]
    assert "- torch: 2.11.0" in full[0]
    assert "- finished: 2026-01-01 to 2026-01-03" in full[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_in_the_report_and_there_with_something_on_it(full, name):
    text, folder = full
    assert f"]({name}.png)" in text
    pixels = matplotlib.image.imread(folder / f"{name}.png")
    assert min(pixels.shape[:2]) > 300
    assert len(np.unique(pixels[..., 0])) > 100
    assert 0.005 < (pixels[..., :3].min(axis=2) < 0.95).mean() < 0.9


# ---- an unfinished study ----


def test_the_same_records_give_the_same_bytes(partial):
    (first, second), (one, other) = partial
    assert first == second.replace(str(other), str(one))  # the broken file is named with its folder
    for name in NAMES:
        assert (one / f"{name}.png").read_bytes() == (other / f"{name}.png").read_bytes(), name


def test_what_is_missing_is_listed_and_never_a_number(partial):
    text = partial[0][0]
    assert "**13 of 24 cells missing:**" in text
    for title in ("linear-n50-s0", "linear-n400-s1", "cnn-n200-s0", r"vit\|16-n50-s1"):
        assert title in text
    assert "cnn-n50-s0" not in text
    shown = rows(text, "Accuracy against data")[1:]
    assert [line[1] for line in shown] == ["50.0 (1 seed)", *["50.0 ± 0.0 (2 seeds)"] * 3]
    assert [line[2] for line in shown] == ["60.0 ± 0.0 (2 seeds)"] * 2 + [MISSING] * 2
    assert {line[3] for line in shown} == {MISSING}
    assert [line[1] for line in rows(text, "Gap")[1:]] == ["+10.0 (1 seed)", "+10.0 ± 0.0 (2 seeds)"] + [MISSING] * 2
    assert set(rows(text, "Models")[3][1:]) == {MISSING}
    without = re.sub(r"## Verdict.*?(?=\n## )", "", text, flags=re.DOTALL)  # an effect there may well be 0.0
    assert not re.search(r"^\|.*\| [+-]?0\.0 ", without, re.MULTILINE)


def test_nobody_is_called_above_a_baseline_that_is_not_there_yet(partial):
    assert "above the linear baseline" not in partial[0][0]


def test_seeds_that_train_on_different_images_are_not_said_to_share_them(partial):
    assert "the same images" not in partial[0][0]


def test_a_broken_file_is_named(partial):
    assert "half.json" in partial[0][0].split("## Files that are not records\n", 1)[1]


def test_a_name_with_a_pipe_breaks_no_table(partial):
    for heading, width in {"Accuracy against data": 4, "Gap": 2, "Overfitting": 4, "Models": 7, "Recipes": 4}.items():
        assert {len(line) for line in rows(partial[0][0], heading)} == {width}, heading
    assert rows(partial[0][0], "Gap")[0][1] == r"cnn − vit\|16, points"


def test_a_table_stays_a_table_whatever_stands_in_its_cells():
    lines = table(["a|b", "<c>"], [["1\n2", "x"]]).splitlines()
    assert lines == [r"| a\|b | &lt;c> |", "| --- | ---: |", "| 1 2 | x |"]


# ---- small and empty ----


@pytest.mark.parametrize("finished", [False, True])
def test_one_model_one_size_one_seed_with_and_without_its_record(tmp_path, finished):
    study, all_cells, paths = make_study(tmp_path, "models=[vit]", "sizes=[50]", "seeds=1", name="lone")
    write(every(all_cells, accuracy) if finished else [], paths)
    text = write_report(study, all_cells, paths).read_text(encoding="utf-8")
    assert rows(text, "Accuracy against data") == [["n", "vit"], ["50", "70.0 (1 seed)" if finished else MISSING]]
    assert ("**1 of 1 cells missing:** vit-n50-s0." in text) is not finished
    assert "## Gap" not in text
    assert "floor" not in text
    assert {path.name for path in paths.report.glob("*.png")} >= {"accuracy.png", "curves.png"}


def test_the_budget_stated_holds_for_every_model(tmp_path):
    models = "models={vit: {recipe: {batch_size: 100}}, cnn: {}}"
    _, all_cells, _ = make_study(tmp_path, models, "budget={images_seen: 1000}")
    assert {c.steps * c.recipe.batch_size for c in all_cells} == {1000, 1024}
    said = describe_budget(all_cells)
    assert "1,000" in said.split(" images seen")[0]
    assert "1,024" in said.split(" images seen")[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("R&D &lt;b> &#60; &amp", "R&D &amp;lt;b> &amp;#60; &amp"),
        ("[x](javascript:alert)", r"[x]\(javascript:alert)"),
        ("[x]: http://evil.example/x.png", r"[x]\: http://evil.example/x.png"),
        ("a\r\nb\u2028c\x85d", "a b c d"),
        ("timm/convnext_atto", "timm/convnext_atto"),
        ("+7.4 ± 2.0 (3 seeds)", "+7.4 ± 2.0 (3 seeds)"),
    ],
)
def test_no_name_ends_a_cell_or_a_line_or_opens_a_tag_or_a_link(name, shown):
    assert escape(name) == shown
    assert table(["n", name], [["1", "2"]]).splitlines()[0] == f"| n | {shown} |"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# big", r"\# big"), ("  > quoted", r"\> quoted"), ("- item", r"\- item"), ("12. item", r"12\. item"),
        ("7) item", r"7\) item"), ("```sh", r"\```sh"), ("~~~", r"\~~~"), ("---", r"\---"),
        ("===", r"\==="), ("* * *", r"\* * *"),
        ("**cnn** wins", "**cnn** wins"), ("`x` is", "`x` is"), ("1.5 points", "1.5 points"), ("#1 of 2", "#1 of 2"),
    ],
)  # fmt: skip
def test_no_line_begins_another_kind_of_block(text, shown):
    assert paragraph(text, text) == f"{shown}\n{shown}\n"
    assert bullets([text], depth=1) == f"  - {shown}\n"
