"""Attention is the lecture note's: in torch's fused form, in matrices, and written out as the sum that it is."""

import math
from functools import partial
from itertools import count, product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitcnn.models.attention import SelfAttention, scores, sinusoidal, sinusoidal_2d, weigh, window_mask

SCORES, WEIGHTS, MASKS = ("scaled", "dot", "additive"), ("softmax", "relu", "relu/n"), ("none", "window", "graph")
EVERY_WAY = list(product(SCORES, WEIGHTS))
WORDS = st.sampled_from([1, 4, 9, 16, 25, 36, 49])
FUSED = [(score, weights) for score, weights in EVERY_WAY if weights == "softmax" and score != "additive"]


def a_mask(kind: str, N: int) -> Tensor | None:
    """Over a square number of tokens; a graph's edges are directed, and every token has one to itself."""
    if kind == "none":
        return None
    return window_mask(math.isqrt(N), 3) if kind == "window" else (torch.rand(N, N) < 0.4) | torch.eye(N).bool()


def made(width: int, heads: int, **how) -> SelfAttention:
    """In float64, with biases that are not small."""
    attention = SelfAttention(width, heads, **how).double()
    with torch.no_grad():
        for p in attention.parameters():
            p.normal_(std=0.7)
    return attention


def projections(attention: SelfAttention) -> list[tuple[Tensor, Tensor]]:
    """(W^q, bias), (W^k, bias), (W^v, bias)."""
    return list(zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True))


def in_matrices(attention: SelfAttention, a: Tensor) -> Tensor:
    """Head by head: A' of Q K^T, then A' V; the heads side by side; W^O."""
    d, brought = a.shape[-1] // attention.heads, []
    for h in range(attention.heads):
        part = slice(h * d, (h + 1) * d)
        Q, K, V = (a @ W[part].T + b[part] for W, b in projections(attention))
        w = None if attention.w is None else attention.w[h : h + 1]
        alpha = scores(Q[:, None], K[:, None], attention.score, w)
        brought.append((weigh(alpha, attention.weights, attention.mask) @ V[:, None])[:, 0])
    return torch.cat(brought, -1) @ attention.out.weight.T + attention.out.bias


def written_out(attention: SelfAttention, a: Tensor, asking: list[int] | None = None) -> Tensor:
    """b^i = Σ_j α'_ij v^j, one token at a time; of the tokens `asking`, by default all."""
    B, N, D = a.shape
    d, outputs = D // attention.heads, []
    asking = list(range(N)) if asking is None else asking
    for image in range(B):
        q, k, v = ([W @ token + b for token in a[image]] for W, b in projections(attention))
        for i in asking:
            sees = [j for j in range(N) if attention.mask is None or attention.mask[i, j]]
            b_i = []
            for h in range(attention.heads):
                part, alpha = slice(h * d, (h + 1) * d), {}
                for j in sees:
                    if attention.score == "additive":
                        alpha[j] = (attention.w[h] * (q[i][part] + k[j][part]).tanh()).sum()
                    else:
                        alpha[j] = (q[i][part] * k[j][part]).sum() / (1 if attention.score == "dot" else math.sqrt(d))
                if attention.weights == "softmax":
                    total = sum(score.exp() for score in alpha.values())
                    weight = {j: score.exp() / total for j, score in alpha.items()}
                else:
                    weight = {j: score * (score > 0) for j, score in alpha.items()}
                if attention.weights == "relu/n":
                    weight = {j: w / len(sees) for j, w in weight.items()}
                b_i.append(sum(weight[j] * v[j][part] for j in sees))
            outputs.append(attention.out.weight @ torch.cat(b_i) + attention.out.bias)
    return torch.stack(outputs).view(B, len(asking), D)


def with_gradients(attention: SelfAttention, a: Tensor, function, towards: Tensor) -> list[Tensor]:
    """The output, and the gradients of its product with `towards`: of the tokens, then of every parameter."""
    a = a.detach().requires_grad_()
    out = function(a)
    return [out.detach(), *torch.autograd.grad((out * towards).sum(), [a, *attention.parameters()])]


