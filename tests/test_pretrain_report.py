"""The report of a study whose networks begin with another study's weights."""

import pytest
from matplotlib.figure import Figure
from pretraining import AFTER, BEFORE
from scipy import stats
from synthetic import every, make_study, write

from vitcnn.analysis.results import Results
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.report.report import write_report
from vitcnn.report.transfer import families, transfer_figure


def accuracy(cell) -> float:
    before = {"vit-50": 0.1, "vit-200": 0.2, "cnn-200": 0.02, "tiny": 0.0}.get(cell.model, 0.0)
    return 0.5 + before + 0.1 * (cell.n == 300) + 0.02 * cell.seed


def test_the_report_has_accuracy_by_images_before_for_each_network_and_n(study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    made, all_cells, paths = make_study(tmp_path, text=AFTER, name="after")
    write(every(all_cells, accuracy), paths)
    text = write_report(made, all_cells, paths).read_text()
    table = text.partition("## Pre-training")[2].split("\n## ")[0]
    half = stats.t.ppf(0.975, 1) * 1.0
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert rows[0][1:3] == ["vit, n = 100", "vit, n = 300"]
    assert [row[0] for row in rows[2:5]] == ["| none", "| 50", "| 200"]
    assert [row[1] for row in rows[2:5]] == [f"{v:.1f} ± {half:.1f} (2 seeds)" for v in (51, 61, 71)]
    assert [row[3] for row in rows[2:5]] == [f"51.0 ± {half:.1f} (2 seeds)", "–", f"53.0 ± {half:.1f} (2 seeds)"]
    assert rows[5] == rows[0]
    assert [row[0] for row in rows[7:]] == ["| 50", "| 200"]
    assert [row[1] for row in rows[7:]] == [f"+{v}.0 ± 0.0 (2 seeds)" for v in (10, 20)]  # paired: seeds cancel
    assert [row[3] for row in rows[7:]] == ["–", "+2.0 ± 0.0 (2 seeds)"]
    assert [row[5].rstrip(" |") for row in rows[7:]] == ["–", "–"]  # nothing from scratch to compare with
    assert (paths.report / "transfer.png").stat().st_size > 5_000
    assert "pre-trained on images of digits (before.yaml, 128 images seen). Then" in table


def test_the_report_says_where_the_images_before_were_made_from_seeds(study, tmp_path):
    study(text=BEFORE.replace("digits", "fractals:classes=5"), name="before.yaml")
    made, all_cells, paths = make_study(tmp_path, text=AFTER, name="after")
    text = write_report(made, all_cells, paths).read_text()
    assert "on images of fractals:classes=5, generated (before.yaml, 128 images seen). Then" in text


def test_a_line_joins_what_differs_by_the_images_before_alone(study):
    twins = BEFORE.replace("deep: {arch: vit, width: 32, depth: 2", "twin: {arch: vit, width: 32, depth: 1")
    study(text=twins, name="before.yaml")
    vit = "arch: vit, width: 32, depth: 1, heads: 2"
    begun = {"a-50": ("vit", 50), "b-200": ("twin", 200), "a-200": ("vit", 200), "b-50": ("twin", 50)}
    models = ", ".join(
        f"{name}: {{{vit}, pretrain: {{study: before.yaml, n: {n}, model: {of}}}}}" for name, (of, n) in begun.items()
    )
    models += f", c-50: {{{vit}, recipe: {{lr: 0.1}}, pretrain: {{study: before.yaml, n: 50, model: vit}}}}"
    known = families(study(f"models={{{models}}}", text=AFTER, name="after.yaml").models)
    assert [sorted(e.name for e in family.values()) for family in known.values()] == [
        ["a-200", "a-50"],
        ["b-200", "b-50"],
        ["c-50"],
    ]


def test_the_one_from_scratch_is_that_of_the_same_recipe_and_another_recipe_is_said(study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    strong = "models.vit-strong={arch: vit, width: 32, depth: 1, heads: 2, recipe: {lr: 0.003}}"
    own = "models.vit-200.recipe={lr: 0.003}"
    alike = "models.vit-50.recipe={lr: 0.003}"
    found = families(study(strong, own, alike, text=AFTER, name="after.yaml").models)
    assert {n: e.name for n, e in found["vit-strong"].items()} == {0: "vit-strong", 50: "vit-50", 200: "vit-200"}
    for overrides, said in (((own, alike), True), ((), False)):
        made, all_cells, paths = make_study(tmp_path, *overrides, text=AFTER, name="after")
        write(every(all_cells, accuracy), paths)
        text = write_report(made, all_cells, paths).read_text()
        assert (" From scratch, vit has another recipe, which is part of this gain.\n" in text) == said


def test_what_was_permuted_before_is_said(study, tmp_path):
    (tmp_path / "before.yaml").write_text(BEFORE + "permutation: {patches: 1}\n", encoding="utf-8")
    made, all_cells, paths = make_study(tmp_path, text=AFTER, name="after")
    write(every(all_cells, accuracy), paths)
    assert "images of digits, all patches permuted (before.yaml, " in write_report(made, all_cells, paths).read_text()


def test_a_study_without_pretraining_has_no_such_section(tmp_path):
    made, all_cells, paths = make_study(tmp_path)
    write(every(all_cells, lambda _: 0.5), paths)
    assert "Pre-training" not in write_report(made, all_cells, paths).read_text()
    assert not (paths.report / "transfer.png").exists()


def test_the_figure_has_a_line_for_each_network_and_n_with_scratch_at_its_left(study, tmp_path):
    study(text=BEFORE, name="before.yaml")
    made, all_cells, _ = make_study(tmp_path, text=AFTER, name="after")
    results = Results.of(made, all_cells, every(all_cells, accuracy), parse_dataset("digits").info)
    ax = transfer_figure(Figure().subplots(), results)
    assert list(families(made.models)) == ["vit", "cnn", "tiny"]
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [f"{name}, n = {n}" for name in ("vit", "cnn", "tiny") for n in (100, 300)]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["none", "50", "200"]
    first = ax.get_legend_handles_labels()[0][0].lines[0]
    assert first.get_ydata() == pytest.approx([0.51, 0.61, 0.71])
    assert sorted(first.get_xdata()) == list(first.get_xdata())


def test_what_was_trained_on_two_data_sets_is_two_lines_that_begin_with_the_same_from_scratch(study):
    study(text=BEFORE, name="before.yaml")
    study(text=BEFORE, name="other.yaml")
    more = "models.vit-o50={arch: vit, width: 32, depth: 1, heads: 2, pretrain: {study: other.yaml, n: 50}}"
    known = families(study(more, text=AFTER, name="after.yaml").models)
    named = {name: {n: model.name for n, model in family.items()} for name, family in known.items()}
    assert named == {
        "vit-50": {0: "vit", 50: "vit-50", 200: "vit-200"},
        "cnn": {0: "cnn", 200: "cnn-200"},
        "tiny": {50: "tiny"},
        "vit-o50": {0: "vit", 50: "vit-o50"},
    }
