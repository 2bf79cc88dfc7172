"""`report.html`: a report as one file that opens from disk and asks nothing of a network.

Its text and tables are those of `report.md`; charts stand for figures, as far as there are any.
"""

import base64
import hashlib
import importlib.util
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcnn.analysis.results import Results
from vitcnn.errors import ConfigError
from vitcnn.report.report import Report
from vitcnn.store.paths import write_atomically

NEEDED = {"altair": "altair", "vl_convert": "vl-convert-python", "jinja2": "jinja2", "markdown_it": "markdown-it-py"}
RELOAD = 10  # seconds, of a page that is watched
FIRST = ("Accuracy against data", "Gap", "Training curves", "Overfitting", "Cost and quality", "Classes")
DESCRIBED, MADE_BY = ("Models", "Recipes"), ("Software and hardware",)  # others stand in between, in the report's order


@dataclass(frozen=True)
class Source:
    """How a report was asked for: the study's file and the changes to it."""

    file: Path
    overrides: Sequence[str] = ()

    def command(self, name: str) -> str:
        return shlex.join(["vitcnn", name, str(self.file), *self.overrides])


def check_extra() -> None:
    """Raises ConfigError where the packages that make a page are not installed."""
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"--html needs {', '.join(missing)}; install them with `pip install 'vitcnn[page]'`")


def write_page(report: Report, source: Source, reload: int | None = None) -> Path:
    """Writes `report.html` beside `report.md`, which is there with its figures, and returns its path. `reload`: seconds
    after which the page loads itself again. Raises ConfigError."""
    check_extra()
    path = report.paths.report / "report.html"
    write_atomically(path, page_html(report, source, reload))
    return path


def page_html(report: Report, source: Source, reload: int | None = None) -> str:
    """The whole page."""
    import jinja2
    import vl_convert

    from vitcnn.report.page.blocks import sections
    from vitcnn.report.page.cells import cells_table
    from vitcnn.report.page.figures import charts_of
    from vitcnn.report.page.looks import DARK, in_the_dark
    from vitcnn.report.page.pictures import pictures

    results, text = report.results, sections(report.text)
    charts = {} if results.study.grid else charts_of(results.first_setting.at_largest_budget, report.paths)
    inside, outside = pictures(report.paths.report / "look")
    here = Path(__file__).parent
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    env.filters["json"] = json.dumps
    own = (here / "page.js").read_text(encoding="utf-8")
    scripts = [script.replace("</script", "<\\/script") for script in (vl_convert.javascript_bundle(), own)]
    return env.get_template("page.html").render(
        title=text.title,
        question=question(results),
        **_arranged(text),
        charts=charts,
        specs={chart.name: chart.spec for each in charts.values() for chart in each},
        picture=lambda file: _picture(report.paths.report / file),
        pictures=inside,
        left_out=outside,
        cells=cells_table(list(results.records.values())),
        source=source,
        study_text=source.file.read_text(encoding="utf-8"),
        data=data_hashes(results.records.values()),
        css=env.get_template("page.css").render(dark=DARK, colors=in_the_dark()),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        reload=reload,
    )


def question(results: Results) -> str:
    """What the study asks, in a sentence."""
    study = results.study
    if study.grid:
        return f"Which recipe suits each model on {results.data}, at each number of training images n?"
    first, second = study.pair
    if {first, second} <= set(results.models):
        return f"How many training images does {second} need before it beats {first} on {results.data}?"
    return f"How does test accuracy on {results.data} grow with the number of training images n?"


def _arranged(text: Any) -> dict[str, Any]:
    """The sections in the page's order. What the report says first stays first; the verdict's sentences and its
    caveats leave the section of its numbers."""
    verdict = next((part for part in text.parts if part.title == "Verdict"), None)
    caveats = verdict.take("Caveats") if verdict else None
    claims = next((part for part in verdict.parts if part.title == "Claims"), None) if verdict else None
    inside = claims or verdict
    sentences = [block for block in inside.blocks if block.kind != "table"] if inside else []
    if inside:
        inside.blocks = [block for block in inside.blocks if block.kind == "table"]
    groups = {
        name: [part for title in titles for part in text.parts if part.title == title]
        for name, titles in (("first", FIRST), ("described", DESCRIBED), ("made_by", MADE_BY))
    }
    taken = [verdict, *(part for group in groups.values() for part in group)]
    return groups | {
        "warnings": [block for block in text.blocks if block.strong],
        "setup": [block for block in text.blocks if not block.strong],
        "verdict": sentences,
        "between": [part for part in text.parts if part not in taken],
        "details": [verdict] if verdict and (verdict.parts or verdict.blocks) else [],
        "caveats": caveats,
    }


def _picture(path: Path) -> str | None:
    from vitcnn.report.page.pictures import data_uri

    return data_uri(path) if path.is_file() else None


def data_hashes(records: Any) -> list[tuple[str, list[str]]]:
    """(where the data are from, their SHA-256), each distinct pair once."""
    found = {(r.data.get("origin", "unknown"), tuple(r.data.get("sha256", ()))): None for r in records}
    return [(origin, list(hashes)) for origin, hashes in found]


def _hash(script: str) -> str:
    """As a content security policy names a script that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
