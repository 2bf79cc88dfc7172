"""Putting a data set into the cache: all of it or nothing, from the first source that answers."""

import gzip
import json
import threading

import numpy as np
import pytest

from vitcnn.data.cache import Arrays, FetchError, read_about
from vitcnn.data.fetch import fetch, load
from vitcnn.data.fetchers import read_idx
from vitcnn.data.sources import BUILT_IN, Source


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
        fetch("tiny", tmp_path, say=lambda _: None)
    for part in ("first.example", "second.example", "OSError", "the line went dead", "By hand: copy it"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert read_about(tmp_path / "tiny") is None


def test_the_second_source_is_used_where_the_first_fails(register, tmp_path):
    register(("first.example", midway), ("second.example", tiny))
    folder = fetch("tiny", tmp_path, say=lambda _: None)
    assert json.loads((folder / "about.json").read_text())["origin"] == "second.example"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny"]
    assert load("tiny", tmp_path).arrays.train_labels.dtype == np.int64


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
        fetch("tiny", tmp_path, say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_other_pixels_than_expected_are_stored_with_a_warning(register, tmp_path):
    said = []
    register(("mirror.example", tiny), sums=("a", "b"))
    fetch("tiny", tmp_path, say=said.append)
    assert any("WARNING" in line and "expected ('a', 'b')" in line for line in said)


def test_fetching_twice_does_nothing_the_second_time(data_folder):
    said = []
    before = {path: path.stat().st_mtime_ns for path in (data_folder / "digits").iterdir()}
    assert fetch("digits", say=said.append) == data_folder / "digits"
    assert said == []
    assert before == {path: path.stat().st_mtime_ns for path in (data_folder / "digits").iterdir()}


def test_two_that_fetch_at_once_both_end_with_the_data(register, tmp_path):
    together = threading.Barrier(2, timeout=20)
    register(("slow.example", lambda _: (together.wait(), tiny())[1]))  # both are past the look into the cache
    failures = []

    def one():
        try:
            fetch("tiny", tmp_path, say=lambda _: None)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert failures == []
    assert not together.broken
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]
    assert {p.name for p in (tmp_path / "tiny").iterdir()} == {"about.json", *(f"{a}.npy" for a in Arrays._fields)}
    assert np.array_equal(load("tiny", tmp_path).arrays.train_images, tiny().train_images)


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
