"""`vitcnn data show`: what a data set is, and a picture of it."""

import re
import shutil

import numpy as np
from pets import cats_and_dogs
from PIL import Image

from vitcnn.data.preview import contact_sheet
from vitcnn.data.sources.cache import Info, describe_duplicates
from vitcnn.data.sources.fetch import about_data, load
from vitcnn.data.sources.registry import BUILT_IN, parse_dataset
from vitcnn.report.sheet import sheet_figure


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
    root = cats_and_dogs(tmp_path / "pets", 5)
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
    root = cats_and_dogs(tmp_path / "pets")
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
