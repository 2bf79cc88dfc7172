"""Attention is the lecture note's: in torch's fused form, in matrices, and written out as the sum that it is."""

import math
from functools import partial
from itertools import count, product

import pytest
import torch
import torch.nn.functional as F
from attending import EVERY_WAY, MASKS, WORDS, a_mask, made, projections
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitcnn.models.attention import SelfAttention, scores, weigh

FUSED = [(score, weights) for score, weights in EVERY_WAY if weights == "softmax" and score != "additive"]


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
    q, k, _ = attention._project(a)
    alpha, u = scores(q, k, attention.score, attention.w), torch.finfo(dtype).eps / 2
    seen = alpha if attention.mask is None else alpha[..., attention.mask]
    off = u * (1 + alpha.abs().max().item())
    if attention.weights != "softmax" and seen.abs().min() < 2 * off:
        return math.nan
    return 6 * off + 64 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps


# ---- the sum, the matrices, the module ----


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("score", "weights"), EVERY_WAY)
@settings(max_examples=6, deadline=None)
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
