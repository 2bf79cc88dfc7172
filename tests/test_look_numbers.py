"""What networks look at, in numbers: on arrays whose answer is known."""

import numpy as np
import pytest

from vitcnn.inspect.attention_layers import places
from vitcnn.inspect.attention_numbers import by_offset, looked_at, mean_distance, merging, rollout
from vitcnn.inspect.effective_field import field_side
from vitcnn.inspect.first_layer import components, similarity

# ---- distance ----


def uniform_distance(g: int) -> float:
    """Of two places drawn from a g × g grid: offset (y, x) occurs (g − |y|)(g − |x|) times in g⁴."""
    off = range(1 - g, g)
    return sum((g - abs(y)) * (g - abs(x)) * np.hypot(y, x) for y in off for x in off) / g**4


@pytest.mark.parametrize("g", [1, 2, 4, 7])
def test_uniform_attention_has_the_mean_distance_of_two_random_places(g):
    tokens = places((g, g))
    found = mean_distance(np.full((3, g * g, g * g), 0.1), tokens, tokens)  # shares, whatever the sum
    np.testing.assert_allclose(found, [uniform_distance(g)] * 3)


def test_a_head_that_looks_a_fixed_distance_away_has_that_distance():
    tokens = places((4, 4))
    weights = np.zeros((2, 16, 16))
    weights[0, np.arange(16), np.arange(16) ^ 1] = 1  # each and its neighbour in the row
    weights[1, np.arange(16), np.arange(16) ^ 8] = 1  # two rows down or up
    np.testing.assert_allclose(mean_distance(weights, 8 * tokens, 8 * tokens), [8, 16])


def test_queries_without_attention_are_left_out_and_a_head_without_any_has_no_distance():
    weights = np.zeros((2, 2, 2))
    weights[0, 0, 1] = 0.3
    places_ = np.array([[0, 0], [0, 5]])
    np.testing.assert_array_equal(mean_distance(weights, places_, places_), [5, np.nan])


def test_attention_by_offset_is_where_it_is_put():
    weights = np.zeros((1, 16, 16))
    weights[0, np.arange(15), np.arange(1, 16)] = 1  # the next token, also across the end of a row
    found = by_offset(weights, places((4, 4)), (4, 4))[0]
    assert found.shape == (7, 7)
    assert found[3, 4] == pytest.approx(12 / 16)  # one to the right
    assert found[4, 0] == pytest.approx(3 / 16)  # one down, three to the left
    assert found.sum() == pytest.approx(15 / 16)


# ---- rollout ----


def test_attention_to_itself_rolls_out_to_itself_and_uniform_attention_halves_it_in_every_layer():
    grids = [(2, 2)] * 3
    np.testing.assert_allclose(rollout([np.eye(4)] * 3, grids), np.eye(4))
    uniform = np.full((4, 4), 0.25)
    np.testing.assert_allclose(rollout([uniform] * 3, grids), np.eye(4) / 8 + uniform * 7 / 8)


def test_rollout_goes_from_the_last_layer_to_the_first():
    first, last = np.eye(3)[[1, 1, 2]], np.eye(3)[[0, 2, 2]]
    by_hand = (last + np.eye(3)) / 2 @ (first + np.eye(3)) / 2
    np.testing.assert_allclose(rollout([first, last], [(1, 3)] * 2), by_hand)
    assert by_hand[0].tolist() == [0.5, 0.5, 0]


def test_a_smaller_grid_is_the_mean_of_what_it_covers():
    out = rollout([np.eye(16), np.eye(4)], [(4, 4), (2, 2)])
    np.testing.assert_allclose(out.reshape(4, 4, 4)[1], [[0, 0, 0.25, 0.25]] * 2 + [[0, 0, 0, 0]] * 2)
    np.testing.assert_allclose(merging((3, 3), (2, 2)).sum(1), 1)  # a border that is not whole


def test_a_head_looks_from_the_class_token_or_from_the_whole_image():
    weights = np.arange(9.0).reshape(1, 3, 3)  # one class token, two of the image
    np.testing.assert_allclose(looked_at(weights, 1, True), [[1 / 3, 2 / 3]])
    np.testing.assert_allclose(looked_at(weights, 1, False), [[11 / 24, 13 / 24]])


# ---- fields, filters, positions ----


def test_the_side_of_a_field():
    square, point = np.zeros((9, 9)), np.zeros((9, 9))
    square[2:6, 3:7], point[1, 1] = 0.3, 7
    assert (field_side(square), field_side(point)) == (pytest.approx(4), 1)
    assert np.isnan(field_side(np.zeros((3, 3))))


def test_filters_of_two_patterns_have_two_components():
    rng = np.random.default_rng(0)
    one, two = (np.linalg.qr(rng.normal(size=(12, 2)))[0].T).reshape(2, 3, 2, 2)
    weights = rng.normal(size=(20, 2)) * [5, 1]
    found, share = components(np.einsum("fk,kcyx->fcyx", weights, np.stack([one, two])), 28)
    assert len(found) == 2
    assert share == pytest.approx(1)
    assert abs((found[0] * one).sum()) > 0.95


def test_position_embeddings_are_compared_by_their_direction():
    found = similarity(np.array([[[1.0, 0], [0, 2]], [[3, 3], [-5, 0]]]))
    assert found[0, 0] == pytest.approx(np.array([[1, 0], [0.5**0.5, -1]]))
