"""Fractals: their classes, and what their options do to the images."""

import numpy as np
import pytest
import torch
from generating import of, some

from vitcnn.data.sources.registry import parse_dataset
from vitcnn.data.synthetic import fractals
from vitcnn.data.synthetic.spec import Fractals


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
