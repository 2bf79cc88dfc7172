"""A folder of one's own images: what is read, what is refused, when it is another data set, and a study on it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vitcnn import cli
from vitcnn.data.cell_data import cells_data
from vitcnn.data.sources.cache import Arrays, FetchError, Info, KeptInfo, read_about
from vitcnn.data.sources.class_folders import SUFFIXES
from vitcnn.data.sources.fetch import DataSet, about_data, fetch, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.store.paths import StudyPaths
from vitcnn.store.records import Record, read_records
from vitcnn.study.cell import Cell
from vitcnn.study.matrix import cells


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "pets"


@pytest.fixture
def read(tmp_path):
    """`read(root)`: the folder, fetched and loaded; what was said is in `read.said`."""

    def call(folder: Path, resolution: int | None = None, **how) -> DataSet:
        call.said.clear()
        fetch(parse_dataset(f"folder:{folder}", resolution), tmp_path / "cache", say=call.said.append, **how)
        return load(parse_dataset(f"folder:{folder}", resolution), tmp_path / "cache")

    call.said = []
    return call


def plant(root: Path, counts: dict[str, int], start: int = 0) -> None:
    """`plant(root, {"train/cat": 3})`: PNGs of one colour; the k-th image of all has the red k."""
    k = start
    for where, count in counts.items():
        for _ in range(count):
            save(Image.new("RGB", (8, 8), (k, 100, 200)), root / where / f"{k}.png")
            k += 1


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def noise(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def shown(info: Info, arrays: Arrays) -> tuple[dict[int, str], dict[int, str]]:
    """({red of an image: its class} of train, the same of test)."""
    parts = ((arrays.train_images, arrays.train_labels), (arrays.test_images, arrays.test_labels))
    return tuple(
        {int(image[0, 0, 0]): info.class_names[label] for image, label in zip(*part, strict=True)} for part in parts
    )


# ---- what is train, what is test ----


def test_without_train_and_test_a_stratified_fifth_becomes_the_test_set(root, read):
    plant(root, {"cat": 20, "dog": 10})
    info, arrays, _ = read(root)
    assert (info.train, info.test, info.classes, info.size, info.channels) == (24, 6, 2, 8, 3)
    train, test = shown(info, arrays)
    assert train | test == {k: "cat" if k < 20 else "dog" for k in range(30)}
    assert sorted(test.values()) == ["cat"] * 4 + ["dog"] * 2


def test_train_and_test_folders_are_kept_apart(root, read):
    plant(root, {"train/cat": 3, "train/dog": 4, "test/cat": 2, "test/dog": 1})
    info, arrays, _ = read(root)
    assert shown(info, arrays) == (
        {0: "cat", 1: "cat", 2: "cat", 3: "dog", 4: "dog", 5: "dog", 6: "dog"},
        {7: "cat", 8: "cat", 9: "dog"},
    )


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_val_is_the_test_set_where_there_is_no_other(val, root, read):
    plant(root, {"train/cat": 3, "train/dog": 3, f"{val}/cat": 1, f"{val}/dog": 1})
    info, arrays, _ = read(root)
    assert [set(part) for part in shown(info, arrays)] == [{0, 1, 2, 3, 4, 5}, {6, 7}]


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_val_joins_train_where_there_is_a_test_set(val, root, read):
    plant(root, {"train/cat": 2, "train/dog": 2, f"{val}/cat": 1, f"{val}/dog": 1, "test/cat": 1, "test/dog": 1})
    info, arrays, _ = read(root)
    train, test = shown(info, arrays)
    assert [set(train), set(test)] == [{0, 1, 2, 3, 4, 5}, {6, 7}]
    assert (train[4], train[5]) == ("cat", "dog")


def test_a_folder_that_holds_nothing_but_train_is_read_as_if_it_were_that(root, read):
    plant(root, {"train/cat": 10, "train/dog": 10, ".git/objects": 1})
    info, arrays, _ = read(root)
    assert (info.class_names, info.train, info.test) == (("cat", "dog"), 16, 4)
    assert set().union(*shown(info, arrays)) == set(range(20))


def test_what_lies_beside_train_and_test_is_passed_over(root, read):
    plant(root, {"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1, "masks/cat": 3, "extra": 3})
    info, arrays, _ = read(root)
    assert info.class_names == ("cat", "dog")
    assert set().union(*shown(info, arrays)) == set(range(6))


def test_a_class_may_be_called_train_where_there_is_no_test(root, read):
    plant(root, {"bus": 5, "train": 5})
    assert read(root).info.class_names == ("bus", "train")


def test_images_in_folders_below_a_class_belong_to_it(root, read):
    plant(root, {"train/cat/big/grey": 2, "train/cat": 1, "train/dog": 2, "test/cat/old": 1, "test/dog": 1})
    info, arrays, _ = read(root)
    assert info.class_names == ("cat", "dog")
    assert shown(info, arrays) == ({0: "cat", 1: "cat", 2: "cat", 3: "dog", 4: "dog"}, {5: "cat", 6: "dog"})


def test_hidden_names_and_files_that_are_no_images_are_passed_over(root, read):
    plant(root, {"cat": 5, "dog": 5})
    for junk in ("cat/._0.png", ".git/0.png", "cat/.ipynb_checkpoints/0.png", "cat/.thumbnails/deep/0.png"):
        save(Image.new("RGB", (8, 8), (99, 0, 0)), root / junk)
    for junk in ("notes.txt", "0.png", "cat/Thumbs.db", "cat/labels.csv", "dog/0.jpg.part"):
        (root / junk).write_text("no image")
    info, arrays, _ = read(root)
    assert info.class_names == ("cat", "dog")
    assert set().union(*shown(info, arrays)) == set(range(10))


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_usual_kind_of_file_is_read_whatever_the_case_of_its_ending(suffix, root, read):
    for k, label in enumerate("aaaaabbbbb"):
        path = save(Image.new("L", (8, 8), 20 * k), root / label / f"{k}{suffix}")
        path.rename(path.with_suffix(suffix.upper() if k % 2 else suffix))
    _, arrays, _ = read(root)
    pixels = np.concatenate([arrays.train_images, arrays.test_images])[:, 0, 0, 0].astype(int)
    assert np.abs(np.sort(pixels) - np.arange(0, 200, 20)).max() <= 3


def test_names_with_spaces_and_letters_of_any_alphabet_are_kept(tmp_path, read):
    root = tmp_path / "Meine Bilder – ü"
    plant(root, {"Zürich Süd": 5, "кошка": 5, "猫 と 犬": 5})
    info, arrays, _ = read(root)
    spec = parse_dataset(info.name)
    assert info.class_names == ("Zürich Süd", "кошка", "猫 と 犬")
    assert spec.title == "Meine Bilder – ü"
    train, test = shown(info, arrays)
    assert (train | test)[7] == "кошка"
    assert Info.model_validate(read_about(spec.place(tmp_path / "cache"))["info"]) == info


def test_a_relative_folder_starts_here_and_a_tilde_at_home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    paths = ("pets", f"{tmp_path}/pets/", "~/pets", "me/pets")
    pets, same, mine, other = (parse_dataset(f"folder:{path}") for path in paths)
    assert (pets.root, mine.root) == (tmp_path / "pets", tmp_path / "me" / "pets")
    assert pets.place(tmp_path) == same.place(tmp_path) != other.place(tmp_path)


# ---- size and colour ----


def test_images_of_different_sizes_and_modes_are_kept_at_64_pixels_in_colour(root, read):
    images = [Image.new(mode, size) for mode in ("L", "RGB", "RGBA", "P") for size in ((20, 30), (200, 90), (64, 64))]
    for k, image in enumerate(images):
        save(image, root / "ab"[k % 2] / f"{k}.png")
    info, arrays, _ = read(root)
    assert (info.size, info.channels) == (64, 3)
    assert arrays.train_images.shape == (info.train, 64, 64, 3)


def test_images_that_are_all_grey_are_kept_with_one_channel_and_one_coloured_is_enough_for_three(root, read):
    for k, mode in enumerate(["L", "1", "LA", "I;16"] * 3):
        save(Image.new(mode, (8, 8)), root / "ab"[k // 6] / f"{k}.png")
    assert read(root).info.channels == 1
    assert read(root).arrays.test_images.shape[1:] == (8, 8, 1)
    plant(root, {"a": 1})
    assert read(root).info.channels == 3


def test_a_resolution_that_is_asked_for_is_kept_beside_the_others(root, read):
    plant(root, {"cat": 5, "dog": 5})
    assert [read(root, resolution).info.size for resolution in (None, 5, 32)] == [8, 5, 32]
    assert read(root).info.size == 8
    assert read.said == []


# ---- broken files ----


@pytest.fixture
def broken(root) -> list[Path]:
    """Beside 20 good images: text called .jpg, an empty file, a photo that breaks off, and floating-point pixels."""
    plant(root, {"cat": 10, "dog": 10})
    paths = [root / "cat" / name for name in ("text.jpg", "empty.png", "half.jpg")] + [root / "dog" / "float.tiff"]
    paths[0].write_text("<html>404</html>")
    paths[1].write_bytes(b"")
    save(noise(0, (64, 64)), paths[2])
    paths[2].write_bytes(paths[2].read_bytes()[:-700])
    save(Image.fromarray(np.zeros((8, 8), np.float32)), paths[3])
    return paths


def test_every_file_that_cannot_be_read_is_listed_and_nothing_is_stored(root, read, broken, tmp_path):
    with pytest.raises(FetchError) as caught:
        read(root)
    told = str(caught.value)
    assert f"folder:{root}: 4 of 24 images cannot be read" in told
    reasons = ("UnidentifiedImageError", "UnidentifiedImageError", "truncated", "floating-point")
    for path, why in zip(broken, reasons, strict=True):
        line = next(line for line in told.splitlines() if line.startswith(f"  {path}: "))
        assert why in line
    assert f"`vitcnn data fetch folder:{root} --skip-unreadable`" in told
    assert list((tmp_path / "cache" / "folder").iterdir()) == []


def test_broken_files_are_left_out_and_named_when_that_is_asked_for_and_then_for_good(root, read, broken):
    info, arrays, _ = read(root, skip_unreadable=True)
    assert info.train + info.test == 20
    assert set().union(*shown(info, arrays)) == set(range(20))
    said = "\n".join(read.said)
    assert "4 unreadable images are left out" in said
    assert all(str(path) in said for path in broken)
    assert read(root).info == info
    assert read.said == []


def test_a_class_that_is_all_broken_is_a_mistake_even_when_broken_files_are_left_out(root, read):
    plant(root, {"cat": 10, "dog": 10, "emu": 1})
    (root / "emu" / "20.png").write_text("no image")
    with pytest.raises(ConfigError, match="no image in the class folder emu"):
        read(root, skip_unreadable=True)


def test_a_folder_of_nothing_but_broken_files_says_what_is_wrong_with_the_first(root, read):
    for label in "ab":
        save(noise(0), root / label / "x.png").write_text("no image")
    with pytest.raises(FetchError, match=r"no image can be read; the first: .*/a/x.png: UnidentifiedImageError"):
        read(root, skip_unreadable=True)


# ---- mistakes ----


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "there is no such folder"),
        ({".": 3}, r"two classes or more; found 0 with images \(none\)"),
        ({"cat": 3}, r"two classes or more; found 1 with images \(cat\)"),
        ({"cat": 3, "dog": 3, "emu": 0}, "no image in the class folder emu; fill or remove it"),
        ({"train/cat": 3, "train/dog": 3, "train/emu": 0, "test/cat": 1, "test/dog": 1}, "class folder emu"),
        ({"train/cat": 3, "test/cat": 3}, r"found 1 with images \(cat\)"),
        (
            {
                "train/cat": 3,
                "train/dog": 3,
                "train/emu": 1,
                "test/cat": 1,
                "test/dog": 1,
                "test/fox": 1,
                "test/gnu": 1,
            },
            r"train and test do not have the same classes \(only train: emu; only test: fox, gnu\)",
        ),
        ({"train/cat": 3, "train/dog": 3, "test/cat": 1}, r"the same classes \(only train: dog\)"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_with_what_is_wrong(counts, said, root, read, tmp_path):
    plant(root, counts)
    for where in counts:
        (root / where).mkdir(parents=True, exist_ok=True)
    with pytest.raises(ConfigError, match=said) as caught:
        read(root)
    assert f"folder:{root}: " in str(caught.value)
    assert not (tmp_path / "cache").exists()


# ---- when it is the same data set ----


@pytest.fixture
def ids(study, tmp_path):
    """`ids(root)`: (its content, the ids of the cells of a study on it)."""

    def call(root: Path, resolution: int | None = None) -> tuple[str, list[str]]:
        return made(root, resolution)[0].content, [cell.id for cell in made(root, resolution)[1]]

    def made(root: Path, resolution: int | None) -> tuple[Info, list[Cell]]:
        fetch(parse_dataset(f"folder:{root}", resolution), tmp_path / "cache", say=lambda _: None)
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
    assert any("looking at 20 images" in line for line in read.said)
    assert ids(root) == before


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
    with pytest.raises(ConfigError, match=f"folder:{root} has changed since the study was begun"):
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


# ---- a study ----

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


def call(home: Path, command: str, *words: str) -> str:
    """A command on the study `home/pets.yaml`, its results beside it; what it printed."""
    folders = ["--results", f"{home}/results", "--runs", f"{home}/runs"]
    done = CliRunner().invoke(cli.app, [command, f"{home}/pets.yaml", *words, *folders])
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
    how = ["--data-dir", f"{home}/cache", "--device", "cpu", "--wandb", "off", "--workers", "1"]
    call(home, "run", *how)
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
        with pytest.raises(ConfigError, match="is not in the data cache yet"):
            about_data(parse_dataset(name, resolution), nowhere, beside=kept)
    kept.write_text(kept.read_text()[:-9])
    with pytest.raises(ConfigError, match=r"dataset.json: not what a run of this version leaves"):
        about_data(parse_dataset(info.name), nowhere, beside=kept)
    assert about_data(parse_dataset(info.name), tmp_path / "cache", beside=kept) == info
