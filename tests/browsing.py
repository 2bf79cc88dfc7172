"""Pages in a real browser: the system's Chromium driven by Playwright."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Any]:
    """Skips the test where there is no browser, or nothing to drive it or to make a page with."""
    pytest.importorskip("altair", reason="the extra `page` is not installed")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with api.sync_playwright() as playwright, playwright.chromium.launch(executable_path=executable) as browser:
        yield browser


@contextmanager
def quiet(browser: Any, addresses: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """`visit("digits", **options)`: the page, drawn. At the end it has asked for nothing but itself, opened no dialog
    and written nothing to the console."""
    heard, contexts = [], []

    def go(name: str = "digits", **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        page, address = contexts[-1].new_page(), addresses[name]
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda asked: heard.append(asked.url) if asked.url.split("#")[0] != address else None)
        page.goto(address)
        page.locator("html[data-drawn]").wait_for()
        return page

    yield go
    for context in contexts:
        context.close()
    assert heard == []


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
