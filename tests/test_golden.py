"""The committed reports are what the committed records give, to the byte."""

import shutil
from pathlib import Path

import pytest

from vitcnn.matrix import cells
from vitcnn.records import Places
from vitcnn.report.report import write_report
from vitcnn.study_file import load_study

HERE = Path(__file__).resolve().parents[1]
STUDIES = [c.stem for c in sorted(HERE.glob("configs/*.yaml")) if (HERE / f"results/{c.stem}/report.md").exists()]


def test_there_are_reports_to_hold_against_their_records():
    assert {"digits", "fashion-mnist"} <= set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_report_is_what_its_records_give(name, tmp_path):
    study = load_study(HERE / f"configs/{name}.yaml")
    places = Places(name, tmp_path / "results", tmp_path / "runs")
    shutil.copytree(HERE / f"results/{name}/records", places.records)
    report = write_report(study, cells(study), places)
    committed = HERE / f"results/{name}/report.md"
    assert report.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")
    assert report.read_bytes() == committed.read_bytes()
