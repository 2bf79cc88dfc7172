"""A folder of one's own images: what is read, what is train and test, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from pets import noise, plant, save, shown
from PIL import Image

from vitcnn.data.sources.cache import FetchError, Info, read_about
from vitcnn.data.sources.class_folders import SUFFIXES
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError

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
def test_val_is_the_test_set_where_there_is_no_other_and_else_joins_train(val, root, read):
    plant(root / "two", {"train/cat": 3, "train/dog": 3, f"{val}/cat": 1, f"{val}/dog": 1})
    info, arrays, _ = read(root / "two")
    assert [set(part) for part in shown(info, arrays)] == [{0, 1, 2, 3, 4, 5}, {6, 7}]
    counts = {"train/cat": 2, "train/dog": 2, f"{val}/cat": 1, f"{val}/dog": 1, "test/cat": 1, "test/dog": 1}
    plant(root / "three", counts)
    info, arrays, _ = read(root / "three")
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


def test_a_class_may_be_called_train_among_several_and_is_warned_of(root, read):
    plant(root, {"bus": 5, "car": 5, "train": 5})
    info = read(root).info
    assert info.class_names == ("bus", "car", "train")
    assert info.warnings[0] == "a class is called train"


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
    with pytest.raises(ConfigError, match="no images in the class folder emu"):
        read(root, skip_unreadable=True)


def test_a_folder_of_nothing_but_broken_files_says_what_is_wrong_with_the_first(root, read):
    for label in "ab":
        save(noise(0), root / label / "x.png").write_text("no image")
    with pytest.raises(FetchError, match=r"no readable image; the first error: .*/a/x.png: UnidentifiedImageError"):
        read(root, skip_unreadable=True)


# ---- mistakes ----


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "no such folder"),
        ({".": 3}, r"two classes or more; found 0 with images \(none\)"),
        ({"cat": 3}, r"two classes or more; found 1 with images \(cat\)"),
        ({"cat": 3, "dog": 3, "emu": 0}, "no images in the class folder emu; add images or remove it"),
        ({"train/cat": 3, "train/dog": 3, "train/emu": 0, "test/cat": 1, "test/dog": 1}, "class folder emu"),
        ({"train/cat": 3, "test/cat": 3}, r"found 1 with images \(cat\)"),
        (
            dict.fromkeys(["train/cat", "train/dog", "train/emu", "test/cat", "test/dog", "test/fox", "test/gnu"], 1),
            r"train and test have different classes \(only train: emu; only test: fox, gnu\)",
        ),
        ({"train/cat": 3, "train/dog": 3, "test/cat": 1}, r"different classes \(only train: dog\)"),
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
