"""What a token knows of the others on each rung of the ladder: by positions, window, mixer, recurrence, convolution."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from ladder import influence, permuted, pictures, ready
from torch import Tensor, nn

from vitcnn.models.attention import window_mask
from vitcnn.models.config import RNN, Hybrid, Mixer, ViT, ViTWindow
from vitcnn.models.vit import Recurrence


@pytest.mark.parametrize("options", [{}, {"score": "additive"}, {"weights": "relu/n"}], ids=str)
def test_a_vit_without_positions_cannot_tell_the_order_of_its_tokens(options):
    arch = ViT(positions="none", depth=2, **options)
    network, images, order = ready(arch), pictures(arch), torch.randperm(16)
    with torch.no_grad():
        moved = permuted(images, order)
        assert not torch.equal(moved, images)
        assert torch.allclose(network(moved), network(images), atol=1e-5)
        flipped = network(images.flip(-1)) - network(images)  # the pixels in a token, however, are not free
        assert flipped.abs().max() > 1e-3


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "sinusoidal-1d"])
def test_tokens_and_positions_permuted_together_change_nothing_and_either_alone_does(positions):
    arch = ViT(positions=positions, depth=2)
    network, images = ready(arch), pictures(arch)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, tokens_alone = network(images), network(permuted(images, order))
        network.positions.copy_(network.positions[order].clone())
        both, positions_alone = network(permuted(images, order)), network(images)
    assert torch.allclose(both, before, atol=1e-5)
    assert (tokens_alone - before).abs().max() > 1e-3
    assert (positions_alone - before).abs().max() > 1e-3


# ---- vit-window ----


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 7), st.integers(1, 3), st.sampled_from([1, 3, 5]), st.integers(0, 48))
def test_a_window_lets_a_token_see_as_far_as_depth_times_reach(grid, depth, window, at):
    arch = ViTWindow(width=12, depth=depth, window=window, patch_size=2, image_size=2 * grid)
    i = at % grid**2
    sees = influence(ready(arch).blocks, torch.randn(1, grid**2, 12), i) > 0
    assert torch.equal(sees, window_mask(grid, 2 * depth * (window // 2) + 1)[i])


def test_a_window_over_the_whole_grid_is_the_vit():
    network, vit, images = ready(ViTWindow(window=7)), ready(ViT(), seed=1), pictures(ViT())
    vit.load_state_dict(network.state_dict())
    narrow = ready(ViTWindow(window=5), seed=1)
    narrow.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.allclose(network(images), vit(images), atol=1e-5)
        assert not torch.allclose(narrow(images), vit(images), atol=1e-4)


# ---- mixer ----


def test_a_mixers_weights_between_tokens_are_the_same_whatever_the_tokens_say_and_attentions_are_not():
    """Without its nonlinearity the mixing of tokens is one matrix (N, N) for every image and every channel."""
    mixing = ready(Mixer()).blocks[0].mlp_tokens.double()  # (B, D, N) -> same
    mixing.act = nn.Identity()
    attention = ready(ViT(positions="none")).blocks[0].attention.double()
    (a, b), nothing = torch.randn(2, 1, 16, 96).double(), torch.zeros(1, 16, 96).double()

    def mixed(tokens: Tensor) -> Tensor:
        return mixing(tokens.transpose(1, 2)).transpose(1, 2)

    with torch.no_grad():
        for mix, adds_up in ((mixed, True), (attention, False)):
            assert torch.allclose(mix(a + b), mix(a) + mix(b) - mix(nothing), atol=1e-10) == adds_up
        constant = mixed(nothing)
        matrix = mixed(torch.eye(16).double()[None]) - constant[..., :16]
        assert torch.allclose(mixed(a), constant + matrix @ a, atol=1e-10)


def test_a_mixer_mixes_each_channel_of_the_tokens_alone_and_reaches_every_token():
    mixing, tokens = ready(Mixer()).blocks[0].mlp_tokens, torch.randn(1, 96, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixing(tokens)[0, 5].square().sum(), tokens)
    assert gradient[0, 5].all()
    gradient[0, 5] = 0
    assert not gradient.any()


# ---- rnn ----


def test_each_direction_of_the_rnn_sees_what_came_before_it():
    """Half of token i's numbers depend on exactly the tokens up to i, row by row; the other half on those from i on."""
    torch.manual_seed(0)
    recurrence, tokens = Recurrence(12), torch.randn(1, 9, 12)
    for i in range(9):
        assert (influence(lambda x: recurrence(x)[..., :6], tokens, i) > 0).tolist() == [j <= i for j in range(9)]
        assert (influence(lambda x: recurrence(x)[..., 6:], tokens, i) > 0).tolist() == [j >= i for j in range(9)]


def test_the_rnn_reads_tokens_row_by_row_and_so_knows_their_order():
    network, images = ready(RNN()), pictures(RNN())
    rows, columns = torch.arange(16), torch.arange(16).view(4, 4).T.flatten()
    with torch.no_grad():
        assert torch.equal(permuted(images, rows), images)
        assert (network(permuted(images, columns)) - network(images)).abs().max() > 1e-3
    seen = []
    network.blocks[0].attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
        tokens = (
            F.unfold(images, 16, stride=16).transpose(1, 2) @ network.embed.weight.flatten(1).T + network.embed.bias
        )
        assert torch.allclose(seen[0], network.blocks[0].norm1(tokens), atol=1e-4)


# ---- hybrid ----


@pytest.mark.parametrize(("kind", "before"), [(ViT, 0), (Hybrid, 15)])
def test_a_vits_tokens_end_at_their_borders_and_a_hybrids_reach_into_the_tokens_before_them(kind, before):
    """Four 3×3 convolutions of stride 2 look at 31 pixels a side: 15 of the token before, and all of its own."""
    network = ready(kind())
    for row, column in product(range(4), repeat=2):
        images = torch.randn(8, 3, 64, 64, requires_grad=True)  # several: a ReLU may be off
        (gradient,) = torch.autograd.grad(network.embed(images)[:, :, row, column].square().sum(), images)
        ys, xs = gradient.abs().amax((0, 1)).nonzero().T
        for place, pixels in ((row, ys), (column, xs)):
            assert (pixels.min(), pixels.max()) == (max(0, 16 * place - before), 16 * place + 15)
