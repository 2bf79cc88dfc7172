"""`vitcnn data …`: what there is, what a data set is, and mistakes in one message."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcnn.data.preview import contact_sheet
from vitcnn.data.sources.cache import Info, describe_duplicates
from vitcnn.data.sources.fetch import about_data, load
from vitcnn.data.sources.registry import BUILT_IN, parse_dataset
from vitcnn.data.sources.torchvision import SETS
from vitcnn.report.sheet import sheet_figure


def plant(root: Path, count: int = 10) -> Path:
    """A folder of cats and dogs, `count` of each, all of one colour."""
    for k in range(2 * count):
        path = root / ("cat" if k < count else "dog") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 100, 200)).save(path)
    return root


def rows(out: str) -> dict[str, list[str]]:
    """The table of `data list`: name -> the other columns."""
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    return {line[0]: line[1:] for line in lines}


# ---- list ----


def test_the_list_says_of_every_built_in_set_how_large_it_is_and_whether_it_is_fetched(vitcnn):
    code, out, _ = vitcnn("data", "list")
    assert code == 0
    assert rows(out) == {
        "digits": ["1,297 + 500", "8×8×1", "10", "yes"],
        "fashion-mnist": ["60,000 + 10,000", "28×28×1", "10", "no"],
        "cifar10": ["50,000 + 10,000", "32×32×3", "10", "no"],
        "cifar100": ["50,000 + 10,000", "32×32×3", "100", "no"],
    }
    for source in BUILT_IN.values():
        assert f"{source.info.name}: {source.info.source}; licence: {source.info.licence}\n" in out


def test_the_list_names_what_torchvision_has_and_ones_own_folders(vitcnn):
    _, out, _ = vitcnn("data", "list")
    line = next(line for line in out.splitlines() if line.startswith("torchvision:NAME"))
    assert set(re.findall(r"\w+", line.partition(": ")[2])) == set(SETS)
    assert "folder:PATH, your own images" in out
    assert (
        "\nfractals:OPTIONS, unlimited synthetic images; "
        "options with defaults and ranges: classes=100 (2 to 10,000), " in out
    )
    assert (
        " flips=1 (0 or 1), patch=1 (1 to 3), density=1 (more than 0 to 8), noise=0 (0 to 1), channels=1 (1 or 3)"
        in out
    )


def test_another_cache_folder_is_another_list(vitcnn, tmp_path):
    _, out, _ = vitcnn("data", "list", "--data-dir", tmp_path / "new")
    assert {name: columns[-1] for name, columns in rows(out).items()} == dict.fromkeys(BUILT_IN, "no")
    assert f"cache: {tmp_path / 'new'}" in out
    assert not (tmp_path / "new").exists()


def test_fetched_folders_are_listed_too_and_their_long_names_leave_room_for_the_rest(vitcnn, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    root = plant(tmp_path / "my [bold]pets[/b], all of them, in a folder with a long name")
    assert vitcnn("data", "fetch", f"folder:{root}", "--data-dir", "cache")[0] == 0
    _, out, _ = vitcnn("data", "list", "--data-dir", "cache")
    assert ["16 + 4", "8×8×3", "2", "yes"] in rows(out).values()
    assert rows(out)["cifar100"] == ["50,000 + 10,000", "32×32×3", "100", "no"]
    assert f"folder:{root}: {root}; licence: your own" in out


# ---- fetch ----


def test_fetching_says_what_it_does_and_that_there_is_nothing_to_do(vitcnn, tmp_path):
    name = f"folder:{plant(tmp_path / 'pets')}"
    _, out, _ = vitcnn("data", "fetch", name, "--data-dir", "cache")
    assert f"{name}: 16 + 4 images in cache/folder/pets-" in out
    assert "already" not in out
    _, out, _ = vitcnn("data", "fetch", name, "--data-dir", "cache")
    assert re.fullmatch(rf"{name} is already in cache/folder/pets-\w+\n", out)
    plant(tmp_path / "pets", 11)
    _, out, _ = vitcnn("data", "fetch", name, "--data-dir", "cache")
    assert "reading 23 images" in out
    assert "already" not in out


def test_broken_images_are_left_out_only_when_that_is_asked_for_at_the_resolution_that_is(vitcnn, tmp_path):
    root = plant(tmp_path / "pets")
    (root / "cat" / "0.png").write_text("no image")
    words = ("data", "fetch", f"folder:{root}", "--data-dir", "cache", "--resolution", "16")
    code, _, err = vitcnn(*words)
    assert code == 2
    assert f"  {root}/cat/0.png: UnidentifiedImageError" in err
    assert f"`vitcnn data fetch folder:{root} --resolution 16 --skip-unreadable`" in err
    code, out, _ = vitcnn(*words, "--skip-unreadable")
    assert code == 0
    assert f"1 unreadable images are left out:\n  {root}/cat/0.png" in out
    assert "already" in vitcnn(*words, "--skip-unreadable")[1]
    assert "already" in vitcnn(*words)[1]


def test_leaving_out_broken_images_means_nothing_where_there_are_none_to_read(vitcnn, data_folder):
    code, out, _ = vitcnn("data", "fetch", "digits", "--skip-unreadable")
    assert (code, out) == (0, f"digits is already in {data_folder / 'digits'}\n")


def test_of_a_data_set_that_is_made_nothing_is_fetched(vitcnn, tmp_path):
    code, out, _ = vitcnn("data", "fetch", "fractals:vary=0.1,classes=50", "--data-dir", "new")
    assert code == 0
    assert out.startswith("fractals:classes=50,vary=0.1: images are generated from seeds on demand;")
    assert list(tmp_path.iterdir()) == []


# ---- show ----


def test_showing_says_what_is_known_and_draws_a_picture(vitcnn, tmp_path, data_folder):
    code, out, err = vitcnn("data", "show", "digits", "--n", "3", "--augment", "shift:1")
    assert (code, err) == (0, "")
    info, _, facts = load(parse_dataset("digits"))
    assert "digits: 1,297 training and 500 test images, 10 classes, 8×8×1 pixels\n" in out
    assert "validation: 297 of the training images" in out
    assert f"licence: CC BY 4.0\nsource: {info.source}\nfetched from: scikit-learn (embedded)\n" in out
    assert f"stored in: {data_folder / 'digits'}\n" in out
    assert all(
        re.search(rf"{part} +{sha}\n", out) for part, sha in zip(("train", "test"), facts["sha256"], strict=True)
    )
    assert "no test image is among the training images" in out
    with Image.open(tmp_path / "digits.png") as image:
        assert (image.format, image.width > 1000) == ("PNG", True)
        assert np.asarray(image.convert("L")).std() > 10


def test_showing_fetches_first_and_draws_where_it_is_told(vitcnn, tmp_path):
    root = plant(tmp_path / "pets", 5)
    shutil.copy(root / "cat" / "0.png", root / "cat" / "again.png")
    words = ("--data-dir", "cache", "--n", "7", "--out", "deep/er/sheet.png", "--resolution", "10")
    code, out, _ = vitcnn("data", "show", f"folder:{root}", *words)
    assert code == 0
    assert "reading 11 images" in out
    assert "2 classes, 10×10×3 pixels" in out
    assert "written to deep/er/sheet.png" in out
    with Image.open(tmp_path / "deep" / "er" / "sheet.png") as image:
        image.verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "deep", "pets"]


def test_showing_a_data_set_that_is_made_says_so_and_draws_its_classes(vitcnn, tmp_path):
    name = "fractals:classes=30,size=16,test=50"
    code, out, err = vitcnn("data", "show", name, "--n", "3", "--augment", "shift:1")
    assert (code, err) == (0, "")
    info = about_data(parse_dataset(name))
    assert f"{name}: unlimited training images, 50 test images, {info.classes} classes, {info.size}×" in out
    assert f"\n{info.made}\n" in out
    assert (
        f"{name}: none of the first 50 test images are among the first 10,000 training images of this seed (0 " in out
    )
    assert f"written to {name.replace(':', '-')}.png" in out
    with Image.open(tmp_path / f"{name.replace(':', '-')}.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_a_leak_of_made_images_is_a_warning():
    found = {"test_in_train": 3, "other_label": 0, "in_train": 0, "looked_at": [7000, 50]}
    said = describe_duplicates(parse_dataset("fractals").info, found)
    assert said.startswith("fractals: WARNING: 3 of the first 50 test images are among the first 7,000 training images")
    assert said.count("WARNING") == 1
    said = describe_duplicates(parse_dataset("fractals").info, found | {"test_in_train": 0})
    assert said.startswith("fractals: none of the first 50 test images are among the first 7,000 training")


def test_a_leak_is_shown_whenever_a_data_set_is(vitcnn, tmp_path):
    root = plant(tmp_path / "pets")
    (root / "train").mkdir()
    for label in ("cat", "dog"):
        shutil.copytree(root / label, root / "test" / label)
        (root / label).rename(root / "train" / label)
    vitcnn("data", "fetch", f"folder:{root}", "--data-dir", "cache")
    Image.new("RGB", (8, 8)).save(root / "train" / "cat" / "new.png")
    _, out, _ = vitcnn("data", "show", f"folder:{root}", "--data-dir", "cache", "--n", "1")
    assert f"folder:{root}: 21 training and 20 test images" in out
    assert "WARNING: 20 of 20 test images are among the training images too, 0 of them with another class" in out
    assert "written to pets.png" in out


def drawn(*args, **kwargs):
    """The two parts of a contact sheet's figure."""
    return sheet_figure(contact_sheet(*args, **kwargs)).subfigs


