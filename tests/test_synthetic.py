"""Images made from seeds: a function of their number alone, without end, and no float decides a pixel."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from generating import CPU, STREAM, of, some
from torch import Tensor

from vitcnn.data.rng import noisy, random_bytes, states
from vitcnn.data.sources.fetch import fetch
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.data.synthetic.lazy import Generator, LazyImages
from vitcnn.data.synthetic.spec import TEST, VALIDATION
from vitcnn.errors import ConfigError
from vitcnn.seeds import role_seed
from vitcnn.study.matrix import cells

NAMES = ["fractals", "fractals:channels=3,classes=7,noise=0.3,patch=3,size=24"]
STATM = Path("/proc/self/statm")


# ---- names ----


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("fractals", "fractals"),
        ("fractals:", None),
        ("fractals:classes=100", "fractals"),
        ("fractals:vary=0.250,size=64,classes=1000", "fractals:classes=1000,size=64,vary=0.25"),
        ("fractals:vary=2e-1,density=1.0,noise=1", "fractals:noise=1"),
        ("digits", "digits"),
        ("folder:fractals:classes=3,x", "folder:fractals:classes=3,x"),
    ],
)
def test_a_data_set_has_one_name_whatever_order_and_defaults_are_written(name, one):
    if one is None:
        with pytest.raises(ConfigError, match="not a valid option=value"):
            parse_dataset(name)
    else:
        assert parse_dataset(name) == parse_dataset(one)
        assert parse_dataset(name).name == one


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "fractals:clases=3",
            "'clases=3' is not a valid option=value; did you mean 'classes'? known: channels, classes",
        ),
        ("fractals:classes", "'classes' is not a valid option=value"),
        ("fractals:base=digits", "'base=digits' is not a valid option=value"),
        ("fractals,classes=3", "unknown data set 'fractals,classes=3'; did you mean 'fractals'"),
        ("fractals:classes=1", "classes should be greater than or equal to 2, not '1'"),
        ("fractals:classes=many", "classes should be a valid integer"),
        ("fractals:vary=nan", "vary should be a finite number, not 'nan'"),
        ("fractals:channels=2", "channels should be 1 or 3, not '2'"),
        ("fractals:classes=3,classes=4", "'classes' appears twice"),
        ("fractal", "unknown data set 'fractal'; did you mean 'fractals'?"),
        ("torchvison:SVHN", "unknown data set 'torchvison:SVHN'; did you mean 'torchvision'? known: cifar10, "),
        ("folder", "write folder:PATH"),
    ],
)
def test_a_name_that_cannot_be_meant_says_what_to_change(name, said):
    with pytest.raises(ConfigError) as caught:
        parse_dataset(name)
    assert said in str(caught.value)


def test_nothing_lies_on_the_disk_and_the_images_size_is_an_option(tmp_path):
    assert fetch(parse_dataset("fractals:size=64"), tmp_path / "new") == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="fractals:size=64"):
        parse_dataset("fractals", 64)


def test_what_is_known_says_that_images_are_made_and_whether_a_mirrored_one_keeps_its_class():
    assert (parse_dataset("digits").info.made, "synthetic" in parse_dataset("fractals").info.made) == (None, True)
    assert (parse_dataset("fractals").info.flip, parse_dataset("fractals:flips=0").info.flip) == (True, False)


# ---- draws ----


def test_draws_are_those_of_splitmix64():
    """The first three numbers of the published generator begun at 1234567, and at the state of an image."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    got = random_bytes(torch.tensor([1234567]), 0, 3).view(torch.int64)[0].tolist()
    assert [value % 2**64 for value in got] == known


def test_draws_are_a_function_of_stream_image_and_place_alone():
    numbers = some(50)
    state = states(STREAM, numbers)
    assert torch.equal(random_bytes(state, 3, 4), random_bytes(state, 0, 9)[:, 24:56])
    assert torch.equal(state[7:9], states(STREAM, numbers[7:9]))
    assert (
        len(set(states(STREAM, torch.arange(10_000)).tolist()) | set(states(TEST, torch.arange(10_000)).tolist()))
        == 20_000
    )


def test_noise_replaces_the_share_of_pixels_that_is_asked_for_by_any_value():
    images = torch.zeros(200, 3, 16, 16, dtype=torch.uint8)
    out = noisy(images, 0.25, states(0, torch.arange(200)), 0)
    hit = (out > 0).any(1)
    assert hit.double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert out.permute(0, 2, 3, 1)[hit].double().mean().item() == pytest.approx(127.5, abs=2)
    for share in (0.999, 1):  # counted in 256ths, both are all
        assert (noisy(images, share, states(0, torch.arange(200)), 0) > 0).double().mean() > 0.99


