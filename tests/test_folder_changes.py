"""When a folder is the same data set as before, and what of it stands in train and test at once."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from pets import plant, shown
from PIL import Image

from vitcnn.data.cell_data import cells_data
from vitcnn.data.sources.cache import FetchError, Info, read_about
from vitcnn.data.sources.fetch import about_data, fetch, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells

# ---- when it is the same data set ----


@pytest.fixture
def ids(study, tmp_path):
    """`ids(root)`: (its content, the ids of the cells of a study on it)."""

    def call(root: Path, resolution: int | None = None) -> tuple[str, list[str]]:
        return made(root, resolution)[0].content, [cell.id for cell in made(root, resolution)[1]]

    def made(root: Path, resolution: int | None) -> tuple[Info, list[Cell]]:
        fetch(parse_dataset(f"folder:{root}", resolution), tmp_path / "cache", log=lambda _: None)
        about = about_data(parse_dataset(f"folder:{root}", resolution), tmp_path / "cache")
        text = f"dataset: 'folder:{root}'\nsizes: [10]\nseeds: 2\nmodels: [cnn, linear]\nbudget: {{epochs: 1}}\n"
        return about, cells(study(*([f"resolution={resolution}"] if resolution else []), text=text), about)

    return call


def test_the_same_files_elsewhere_are_the_same_data_set_with_the_same_cells(root, ids, tmp_path):
    plant(root, {"cat": 10, "dog": 10})
    shutil.copytree(root, tmp_path / "elsewhere" / "animals")
    assert ids(root) == ids(tmp_path / "elsewhere" / "animals")


def test_files_written_again_with_the_same_bytes_are_looked_at_and_found_to_be_the_same(root, ids, read):
    plant(root, {"cat": 10, "dog": 10})
    before = ids(root)
    os.utime(root / "cat" / "0.png", ns=(1, 1))
    read(root)
    assert any("reading 20 images" in line for line in read.said)
    assert ids(root) == before


def test_files_exchanged_between_classes_with_equal_sizes_and_times_are_noticed(root, ids):
    """Labels that were corrected by moving files, with their times kept."""
    for k in range(20):
        path = root / ("cat" if k < 10 else "dog") / f"{k % 10}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 100, 200)).save(path)
        os.utime(path, ns=(1, 1))
    before = ids(root)
    cat, dog = root / "cat" / "3.bmp", root / "dog" / "3.bmp"
    assert (cat.stat().st_size, cat.stat().st_mtime_ns) == (dog.stat().st_size, dog.stat().st_mtime_ns)
    cat.rename(root / "aside")
    dog.rename(cat)
    (root / "aside").rename(dog)
    assert ids(root)[0] != before[0]


def repaint(root: Path) -> None:
    image = Image.open(root / "cat" / "3.png")
    image.putpixel((7, 7), (3, 100, 201))
    image.save(root / "cat" / "3.png")


@pytest.mark.parametrize(
    "change",
    [
        repaint,
        lambda root: (root / "cat").rename(root / "kitten"),
        lambda root: (root / "cat" / "3.png").unlink(),
        lambda root: (root / "cat" / "3.png").rename(root / "dog" / "3.png"),
        lambda root: plant(root, {"dog": 1}, start=20),
    ],
    ids=["a pixel changed", "a class renamed", "a file removed", "a file of another class", "a file added"],
)
def test_changed_files_are_another_data_set_with_other_cells(change, root, ids):
    plant(root, {"cat": 10, "dog": 10})
    content, before = ids(root)
    change(root)
    again, after = ids(root)
    assert again != content
    assert set(after).isdisjoint(before)


def test_another_resolution_is_another_data_set_and_the_one_that_it_has_anyway_is_not(root, ids):
    plant(root, {"cat": 10, "dog": 10})
    as_it_is, same, other = ids(root), ids(root, 8), ids(root, 9)
    assert as_it_is == same
    assert set(other[1]).isdisjoint(same[1])
    assert other[0] != same[0]


def test_what_moved_from_train_to_test_is_another_data_set(root, ids):
    plant(root, {"train/cat": 10, "train/dog": 10, "test/cat": 10, "test/dog": 10})
    before = ids(root)
    for label in ("cat", "dog"):
        (root / "test" / label).rename(root / "test" / f"{label}s")
        (root / "train" / label).rename(root / "test" / label)
        (root / "test" / f"{label}s").rename(root / "train" / label)
    assert ids(root)[0] != before[0]


def test_fetching_twice_does_nothing_the_second_time(root, read, tmp_path):
    plant(root, {"cat": 5, "dog": 5})
    read(root)
    here = parse_dataset(f"folder:{root}").place(tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in here.iterdir()}
    read(root)
    assert read.said == []
    assert before == {path: path.stat().st_mtime_ns for path in here.iterdir()}


def test_after_a_file_is_added_the_folder_is_read_again(root, read):
    plant(root, {"cat": 5, "dog": 5})
    old = read(root)
    plant(root, {"cat": 5}, start=10)
    new = read(root)
    assert (old.info.train + old.info.test, new.info.train + new.info.test) == (10, 15)
    assert set().union(*shown(*new[:2])) == set(range(15))
    assert set().union(*shown(*old[:2])) == set(range(10))  # who has the earlier state open keeps it


def test_a_folder_that_can_no_longer_be_read_leaves_its_earlier_state_in_the_cache(root, read, tmp_path):
    plant(root, {"cat": 5, "dog": 5})
    before = read(root).info
    (root / "cat" / "new.png").write_text("no image")
    with pytest.raises(FetchError, match="1 of 11 images"):
        read(root)
    assert load(parse_dataset(f"folder:{root}"), tmp_path / "cache").info == before


def test_a_cell_of_what_the_folder_held_before_is_refused(root, read, tmp_path):
    plant(root, {"cat": 10, "dog": 10})
    how = {"validation": 4, "device": torch.device("cpu")}
    content = read(root).info.content
    (data,) = cells_data(parse_dataset(f"folder:{root}"), [(10, 0)], content=content, folder=tmp_path / "cache", **how)
    assert len(data.train[1]) == 10
    plant(root, {"cat": 1}, start=20)
    read(root)
    with pytest.raises(ConfigError, match=f"folder:{root} has changed since the study was started"):
        cells_data(parse_dataset(f"folder:{root}"), [(10, 0)], content=content, folder=tmp_path / "cache", **how)


# ---- the leak check ----


def test_copies_of_training_images_in_the_test_set_are_counted_and_said(root, read):
    """Of 4 test images one is a copy, two are copies under another class; and one training image is there twice."""
    plant(root, {"train/cat": 6, "train/dog": 6, "test/cat": 1})
    (root / "test" / "dog").mkdir()
    for source, copy in {"dog/6": "dog/same", "cat/1": "dog/other", "cat/2": "dog/another"}.items():
        shutil.copy(root / "train" / f"{source}.png", root / "test" / f"{copy}.png")
    shutil.copy(root / "train" / "dog" / "7.png", root / "train" / "dog" / "twice.png")
    facts = read(root).facts
    assert {key: facts[key] for key in facts.keys() - {"origin", "sha256"}} == {
        "test_in_train": 3,
        "other_label": 2,
        "in_train": 1,
    }
    said = [line for line in read.said if "WARNING" in line]
    assert said == [
        f"folder:{root}: WARNING: 3 of 4 test images are among the training images too, 2 of them with another class "
        "(1 training images repeat another)"
    ]


def test_a_copy_in_another_kind_of_file_is_found_too_and_says_which(root, read, tmp_path):
    plant(root, {"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1})
    Image.open(root / "train" / "dog" / "4.png").save(root / "test" / "dog" / "a copy.bmp")
    read(root)
    about = read_about(parse_dataset(f"folder:{root}").place(tmp_path / "cache"))
    assert about["duplicates"]["test_in_train"] == 1
    [which] = about["duplicates"]["which"]
    assert load(parse_dataset(f"folder:{root}"), tmp_path / "cache").arrays.test_images[which, 0, 0, 0] == 4


def test_where_nothing_is_in_both_that_is_said(root, read):
    plant(root, {"cat": 5, "dog": 5})
    assert read(root).facts["test_in_train"] == 0
    assert f"folder:{root}: no test image is among the training images (0 of these repeat another)" in read.said
    assert not any("WARNING" in line for line in read.said)
