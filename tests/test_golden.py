"""The committed reports and recipes are what the committed records give, to the byte."""

from pathlib import Path

import pytest

from vitcnn.analysis.select import choose, recipes_yaml
from vitcnn.report.report import report_text
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import read_records
from vitcnn.store.status import failures
from vitcnn.study.load import load_study
from vitcnn.study.matrix import cells

HERE = Path(__file__).resolve().parents[1]
CONFIGS = [path.relative_to(HERE / "configs").with_suffix("").as_posix() for path in HERE.glob("configs/*/*.yaml")]
STUDIES = [name for name in sorted(CONFIGS) if (HERE / f"results/{name}/report.md").exists()]
SEARCHES = [name for name in STUDIES if (HERE / f"results/{name}/recipes.yaml").exists()]


def test_there_are_reports_to_hold_against_their_records():
    assert {"digits/reference", "fashion-mnist/reference"} <= set(STUDIES)
    assert {"digits/search", "fashion-mnist/search"} <= set(SEARCHES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_report_is_what_its_records_and_measured_costs_give(name, tmp_path):
    study, committed = load_study(HERE / f"configs/{name}.yaml"), StudyPaths(name, HERE / "results", tmp_path / "runs")
    text = report_text(study, cells(study), committed)
    assert text == (committed.report / "report.md").read_bytes().decode()


@pytest.mark.parametrize("name", SEARCHES)
def test_committed_recipes_are_what_the_records_of_their_search_give(name, tmp_path):
    study, committed = load_study(HERE / f"configs/{name}.yaml"), StudyPaths(name, HERE / "results", tmp_path)
    validation = {record.id: record.validation for record in read_records(committed.records)[0]}
    text = recipes_yaml(choose(study, cells(study), validation, failures(cells(study), committed)))
    assert text == (committed.report / "recipes.yaml").read_text(encoding="utf-8")
