"""The page says what report.md says, with the records' numbers, in one file that loads nothing."""

import base64
import functools
import hashlib
import io
import itertools
import re
import sys
from collections import Counter

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from paging import Page, committed, evil
from synthetic import SEVERAL, every, make_study, write

from vitcnn.analysis.results import overfitting
from vitcnn.analysis.results import test_accuracy as accuracy_of
from vitcnn.analysis.tidy import tidy
from vitcnn.report.page.page import Source, page_html
from vitcnn.report.report import read_report


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """`pages(study)`: (report, page), each made once."""

    @functools.cache
    def make(study):
        report, source = evil(tmp_path_factory.mktemp("evil")) if study == "evil" else committed(study)
        return report, Page(page_html(report, source))

    return make


@pytest.fixture(params=["evil", "cifar10/reference", "cifar10/permutation", "digits/search"])
def made(request, pages):
    return pages(request.param)


@pytest.fixture
def wicked(pages):
    return pages("evil")


@pytest.fixture
def reference(pages):
    return pages("cifar10/reference")


# ---- all of it, in one file ----


def test_the_page_says_all_that_the_report_says(made):
    report, page = made
    lines = [line for token in MarkdownIt("commonmark").enable("table").parse(report.text) for line in said(token)]
    assert len(lines) > 50
    assert [line for line in lines if line not in page.text] == []


def said(token):
    """The text of a line of Markdown; of a figure nothing."""
    children = token.children or []
    text = "".join({"softbreak": " "}.get(c.type, c.content) for c in children if c.type != "image")
    return [" ".join(text.split())] if text.strip() and token.content != "Verdict" else []


def test_the_page_loads_nothing_and_runs_no_script_but_its_own(made):
    _, page = made
    for _, attrs, _ in page.tags:
        for key in {"src", "href", "action", "poster", "srcset", "data"} & attrs.keys():
            assert re.match(r"#|data:(image/png|text/csv)[;,]", attrs[key]), attrs
        assert not [key for key in attrs if key.startswith("on")]
    assert not re.search(r"@import|url\(", page.html[: page.html.index("</style>")])
    assert not page.all("link")
    policy = page.all("meta")[1]["content"]
    run = [text for attrs, text in page.scripts if "type" not in attrs]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert re.findall(r"'sha256-(.*?)'", policy) == hashes
    assert len(hashes) == 2
    assert "default-src 'none'" in policy
    assert "refresh" not in page.html[: page.html.index("</head>")]


def test_the_page_of_the_reference_study_is_small(reference):
    assert len(reference[1].html.encode()) < 2_000_000


