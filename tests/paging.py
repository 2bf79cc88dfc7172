"""A page of names that try to be HTML, JSON, templates or Vega expressions; and pages of committed studies."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from synthetic import make_study
from test_by_class import LABELS, predicting
from test_cost_report import some

from vitcnn.launch.open_study import open_study
from vitcnn.report.page.page import Source, page_html
from vitcnn.report.report import Report, read_report
from vitcnn.store.costs import write_costs
from vitcnn.store.labels import write_labels
from vitcnn.store.records import write_record

HERE = Path(__file__).resolve().parents[1]
VIT = "v</script><script>alert(1)</script>"
CNN = "c{{7*7}}<img src=x onerror=alert(2)>&amp;"
SWIN = "s'+alert(3)+' datum.n [x.y] \"q\" \\"
CLASS = "</script><svg onload=alert(4)>&lt;{{ 8*8 }}"
EVIL = f"""
dataset: digits
sizes: [50, 200, 1000]
seeds: 3
models:
  {json.dumps(VIT)}: {{arch: vit}}
  {json.dumps(CNN)}: {{arch: cnn}}
  {json.dumps(SWIN)}: {{arch: swin}}
  linear: {{}}
pair: [{json.dumps(CNN)}, {json.dumps(VIT)}]
budget: {{images_seen: 1280}}
recipe: {{batch_size: 64}}
# </code></pre><script>alert(5)</script>
"""


def evil(folder: Path) -> tuple[Report, Source]:
    """A finished study with such names of models and of a class, with costs and predictions."""
    study, all_cells, paths = make_study(folder, text=EVIL, name="evil")
    for cell in all_cells:
        share = {50: 0.4, 200: 0.2}.get(cell.n, 0.1)
        write_record(predicting(cell, {3: (share + 0.02 * cell.seed, 8), 5: (share, 0)}), paths)
    write_labels(paths, (CLASS, *(f"digit {k}" for k in range(1, 10))), LABELS)
    write_costs(some(study).model_copy(update={"machine": VIT}), paths)
    assert len(np.unique(LABELS)) == 10
    return read_report(study, all_cells, paths), Source(folder / "evil.yaml", ["seeds=3", "a b"])


def committed(study: str) -> tuple[Report, Source]:
    """The report of a study's committed records."""
    file = HERE / f"configs/{study}.yaml"
    opened = open_study(file, results=HERE / "results", runs=HERE / "runs")
    return read_report(opened.study, opened.cells, opened.paths, opened.about), Source(file)


def saved(folder: Path, report: Report, source: Source) -> Path:
    """The page as a file."""
    path = folder / "report.html"
    path.write_text(page_html(report, source), encoding="utf-8")
    return path


VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """`tags`: (name, attributes, depth); `text`: what a reader sees; `scripts`: contents, with attributes."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.html, self.tags, self.shown, self.scripts, self.open = html, [], [], [], []
        self.feed(html)
        self.text = " ".join("".join(self.shown).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), len(self.open)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), len(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.open[-1:] != ["style"]:
            self.shown.append(data)

    def all(self, tag):
        return [attrs for name, attrs, _ in self.tags if name == tag]

    @property
    def specs(self):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "specs"))
