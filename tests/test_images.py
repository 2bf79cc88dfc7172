"""Image files of every kind become squares of bytes: upright, on white, from the middle, and nothing is lost unsaid."""

import io

import numpy as np
import pytest
from PIL import Image

from vitcnn.data.sources.cache import FetchError
from vitcnn.data.sources.decode import Squares, eight_bit, kept_size, split_off, square, to_array, usual_validation
from vitcnn.data.sources.registry import parse_dataset

CORNERS = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]]], np.uint8)
SIXTEEN = np.array([[128, 257 + 128], [257 - 128, 65535]], np.uint16)  # rounds to 0, 1, 1 and 255


def filed(image: Image.Image, form: str = "PNG", **options) -> Image.Image:
    """The image as it is once written to a file and opened again, not yet decoded."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(file)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def palette(**options) -> Image.Image:
    """A PNG with a palette: one pixel of its colour 0, one of colour 1."""
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return filed(image, **options)


def one(mode: str, colour) -> Image.Image:
    return filed(Image.new(mode, (1, 1), colour))


# ---- one image ----


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_size_that_is_kept_loses_nothing(channels):
    pixels = noise(13, 13, channels)
    out = square(filed(Image.fromarray(pixels.squeeze())), 13, channels)
    assert out.dtype == np.uint8
    assert np.array_equal(out, pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"])
@pytest.mark.parametrize("shape", [(5, 9), (40, 12), (8, 8)])
def test_every_mode_and_shape_becomes_a_square_of_bytes(shape, mode, channels):
    out = square(Image.new(mode, shape), 8, channels)
    assert (out.shape, out.dtype) == ((8, 8, channels), np.uint8)


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (one("L", 77), [77, 77, 77]),
        (one("1", 1), [255, 255, 255]),
        (one("1", 0), [0, 0, 0]),
        (one("LA", (40, 255)), [40, 40, 40]),
        (one("RGB", (1, 2, 3)), [1, 2, 3]),
        (filed(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF"), [255, 0, 0]),
        (filed(Image.new("CMYK", (1, 1), (0, 0, 0, 255)), "TIFF"), [0, 0, 0]),
    ],
    ids=["grey", "1-bit white", "1-bit black", "opaque LA", "RGB", "CMYK red", "CMYK black"],
)
def test_the_colour_is_the_files_whatever_its_mode(image, seen):
    assert square(image, 1, 3).ravel().tolist() == seen


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (one("RGBA", (0, 0, 0, 0)), [255, 255, 255]),
        (one("RGBA", (200, 0, 0, 128)), [227, 127, 127]),
        (one("RGBA", (200, 0, 0, 255)), [200, 0, 0]),
        (one("LA", (0, 0)), [255, 255, 255]),
        (one("LA", (0, 128)), [127, 127, 127]),
        (filed(Image.new("L", (1, 1), 7), transparency=7), [255, 255, 255]),
        (filed(Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3)), [255, 255, 255]),
    ],
    ids=["clear", "half", "opaque", "clear LA", "half LA", "grey of the clear shade", "RGB of the clear colour"],
)
def test_what_is_transparent_is_laid_on_white(image, seen):
    assert np.abs(square(image, 1, 3).ravel().astype(int) - seen).max() <= 1
    assert np.abs(square(image.copy(), 1, 1).item() - np.dot(seen, [0.299, 0.587, 0.114])) <= 1.5


@pytest.mark.parametrize(
    ("options", "first"),
    [({}, [10, 20, 30]), ({"transparency": 0}, [255, 255, 255]), ({"transparency": bytes([51])}, [206, 208, 210])],
    ids=["opaque", "one clear colour", "a colour of 20 %"],
)
def test_a_palette_becomes_its_colours_and_its_transparency_white(options, first):
    """Not the numbers of the colours, 0 and 1."""
    out = np.asarray(eight_bit(palette(**options)).convert("RGB"))
    assert np.abs(out[0, 0].astype(int) - first).max() <= 1
    assert out[0, 1].tolist() == [200, 100, 50]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight_and_not_cut_off(form):
    image = filed(Image.fromarray(SIXTEEN), form)
    assert square(image, 2, 1)[..., 0].tolist() == [[0, 1], [1, 255]]
    assert square(image, 2, 3)[..., 2].tolist() == [[0, 1], [1, 255]]


def test_thirty_two_bits_that_hold_sixteen_are_scaled_as_these():
    image = filed(Image.fromarray(SIXTEEN.astype(np.int32)), "TIFF")
    assert image.mode == "I"
    assert square(image, 2, 1)[..., 0].tolist() == [[0, 1], [1, 255]]


@pytest.mark.parametrize(("brightest", "told"), [(1_003, True), (60_000, False)])
def test_a_folder_whose_sixteen_bits_are_not_filled_is_said_to_be_dark(tmp_path, brightest, told):
    for k in range(8):
        path = tmp_path / "pool" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), brightest - k, np.uint16)).save(path)
    spec = parse_dataset(f"folder:{tmp_path / 'pool'}")
    info = spec.prepare(tmp_path, tmp_path, lambda _: None, skip_unreadable=False).info
    assert any("brightest pixel of the 8 16-bit files is 1,003 of 65,535" in line for line in info.warnings) == told


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((2, 2), np.float32), "floating-point pixels of unknown range"),
        (np.array([[0, 65536]], np.int32), "32-bit pixels of unknown range"),
        (np.array([[-1, 100]], np.int32), "32-bit pixels of unknown range"),
    ],
)
def test_pixels_without_a_known_range_are_refused_and_not_guessed(pixels, said):
    with pytest.raises(ValueError, match=said):
        square(filed(Image.fromarray(pixels), "TIFF"), 2, 1)


@pytest.mark.parametrize("upright", [False, True], ids=["wide", "tall"])
def test_the_middle_of_a_long_image_is_kept(upright):
    """Three squares in a row, red, green, blue: green is left."""
    bands = np.repeat(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8).repeat(10, 0), 10, 1)
    out = square(filed(Image.fromarray(bands.swapaxes(0, 1) if upright else bands)), 10, 3)
    assert (out == [0, 255, 0]).all()


@pytest.mark.parametrize(
    ("orientation", "how_it_lies"),
    [
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_a_photo_taken_with_a_turned_camera_comes_out_upright(orientation, how_it_lies):
    upright = CORNERS.repeat(16, 0).repeat(16, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = filed(Image.fromarray(upright).transpose(how_it_lies), "JPEG", exif=exif, quality=95, subsampling=0)
    assert np.abs(square(photo, 32, 3).astype(int) - upright).max() < 10


@pytest.mark.parametrize("shape", [(640, 640), (640, 1600)])
def test_a_large_jpeg_is_decoded_at_no_less_than_it_takes(shape):
    """Stripes as fine as the small image can show, seen as in a file that is decoded whole."""
    stripes = np.tile(np.repeat(np.array([0, 255], np.uint8), 20), (shape[0], shape[1] // 40))
    jpeg, png = (square(filed(Image.fromarray(stripes), form), 32, 1).astype(int) for form in ("JPEG", "PNG"))
    assert png.std() > 70
    assert np.abs(jpeg - png).max() < 30


def test_a_file_that_breaks_off_is_an_error_and_not_a_half_grey_image():
    file = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(file, "JPEG")
    with pytest.raises(OSError, match="truncated"):
        square(Image.open(io.BytesIO(file.getvalue()[:-500])), 64, 3)


# ---- the size that all are kept at ----


@pytest.mark.parametrize(
    ("sizes", "resolution", "kept"),
    [
        ([(28, 28)] * 3, None, 28),
        ([(96, 96)], None, 96),
        ([(97, 97)] * 2, None, 64),
        ([(32, 32), (32, 33)], None, 64),
        ([(32, 32), (33, 33)], None, 64),
        ([(32, 24)] * 2, None, 64),
        ([(28, 28)], 32, 32),
        ([(640, 480), (32, 32)], 128, 128),
    ],
)
def test_small_squares_of_one_size_are_kept_as_they_are_and_others_at_64_unless_told(sizes, resolution, kept):
    assert kept_size(sizes, resolution) == kept


# ---- many images ----


def numbered(item: int) -> tuple[np.ndarray, int]:
    if item % 100 == 7:
        raise OSError("half a file")
    return np.full((1, 1, 1), item % 251, np.uint8), item


@pytest.mark.parametrize("count", [120, 620], ids=["in this process", "in worker processes"])
def test_images_stay_in_order_and_beside_what_belongs_to_them_and_broken_ones_are_told(count, tmp_path):
    images, beside, wrong = to_array(Squares(range(count), numbered), tmp_path / "x.npy", (1, 1, 1))
    good = [i for i in range(count) if i % 100 != 7]
    assert beside == good
    assert images.ravel().tolist() == [i % 251 for i in good]
    assert wrong == [f"{i}: OSError: half a file" for i in range(7, count, 100)]


def test_images_that_the_disk_has_no_room_for_are_refused_before_one_is_read(tmp_path):
    with pytest.raises(FetchError, match=r"2000000000.0 GB are needed in .*, [\d.]+ GB are free"):
        to_array(Squares([0], numbered), tmp_path / "x.npy", (10**9, 10**9, 1))
    assert list(tmp_path.iterdir()) == []


# ---- what is set aside ----


def test_a_fifth_is_split_off_for_the_test_with_the_classes_of_the_whole():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [200, 50, 10]))
    train, test = split_off(labels)
    assert sorted([*train, *test]) == list(range(260))
    assert np.bincount(labels[test]).tolist() == [40, 10, 2]
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()


def test_what_is_split_off_is_the_same_every_time():
    labels = noise(100) % 3
    assert all((a == b).all() for a, b in zip(split_off(labels), split_off(labels.copy()), strict=True))


@pytest.mark.parametrize(
    ("train", "classes", "kept"), [(1000, 10, 150), (40, 10, 10), (66_000, 10, 9900), (10**6, 10, 10_000)]
)
def test_validation_is_15_percent_but_at_least_an_image_a_class_and_at_most_10_000(train, classes, kept):
    assert usual_validation(train, classes) == kept