def apart(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference, against the largest number of its tensor or 1."""
    pairs = zip(got, wanted, strict=True)
    return max(((g.double() - w).abs().max() / w.abs().max().clamp_min(1)).item() for g, w in pairs)


@torch.no_grad()
def rounded(attention: SelfAttention, a: Tensor, dtype: torch.dtype) -> float:
    """How far numbers of `dtype` may lead from the exact ones, as `apart` has it.

    Each is right to half its last place, u. Some six roundings follow on one another, to the output or back to W^q; a
    score that is off by u·|α| moves its weight by that share. Sums over up to 49² pairs, kept in float32 at least, add
    their own. Seen on a CPU: half of what is allowed. nan where a score lies so near to 0, where ReLU's slope jumps,
    that rounding may carry it across.
    """
    q, k, _ = attention._ask(a)
    alpha, u = scores(q, k, attention.score, attention.w), torch.finfo(dtype).eps / 2
    seen = alpha if attention.mask is None else alpha[..., attention.mask]
    off = u * (1 + alpha.abs().max().item())
    if attention.weights != "softmax" and seen.abs().min() < 2 * off:
        return math.nan
    return 6 * off + 64 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps


# ---- the sum, the matrices, the module ----


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 2), WORDS, st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32))
def test_module_matrices_and_sum_agree_in_values_and_gradients(score, weights, mask, B, N, heads, d, seed):
    """Of more than 9 tokens, the sum is written out for two."""
    torch.manual_seed(seed)
    attention = made(heads * d, heads, score=score, weights=weights, mask=a_mask(mask, N))
    a, towards = torch.randn(2, B, N, heads * d, dtype=torch.float64)
    asking = torch.randperm(N)[: N if N <= 9 else 2].tolist()
    parts = [
        with_gradients(attention, a, function, towards[:, asking])
        for function in (
            lambda a: written_out(attention, a, asking),
            lambda a: in_matrices(attention, a)[:, asking],
            lambda a: attention(a)[:, asking],
        )
    ]
    assert apart(parts[1], parts[0]) < 1e-10
    assert apart(parts[2], parts[0]) < 1e-10
    wanted = with_gradients(attention, a, lambda a: in_matrices(attention, a), towards)
    assert apart(with_gradients(attention, a, attention, towards), wanted) < 1e-10


def holds_rounded(score: str, weights: str, mask: str, dtype: torch.dtype, device: str, cases: int) -> None:
    """Against float64 on the same, already rounded, weights and tokens, which are as large as in a network."""
    N = 49 if weights == "softmax" else 9  # of more scores one is always too near to 0
    for seed in count():
        torch.manual_seed(seed)
        attention = made(8, 1, score=score, weights=weights, mask=a_mask(mask, N))
        with torch.no_grad():
            for p in attention.parameters():
                p.copy_((0.7 * p).to(dtype))
        a, towards = torch.randn(2, 1, N, 8).to(dtype).double()
        if math.isnan(allowed := rounded(attention, a, dtype)):
            continue
        wanted = with_gradients(attention, a, partial(in_matrices, attention), towards)
        attention.to(device, dtype)
        got = with_gradients(attention, a.to(device, dtype), attention, towards.to(device, dtype))
        assert {part.dtype for part in got} == {dtype}
        if device == "cuda" and dtype == torch.float32:
            allowed = max(allowed, 1e-4)  # fused kernels have faster, rougher exponentials
        assert apart([part.cpu() for part in got], wanted) < allowed
        if (cases := cases - 1) == 0:
            return


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_rounded_numbers_give_nearly_the_same_values_and_gradients(score, weights, mask, dtype):
    holds_rounded(score, weights, mask, dtype, "cpu", cases=4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_gpu_gives_nearly_the_same_values_and_gradients(dtype):
    for (score, weights), mask in product(EVERY_WAY, MASKS):
        holds_rounded(score, weights, mask, dtype, "cuda", cases=2)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("score", "weights"), FUSED)
@pytest.mark.parametrize("N", [1, 9, 49])
def test_the_fused_form_is_taken_where_it_is_allowed_and_changes_nothing(N, score, weights, mask, monkeypatch):
    torch.manual_seed(0)
    attention, calls = made(12, 3, score=score, weights=weights, mask=a_mask(mask, N)), []
    a, fused = torch.randn(2, N, 12, dtype=torch.float64), F.scaled_dot_product_attention

    def unfused(q, k, v, attn_mask, scale):
        calls.append(scale)
        b = weigh(scores(q, k, score), weights, attn_mask) @ v
        assert torch.allclose(fused(q, k, v, attn_mask, scale=scale), b, atol=1e-12)
        return b

    before = attention(a)
    monkeypatch.setattr(F, "scaled_dot_product_attention", unfused)
    assert torch.allclose(attention(a), before, atol=1e-12)
    assert len(calls) == 1


@pytest.mark.parametrize(("score", "weights"), sorted(set(EVERY_WAY) - set(FUSED)))
def test_torchs_fused_form_is_not_asked_for_what_it_cannot_do(score, weights, monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    assert made(4, 2, score=score, weights=weights)(torch.randn(1, 3, 4, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_half_precision_is_near_the_sum(score, weights, mask):
    """bfloat16 keeps 8 bits: each of the sum's steps is right to 0.4 %."""
    torch.manual_seed(1)
    attention = made(8, 2, score=score, weights=weights, mask=a_mask(mask, 9)).requires_grad_(False)
    a = torch.randn(2, 9, 8, dtype=torch.float64)
    wanted = written_out(attention, a)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attention.float()(a.float())
    assert mixed.dtype == torch.bfloat16
    assert 1e-6 < apart([mixed], [wanted]) < 0.05
    assert apart([attention.bfloat16()(a.bfloat16())], [wanted]) < 0.05


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
def test_the_attention_that_is_looked_at_is_the_one_that_makes_the_output(score, weights, mask):
    torch.manual_seed(9)
    attention, a = made(6, 2, score=score, weights=weights, mask=a_mask(mask, 9)), torch.randn(2, 9, 6).double()
    W, bias = projections(attention)[2]
    v = (a @ W.T + bias).unflatten(-1, (2, 3)).transpose(1, 2)
    looked_at = attention.attention(a)
    assert looked_at.shape == (2, 2, 9, 9)
    assert torch.allclose(attention.out((looked_at @ v).transpose(1, 2).flatten(2)), attention(a), atol=1e-12)


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
