"""Images made from seeds: a function of their number alone, without end, and no float decides a pixel."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vitcnn.data.rng import noisy, random_bytes, states
from vitcnn.data.sources.fetch import fetch
from vitcnn.data.sources.registry import parse_dataset
from vitcnn.data.synthetic import fractals
from vitcnn.data.synthetic.lazy import Generator, LazyImages, generator
from vitcnn.data.synthetic.spec import TEST, VALIDATION, Fractals
from vitcnn.errors import ConfigError
from vitcnn.seeds import role_seed
from vitcnn.study.matrix import cells

CPU = torch.device("cpu")
NAMES = ["fractals", "fractals:channels=3,classes=7,noise=0.3,patch=3,size=24"]
STATM = Path("/proc/self/statm")
STREAM = role_seed(0, "subset")


def of(name: str) -> Generator:
    return generator(parse_dataset(name), CPU)


def some(count: int, seed: int = 0, below: int = 10**12) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, below, count))


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


# ---- fractals ----


def test_more_classes_begin_with_the_same_and_another_seed_has_others():
    few, many, other = fractals.categories(10, 0), fractals.categories(300, 0), fractals.categories(10, 1)
    assert all(torch.equal(a, b[:10]) for a, b in zip(few, many, strict=True))
    assert not torch.equal(few.maps, other.maps)
    assert torch.equal(
        of("fractals:classes=10").images(0, torch.arange(10)), of("fractals").images(0, torch.arange(10))
    )


def test_every_map_contracts_varied_or_not_and_no_orbit_comes_near_the_bound():
    systems, most = fractals.categories(300, 0), round(0.5 * 2**16)
    for maps in (systems.maps, fractals._varied(systems.maps, some(300 * 48, below=2**16), 0.5)):
        largest = np.linalg.svd(maps[..., :4].view(-1, 2, 2).numpy() / fractals.ONE, compute_uv=False)[:, 0]
        assert largest.max() < fractals.CONTRACTS + 1e-3
        reach = maps[..., 4:].double().norm(dim=-1).max().item()
        assert (reach + 2) / (1 - fractals.CONTRACTS) < fractals.BOUND
    factor = fractals._varied(systems.maps, some(300 * 48, below=2**16), 0.5) / systems.maps.double()
    assert factor[systems.maps.abs() > 1000].min() > 1 - most / 2**16 - 1e-3
    assert factor[systems.maps.abs() > 1000].max() < 1 + most / 2**16 + 1e-3
    assert torch.equal(fractals._varied(systems.maps, some(300 * 48, below=2**16), 0.0), systems.maps)


def test_probabilities_are_in_proportion_to_the_determinants_and_no_map_is_left_out():
    systems = fractals.categories(50, 0)
    matrices = systems.maps[..., :4].double() / fractals.ONE
    for maps, slots in zip(matrices, systems.slots, strict=True):
        counts = torch.bincount(slots, minlength=8)
        used = int((counts > 0).sum())
        assert 2 <= used <= 8
        assert counts[:used].min() >= 1
        det = (maps[:, 0] * maps[:, 3] - maps[:, 1] * maps[:, 2]).abs()[:used]
        assert ((counts[:used] - 1) - det / det.sum() * (64 - used)).abs().max() <= 1


def test_a_picture_fills_the_frame_and_as_much_of_it_as_is_asked_for():
    images = of("fractals:vary=0").images(0, torch.arange(1000))[:, 0]
    for side in (1, 2):
        ends = images.amax(3 - side)[:, [0, -1]]
        assert (ends > 0).all()
    of_classes = (images > 0).double().mean((1, 2)).view(10, 100).mean(0)
    assert of_classes.min() > fractals.FILLING[0] - 0.06
    assert of_classes.max() < fractals.FILLING[1] + 0.06


def test_images_vary_within_a_class_and_classes_differ_more():
    made = of("fractals:classes=20,flips=0,vary=0.1")
    images = made.images(0, torch.arange(400)).double().view(20, 20, -1)  # (of a class, class, pixels)
    within = (images - images.mean(0)).square().mean()
    between = (images.mean(0) - images.mean((0, 1))).square().mean()
    assert 0.2 < between / within < 5
    still, moved = (of(f"fractals:classes=20,flips=0,vary={vary}").images(0, torch.arange(400)) for vary in (0, 0.3))
    spread = [x.double().view(20, 20, -1).std(0).mean().item() for x in (still, moved)]
    assert spread[0] < spread[1]


def test_flips_mirror_an_image_and_a_quarter_stays_as_it_is():
    numbers = torch.arange(400)
    plain, turned = (of(f"fractals:flips={on}").images(0, numbers) for on in (0, 1))
    ways = [(turned == plain.flip(dims)).flatten(1).all(1) for dims in ([], [3], [2], [2, 3])]
    assert torch.stack(ways).any(0).all()
    assert all(60 < way.sum() < 140 for way in ways)


def test_density_size_patch_and_colour_do_what_they_say():
    def filled(options: str) -> float:
        return (of(f"fractals:{options}").images(0, torch.arange(200)).amax(1) > 0).double().mean().item()

    assert filled("density=0.1") < filled("density=1") < filled("density=4")
    assert filled("density=1") < filled("patch=2") < filled("patch=3")
    assert filled("size=64") == pytest.approx(filled("density=1"), abs=0.1)
    colour = of("fractals:channels=3").images(0, torch.arange(50))
    grey = of("fractals").images(0, torch.arange(50))
    assert torch.equal(colour.amax(1) > 0, grey[:, 0] > 0)
    assert len({tuple(image.flatten(1).amax(1).tolist()) for image in colour}) > 45


def test_options_are_read():
    assert parse_dataset("fractals:classes=12,vary=0.05").options == Fractals(classes=12, vary=0.05)


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