def test_every_part_of_the_page_is_named_for_those_who_do_not_see_it(made):
    _, page = made
    ids = [attrs["id"] for _, attrs, _ in page.tags if "id" in attrs]
    assert Counter(ids).most_common(1)[0][1] == 1
    for attrs in page.all("a"):
        assert not attrs["href"].startswith("#") or attrs["href"][1:] in ids
    assert {attrs["aria-labelledby"] for attrs in page.all("section")} <= set(ids)
    assert len(page.all("table")) == len(page.all("caption")) > 2
    assert all("scope" in attrs for attrs in page.all("th"))
    assert all(attrs["alt"] for attrs in page.all("img"))
    inside = [page.tags[k - 1][0] for k, (name, _, _) in enumerate(page.tags) if name in ("select", "input")]
    assert set(inside) <= {"label"}
    levels = [int(name[1]) for name, _, _ in page.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(spec["description"] for spec in page.specs.values())


def test_a_study_of_several_budgets_shows_the_figures_that_have_no_chart(tmp_path):
    study, all_cells, paths = make_study(tmp_path, text=SEVERAL, name="several")
    write(every(all_cells, lambda c: 0.5 + 0.1 * (c.model == "cnn") + 0.01 * c.seed), paths)
    report = read_report(study, all_cells, paths)
    without = Page(page_html(report, Source(tmp_path / "several.yaml")))
    assert "Figure budget.png (gap against images seen) is missing." in without.text
    report.write()
    page = Page(page_html(report, Source(tmp_path / "several.yaml")))
    assert [attrs["alt"] for attrs in page.all("img")] == ["gap against images seen", "gap at each n and budget"]
    assert all(attrs["src"].startswith("data:image/png;base64,") for attrs in page.all("img"))


def test_a_study_without_records_has_a_page_that_says_what_is_missing(tmp_path):
    study, all_cells, paths = make_study(tmp_path)
    page = Page(page_html(read_report(study, all_cells, paths), Source(tmp_path / "trio.yaml")))
    assert "36 of 36 cells missing" in page.text
    assert "None can be tested" in page.text
    assert page.specs["accuracy"]["datasets"]["seeds"] == []


# ---- its numbers ----


def test_charts_have_the_records_numbers(made):
    report, page = made
    results = report.results.first_setting.at_largest_budget
    if results.study.grid:
        assert page.specs == {}
        return
    for name, measure in {"accuracy": accuracy_of, "overfitting": overfitting}.items():
        data = page.specs[name]["datasets"]
        wanted = {
            (model, n, seed): 100 * measure(record)
            for model in results.models
            for n in results.study.sizes
            for seed, record in results.at(model, n).items()
        }
        assert {(row["model"], row["n"], row["seed"]): row["value"] for row in data["seeds"]} == wanted
        for row in data["means"]:
            m = results.mean(row["model"], row["n"], measure)
            ends = [100 * value for value in (m.mean, m.low, m.high)]
            assert [row[key] for key in ("mean", "low", "high")] == pytest.approx(ends)
    gaps = page.specs["gap"]["datasets"]["seeds"]
    assert {(row["n"], row["seed"]): row["value"] for row in gaps} == {
        (n, seed): 100 * gap for n in results.study.sizes for seed, gap in results.gaps(n).items()
    }
    points = page.specs["curves"]["datasets"]["values"]
    roles = ("main", "budget-check") if results.study.budget_check else ("main",)
    shown = [r for c in results.cells if c.role in roles and (r := report.results.records.get(c.id))]
    assert len(points) == sum(len(record.curve) for record in shown)
    assert sum("last" in row for row in points) == sum(bool(record.curve) for record in shown)


def test_the_table_of_cells_has_the_records_numbers_and_the_csv_all_of_them(made):
    report, page = made
    table = tidy(list(report.results.records.values()))
    download = next(attrs for attrs in page.all("a") if "download" in attrs)
    kind, content = download["href"].split(",", 1)
    assert kind == "data:text/csv;charset=utf-8;base64"
    text = base64.b64decode(content).decode()
    assert text == table.to_csv(index=False, lineterminator="\n")
    assert "/" not in download["download"]
    values = [float(attrs["data-value"]) for attrs in page.all("td") if attrs.get("data-value")]
    csv = pd.read_csv(io.StringIO(text))
    assert set(csv["test_accuracy"]) <= set(values)
    for record in report.results.records.values():
        assert record.id in page.text
        assert f"{100 * record.test.accuracy:.2f}" in page.text


def test_the_page_tells_how_to_make_it_again(wicked, reference):
    assert "vitcnn run" in wicked[1].text
    assert re.search(r"vitcnn report \S*evil.yaml seeds=3 'a b' --html", wicked[1].text)
    report, page = reference
    one = next(iter(report.results.records.values()))
    for text in (*one.data["sha256"], one.made_by["git"], one.subset, "images_seen: 100_000"):
        assert text in page.text


# ---- the command ----


def test_without_the_extra_the_command_says_what_to_install(tmp_path, vitcnn, monkeypatch):
    make_study(tmp_path)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.setitem(sys.modules, "altair", None)
    code, out, err = vitcnn("report", "trio.yaml", "--html")
    assert (code, out) == (2, "")
    assert err == "vitcnn: --html needs altair, vl-convert-python; install them with `pip install 'vitcnn[page]'`\n"
    assert vitcnn("report", "trio.yaml")[0] == 0


def test_the_command_writes_the_page_beside_the_report(tmp_path, vitcnn):
    _, all_cells, paths = make_study(tmp_path)
    write(every(all_cells, lambda _: 0.5), paths)
    code, out, _ = vitcnn("report", "trio.yaml", "--html")
    assert (code, out) == (0, "written to results/trio/report.md\nwritten to results/trio/report.html\n")
    assert Page((paths.report / "report.html").read_text(encoding="utf-8")).specs
