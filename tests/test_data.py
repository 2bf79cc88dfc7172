"""Where images come from and which ones a cell gets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from vitcnn.data.sources.fetch import load
from vitcnn.data.sources.registry import BUILT_IN, parse_dataset
from vitcnn.data.subsets import nested_order, split, subset_hash

SEEDS = st.integers(0, 2**63 - 1)


def shuffled(counts: list[int], seed: int = 0) -> np.ndarray:
    """Labels with `counts[c]` images of class c, in random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


# ---- subsets ----


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), SEEDS, st.data())
def test_smaller_subsets_are_in_larger_ones_and_all_are_disjoint_from_validation(counts, seed, data):
    labels = shuffled(counts)
    validation = data.draw(st.integers(1, len(labels) - 2))
    large = data.draw(st.integers(2, len(labels) - validation))
    small = data.draw(st.integers(1, large))
    (few, held_out), (many, _) = [split(labels, validation, n, seed) for n in (small, large)]
    assert set(few) <= set(many)
    assert (len(set(few)), len(set(many)), len(set(held_out))) == (small, large, validation)
    assert set(many).isdisjoint(held_out)
    assert set(many) | set(held_out) <= set(range(len(labels)))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 30), SEEDS, st.data())
def test_subsets_of_equal_classes_are_balanced_within_one_image(classes, each, seed, data):
    labels = shuffled([each] * classes)
    n = data.draw(st.integers(1, len(labels)))
    counts = np.bincount(labels[nested_order(labels, np.arange(len(labels)), seed)[:n]], minlength=classes)
    assert counts.max() - counts.min() <= 1


def test_subsets_of_like_classes_are_balanced_until_the_smallest_is_used_up():
    labels = shuffled([20, 30, 25])
    order = nested_order(labels, np.arange(75), seed=1)
    assert np.bincount(labels[order[:60]]).tolist() == [20, 20, 20]
    assert np.bincount(labels[order]).tolist() == [20, 30, 25]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), SEEDS, st.data())
def test_subsets_of_unequal_classes_keep_the_proportions(counts, seed, data):
    """The bound is one image for a class's own rounding, and its share of the other classes' roundings."""
    labels = shuffled([*counts, 2 * min(counts)])  # the largest at least twice the smallest
    n = data.draw(st.integers(1, len(labels)))
    share = np.bincount(labels) / len(labels)
    got = np.bincount(labels[nested_order(labels, np.arange(len(labels)), seed)[:n]], minlength=len(share))
    assert (np.abs(got - n * share) <= 1 + (len(share) - 2) * share + 1e-9).all()


def test_unequal_classes_are_stratified_where_equal_numbers_would_have_been_possible():
    labels = shuffled([300, 100])
    order = nested_order(labels, np.arange(400), seed=0)
    assert np.abs(np.bincount(labels[order[:100]]) - [75, 25]).max() <= 1


@pytest.mark.parametrize("counts", [[30, 30, 30], [60, 20, 10]])
def test_the_same_seed_repeats_an_order_and_another_seed_does_not(counts):
    labels, pool = shuffled(counts), np.arange(90)
    assert (nested_order(labels, pool, 5) == nested_order(labels, pool, 5)).all()
    assert (nested_order(labels, pool, 5) == nested_order(labels, pool[::-1], 5)).all()
    assert not np.array_equal(nested_order(labels, pool, 5), nested_order(labels, pool, 6))
    assert set(nested_order(labels, pool, 5)[:30]) != set(nested_order(labels, pool, 6)[:30])


def test_validation_is_the_same_for_every_n_and_seed_and_is_stratified():
    labels = shuffled([100, 60, 40])
    first = split(labels, 50, 10, seed=0)[1]
    for n, seed in ((10, 1), (150, 0), (77, 2**62)):
        assert (split(labels, 50, n, seed)[1] == first).all()
    assert np.abs(np.bincount(labels[first]) - [25, 15, 10]).max() <= 1


def test_a_smaller_validation_is_in_a_larger_one():
    labels = shuffled([50, 50])
    assert (split(labels, 40, 10, 0)[1][:20] == split(labels, 20, 10, 0)[1]).all()


def test_split_raises_where_there_are_too_few_images():
    labels = shuffled([5, 5])
    assert len(split(labels, 4, 6, 0)[0]) == 6
    with pytest.raises(ValueError, match="7 training and 4 validation images requested, 10 available"):
        split(labels, 4, 7, 0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True), st.randoms())
def test_the_subset_hash_stands_for_a_set(indices, random):
    again = random.sample(indices, len(indices))
    assert subset_hash(np.array(indices)) == subset_hash(np.array(again, dtype=np.int32))
    assert subset_hash(np.array(indices)) != subset_hash(np.array([*indices[1:], 10**6 + 1]))


# ---- the digits ----


def test_digits_have_the_shapes_types_and_ranges_that_are_promised(data_folder):
    arrays, about = load(parse_dataset("digits")).arrays, BUILT_IN["digits"].info
    assert arrays.train_images.shape == (1297, 8, 8, 1) == (about.train, about.size, about.size, about.channels)
    assert arrays.test_images.shape == (500, 8, 8, 1) == (about.test, about.size, about.size, about.channels)
    assert arrays.train_images.dtype == arrays.test_images.dtype == np.uint8
    assert arrays.train_labels.dtype == arrays.test_labels.dtype == np.int64
    assert (arrays.train_images.min(), arrays.train_images.max()) == (0, 255)
    assert set(arrays.test_labels) == set(arrays.train_labels) == set(range(10))


def test_digits_train_and_test_are_a_partition_of_scikit_learns_images():
    """Each of the 1,797 (image, label) pairs is there as often as scikit-learn has it: none in both, none lost."""
    a, bunch = load(parse_dataset("digits")).arrays, load_digits()
    images = np.concatenate([a.train_images, a.test_images]).reshape(-1, 64)
    mine = np.column_stack([images, np.concatenate([a.train_labels, a.test_labels])])
    theirs = np.column_stack([np.rint(bunch.data * 255 / 16), bunch.target])
    assert np.array_equal(*(rows[np.lexsort(rows.T)] for rows in (mine, theirs)))


def test_digits_test_set_has_the_classes_of_the_whole():
    a = load(parse_dataset("digits")).arrays
    whole = np.bincount(np.concatenate([a.train_labels, a.test_labels]))
    assert np.abs(np.bincount(a.test_labels) - 500 * whole / 1797).max() <= 2


def test_arrays_are_memory_mapped_and_not_writable():
    for array in load(parse_dataset("digits")).arrays:
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
