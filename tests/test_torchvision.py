"""torchvision's own sets, by its own classes, from folders that look as if they had been downloaded."""

import inspect
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from downloads import caltech, clevr, country211, dtd, eurosat, imagenette, number, oxford, usps
from torchvision import datasets

from vitcnn.data.sources.cache import Arrays, FetchError, read_about
from vitcnn.data.sources.fetch import about_data, fetch, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.data.sources.torchvision import SETS, _open
from vitcnn.errors import ConfigError


@pytest.fixture
def got(tmp_path, offline):
    """`got("EuroSAT", eurosat)`: the set, made from what lies there; what was said is in `got.said`."""

    def call(name: str, lay: Callable[[Path], None], resolution: int | None = None):
        call.said.clear()
        lay(tmp_path / "downloads" / name)
        fetch(parse_dataset(f"torchvision:{name}", resolution), tmp_path, log=call.said.append)
        return load(parse_dataset(f"torchvision:{name}", resolution), tmp_path)

    call.said = []
    return call


# ---- splits ----


def test_a_set_without_a_test_set_gets_a_stratified_fifth(got):
    info, arrays, facts = got("EuroSAT", eurosat)
    assert (info.train, info.test, info.classes, info.class_names) == (16, 4, 2, ("Forest", "River"))
    assert np.bincount(arrays.test_labels).tolist() == [3, 1]
    assert sorted(number(arrays.train_images) + number(arrays.test_images)) == list(range(20))
    for images, labels in (arrays[:2], arrays[2:]):
        assert labels.tolist() == [int(k >= 15) for k in number(images)]
    assert facts["origin"] == "torchvision"


@pytest.mark.parametrize(
    ("name", "lay", "train", "test"),
    [
        ("DTD", dtd, [7, 2, 5, 1, 6], [3, 4]),
        ("Country211", country211, [0, 2, 1, 3, 4, 6, 5, 7], [8, 10, 9, 11]),
        ("OxfordIIITPet", oxford, [0, 1, 2, 3, 4, 5], [6, 7, 8]),
        ("Imagenette", imagenette, [0, 2, 1, 3], [4, 6, 5, 7]),
        ("CLEVRClassification", clevr, [0, 1, 2, 3, 4, 5], [6, 7]),
    ],
)
def test_an_official_test_set_is_the_test_set_and_all_else_the_training_pool_in_order(name, lay, train, test, got):
    info, arrays, _ = got(name, lay)
    assert (number(arrays.train_images), number(arrays.test_images)) == (train, test)
    assert (info.train, info.test) == (len(train), len(test))


@pytest.mark.parametrize(
    ("name", "lay", "names", "label"),
    [
        ("DTD", dtd, ("banded", "woven"), lambda k: 1 - k % 2),
        ("Country211", country211, ("AT", "CH"), lambda k: k % 2),
        ("OxfordIIITPet", oxford, ("Great Pyrenees", "Pug", "Sphynx"), lambda k: k % 3),
        ("Imagenette", imagenette, ("tench", "golf ball"), lambda k: k % 2),
        ("Caltech101", caltech, ("anchor", "beaver"), lambda k: int(k > 7)),
        ("CLEVRClassification", clevr, ("3", "4"), lambda k: k % 2),
    ],
)
def test_labels_stand_for_the_names_that_torchvision_gives_the_classes(name, lay, names, label, got):
    info, arrays, _ = got(name, lay)
    assert info.class_names == names
    for images, labels in (arrays[:2], arrays[2:]):
        assert labels.tolist() == [label(k) for k in number(images)]


# ---- pixels ----


def test_grey_digits_are_kept_grey_at_their_own_size_and_are_not_mirrored(got):
    info, arrays, _ = got("USPS", usps)
    assert (info.size, info.channels, info.flip) == (16, 1, False)
    assert info.class_names == tuple("0123456789")
    assert np.abs(arrays.test_images[:, 8, 8, 0] - 8 * np.arange(20, 30)).max() <= 1
    assert arrays.test_labels.tolist() == list(range(10))


def test_small_squares_keep_their_size_and_photos_become_64_pixels(got):
    assert got("EuroSAT", eurosat).info.size == 20
    assert got("Imagenette", imagenette).info.size == 64
    assert got("EuroSAT", eurosat).info.flip


def test_another_resolution_is_kept_beside_the_first(got, tmp_path):
    assert got("EuroSAT", eurosat).arrays.train_images.shape == (16, 20, 20, 3)
    assert got("EuroSAT", eurosat, 12).arrays.train_images.shape == (16, 12, 12, 3)
    assert sorted(path.name for path in (tmp_path / "torchvision").iterdir()) == ["EuroSAT", "EuroSAT-12px"]
    assert about_data(parse_dataset("torchvision:EuroSAT", 12), tmp_path).size == 12


# ---- files ----


