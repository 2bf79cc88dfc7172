"""A study on a folder: its records, and its report when the images are gone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pets import noise, plant, save
from PIL import Image
from typer.testing import CliRunner

from vitcnn import cli
from vitcnn.data.sources.cache import KeptInfo
from vitcnn.data.sources.fetch import about_data, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.launch.open_study import fetch_and_open
from vitcnn.launch.worker import Options, work
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record, read_records

STUDY = """
dataset: "folder:{root}"
sizes: [40]
seeds: 1
models:
  vit: {{width: 16, depth: 1, heads: 1}}
  cnn: {{channels: [4], blocks: [1]}}
  linear: {{C: [1.0]}}
budget: {{images_seen: 128}}
recipe: {{batch_size: 32, augment: flip}}
"""


def call(home: Path, command: str, *tokens: str) -> str:
    """A command on the study `home/pets.yaml`, its results beside it; what it printed."""
    folders = ["--results", f"{home}/results", "--runs", f"{home}/runs"]
    done = CliRunner().invoke(cli.app, [command, f"{home}/pets.yaml", *tokens, *folders])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, list[Record], np.ndarray]:
    """A study of 60 cats and 12 dogs, all of them noise; (where, its records, the test labels). Then the images and
    the cache are gone."""
    home = tmp_path_factory.mktemp("home")
    for k in range(72):
        save(noise(k), home / "pets" / ("cat" if k < 60 else "dog") / f"{k}.png")
    (home / "pets.yaml").write_text(STUDY.format(root=home / "pets"))
    where = {"results": home / "results", "runs": home / "runs", "data_folder": home / "cache"}
    opened = fetch_and_open(home / "pets.yaml", **where)
    options = Options(device="cpu", tracking="off", data_folder=home / "cache")
    assert [set(work((cell,), opened.paths, options).cells.values()) for cell in opened.cells] == [{"done"}] * 3
    labels = np.array(load(parse_dataset(f"folder:{home}/pets"), home / "cache").arrays.test_labels)
    shutil.rmtree(home / "pets")
    shutil.rmtree(home / "cache")
    return home, read_records(StudyPaths("pets", home / "results", home / "runs").records)[0], labels


def test_a_study_on_a_folder_has_the_accuracy_on_images_and_the_mean_over_classes(finished):
    _, records, labels = finished
    assert sorted(r.cell.model for r in records) == ["cnn", "linear", "vit"]
    assert len(labels) == 14
    for r in records:
        right = r.test.correct()
        assert r.test.accuracy == pytest.approx(right.mean())
        assert r.test.macro_accuracy == pytest.approx((right[labels == 0].mean() + right[labels == 1].mean()) / 2)
        assert r.test.macro_accuracy != r.test.accuracy


def test_the_records_of_a_study_on_a_folder_say_what_it_held(finished):
    home, records, _ = finished
    about = KeptInfo.model_validate_json((home / "results" / "pets" / "dataset.json").read_bytes()).info
    for r in records:
        assert r.cell.content == about.content
        assert r.data["origin"] == "a folder"
        assert r.data["test_in_train"] == 0
        assert len(r.data["sha256"]) == 2
        assert (r.test.images, r.train.images, r.validation.images) == (14, 40, about.validation)


def test_a_study_is_reported_when_the_images_and_the_cache_are_gone(finished):
    home, records, _ = finished
    assert not (home / "pets").exists()
    assert "3 done" in call(home, "status")
    call(home, "report")
    text = (home / "results" / "pets" / "report.md").read_text(encoding="utf-8")
    for r in records:
        assert f"{100 * r.test.accuracy:.1f}" in text
        assert f"{100 * r.test.macro_accuracy:.1f}" in text
    call(home, "export", "--csv", f"{home}/table.csv")
    assert len((home / "table.csv").read_text().splitlines()) == 4
    assert not (home / "cache").exists()


def test_what_a_run_left_of_its_data_is_not_taken_for_other_data_nor_when_it_is_damaged(root, read, tmp_path):
    plant(root, {"cat": 20, "dog": 10})
    info = read(root).info
    kept = tmp_path / "dataset.json"
    kept.write_text(KeptInfo(dataset=info.name, resolution=None, info=info).model_dump_json())
    nowhere = tmp_path / "no-cache"
    assert about_data(parse_dataset(info.name), nowhere, beside=kept) == info
    for name, resolution in (("folder:elsewhere", None), (info.name, 16)):
        with pytest.raises(ConfigError, match="is not in the data cache"):
            about_data(parse_dataset(name, resolution), nowhere, beside=kept)
    kept.write_text(kept.read_text()[:-9])
    with pytest.raises(ConfigError, match=r"dataset.json: damaged, or written by another version"):
        about_data(parse_dataset(info.name), nowhere, beside=kept)
    assert about_data(parse_dataset(info.name), tmp_path / "cache", beside=kept) == info


def test_subsets_without_an_image_of_a_class_and_warnings_are_in_plan_run_and_report(tmp_path):
    """Classes of 60, 56 and 5 images, one of them on a test folder that is val; one file of 16 bits."""
    for k in range(121):
        label = "cat" if k < 60 else "dog" if k < 116 else "rare"
        save(noise(k), tmp_path / "pets" / "train" / label / f"{k}.png")
    for k, label in enumerate(("cat", "dog", "rare")):
        save(noise(200 + k), tmp_path / "pets" / "val" / label / "0.png")
    deep = Image.fromarray(np.full((8, 8), 60_000, np.uint16))
    save(deep, tmp_path / "pets" / "train" / "cat" / "deep.png")
    text = (
        "dataset: 'folder:{root}'\nsizes: [6, 60]\nseeds: 2\nmodels: {{linear: {{C: [1.0]}}}}\nbudget: {{epochs: 1}}\n"
    )
    (tmp_path / "pets.yaml").write_text(text.format(root=tmp_path / "pets"))
    cache = ("--data-dir", f"{tmp_path}/cache")
    said = {"run": call(tmp_path, "run", "--device", "cpu", "--wandb", "off", *cache)}
    said["plan"] = call(tmp_path, "plan", *cache)
    call(tmp_path, "report")
    said["report"] = (tmp_path / "results" / "pets" / "report.md").read_text(encoding="utf-8")
    for output in said.values():
        flat = " ".join(output.split())
        assert "the folder val" in flat
        assert "iles with 16 bits: 1, with 8 bits: 124" in flat
    for output in (said["plan"], said["report"]):
        assert "t n = 6 some training subsets have no image of rare" in " ".join(output.split())
    absent = {r.cell.n: r.data.get("absent") for r in read_records(tmp_path / "results" / "pets" / "records")[0]}
    assert absent == {6: ["rare"], 60: None}
