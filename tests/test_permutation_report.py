"""A study at several settings of `permutation`, each judged by itself, with the baseline in all of them."""

import csv
import random
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic import every, make_study, spread, write

from vitcnn.analysis.caveats import below_baseline
from vitcnn.analysis.results import Results
from vitcnn.analysis.verdict import verdict
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.report.figures import gap_by_setting
from vitcnn.report.permutation import permutation_section
from vitcnn.report.power import power_text
from vitcnn.report.report import write_report
from vitcnn.report.tables import MISSING
from vitcnn.report.verdict import sentence, verdict_text
from vitcnn.store.paths import StudyPaths

PERMUTATIONS = """
dataset: digits
sizes: [50, 200, 1000]
seeds: 3
models: [vit, cnn, linear]
budget: {images_seen: 1280}
recipe: {batch_size: 64}
"""
SETTINGS = ["{patches: 0}", "{patches: 1}", "{patches: 0.5, pixels: 1}"]
PERMUTATIONS += f"permutation: [{', '.join(SETTINGS)}]"
NAMES = ["not permuted", "all patches permuted", "50% of the patches and all pixels permuted"]
CNN, VIT = (0.9, 0.7, 0.5), (0.6, 0.6, 0.54)  # of each setting; at the last both fall below the baseline
BASELINE = 0.56
SPREAD = (0.0, 0.02, 0.06)  # of the CNN's seeds, added at n = 50 and taken off at n = 1,000


def accuracy(cell) -> float:
    if cell.model == "linear":
        return BASELINE
    place = NAMES.index(str(cell.permutation))
    return VIT[place] + (gaps(place, cell.n)[cell.seed] if cell.model == "cnn" else 0)


def gaps(place: int, n: int) -> list[float]:
    return [CNN[place] - VIT[place] + {50: 1, 200: 0, 1000: -1}[n] * s for s in SPREAD]


def lost(cell) -> bool:
    """Of the second setting the CNN at 200, of the third one ViT at 50."""
    where = (cell.model, cell.n, str(cell.permutation))
    return where == ("cnn", 200, NAMES[1]) or (*where, cell.seed) == ("vit", 50, NAMES[2], 1)


@pytest.fixture(scope="module")
def permutations(tmp_path_factory):
    """(results of a finished study of permutations, its paths, a command's arguments); the report is written."""
    folder = tmp_path_factory.mktemp("permutations")
    study, all_cells, paths = make_study(folder, text=PERMUTATIONS, name="permutations")
    records = every(all_cells, accuracy)
    write(records, paths)
    write_report(study, all_cells, paths)
    where = [folder / "permutations.yaml", "--results", paths.results, "--runs", paths.runs]
    return Results.of(study, all_cells, records, parse_dataset("digits").info), paths, where


@pytest.fixture(scope="module")
def results(permutations) -> Results:
    return permutations[0]


@pytest.fixture(scope="module")
def partial(results) -> Results:
    return Results.of(results.study, results.cells, [r for r in results.records.values() if not lost(r.cell)])


def alone(results: Results, folder, place: int) -> Results:
    """The same records as a study of one setting knows them."""
    study, all_cells, _ = make_study(folder, f"permutation={SETTINGS[place]}", text=PERMUTATIONS, name="permutations")
    mine = [results.records[cell.id] for cell in all_cells]
    return Results.of(study, all_cells, mine, results.about)