def test_what_was_downloaded_is_removed_once_it_is_in_the_cache_and_not_asked_for_again(got, tmp_path):
    got("EuroSAT", eurosat)
    assert not (tmp_path / "downloads" / "EuroSAT").exists()
    assert any("downloading to" in line for line in got.said)
    again = []
    fetch(parse_dataset("torchvision:EuroSAT"), tmp_path, log=again.append)
    assert again == []
    info = load(parse_dataset("torchvision:EuroSAT"), tmp_path).info
    assert info.source.startswith("torchvision.datasets.EuroSAT, https://")
    assert info.licence == "see its authors"


def fetch_at_once(folder: Path, start, out) -> None:
    start.wait()
    said = []
    try:
        fetch(parse_dataset("torchvision:EuroSAT"), folder, log=said.append)
        out.put(sum("reading" in line for line in said))
    except Exception as error:
        out.put(repr(error))


def test_two_processes_that_want_one_set_at_once_read_it_once(tmp_path, offline):
    """The first removes what it has downloaded; the second must not be reading it then."""
    eurosat(tmp_path / "downloads" / "EuroSAT")
    context = get_context("fork")
    start, out = context.Barrier(2), context.SimpleQueue()
    both = [context.Process(target=fetch_at_once, args=(tmp_path, start, out)) for _ in range(2)]
    for one in both:
        one.start()
    assert sorted([out.get(), out.get()]) == [0, 1]
    for one in both:
        one.join()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("train/AT/00.jpg", "torchvision could not load it: OSError: "),
        ("test/CH/11.jpg", r"1 images cannot be read; the first: \(2, 3\): OSError: "),
    ],
    ids=["among those whose size is looked at", "among the others"],
)
def test_an_image_that_is_broken_is_told_and_nothing_is_stored_but_the_download_kept(broken, said, got, tmp_path):
    def lay(root):
        country211(root)
        path = root / "country211" / broken
        path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(FetchError, match=f"torchvision:Country211: {said}"):
        got("Country211", lay)
    assert list((tmp_path / "torchvision").iterdir()) == []
    assert (tmp_path / "downloads" / "Country211" / "country211" / "train").exists()


def test_a_class_that_the_test_set_lacks_is_refused(got, tmp_path):
    def lay(root):
        dtd(root)
        (root / "dtd" / "dtd" / "labels" / "test1.txt").write_text("banded/3.jpg\n")

    with pytest.raises(FetchError, match=r"torchvision:DTD: the test labels are not 0 … 1"):
        got("DTD", lay)
    assert list((tmp_path / "torchvision").iterdir()) == []


def test_a_download_that_fails_is_told_in_torchvisions_tokens_and_nothing_is_stored(offline, tmp_path):
    with pytest.raises(FetchError, match=r"SVHN: torchvision could not load it: URLError: .*Name or service not known"):
        fetch(parse_dataset("torchvision:SVHN"), tmp_path, log=lambda _: None)
    assert list((tmp_path / "torchvision").iterdir()) == []
    assert read_about(tmp_path / "torchvision" / "SVHN") is None


# ---- names ----


@pytest.mark.parametrize(("name", "nearest"), [("EuroSat", "EuroSAT"), ("SVNH", "SVHN"), ("Food", "Food101")])
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest, tmp_path):
    with pytest.raises(ConfigError, match=f"torchvision:{name}: .*did you mean '{nearest}'"):
        fetch(parse_dataset(f"torchvision:{name}"), tmp_path, log=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_has_to_be_downloaded_by_hand_is_not_known(tmp_path):
    with pytest.raises(
        ConfigError, match=r"torchvision:ImageNet: not a classification set that downloads automatically"
    ):
        parse_dataset("torchvision:ImageNet")


def arguments(kind: type) -> set[str]:
    """What the constructor of a class takes by name, and those above it where it hands on what it does not know."""
    names = set()
    for each in kind.__mro__:
        if "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters
            names |= set(parameters)
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                return names
    return names


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_set_is_a_class_of_torchvision_that_takes_what_it_is_given(name):
    pool, test = SETS[name]
    for split in (*pool, *([test] if test else [])):
        assert {"root", "download", *split} <= arguments(getattr(datasets, name))


@pytest.mark.parametrize("name", sorted(SETS.keys() - {"PCAM"}))  # PCAM first asks for h5py
def test_every_set_gets_as_far_as_its_download_with_every_split(name, offline, tmp_path):
    """A value that torchvision does not know would be a ValueError before."""
    pool, test = SETS[name]
    for split in (*pool, *([test] if test else [])):
        with pytest.raises((OSError, RuntimeError), match=r"Name or service not known|Error downloading"):
            _open(name, tmp_path, split)


def test_no_set_is_tested_on_what_it_is_trained_on():
    assert all(test not in pool for pool, test in SETS.values())


def test_arrays_of_a_set_are_what_a_built_in_one_has(got):
    arrays = got("EuroSAT", eurosat).arrays
    assert isinstance(arrays, Arrays)
    assert [a.dtype for a in arrays] == [np.uint8, np.int64, np.uint8, np.int64]
    assert not any(a.flags.writeable for a in arrays)
