"""What attention permutes with, what it does not see, its windows and its positions."""

import math
from itertools import product

import pytest
import torch
from attending import EVERY_WAY, MASKS, SCORES, WEIGHTS, WORDS, a_mask, made, projections
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.models.attention import SelfAttention, scores, sinusoidal, sinusoidal_2d, weigh, window_mask

# ---- what permutes, what is blind to what ----


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_tokens_permuted_together_with_their_graph_permute_the_output(score, weights, mask):
    torch.manual_seed(2)
    attention, order = made(6, 2, score=score, weights=weights, mask=a_mask(mask, 9)), torch.randperm(9)
    a = torch.randn(2, 9, 6, dtype=torch.float64)
    before, alone = attention(a)[:, order], attention(a[:, order])
    if mask == "none":
        assert torch.allclose(alone, before, atol=1e-12)
    else:
        assert (alone - before).abs().max() > 1e-3  # the graph did not move with them
        attention.mask = attention.mask[order][:, order]
        assert torch.allclose(attention(a[:, order]), before, atol=1e-12)


@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_each_head_talks_to_itself_alone(score, weights):
    """With W^O = 1 the heads lie side by side. Other q, k or v of head 2 change its part, and no number of the rest."""
    torch.manual_seed(3)
    heads, d = 3, 4
    attention, a = made(heads * d, heads, score=score, weights=weights), torch.randn(2, 5, 12, dtype=torch.float64)
    attention.requires_grad_(False).out.load_state_dict({"weight": torch.eye(12), "bias": torch.zeros(12)})
    before, second = attention(a), slice(d, 2 * d)
    for which in range(3):  # of q, k and v
        attention.qkv.weight.view(3, heads, d, -1)[which, 1] += torch.randn(d, 12)
        after = attention(a)
        assert (after - before)[..., second].abs().max() > 1e-3
        before[..., second] = after[..., second]
        assert torch.allclose(after, before, atol=1e-12)


@pytest.mark.parametrize("mask", ["window", "graph"])
@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_a_token_that_is_not_seen_has_no_influence_at_all(score, weights, mask):
    torch.manual_seed(4)
    attention = made(6, 2, score=score, weights=weights, mask=a_mask(mask, 9))
    jacobian = torch.autograd.functional.jacobian(lambda a: attention(a[None])[0], torch.randn(9, 6).double())
    influence = jacobian.abs().amax((1, 3))  # of token j on b^i
    assert jacobian.isfinite().all()
    assert not influence[~attention.mask].any()
    assert attention.mask.sum() < 81
    if weights == "softmax":  # ReLU's weights may be 0
        assert influence[attention.mask].min() > 1e-6


@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_a_token_that_sees_another_but_not_itself_takes_only_from_the_other(score, weights):
    """A ring, i → i + 1: b^i is W^O v of the next token, times a weight that softmax makes 1."""
    torch.manual_seed(5)
    ring = torch.eye(4).roll(1, 1).bool()
    attention, a = made(3, 1, score=score, weights=weights, mask=ring), torch.randn(1, 4, 3, dtype=torch.float64)
    got, v = attention(a) - attention.out.bias, a @ projections(attention)[2][0].T + projections(attention)[2][1]
    wanted = v.roll(-1, 1) @ attention.out.weight.T
    share = (got / wanted).detach()
    assert torch.allclose(share, share[..., :1].expand(1, 4, 3))
    assert weights != "softmax" or torch.allclose(share, torch.ones_like(share))


# ---- weights ----


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(WEIGHTS),
    st.sampled_from(MASKS),
    WORDS,
    st.floats(0.1, 50),
    st.integers(0, 2**32),
)
def test_weights_are_never_negative_and_those_of_softmax_sum_to_1(how, mask, N, scale, seed):
    torch.manual_seed(seed)
    mask, alpha = a_mask(mask, N), scale * torch.randn(2, 3, N, N)
    weights = weigh(alpha, how, mask)
    assert (weights >= 0).all()
    assert mask is None or not weights[:, :, ~mask].any()
    if how == "softmax":
        assert torch.allclose(weights.sum(-1), torch.ones(2, 3, N), atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("weights", "factor"), [("softmax", 1), ("relu", 8), ("relu/n", 1)])
def test_the_same_tokens_eight_times_over_are_eight_times_as_much_to_relu_alone(weights, factor, score, masked):
    torch.manual_seed(6)
    graph = a_mask("graph", 4) if masked else None
    few, a = made(6, 2, score=score, weights=weights, mask=graph), torch.randn(1, 4, 6, dtype=torch.float64)
    many = SelfAttention(6, 2, score=score, weights=weights, mask=graph.repeat(8, 8) if masked else None).double()
    many.load_state_dict(few.state_dict())
    wanted = factor * (few(a) - few.out.bias)
    assert torch.allclose((many(a.repeat(1, 8, 1)) - many.out.bias)[:, :4], wanted, atol=1e-10)
    assert wanted.abs().max() > 0.01


