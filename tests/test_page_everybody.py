"""The page in a real browser: on a phone, in the dark, by keyboard, in print, without JavaScript."""

import re

import pytest
from browsing import marks

from vitcnn.report.page.looks import contrast

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


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
