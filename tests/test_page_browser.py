"""The page in a real browser: quiet, offline, controls that work, on a phone, in the dark, by keyboard, in print.

Skipped where there is no Chromium or no Playwright.
"""

import csv
import io
import re
import shutil

import pytest
from paging import CLASS, CNN, SWIN, VIT, committed, evil, saved

from vitcnn.analysis.tidy import tidy
from vitcnn.report.page.looks import contrast

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytest.importorskip("altair", reason="the extra `page` is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(BROWSERS)} is installed")
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
TOLD = "Each of these would be a request, a dialog, or a line in the console."


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM) as browser:
        yield browser


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(report, page's file) of the digits and of a study with wicked names."""
    out = {}
    for name in ("digits", "evil"):
        folder = tmp_path_factory.mktemp(name)
        report, source = evil(folder) if name == "evil" else committed("digits/reference")
        out[name] = report, saved(folder, report, source)
    return out


@pytest.fixture
def visit(browser, files):
    """`visit("digits", **options)`: the page, drawn. At the end nothing was asked for, said or reported."""
    heard, contexts = [], []

    def go(name="digits", **options):
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        address = files[name][1].as_uri()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: heard.append(request.url) if request.url.split("#")[0] != address else None)
        page.goto(address)
        page.locator("html[data-drawn]").wait_for()
        return page

    yield go
    for context in contexts:
        context.close()
    assert heard == [], TOLD


def told(page, chart, what="symbol"):
    """What a screen reader says of each mark of a chart."""
    page.locator("[aria-busy]").wait_for(state="detached")
    found = page.locator(f"[data-chart={chart}] .plot .mark-{what} path")
    return found.evaluate_all("each => each.map(e => e.getAttribute('aria-label') ?? '')")


def marks(page, chart):
    """The markers of means: their middle on the screen (x, y) by what a screen reader says of each."""
    middle = "(({ x, y, width, height }) => [x + width / 2, y + height / 2])(e.getBoundingClientRect())"
    page.locator("[aria-busy]").wait_for(state="detached")
    found = page.locator(f"[data-chart={chart}] .plot .mark-symbol path")
    each = found.evaluate_all(f"each => each.map(e => [e.getAttribute('aria-label') ?? '', {middle}])")
    return {label: place for label, place in each if "mean:" in label}


def column(page, title):
    """What stands in a column of the table of cells."""
    head = page.locator("table.sortable thead th").all_inner_texts()
    place = next(k for k, text in enumerate(head) if text.startswith(title))
    return page.locator(f"table.sortable tbody td:nth-child({place + 1})").all_inner_texts()


def heading(page, title):
    return page.locator("table.sortable thead th").filter(has_text=re.compile(f"^{title}$"))


# ---- what is drawn ----


@pytest.mark.parametrize("name", ["digits", "evil"])
def test_every_chart_is_drawn_without_a_request_or_a_word_in_the_console(visit, name):
    page = visit(name)
    charts = page.locator("[data-chart]").all()
    assert len(charts) == {"digits": 4, "evil": 7}[name]
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


# ---- for everybody ----


@pytest.mark.parametrize("name", ["digits", "evil"])
def test_a_phone_needs_no_scrolling_to_the_side(visit, name):
    page = visit(name, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for chart in page.locator("[data-chart] .plot svg").all():
        assert chart.bounding_box()["width"] <= 360
        assert chart.bounding_box()["width"] > 250
    wide = page.locator(".scroll").filter(has=page.locator("table.sortable"))
    assert wide.evaluate("e => e.scrollWidth > e.clientWidth")


def hexed(color):
    """`rgb(1, 2, 3)` as `#010203`."""
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", color)[:3])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_can_be_read_in_light_and_dark(visit, scheme):
    page = visit(color_scheme=scheme)

    def color(selector, what="color"):
        return hexed(page.locator(selector).first.evaluate(f"e => getComputedStyle(e).{what}"))

    paper = color("body", "backgroundColor")
    assert (contrast(paper, "#000000") < 2) == (scheme == "dark")
    for text in ("body", "h1", "a", ".note", "caption", ".outcome", "td", "figcaption"):
        assert contrast(color(text), paper) > 4.5, text
    for text in (".role-axis-label text", ".role-axis-title text"):
        assert contrast(color(f".plot {text}", "fill"), paper) > 4.5, text
    lines = page.locator("[data-chart] .mark-line path")
    for stroke in lines.evaluate_all("each => each.map(e => getComputedStyle(e).stroke)"):
        assert contrast(hexed(stroke), paper) >= 3


def test_the_keyboard_reaches_and_works_every_control(visit):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen, wanted = [], page.locator("main :is(a, button, input, select, [tabindex='0'])").count()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        focus = page.evaluate("(({ tagName, name }) => [tagName, name])(document.activeElement)")
        seen.append(tuple(focus))
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert float(width.removesuffix("px")) >= 2, focus
        if focus == ["INPUT", "shown"] and not any(name == "shown" for _, name in seen[:-1]):
            before = len(marks(page, "accuracy"))
            page.keyboard.press("Space")
            assert len(marks(page, "accuracy")) == before - 3
    assert {tag for tag, _ in seen} >= {"A", "BUTTON", "INPUT", "SELECT", "DIV", "PRE"}


def test_print_has_no_controls_and_shows_whole_tables(visit):
    page = visit(color_scheme="dark")
    page.emulate_media(media="print")
    for hidden in ("nav", "[data-chart] input", ".download"):
        assert not page.locator(hidden).first.is_visible()
    assert page.locator("[data-chart=accuracy] .swatch").first.is_visible()
    assert hexed(page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")) == "#ffffff"
    assert page.locator("[data-chart=curves] [name=group]").is_visible()  # which n is drawn
    tall = page.locator(".tall")
    assert tall.evaluate("e => e.scrollHeight <= e.clientHeight + 1")


def test_without_javascript_the_tables_are_there(visit, browser, files):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["digits"][1].as_uri())
    assert page.locator(".waiting").first.is_visible()
    assert page.get_by_role("table").count() > 8
    assert page.get_by_role("link", name="Download as CSV").is_visible()
    context.close()