def test_a_share_of_noise_that_is_none_is_refused():
    with pytest.raises(
        ConfigError, match=r"^fractals:noise=0.001: noise: a share is rounded to 256ths, and 0.001 to zero"
    ):
        parse_dataset("fractals:noise=0.001")


# ---- images ----


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_the_same_in_whatever_batch_it_is_asked_for(name):
    made, numbers = of(name), some(300)
    together = made.images(STREAM, numbers)
    assert together.shape == (300, made.info.channels, made.info.size, made.info.size)
    assert together.dtype == torch.uint8
    for rows in ([17], [5, 3, 299, 5], list(range(250, 300))):
        assert torch.equal(made.images(STREAM, numbers[rows]), together[rows])
    assert torch.equal(of(name).images(STREAM, numbers[:20]), together[:20])


@pytest.mark.parametrize(
    ("name", "golden"),
    # A change here makes other images of the same names: records of cells on them would no longer be theirs.
    [
        ("fractals", "b195c8b6948c74e9"),
        ("fractals:channels=3,noise=0.2,patch=2,size=48", "9259c58fa3da0aa1"),
    ],
    ids=["fractals", "in colour"],
)
def test_pixels_are_what_they_were_when_the_first_records_were_made(name, golden):
    images = torch.cat([of(name).images(stream, torch.arange(64)) for stream in (STREAM, VALIDATION, TEST)])
    assert hashlib.sha256(images.numpy()).hexdigest()[:16] == golden


@pytest.mark.parametrize("name", NAMES)
def test_images_of_one_stream_and_of_different_streams_are_all_different(name):
    made = of(name)
    streams = [STREAM, role_seed(1, "subset"), VALIDATION, TEST]
    images = torch.cat([made.images(stream, torch.arange(200)) for stream in streams])
    assert len({image.numpy().tobytes() for image in images}) == 800


def test_streams_of_validation_and_test_are_none_of_a_cells():
    assert min(VALIDATION, TEST) > max(role_seed(seed, "subset") for seed in range(1000))
    assert VALIDATION != TEST


# ---- what stands for a tensor of them ----


@pytest.fixture
def asked():
    """A maker of tiny images that remembers the numbers it was asked for."""
    seen: list[int] = []
    made = of("fractals:classes=3,size=16")

    def images(stream: int, numbers: Tensor) -> Tensor:
        seen.extend(numbers.tolist())
        return made.images(stream, numbers)

    return Generator(made.info, images), seen


INDICES = [torch.tensor([3, 0, 2499, 3]), slice(0, 10), slice(2490, 3000), slice(None, 5), slice(0, 0)]


@pytest.mark.parametrize("remember", [True, False])
def test_images_on_demand_are_indexed_like_the_tensor_that_they_stand_for(remember, asked):
    made, _ = asked
    tensor, demand = made.images(STREAM, torch.arange(2500)), LazyImages(made, STREAM, 2500, CPU, remember)
    assert len(demand) == len(demand.labels()) == 2500
    assert demand.labels()[:7].tolist() == [0, 1, 2, 0, 1, 2, 0]
    for index in INDICES + INDICES:
        assert torch.equal(demand[index], tensor[index])
        assert demand[index].dtype == torch.uint8
    demand[torch.tensor([3])].zero_()
    assert torch.equal(demand[torch.tensor([3])], tensor[3:4])


def test_an_image_that_is_remembered_is_made_once(asked):
    made, seen = asked
    demand = LazyImages(made, STREAM, 500, CPU, remember=True)
    rng = np.random.default_rng(0)
    for _ in range(5):
        for part in np.split(rng.permutation(500), 10):
            demand[torch.from_numpy(part)]
    assert sorted(seen) == list(range(500))


@pytest.mark.skipif(not STATM.exists(), reason="the memory of a process is read off Linux's /proc")
def test_ten_million_images_take_no_memory_before_they_are_asked_for(asked):
    def resident() -> int:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    made, seen = asked
    before = resident()
    demand = LazyImages(made, STREAM, 10**7, CPU, remember=True)
    assert demand[torch.tensor([9_999_999])].shape == (1, 1, 16, 16)
    assert seen == [9_999_999]
    assert resident() - before < 200e6 < demand._images.nbytes


def test_fewer_test_images_than_classes_are_refused(study):
    with pytest.raises(ConfigError, match=r"^dataset: test=50 images are fewer than the 100 classes$"):
        cells(study("dataset='fractals:test=50'", "sizes=[100]", "models=[vit]"))
