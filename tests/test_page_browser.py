"""The page in a real browser: quiet, offline, with controls that work."""

import csv
import io
import re

import pytest
from browsing import marks, told
from paging import CLASS, CNN, SWIN, VIT

from vitcnn.analysis.tidy import tidy


def column(page, title):
    """What stands in a column of the table of cells."""
    head = page.locator("table.sortable thead th").all_inner_texts()
    place = next(k for k, text in enumerate(head) if text.startswith(title))
    return page.locator(f"table.sortable tbody td:nth-child({place + 1})").all_inner_texts()


def heading(page, title):
    return page.locator("table.sortable thead th").filter(has_text=re.compile(f"^{title}$"))


# ---- what is drawn ----


@pytest.mark.parametrize("name", ["digits", "cifar10", "evil"])
def test_every_chart_is_drawn_without_a_request_or_a_word_in_the_console(visit, name):
    page = visit(name)
    charts = page.locator("[data-chart]").all()
    assert len(charts) == {"digits": 4, "cifar10": 4, "evil": 7}[name]
    for chart in charts:
        svg = chart.locator(".plot svg")
        assert svg.count() == 1
        assert svg.bounding_box()["height"] > 150
        assert chart.locator(".plot svg [role=graphics-symbol]").count() > 3
        assert chart.locator(".plot[role=graphics-document]").get_attribute("aria-label")
    assert page.locator(".waiting").count() == 0


def test_a_mark_says_the_number_of_the_report(visit, files):
    results = files["digits"][0].results
    said = marks(visit(), "accuracy")
    assert len(said) == len(results.models) * len(results.study.sizes)
    for model in results.models:
        for n in results.study.sizes:
            mean = f"{100 * results.mean(model, n).mean:.1f} ±"
            (label,) = [label for label in said if f"model: {model};" in label and f"; n: {n:,};" in label]
            assert f"mean: {mean}" in label


def test_hovering_shows_every_seed(visit, files):
    page = visit()
    results = files["digits"][0].results
    values = results.values("cnn", 50)
    page.locator("[data-chart=accuracy]").scroll_into_view_if_needed()
    (place,) = [p for label, p in marks(page, "accuracy").items() if "model: cnn" in label and "n: 50;" in label]
    page.mouse.move(*place)
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    text = tooltip.inner_text()
    for seed, value in values.items():
        assert f"seed {seed}: {100 * value:.1f}" in text


# ---- controls ----


def test_a_model_can_be_taken_away_and_comes_back(visit):
    page = visit()
    for chart in ("accuracy", "overfitting"):
        before = marks(page, chart)
        box = page.locator(f"[data-chart={chart}]").get_by_role("checkbox", name="vit")
        box.uncheck()
        after = marks(page, chart)
        assert len(before) == 12
        assert len(after) == 9
        assert not [label for label in after if "model: vit;" in label]
        box.check()
        assert marks(page, chart).keys() == before.keys()
    for box in page.locator("[data-chart=accuracy]").get_by_role("checkbox").all():
        box.uncheck()
    assert marks(page, "accuracy") == {}


def test_n_can_be_linear_and_keeps_the_models_that_are_shown(visit):
    page = visit()
    chart = page.locator("[data-chart=accuracy]")
    chart.get_by_role("checkbox", name="swin").uncheck()

    def share():
        """Where n = 200 lies between 50 and 1,000, of the CNN."""
        of_cnn = {label: x for label, (x, _) in marks(page, "accuracy").items() if "model: cnn;" in label}
        at = {re.search(r"n: ([\d,]+);", label).group(1): x for label, x in of_cnn.items()}
        return (at["200"] - at["50"]) / (at["1,000"] - at["50"])

    assert share() == pytest.approx(0.463, abs=0.02)  # log 4 / log 20
    chart.get_by_label("n axis").select_option(label="linear")
    assert share() == pytest.approx(0.158, abs=0.02)  # 150 / 950
    assert not [label for label in marks(page, "accuracy") if "model: swin;" in label]
    assert len(marks(page, "accuracy")) == 9


def ends_at(text, model, seed, value):
    number = float(text.rsplit(":", 1)[1])
    return f"model: {model}; seed: {seed};" in text and number == pytest.approx(value, abs=1e-4)


