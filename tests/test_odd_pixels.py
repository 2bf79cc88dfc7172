"""Image files whose pixels or making may mislead: read as declared, and warned of."""

import io

import numpy as np
import pytest
from pets import noise, plant, save
from PIL import Image

from vitcnn.data.sources.decode import opened, square
from vitcnn.data.sources.file_facts import facts_of, near_copies

EXTRA, PHOTOMETRIC = 338, 262


def tiff(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "TIFF")
    return file.getvalue()


def place(data: bytes, tag: int) -> int:
    """Where a little-endian TIFF has the entry of a tag of 16-bit values."""
    return data.index(tag.to_bytes(2, "little") + (3).to_bytes(2, "little"))


def without_tag(data: bytes, tag: int) -> bytes:
    """The tag has a private number instead, so that readers pass over it."""
    at = place(data, tag)
    return data[:at] + (65000).to_bytes(2, "little") + data[at + 2 :]


def with_value(data: bytes, tag: int, value: int) -> bytes:
    at = place(data, tag) + 8
    return data[:at] + value.to_bytes(2, "little") + data[at + 2 :]


def pixel(data: bytes, channels: int = 3) -> list[int]:
    with opened(io.BytesIO(data)) as image:
        return square(image, 1, channels).ravel().tolist()


RGBN = Image.new("RGBA", (8, 8), (100, 150, 50, 10))


def test_a_fourth_band_that_is_not_declared_as_transparency_is_dropped(root, read):
    undeclared = without_tag(tiff(RGBN), EXTRA)
    with Image.open(io.BytesIO(undeclared)) as image:
        assert (image.mode, EXTRA in image.tag_v2) == ("RGBA", False)
    assert pixel(undeclared) == [100, 150, 50]
    assert pixel(with_value(tiff(RGBN), EXTRA, 0)) == [100, 150, 50]
    plant(root, {"cat": 5, "dog": 5})
    (root / "cat" / "nir.tif").write_bytes(undeclared)
    assert "1 file with a fourth band that is not declared as transparency and is dropped" in read(root).info.warnings


def test_declared_transparency_is_put_on_white():
    seen = [round(255 + (value - 255) * 10 / 255) for value in (100, 150, 50)]
    assert pixel(tiff(RGBN)) == pytest.approx(seen, abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_inverted_at_any_depth(dtype):
    """A tenth of the way from white."""
    top = np.iinfo(dtype).max
    image = Image.fromarray(np.full((8, 8), top // 10, dtype))
    assert pixel(tiff(image), 1) == pytest.approx([25.5], abs=1)
    assert pixel(with_value(tiff(image), PHOTOMETRIC, 0), 1) == pytest.approx([229.5], abs=1)


def test_of_several_pages_or_frames_the_first_is_used_and_that_is_said(root, read):
    plant(root, {"cat": 5, "dog": 5})
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pages[0].save(root / "cat" / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(root / "dog" / "moving.gif", save_all=True, append_images=pages[1:])
    assert "2 files with several pages or frames, of which the first is used" in read(root).info.warnings


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_jpeg_that_was_cut_and_closed_by_an_end_marker_is_counted(share, root, read):
    for k in range(10):
        save(noise(k, (160, 160)), root / ("cat" if k % 2 else "dog") / f"{k}.jpg")
    file = root / "cat" / "1.jpg"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))] + b"\xff\xd9")
    assert "1 file with a lower end of one colour, as of a JPEG that was cut" in read(root).info.warnings


@pytest.mark.parametrize("colour", ["white", "black"])
def test_a_jpeg_on_a_plain_ground_is_not_taken_for_one_that_was_cut(colour, root, read):
    for k in range(10):
        image = Image.new("RGB", (160, 160), colour)
        image.paste(noise(k, (80, 80)), (40, 40))
        save(image, root / ("cat" if k % 2 else "dog") / f"{k}.jpg")
    assert not [line for line in read(root).info.warnings if "lower end of one colour" in line]


def test_depths_that_differ_between_classes_are_warned_of_and_darkness_is_judged_among_the_deep_files(root, read):
    """One class of 8 bits, the other the same noise as 12 bits in 16-bit files."""
    for k in range(40):
        grey = np.asarray(noise(k).convert("L"))
        save(Image.fromarray(grey), root / "cat" / f"{k}.png")
        save(Image.fromarray(grey.astype(np.uint16) * 16), root / "dog" / f"{k}.png")
    warnings = read(root).info.warnings
    assert "files with 16 bits: 40, with 8 bits: 40" in warnings
    assert [line for line in warnings if line.startswith("the brightest pixel of the 40 16-bit files is ")]
    (files,) = [line for line in warnings if "how their files were made" in line]
    assert "has 100% (chance: 50%), most of it from the mode" in files
    assert [line for line in warnings if "told apart by brightness" in line and "100%" in line]


# ---- how files were made ----


def camera(seed: int, maker: str, size: int = 8) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[271] = maker
    noise(seed, (size, size)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("write", "fact"),
    [
        (lambda k, cat: camera(k, "Canon" if cat else "Nikon"), "EXIF camera"),
        (lambda k, cat: camera(k, "Canon", 64 if cat else 48), "size"),
    ],
)
def test_classes_that_differ_by_how_files_were_made_are_warned_of(write, fact, root, read):
    for k in range(60):
        path = root / ("cat" if k % 2 else "dog") / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write(k, k % 2))
    (line,) = [line for line in read(root).info.warnings if "how their files were made" in line]
    assert f"has 100% (chance: 50%), most of it from the {fact}" in line


def test_files_that_were_made_alike_or_at_random_are_not_warned_of(root, read):
    for k in range(80):
        path = root / ("cat" if k % 2 else "dog") / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(camera(k, "Canon" if k % 4 < 2 else "Nikon", 48 if k % 8 < 4 else 64))
    assert read(root).info.warnings == ()


def test_the_facts_of_a_file_are_read_without_its_pixels():
    data = camera(0, "Canon", 40)
    with opened(io.BytesIO(data[: len(data) // 2])) as image:
        facts = facts_of(image)
    assert (facts.format, facts.width, facts.height, facts.maker, facts.pages) == ("JPEG", 40, 40, "Canon", 1)


def test_hashes_are_compared_to_the_nearest_and_up_to_the_limit(monkeypatch):
    rng = np.random.default_rng(0)
    train, test = rng.random((50, 256)) < 0.5, rng.random((600, 256)) < 0.5
    test[7], test[300], test[301] = train[3], train[4], train[5]
    test[300, :40] ^= True
    test[301, :41] ^= True
    assert near_copies(train, test) == ([(3, 7), (4, 300)], 600)
    monkeypatch.setattr("vitcnn.data.sources.file_facts.PAIRS", 5000)
    assert near_copies(train, test) == ([(3, 7)], 100)
