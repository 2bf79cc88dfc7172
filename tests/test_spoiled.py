"""What was changed after it was written is not believed: data, records, progress."""

import base64
import errno
import hashlib
import json
import os

import numpy as np
import pytest
from synthetic import make_study, record

from vitcnn.data.sources import cache
from vitcnn.data.sources.cache import FetchError
from vitcnn.data.sources.fetch import fetch, load, verify
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.store import records
from vitcnn.store.records import pack_classes, read_record
from vitcnn.store.status import quarantine, states

DIGITS = parse_dataset("digits")


@pytest.fixture
def here(tmp_path):
    """The digits in a cache of their own."""
    fetch(DIGITS, tmp_path, log=lambda _: None)
    return tmp_path


def spoil(file, change) -> None:
    array = np.load(file)
    np.save(file, change(array))


@pytest.mark.parametrize("part", ["train_images", "train_labels", "test_images", "test_labels"])
def test_a_changed_pixel_or_label_is_found_before_a_run(part, here, study, vitcnn):
    def flip(array):
        array.reshape(-1)[5] = 9 - array.reshape(-1)[5] % 10
        return array

    spoil(here / "digits" / f"{part}.npy", flip)
    what = "pixels" if part.endswith("images") else "labels"
    wanted = f"{here / 'digits'}: damaged: {what} differ from their checksum; delete this folder to fetch the data set"
    with pytest.raises(FetchError, match=wanted):
        verify(DIGITS, here)
    study("seeds=1")
    code, _, err = vitcnn("run", "small.yaml", "--data-dir", here, "--wandb", "off", "--device", "cpu")
    assert (code, "differ from their checksum" in " ".join(err.split())) == (2, True)


def test_a_whole_data_set_passes_also_one_that_was_stored_without_sums_of_its_labels(here):
    verify(DIGITS, here)
    file = here / "digits" / "about.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in about.items() if key != "labels_sha256"}))
    verify(DIGITS, here)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("train_images", lambda a: a[:-1]),
        ("train_images", lambda a: a.astype(np.float32)),
        ("test_images", lambda a: a[..., 0]),
        ("train_labels", lambda a: a[:-1]),
        ("train_labels", lambda a: a.astype(np.float64)),
        ("test_labels", lambda a: a[:, None]),
        ("test_labels", lambda a: np.full_like(a, 11)),
    ],
)
def test_arrays_of_another_shape_or_kind_are_a_sentence(part, change, here):
    spoil(here / "digits" / f"{part}.npy", change)
    with pytest.raises(FetchError, match=r"digits: damaged: .*; delete this folder to fetch the data set again"):
        load(DIGITS, here)


@pytest.mark.parametrize("key", ["info", "duplicates", "origin", "sha256"])
def test_a_cache_without_a_key_of_its_description_is_fetched_again(key, here):
    file = here / "digits" / "about.json"
    about = json.loads(file.read_text())
    del about[key]
    file.write_text(json.dumps(about))
    assert load(DIGITS, here).info.train == 1297
    assert key in json.loads(file.read_text())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.EIO])
def test_only_damaged_files_are_to_be_deleted(code, here, monkeypatch):
    def broken(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(cache.np, "load", broken)
    with pytest.raises(FetchError) as caught:
        load(DIGITS, here)
    assert os.strerror(code) in str(caught.value)
    assert "delete" not in str(caught.value)


# ---- records ----


def put(text: dict, path) -> None:
    """A record with a valid checksum, whatever it says."""
    body = json.dumps({key: value for key, value in text.items() if key != "sum"})
    path.write_text(f'{body[:-1]},"sum":"{hashlib.sha256(body.encode()).hexdigest()}"}}\n')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["test"].update(accuracy=7), "less than or equal to 1"),
        (lambda r: r["test"].update(accuracy=0.123), "accuracy 0.123, but 0.5 by its bits"),
        (lambda r: r["test"].update(bits="ÄÖÜ"), "bits are not base64"),
        (lambda r: r["test"].update(bits=base64.b64encode(b"x").decode()), "bits of 500 images, but 1 bytes"),
        (lambda r: r["test"].update(predicted="zzzz"), "predicted classes cannot be unpacked"),
        (lambda r: r["test"].update(predicted=pack_classes(np.zeros(7), 10)), "predicted classes of 7 images, not 500"),
        (lambda r: r["test"].update(nll=-1), "greater than or equal to 0"),
        (lambda r: r["train"].update(images=0), "greater than 0"),
        (lambda r: r.update(found={"C": "large"}), "valid number"),
        (lambda r: r.update(data={"test_in_train": "many"}), "valid integer"),
        (lambda r: r.update(data=[]), "be an object"),
        (lambda r: r.update(curve=[{"images_seen": "x"}]), "valid integer"),
        (lambda r: r.update(made_by="me"), "be an object"),
    ],
)
def test_a_record_of_impossible_content_is_quarantined_with_a_sentence(change, said, tmp_path):
    _, all_cells, paths = make_study(tmp_path, "sizes=[50]", "seeds=1")
    path = records.write_record(record(all_cells[0], 0.5, rng=np.random.default_rng(0)), paths)
    text = json.loads(path.read_text())
    change(text)
    put(text, path)
    with pytest.raises(ValueError, match=f"not a valid record: .*{said}"):
        read_record(path)
    (line,) = quarantine(paths)
    assert f"{path.name}.broken" in line


def test_a_second_quarantine_does_not_overwrite_the_first(tmp_path):
    _, all_cells, paths = make_study(tmp_path, "sizes=[50]", "seeds=1")
    paths.records.mkdir(parents=True, exist_ok=True)
    path = paths.record(all_cells[0].id)
    for text in ("one", "two", "three"):
        path.write_text(text)
        quarantine(paths)
    assert [path.with_name(f"{path.name}.broken{k}").read_text() for k in ("", "-1", "-2")] == ["one", "two", "three"]


# ---- progress ----


@pytest.mark.parametrize(
    "text",
    ["[]", "7", '"x"', "{}", '{"time": "late"}', '{"pid": -1}', '{"pid": []}', '{"step": -3}', '{"accuracy": "good"}',
     '{"host": 5}', '{"images_per_s": {}}', '{"stopped": "perhaps"}'],
)  # fmt: skip
def test_a_malformed_progress_file_counts_as_none(text, tmp_path):
    _, all_cells, paths = make_study(tmp_path, "sizes=[50]", "seeds=1")
    whole = {"time": 1e9, "pid": 1, "host": "h", "step": 1, "steps": 2}
    assert states(all_cells[:1], paths)[0].kind == "waiting"
    folder = paths.cell(all_cells[0].id)
    folder.mkdir(parents=True)
    for content, kind in ((whole, "stopped"), (whole | json.loads(text) if text.startswith('{"') else text, "waiting")):
        (folder / "progress.json").write_text(content if isinstance(content, str) else json.dumps(content))
        assert states(all_cells[:1], paths)[0].kind == kind