def test_the_curves_of_any_cell_can_be_chosen(visit, files):
    page = visit()
    results, chart = files["digits"][0].results, page.locator("[data-chart=curves]")

    def points(n, seed, role="main"):
        return sum(len(records[seed].curve) for m in results.models if seed in (records := results.at(m, n, role)))

    before = told(page, "curves")
    chart.locator("[name=seed]").select_option("1")
    chart.locator("[name=group]").select_option(label="1,000")
    models = len([m for m in results.models if m != "linear"])
    assert len(told(page, "curves")) == points(1000, 1) + models
    assert told(page, "curves") != before
    last = results.at("cnn", 1000)[1].curve[-1]
    assert [text for text in told(page, "curves") if ends_at(text, "cnn", 1, 100 * last.val_accuracy)]
    chart.locator("[name=measure]").select_option(label="training loss (nats)")
    assert [text for text in told(page, "curves") if ends_at(text, "cnn", 1, last.train_loss)]
    chart.locator("[name=group]").select_option(label="50, 2× the training")
    chart.locator("[name=seed]").select_option("0")
    assert len(told(page, "curves")) == points(50, 0, "budget-check") + 2


def test_the_chosen_class_and_matrix_are_shown(visit, files):
    page = visit("evil")
    chart = page.locator("[data-chart=confusion]")
    cells = chart.locator(".plot .mark-rect path")
    assert cells.count() == 100

    def share():
        (text,) = [t for t in told(page, "confusion", "rect") if "predicted: digit 8; class: digit 3;" in t]
        return float(text.rsplit(":", 1)[1])

    assert share() == pytest.approx(12, abs=1.1)  # n = 1,000: 0.1, 0.12, 0.14 of the class
    chart.locator("[name=n]").select_option(label="50")
    assert share() == pytest.approx(42, abs=1.1)
    by_class = page.locator("[data-chart=by-class]")
    faint = by_class.locator(".plot .mark-symbol path[opacity='0.1']")
    before = faint.count()
    by_class.locator("[name=picked]").select_option(label="all")
    told(page, "by-class")
    assert (before, faint.count()) == (2 * 3 * 9, 0)


def test_a_click_on_a_heading_sorts_up_and_then_down(visit, files):
    page = visit()
    records = files["digits"][0].results.records.values()
    accuracy = heading(page, "test accuracy, %")
    shown = sorted(record.test.accuracy for record in records)
    accuracy.get_by_role("button").click()
    assert accuracy.get_attribute("aria-sort") == "ascending"
    assert column(page, "test accuracy") == [f"{100 * value:.2f}" for value in shown]
    accuracy.get_by_role("button").click()
    assert accuracy.get_attribute("aria-sort") == "descending"
    assert column(page, "test accuracy") == [f"{100 * value:.2f}" for value in reversed(shown)]
    heading(page, "model").get_by_role("button").click()
    assert column(page, "model") == sorted(record.cell.model for record in records)
    assert page.locator("[aria-sort]").count() == 1


def test_the_download_is_what_export_writes(visit, files):
    page = visit()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download as CSV").click()
    text = waiting.value.path().read_text(encoding="utf-8")
    assert waiting.value.suggested_filename == "digits-reference.csv"
    records = list(files["digits"][0].results.records.values())
    assert text == tidy(records).to_csv(index=False, lineterminator="\n")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["id"] for row in rows} == {record.id for record in records}


# ---- names ----


def test_wicked_names_are_shown_as_they_are(visit):
    page = visit("evil")
    names = page.locator("[data-chart=accuracy] .model span").all_inner_texts()
    assert names == [VIT, CNN, SWIN, "linear"]
    assert {*column(page, "model")} == {VIT, CNN, SWIN, "linear"}
    page.locator("[data-chart=accuracy]").scroll_into_view_if_needed()
    for name in (VIT, CNN, SWIN):
        page.mouse.move(*next(place for label, place in marks(page, "accuracy").items() if name in label))
        page.locator("#vg-tooltip-element.visible td.value", has_text=name[:10]).first.wait_for()
        page.mouse.move(0, 0)
    page.locator("[data-chart=accuracy]").get_by_role("checkbox", name=VIT).uncheck()
    assert not [label for label in marks(page, "accuracy") if VIT in label]
    options = page.locator("[data-chart=by-class] select[name=picked] option").all_inner_texts()
    assert options[0] == CLASS
    assert page.locator("main img, main svg svg, main iframe").count() == 0
    assert page.locator("script").count() == 3