def tables(text: str) -> list[list[list[str]]]:
    """Every Markdown table as rows of cells, the dashes left out."""
    found = [match[0].splitlines() for match in re.finditer(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    return [[[c.strip() for c in line.split("|")[1:-1]] for line in (t[0], *t[2:])] for t in found]


def test_no_setting_has_a_record_of_another_and_the_baseline_is_in_all(results):
    settings = results.settings()
    assert [str(one.setting) for one in settings] == NAMES
    for one in settings:
        for model in one.models:
            at = [r for n in one.study.sizes for r in one.at(model, n).values()]
            assert len(at) == 9
            assert {r.cell.permutation for r in at} == ({None} if model == "linear" else {one.setting})
        assert len(one.cells) == 27
    assert len(results.cells) == 3 * 18 + 9
    assert results.first_setting == settings[0]
    below = [[below.model for below in below_baseline(one)] for one in settings]
    assert below == [[], [], ["vit", "cnn"]]


def test_a_study_of_one_setting_or_none_is_its_own_first_setting(results, tmp_path):
    one = alone(results, tmp_path, 1)
    assert one.first_setting is one
    assert (len(one.settings()), str(one.setting)) == (1, NAMES[1])
    study, all_cells, _ = make_study(tmp_path, "permutation=[]", text=PERMUTATIONS, name="permutations")
    none = Results.of(study, all_cells, list(results.records.values()))
    assert (none.first_setting, none.settings(), none.setting) == (none, [], None)
    assert len(none.records) == 9  # the baseline; networks that saw unpermuted but enlarged patches are other cells


@pytest.mark.parametrize("other", ["patches: 0.5, seed: 1", "patches: 0.5, patch: 4", "patches: 0.44"])
def test_settings_that_differ_are_told_apart_in_titles_and_heads(other, tmp_path):
    both = f"permutation=[{{patches: 0.5}}, {{{other}}}]"
    _, all_cells, _ = make_study(tmp_path, both, text=PERMUTATIONS, name="permutations")
    assert len({cell.title for cell in all_cells}) == len(all_cells)


def test_the_tables_have_every_settings_gap_and_accuracies(results):
    first, second = tables(permutation_section(results.settings()))
    sizes = ["n = 50", "n = 200", "n = 1,000"]
    assert first[0] == second[0] == ["", *sizes]
    assert first[1:] == [
        [name, *(spread(gaps(place, n), signed=True) for n in (50, 200, 1000))] for place, name in enumerate(NAMES)
    ]
    high, same = ([spread([level + s for s in off]) for level in CNN] for off in (SPREAD, (0, 0, 0)))
    flat = [f"{100 * level:.1f} ± 0.0 (3 seeds)" for level in VIT]
    assert [line[0] for line in second[1:]] == [f"{e}, {name}" for e in ("cnn", "vit") for name in NAMES]
    assert [line[1] for line in second[1:]] == [*high, *flat]
    assert [line[2] for line in second[1:]] == [*same, *flat]


def test_what_is_missing_is_missing_in_its_own_setting_only(results, partial):
    whole, holes = (tables(permutation_section(one.settings())) for one in (results, partial))
    changed = {
        (number, line[0], head): after
        for number, (before, now) in enumerate(zip(whole, holes, strict=True))
        for line, new in zip(before[1:], now[1:], strict=True)
        for head, old, after in zip(before[0], line, new, strict=True)
        if old != after
    }
    two = [gaps(2, 50)[seed] for seed in (0, 2)]
    assert changed == {
        (0, NAMES[1], "n = 200"): MISSING,
        (0, NAMES[2], "n = 50"): spread(two, signed=True),
        (1, f"cnn, {NAMES[1]}", "n = 200"): MISSING,
        (1, f"vit, {NAMES[2]}", "n = 50"): f"{100 * VIT[2]:.1f} ± 0.0 (2 seeds)",
    }


def test_every_setting_is_judged_as_a_study_of_that_setting_alone_would_be(results, tmp_path):
    text = permutation_section(results.settings())
    for place, name in enumerate(NAMES):
        judged = {claim.key: claim for claim in verdict(alone(results, tmp_path, place)).claims}
        lines = text.split(f"- {name}:\n", 1)[1].split("\n- ")[0].splitlines()
        assert lines[-3:] == [f"  - {sentence(judged[key])}" for key in ("cnn-wins-small", "gap-closes", "crossing")]
        baseline = [line for line in lines[:-3] if "not above the linear baseline at n = 1,000" in line]
        assert len(baseline) == (2 if name == NAMES[2] else 0)
    assert len({text.split(f"- {name}:\n", 1)[1].split("\n- ")[0] for name in NAMES}) == 3


def test_the_order_of_the_records_changes_nothing(partial):
    mixed = random.Random(1).sample(sorted(partial.records.values(), key=lambda r: r.id), len(partial.records))
    again = Results.of(partial.study, partial.cells, mixed)
    assert permutation_section(again.settings()) == permutation_section(partial.settings())


def test_one_seed_gives_gaps_without_intervals_and_claims_that_cannot_be_said(tmp_path):
    study, all_cells, _ = make_study(tmp_path, "seeds=1", text=PERMUTATIONS, name="permutations")
    text = permutation_section(Results.of(study, all_cells, every(all_cells, accuracy)).settings())
    assert [line[1] for line in tables(text)[0][1:]] == ["+30.0 (1 seed)", "+10.0 (1 seed)", "-4.0 (1 seed)"]
    assert text.count("**not tested**") == 9


def test_the_figure_has_a_line_a_setting_through_the_finished_gaps(partial):
    ax = Figure(figsize=(3, 2)).subplots()
    assert gap_by_setting(ax, partial.settings()) is ax
    handles, labels = ax.get_legend_handles_labels()
    assert labels == NAMES
    lines = [handle.lines[0] for handle in handles]
    for place, line in enumerate(lines):
        sizes = (50, 200, 1000)
        means = [np.mean(gaps(place, n)) for n in sizes]
        if place == 1:
            means[1] = np.nan  # missing: the line breaks off
        if place == 2:
            means[0] = np.mean([gaps(2, 50)[seed] for seed in (0, 2)])
        assert list(line.get_ydata()) == pytest.approx([100 * mean for mean in means], nan_ok=True)
        assert line.get_xdata() == pytest.approx(sizes, rel=0.05)
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 3
    assert gap_by_setting(Figure().subplots(), Results.of(partial.study, partial.cells, []).settings()).lines


def test_the_report_is_that_of_the_first_setting_and_then_the_permutations(permutations, tmp_path):
    results, whole, _ = permutations
    one = alone(results, tmp_path, 0)
    paths = StudyPaths("permutations", tmp_path / "results", tmp_path / "runs")
    write(one.records.values(), paths)
    text = write_report(one.study, one.cells, paths).read_text(encoding="utf-8")
    before, after = (whole.report / "report.md").read_text(encoding="utf-8").split("\n## Permutation\n")
    assert before.split("\n\n", 2)[2] == text.split("\n\n", 2)[2]
    told = [line.split(":")[0] for line in before.split("\n\n")[1].splitlines()]
    assert told == [f"**{name}" for name in (NAMES[2], NAMES[2])]
    assert text.split("\n\n")[1] == "**Every model is above the linear baseline at its largest finished n.**"
    assert "not permuted: 3 models × 3 sizes × 3 seeds" in text
    assert "](permutation.png)" in after
    assert (whole.report / "permutation.png").stat().st_size > 10_000
    assert not (paths.report / "permutation.png").exists()
    for name in ("accuracy", "gap", "overfitting", "curves"):
        assert (paths.report / f"{name}.png").read_bytes() == (whole.report / f"{name}.png").read_bytes(), name
    assert one.title == results.first_setting.title == "digits, not permuted"


def test_permutations_without_their_pair_have_a_report_without_the_section(vitcnn, tmp_path):
    more = ["models={vit: {}, more: {arch: vit, init_from: vit}, linear: {}}", "sizes=[50]", "seeds=2"]
    _, all_cells, paths = make_study(tmp_path, *more, text=PERMUTATIONS, name="permutations")
    write(every(all_cells[:-1], lambda _: 0.5), paths)
    assert vitcnn("report", "permutations.yaml", *more)[0] == 0
    text = (paths.report / "report.md").read_text(encoding="utf-8")
    assert "## Permutation" not in text
    assert "None: no model is called " in text
    assert "more begins with the trained weights of vit at the same n and seed" in text
    assert f"**1 of {len(all_cells)} cells missing:** {all_cells[-1].title}" in text


def test_verdict_and_plan_are_about_the_first_setting_and_status_counts_all(permutations, vitcnn, tmp_path):
    results, _, where = permutations
    one = alone(results, tmp_path, 0)
    assert vitcnn("verdict", *where)[:2] == (0, verdict_text(one, verdict(one)) + "\n")
    out = vitcnn("plan", *where)[1]
    assert "63 done  of 63 cells" in out
    assert power_text(one) in out
    out = vitcnn("status", *where)[1]
    assert (out.count("9/9"), out.count("3/3")) == (6, 3)


def test_an_export_has_the_setting_of_every_row(permutations, vitcnn, tmp_path):
    results, _, where = permutations
    assert vitcnn("export", *where, "--csv", tmp_path / "all.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert len(rows) == 63
    for row in rows:
        cell = results.records[row["id"]].cell
        patches, pixels = (str(getattr(cell.permutation, key, "")) for key in ("patches", "pixels"))
        assert (row["permutation_patches"], row["permutation_pixels"]) == (patches, pixels)