def test_scaled_scores_have_the_deviation_of_their_tokens_whatever_the_width_and_plain_ones_grow():
    torch.manual_seed(7)
    for d in (4, 64, 1024):
        q, k = torch.randn(2, 1, 1, 300, d)
        assert scores(q, k, "scaled").std().item() == pytest.approx(1, rel=0.1)
        assert scores(q, k, "dot").std().item() == pytest.approx(math.sqrt(d), rel=0.1)


# ---- the window ----


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.sampled_from([1, 3, 5, 7, 9, 13, 15]))
def test_a_window_holds_the_tokens_within_half_of_it_in_rows_and_columns(grid, window):
    mask, paths = window_mask(grid, window), list(product(range(grid), repeat=2))
    assert (mask.dtype, mask.shape) == (torch.bool, (grid**2, grid**2))
    for i, (row, column) in enumerate(paths):
        for j, (other_row, other_column) in enumerate(paths):
            near = 2 * max(abs(row - other_row), abs(column - other_column)) < window
            assert mask[i, j] == near
    assert mask.all() == (window >= 2 * grid - 1)


@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_a_window_over_the_whole_grid_is_full_attention(score, weights):
    torch.manual_seed(8)
    full, a = made(6, 2, score=score, weights=weights), torch.randn(2, 16, 6, dtype=torch.float64)
    windows = [SelfAttention(6, 2, score=score, weights=weights, mask=window_mask(4, w)).double() for w in (7, 5)]
    for window in windows:
        window.load_state_dict(full.state_dict())  # the mask is no part of it
    assert torch.allclose(windows[0](a), full(a), atol=1e-12)
    assert not torch.allclose(windows[1](a), full(a), atol=1e-3)


# ---- errors ----


@pytest.mark.parametrize(("width", "heads"), [(96, 5), (4, 8)])
def test_heads_that_do_not_divide_the_width_are_refused(width, heads):
    with pytest.raises(ValueError, match=f"^{heads} heads do not divide a width of {width}$"):
        SelfAttention(width, heads)


def test_a_token_that_sees_no_token_is_named():
    mask = torch.eye(5).bool()
    mask[3, 3] = False
    with pytest.raises(ValueError, match=r"^token 3 sees no token, not even itself$"):
        SelfAttention(4, 2, mask=mask)
    mask[3, 0] = True
    assert SelfAttention(4, 2, mask=mask)(torch.randn(1, 5, 4)).isfinite().all()


# ---- sinusoidal positions ----


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=12, unique=True), st.integers(1, 24))
def test_sinusoidal_positions_are_the_papers_formula_and_no_two_are_the_same(paths, half):
    """Wavelengths in equal ratios from 2π to 10,000 · 2π, both ends included."""
    got = sinusoidal(torch.tensor(paths), 2 * half).double()
    for row, place in enumerate(paths):
        for pair in range(half):
            wavelength = 2 * math.pi * 10_000 ** (pair / max(1, half - 1))
            angle = 2 * math.pi * place / wavelength
            assert got[row, pair].item() == pytest.approx(math.sin(angle), abs=1e-4)
            assert got[row, half + pair].item() == pytest.approx(math.cos(angle), abs=1e-4)
    assert len(paths) == 1 or torch.pdist(got).min() > 1e-3


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 24))
def test_positions_on_a_grid_are_those_of_the_row_then_of_the_column(grid, quarter):
    got, line = sinusoidal_2d(grid, 4 * quarter), sinusoidal(torch.arange(grid), 2 * quarter)
    assert got.shape == (grid**2, 4 * quarter)
    for i, (row, column) in enumerate(product(range(grid), repeat=2)):
        assert torch.equal(got[i], torch.cat([line[row], line[column]]))
    assert grid == 1 or torch.pdist(got.double()).min() > 0.1


@pytest.mark.parametrize("width", [1, 3, 97])
def test_an_odd_width_has_no_pairs_of_sine_and_cosine(width):
    with pytest.raises(ValueError, match=f"come in pairs of sine and cosine: a width of {width} is odd"):
        sinusoidal(torch.arange(4), width)


@pytest.mark.parametrize("width", [2, 6, 90, 97])
def test_a_width_that_does_not_quarter_has_no_positions_on_a_grid(width):
    with pytest.raises(ValueError, match=f"need a width divisible by 4, not {width}"):
        sinusoidal_2d(4, width)