def written(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_a_contact_sheet_has_a_row_a_class_with_its_images_and_a_row_an_image_of_the_subset():
    info, arrays, _ = load(parse_dataset("digits"))
    left, right = drawn("digits", info, arrays, n=2, seed=1, augment="shift:1")
    counts = np.bincount(arrays.train_labels)
    assert written(left) == [f"{c} ({counts[c]})" for c in range(10)]
    shown = [ax.images[0].get_array() for ax in left.axes[10:20]]
    ones = arrays.train_images[arrays.train_labels == 1][:10, :, :, 0]
    assert np.array_equal(shown, ones)
    row = [ax.images[0].get_array() for ax in right.axes[:10]]
    assert (arrays.train_images[..., 0] == row[0]).all((1, 2)).any()  # first as it is, then draws of the augmentation
    assert len({image.tobytes() for image in row}) > 3
    assert len(right.axes) == 20


def test_a_named_set_of_augmentations_is_shown_as_what_it_is_for_the_data_set():
    info, arrays, _ = load(parse_dataset("digits"))
    right = drawn("digits", info, arrays, n=12, seed=0, augment="strong")[1]
    assert right.get_suptitle().endswith("; then trivial+erase:0.25+mixup:0.8+cutmix:1")
    assert len({ax.images[0].get_array().tobytes() for ax in right.axes}) > 100


def test_of_many_classes_twenty_are_shown_and_long_names_are_cut():
    images, labels = np.zeros((50, 2, 2, 1), np.uint8), np.arange(50) % 25
    facts = {"name": "folder:/many", "classes": 25, "train": 50, "test": 50, "size": 2, "validation": 25, "flip": True}
    names = tuple(f"{c:02} and a very long name indeed" for c in range(25))
    info = BUILT_IN["digits"].info.model_copy(update=facts | {"class_names": names})
    arrays = load(parse_dataset("digits")).arrays._replace(train_images=images, train_labels=labels)
    left, right = drawn("many", Info.model_validate(info.model_dump()), arrays, n=1, seed=0, augment="flip")
    assert left.get_suptitle() == "many: classes and their training images, 20 of 25 shown"
    assert right.get_suptitle() == "1 images of the subset n = 1, seed 0; then flip"
    assert len(written(left)) == 20
    assert (written(left)[0], written(left)[-1]) == ("00 and a very long na…", "24 and a very long na…")


# ---- mistakes ----


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["show", "digits", "--augment", "flop"],
            "--augment: 'flop' is not a valid augmentation; did you mean 'flip'? known: ",
        ),
        (["show", "digits", "--augment", "shift:0"], "--augment: 'shift:0' is not a valid augmentation"),
        (["show", "digit"], "unknown data set 'digit'; did you mean 'digits'?"),
        (["fetch", "cifar"], "unknown data set 'cifar'; did you mean 'cifar"),
        (
            ["fetch", "torchvision:SVNH"],
            "torchvision:SVNH: not a classification set that downloads automatically; did you me",
        ),
        (["show", "folder:nowhere"], "/nowhere: no such folder"),
        (
            ["fetch", "digits", "--resolution", "16"],
            "resolution: digits has a fixed size of 8 pixels; `image_size` of a model",
        ),
    ],
)
def test_a_mistake_is_one_message_that_says_what_to_change_and_leaves_nothing_behind(vitcnn, tmp_path, words, said):
    code, out, err = vitcnn("data", *words, "--data-dir", "cache")
    assert (code, out) == (2, "")
    assert err.startswith("vitcnn: ")
    assert said in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_a_kind_that_cannot_be_drawn_is_a_mistake(vitcnn, tmp_path):
    code, _, err = vitcnn("data", "show", "digits", "--out", "sheet.xyz")
    assert code == 2
    assert err.startswith("vitcnn: --out sheet.xyz: Format 'xyz' is not supported")


def test_a_folder_of_which_validation_takes_all_is_a_mistake_in_a_sentence(vitcnn, tmp_path):
    for split in ("train", "test"):
        for label in "abcd":
            path = tmp_path / "pets" / split / label / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), (40 * ord(label) % 256, 100, 200)).save(path)
    code, _, err = vitcnn("data", "show", f"folder:{tmp_path / 'pets'}")
    assert code == 2
    assert "validation takes 4 of the 4 training images, so none are left to train on; add training images" in err


def test_a_subset_larger_than_the_data_set_is_a_mistake_too(vitcnn, tmp_path):
    code, _, err = vitcnn("data", "show", "digits", "--n", "1001")
    assert code == 2
    assert err == (
        "vitcnn: --n: 1,001 images requested, 1,000 available (digits has 1,297 training images, 297 of them held out "
        "for validation)\n"
    )
    assert list(tmp_path.iterdir()) == []
