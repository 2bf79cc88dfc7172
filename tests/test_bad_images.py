"""Folders of odd, broken and hostile image files: told by path, in little memory, before anything is trained."""

import io
import os
import resource
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcnn.data.sources.cache import FetchError
from vitcnn.data.sources.class_folders import find
from vitcnn.data.sources.fetch import fetch, load
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.errors import ConfigError
from vitcnn.system.processes import apart


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classes of five images each."""
    for k in range(10):
        path = tmp_path / "pets" / ("cat" if k < 5 else "dog") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (k, 100, 200)).save(path)
    return tmp_path / "pets"


@pytest.fixture
def read(tmp_path):
    """`read(root)`: what was said of it, and its data set."""

    def call(root: Path, **how):
        said = []
        fetch(parse_dataset(f"folder:{root}"), tmp_path / "cache", log=said.append, **how)
        return "\n".join(said), load(parse_dataset(f"folder:{root}"), tmp_path / "cache")

    return call


def png(width: int, height: int) -> bytes:
    """A PNG of black pixels that is small as a file: 400 million pixels in some 50 KB, as one bit each."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, rows = zlib.compressobj(9), b""
    for _ in range(height):
        rows += packer.compress(bytes(1 + -(-width // 8)))
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows + packer.flush()) + chunk(b"IEND", b"")


# ---- files ----


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_an_image_of_too_many_pixels_is_told_by_path_and_never_decoded(side, root, read, recwarn):
    path = root / "cat" / "vast.png"
    path.write_bytes(png(side, side))
    assert path.stat().st_size < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FetchError) as caught:
        read(root)
    assert f"1 of 11 images cannot be read:\n  {path}: ValueError: more than 89,478,485 pixels; scale it down" in str(
        caught.value
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB; 20,000² pixels are 1.2 GB
    assert not [w for w in recwarn if "bomb" in str(w.message)]
    assert read(root, skip_unreadable=True)[1].info.train == 8


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_an_image_of_one_pixel_or_one_line_is_an_image(size, root, read):
    Image.new("RGB", size, "red").save(root / "cat" / "small.png")
    info = read(root)[1].info
    assert (info.train + info.test, info.size) == (11, 64)


def test_every_odd_kind_of_image_that_can_be_read_is_read(root, read):
    odd = {
        "cmyk.jpg": Image.new("CMYK", (9, 7), (0, 255, 255, 0)),
        "palette.png": Image.new("P", (9, 7), 3),
        "alpha.png": Image.new("RGBA", (9, 7), (1, 2, 3, 4)),
        "sixteen.png": Image.fromarray(np.full((7, 9), 40_000, np.uint16)),
        "grey-alpha.png": Image.new("LA", (9, 7), (1, 2)),
        "bits.png": Image.new("1", (9, 7), 1),
        "lab.tiff": Image.new("LAB", (9, 7), (1, 2, 3)),
        "ycc.jpg": Image.new("YCbCr", (9, 7), (1, 2, 3)),
        "photo.webp": Image.new("RGBA", (9, 7), (1, 2, 3, 4)),
    }
    for name, image in odd.items():
        image.save(root / "cat" / name)
    info = read(root)[1].info
    assert (info.train + info.test, info.channels) == (10 + len(odd), 3)


def test_postscript_called_jpg_is_no_image_and_is_given_to_no_program(root, read, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "EPS")
    (root / "cat" / "x.jpg").write_bytes(file.getvalue())
    with pytest.raises(FetchError, match=r"cat/x\.jpg: UnidentifiedImageError"):
        read(root)
    assert not (tmp_path / "ran").exists()


def test_links_to_nothing_and_pipes_called_jpg_are_told_by_path(root, read):
    (root / "cat" / "loop.jpg").symlink_to("loop.jpg")
    (root / "cat" / "gone.jpg").symlink_to("/nowhere/gone.jpg")
    os.mkfifo(root / "dog" / "pipe.png")  # to read it would wait for ever
    with pytest.raises(FetchError) as caught:
        read(root)
    assert "3 of 13 images cannot be read" in str(caught.value)
    for name in ("cat/loop.jpg", "cat/gone.jpg", "dog/pipe.png"):
        assert f"  {root}/{name}: OSError: not a file, or a broken link" in str(caught.value)
    assert read(root, skip_unreadable=True)[1].info.train == 8


def test_one_broken_image_among_10_000_is_told_by_path_before_anything_is_trained(root, vitcnn, tmp_path):
    for k in range(9990):
        os.link(root / "cat" / f"{k % 5}.png", root / "cat" / f"copy{k}.png")
    broken = root / "dog" / "half.png"
    broken.write_bytes((root / "dog" / "5.png").read_bytes()[:50])  # its head is whole
    (tmp_path / "pets.yaml").write_text(
        "dataset: folder:pets\nsizes: [4]\nseeds: 1\nmodels: [linear]\nbudget: {images_seen: 10}\nvalidation: 2\n"
    )
    began = time.monotonic()
    code, _, err = vitcnn("run", "pets.yaml", "--data-dir", "cache", "--wandb", "off", "--device", "cpu")
    assert code == 2
    assert "1 of 10,001 images cannot be read:\n" in err
    assert f"\n  {broken}: " in err
    assert "skip them with `vitcnn data fetch folder:pets --skip-unreadable`" in err
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob("results/*/records/*"))
    assert time.monotonic() - began < 120


# ---- folders ----


@pytest.mark.parametrize(
    ("link", "to", "said"),
    [
        ("loop", ".", r"cat is inside loop; remove the link"),
        ("up", "/", r"cat is inside up; remove the link"),
        ("puss", "cat", r"puss and cat are the same folder; remove the link"),
    ],
)
def test_a_link_that_would_give_images_two_classes_is_refused(link, to, said, root, read):
    (root / link).symlink_to(to)
    with pytest.raises(ConfigError, match=said):
        read(root)


def test_links_that_lead_in_circles_are_passed_over(root, read):
    (root / "round").symlink_to("round")
    (root / "cat" / "back").symlink_to("..")
    assert read(root)[1].info.class_names == ("cat", "dog")


def test_classes_that_differ_by_case_only_are_kept_apart_with_a_warning(root, read):
    (root / "cat").rename(root / "DOG")
    said, data = read(root)
    assert (
        "WARNING: DOG and dog differ only by upper and lower case, or by how an accent is encoded; they count" in said
    )
    assert data.info.class_names == ("DOG", "dog")


@pytest.mark.parametrize(("train", "test"), [("Dog", "dog"), ("caf\u00e9", "cafe\u0301")])
def test_train_and_test_whose_classes_differ_by_case_or_accent_only_are_told_so(train, test, root, read, tmp_path):
    for part, name in (("train", train), ("test", test)):
        (tmp_path / "all" / part).mkdir(parents=True)
        for label, to in (("cat", "cat"), ("dog", name)):
            (tmp_path / "all" / part / to).symlink_to(root / label)
    with pytest.raises(
        ConfigError, match=r"have different classes \(only train: .*; only test: .* differ only by upper"
    ):
        read(tmp_path / "all")


def test_classes_of_every_script_are_kept(root, read):
    (root / "cat").rename(root / "кошка 猫 قط बिल्ली")
    (root / "dog").rename(root / "🐕 [bold]|<b>")
    assert set(read(root)[1].info.class_names) == {"кошка 猫 قط बिल्ली", "🐕 [bold]|<b>"}


def test_names_that_are_no_utf_8_are_told_as_far_as_they_can_be_written(root, read, capsys):
    bad = os.fsdecode(b"half\xe9.png")
    (root / "cat" / bad).write_bytes(b"junk")
    with pytest.raises(FetchError, match=r"cat/half\\udce9\.png: UnidentifiedImageError"):
        read(root)
    said = read(root, skip_unreadable=True)[0]
    assert "half\\udce9.png" in said
    said.encode()  # can be printed
    (root / "cat").rename(root / os.fsdecode(b"caf\xe9"))
    with pytest.raises(ConfigError, match=r"the name of the class folder caf\\udce9 is not valid UTF-8; rename it"):
        read(root)
    with pytest.raises(ConfigError, match=r"write folder:PATH, in printable characters"):
        parse_dataset("folder:" + os.fsdecode(b"/caf\xe9"))


def test_a_folder_with_the_longest_of_names_is_read(root, read):
    long = root.with_name("猫" * 85)  # 255 bytes
    root.rename(long)
    assert read(long)[1].info.train == 8


def find_as_nobody(root: Path) -> int:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    return len(find(root).files)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes nobody, which only root can")
@pytest.mark.parametrize("closed", [".", "dog", "dog/below"])
def test_a_folder_that_may_not_be_read_is_told_and_not_passed_over(closed, root):
    (root / "dog" / "below").mkdir()
    for folder in (root, *root.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    assert len(find(root).files) == 10
    (root / closed).chmod(0)
    with pytest.raises(ConfigError, match=f"^folder:{root}: {root / closed}: Permission denied$"):
        apart(find_as_nobody, root, threads=1)
