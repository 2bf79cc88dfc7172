"""What is passed over in a folder, or cannot be what it seems, is said by name."""

from pathlib import Path

import pytest
from PIL import Image

from vitcnn.data.sources.cache import FetchError
from vitcnn.data.sources.class_folders import find
from vitcnn.data.sources.fetch import fetch, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError


def plant(root: Path, counts: dict[str, int], suffix: str = ".png") -> Path:
    """`{"train/cat": 3}`: so many images of one colour each."""
    for number, (where, count) in enumerate(counts.items()):
        (root / where).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            Image.new("RGB", (8, 8), (k, 50 * number, 200)).save(root / where / f"{k}{suffix}")
    return root


def said(root: Path, cache: Path) -> list[str]:
    lines: list[str] = []
    fetch(parse_dataset(f"folder:{root}"), cache, log=lines.append)
    return lines


@pytest.mark.parametrize("suffix", [".avif", ".JFIF", ".jpe"])
def test_less_common_suffixes_are_images_too(tmp_path, suffix):
    root = plant(tmp_path / "pets", {"cat": 3, "dog": 3})
    for where in ("cat", "dog"):
        kind = "AVIF" if suffix == ".avif" else "JPEG"
        Image.new("RGB", (8, 8), (9, 9, 9)).save(root / where / f"more{suffix}", format=kind)
    assert len(find(root).files) == 8
    info = load(parse_dataset(f"folder:{root}"), tmp_path / "cache").info
    assert info.train + info.test == 8


def test_what_is_no_image_by_its_name_and_linked_folders_are_counted_and_named(tmp_path):
    root = plant(tmp_path / "pets", {"cat": 5, "dog": 5})
    for name in ("notes.txt", "more.TXT", "draft.xcf", ".hidden", "README"):
        (root / "cat" / name).write_text("x")
    plant(tmp_path / "elsewhere", {"": 2})
    (root / "dog" / "linked").symlink_to(tmp_path / "elsewhere")
    told, linked = find(root).skipped
    assert told in (
        "not images by their suffix: 2 .txt, 1 .xcf, 1 without a suffix",
        "not images by their suffix: 2 .txt, 1 without a suffix, 1 .xcf",
    )
    assert linked == "the linked folder linked"
    line, _ = [line for line in said(root, tmp_path / "cache") if "skipped: " in line]
    assert line.startswith(f"folder:{root}: skipped: not images by their suffix: 2 .txt, ")


def test_images_and_folders_beside_the_class_folders_are_passed_over_and_said(tmp_path):
    flat = plant(tmp_path / "flat", {"cat": 5, "dog": 5, "": 1})
    assert find(flat).skipped == ["1 image outside the class folders"]
    deep = plant(
        tmp_path / "deep", {"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1, "owl": 4, "train": 2}
    )
    assert find(deep).skipped == ["the folder owl beside the splits", "2 images outside the class folders"]
    assert len([line for line in said(deep, tmp_path / "cache") if f"folder:{deep}: skipped: " in line]) == 2


def test_unreadable_images_that_were_left_out_are_remembered(tmp_path, vitcnn, monkeypatch):
    root = plant(tmp_path / "pets", {"cat": 12, "dog": 12})
    for name in ("a.png", "b.png"):
        (root / "cat" / name).write_bytes(b"no image")
    monkeypatch.setenv("VITCNN_DATA", str(tmp_path / "cache"))
    assert vitcnn("data", "fetch", f"folder:{root}", "--skip-unreadable")[0] == 0
    code, out, _ = vitcnn("data", "show", f"folder:{root}", "--n", "4", "--out", str(tmp_path / "sheet.png"))
    assert (code, "left out: 2 unreadable images" in out) == (0, True)
    assert load(parse_dataset(f"folder:{root}")).facts["left_out"] == 2


def test_a_folder_of_nothing_but_images_passes_nothing_over_and_names_its_classes(tmp_path):
    lines = said(plant(tmp_path / "pets", {"cat": 5, "dog": 5}), tmp_path / "cache")
    assert not [line for line in lines if "skipped: " in line or "WARNING: few" in line]
    assert any(line.endswith(": 2 classes: cat, dog") for line in lines)


def test_where_no_image_is_found_the_suffixes_of_images_are_said(tmp_path):
    for where in ("cat", "dog"):
        (tmp_path / where).mkdir()
        (tmp_path / where / "a.heic").write_text("x")
    with pytest.raises(ConfigError, match=r"found 0 with images \(none\); image files end in \.avif, \.bmp, "):
        find(tmp_path)


@pytest.mark.parametrize("name", ["test", "Validation"])
@pytest.mark.parametrize("counts", [{"{}/cat": 2, "{}/dog": 2}, {"{}": 3}])
def test_a_test_folder_beside_class_folders_is_no_class(tmp_path, name, counts):
    plant(tmp_path, {"cat": 5, "dog": 5} | {where.format(name): n for where, n in counts.items()})
    with pytest.raises(
        ConfigError, match=f"{name} is among the class folders; move the classes into a folder called train"
    ):
        find(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("train", "training"), ("val", "valid"), ("test", "Test")])
def test_two_folders_of_one_split_are_refused(tmp_path, one, other):
    plant(tmp_path, {f"{split}/{label}": 2 for split in {"train", one, other} for label in ("cat", "dog")})
    with pytest.raises(ConfigError, match=f"({one} and {other}|{other} and {one}) are both .* folders; keep one"):
        find(tmp_path)


def test_one_folder_called_train_is_still_a_class_among_vehicles(tmp_path):
    plant(tmp_path, {"train": 3, "car": 3, "bus": 3})
    assert {file.label for file in find(tmp_path).files} == {"bus", "car", "train"}


def test_classes_of_a_few_images_are_warned_of_and_of_one_image_refused(tmp_path):
    root = plant(tmp_path / "pets", {"cat": 30, "dog": 30, "fox": 3})
    (line,) = [line for line in said(root, tmp_path / "cache") if "WARNING: few" in line]
    assert "WARNING: few training images of fox (2); after validation is held out, subsets may have none" in line
    plant(root, {"bird": 1})
    with pytest.raises(FetchError, match="only one image of bird; without a test folder"):
        said(root, tmp_path / "cache")
