"""Accuracy class by class and confusion matrices, from the predicted classes that records keep."""

import numpy as np
import pytest
from synthetic import make_study, record

from vitcnn.analysis.by_class import confusion
from vitcnn.analysis.results import Results
from vitcnn.errors import ConfigError
from vitcnn.report.by_class import MOST, by_class_of
from vitcnn.store import records
from vitcnn.store.labels import Labels, read_labels, write_labels
from vitcnn.store.records import pack_bits, pack_classes

LABELS = np.arange(500) % 10


def predicting(cell, wrong):
    """A record whose network is right but for `wrong`: {class: (share of its images, the class they are given)}."""
    predicted = LABELS.copy()
    for label, (share, other) in wrong.items():
        predicted[np.flatnonzero(label == LABELS)[: round(50 * share)]] = other
    right = predicted == LABELS
    one = record(cell, right.mean(), rng=np.random.default_rng(0))
    test = {"accuracy": right.mean(), "bits": pack_bits(right), "predicted": pack_classes(predicted, 10)}
    return one.model_copy(update={"test": records.TestScore.model_validate(one.test.model_dump() | test)})


@pytest.fixture
def planted(tmp_path):
    """The cnn takes a fifth of the 3s for 8s at n = 50 (seed 0; seed 1: two fifths), the vit all 0s for 1s."""
    study, all_cells, paths = make_study(tmp_path)
    for cell in all_cells:
        share = {50: 0.2 + 0.2 * cell.seed}.get(cell.n, 0.0)
        wrong = {"cnn": {3: (share, 8)}, "vit": {0: (1.0, 1)}}.get(cell.model, {})
        records.write_record(predicting(cell, wrong), paths)
    write_labels(paths, tuple(f"digit {k}" for k in range(10)), LABELS)
    return study, all_cells, paths


def test_the_confusion_matrix_is_the_mean_over_seeds_of_the_shares_of_each_class(planted):
    study, all_cells, paths = planted
    found = confusion(Results.of(study, all_cells, records.read_records(paths.records)[0]), "cnn", 50, LABELS, 10)
    wanted = np.eye(10)
    shares = [0.2 + 0.2 * seed for seed in study.seeds]
    wanted[3, 3], wanted[3, 8] = 1 - np.mean(shares), np.mean(shares)
    assert np.allclose(found, wanted)


def test_a_class_without_test_images_is_a_row_of_nan_and_no_prediction_is_none(planted):
    study, all_cells, paths = planted
    results = Results.of(study, all_cells, records.read_records(paths.records)[0])
    found = confusion(results, "cnn", 50, LABELS, 11)
    assert np.isnan(found[10]).all()
    assert not np.isnan(found[:10]).any()
    bare = {
        i: r.model_copy(update={"test": r.test.model_copy(update={"predicted": None})})
        for i, r in results.records.items()
    }
    assert confusion(Results(study, all_cells, bare), "cnn", 50, LABELS, 10) is None


def test_the_report_has_the_classes_with_the_numbers_of_the_records(planted, vitcnn):
    study, _, paths = planted
    file = paths.results.parent / "trio.yaml"
    assert vitcnn("report", file, "--results", paths.results, "--runs", paths.runs)[0] == 0
    text = (paths.report / "report.md").read_text(encoding="utf-8")
    section = text[text.index("## Classes") :]
    lines = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in section.splitlines() if "|" in line
    }
    small, large = study.sizes[0], study.sizes[-1]
    assert lines["class"][:4] == [
        f"cnn, n = {small:,}",
        f"cnn, n = {large:,}",
        f"vit, n = {small:,}",
        f"vit, n = {large:,}",
    ]
    shares = np.mean([0.2 + 0.2 * seed for seed in study.seeds])
    assert lines["digit 3"][:2] == [f"{100 * (1 - shares):.1f}", "100.0"]
    assert lines["digit 3"][4] == f"{100 * shares:+.1f}"
    assert lines["digit 0"][2:4] == ["0.0", "0.0"]
    assert (paths.report / "classes.png").exists()


def test_of_many_classes_those_with_the_largest_gaps_are_shown(planted):
    study, all_cells, paths = planted
    results = Results.of(study, all_cells, records.read_records(paths.records)[0])
    labels = Labels(names=tuple(map(str, range(30))), packed=pack_classes(LABELS, 30))
    shown = by_class_of(results, labels).shown()
    assert len(shown) == MOST
    assert 0 in shown


def test_without_labels_or_predictions_the_report_has_no_such_part(planted, vitcnn):
    _, _, paths = planted
    paths.labels.unlink()
    file = paths.results.parent / "trio.yaml"
    assert vitcnn("report", file, "--results", paths.results, "--runs", paths.runs)[0] == 0
    assert "## Classes" not in (paths.report / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "{}", '{"names": ["a"], "packed": "zz"}', '{"names": [], "packed": 5}'])
def test_damaged_labels_are_a_sentence(text, tmp_path):
    (tmp_path / "test_labels.json").write_text(text)
    with pytest.raises(ConfigError, match=r"test_labels.json: damaged \(.*\); delete it"):
        read_labels(tmp_path / "test_labels.json")


def test_a_run_keeps_the_labels_of_its_test_images(tmp_path, vitcnn):
    (tmp_path / "s.yaml").write_text(
        "dataset: digits\nsizes: [50]\nseeds: 1\nmodels: [linear]\nbudget: {images_seen: 100}\n"
    )
    assert vitcnn("run", "s.yaml", "--wandb", "off", "--device", "cpu")[0] == 0
    kept = read_labels(tmp_path / "results" / "s" / "test_labels.json")
    (one,) = records.read_records(tmp_path / "results" / "s" / "records")[0]
    assert kept.names == tuple(map(str, range(10)))
    assert np.array_equal(kept.array() == one.test.classes(), one.test.correct())
