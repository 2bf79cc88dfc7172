"""The networks that a study can name and their options, from a weak to a strong inductive bias.

The defaults are matched dimensions: 0.44 to 0.53 M parameters and 7.5 to 11.5 M MACs at 16 tokens of the ViT's; but
`cnn-attention` (the CNN's grid: 141 M MACs) and `linear`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from vitcnn.errors import Frozen, Positive

BLOCKS = 1000  # the deepest published attention networks have 1,000 layers (Wang et al. 2022, DeepNet)
Depth = Annotated[int, Field(gt=0, le=BLOCKS)]
Several = Annotated[tuple[Positive, ...], Field(min_length=1)]  # one a stage
Depths = Annotated[Several, AfterValidator(lambda depths: few(depths))]
Rate = Annotated[float, Field(ge=0, lt=1)]


def few(depths: tuple[int, ...]) -> tuple[int, ...]:
    """Raises ValueError if there are more than `BLOCKS` blocks in all."""
    if sum(depths) > BLOCKS:
        raise ValueError(f"{sum(depths):,} blocks in all; use at most {BLOCKS:,}")
    return depths


class TokenArch(Frozen):
    """What all networks over a sequence of patches have: an embedding, `depth` blocks of mixing and MLP, a mean."""

    width: Positive = 96
    depth: Depth = 4
    patch_size: Positive = 16
    image_size: Positive | None = None  # None: the smallest that covers the image, has 4×4 tokens and whole patches
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    drop_path: Rate = 0.0


class Mixer(TokenArch):
    """Fully connected over the sequence (MLP-Mixer, Tolstikhin et al. 2021). timm's: `drop_path` is the same in every
    block."""

    name: Literal["mixer"] = "mixer"
    depth: Depth = 6
    token_ratio: Annotated[float, Field(gt=0)] = 0.5  # hidden numbers of the layer over tokens, in widths


class RNN(TokenArch):
    """A bidirectional LSTM over the tokens, row by row, where a ViT has attention (Hochreiter & Schmidhuber 1997)."""

    name: Literal["rnn"] = "rnn"
    mlp_ratio: Annotated[float, Field(gt=0)] = 3.0


class ViT(TokenArch):
    """Patch-based Vision Transformer (Dosovitskiy et al. 2021): 16×16 patches as words."""

    name: Literal["vit"] = "vit"
    heads: Positive = 3
    positions: Literal["learned", "sinusoidal", "sinusoidal-1d", "none"] = "learned"  # sinusoidal: of row and column
    score: Literal["scaled", "dot", "additive"] = "scaled"
    weights: Literal["softmax", "relu", "relu/n"] = "softmax"


class ViTWindow(ViT):
    """The same ViT, but each token sees only the `window` × `window` tokens around it."""

    name: Literal["vit-window"] = "vit-window"
    window: Positive = 3

    @field_validator("window")
    @classmethod
    def _has_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"a window needs a token in the middle, so an odd size, not {value}")
        return value


class Hybrid(ViT):
    """Convolutions, then attention: the patch embedding is a stem of 3×3 convolutions (Xiao et al. 2021)."""

    name: Literal["hybrid"] = "hybrid"


class Swin(Frozen):
    """Self-attention inside windows (Swin, Liu et al. 2021), which shift in every second block of a stage.

    On images up to 32 pixels, 8×8 tokens, the default's first stage is one block in fixed windows of 4×4 tokens; its
    second has two blocks on the 4×4 joined tokens, which are one window. `depths: [2, 2]` has a shifted block too.
    """

    name: Literal["swin"] = "swin"
    width: Positive = 60
    depths: Depths = (1, 2)
    heads: Several = (2, 4)
    window: Positive = 4
    patch_size: Positive = 8
    image_size: Positive | None = None  # None: the ViT's
    drop_path: Rate = 0.0


class CNN(Frozen):
    """Residual convolutional network (He et al. 2016)."""

    name: Literal["cnn"] = "cnn"
    channels: Several = (16, 48, 192)
    blocks: Depths = (1, 1, 1)
    stem_stride: Literal[1, 2] = 2
    image_size: Positive | None = None  # None: half the ViT's, so that both have the same grid


class SASA(CNN):
    """The CNN with attention over each pixel's 5×5 neighbourhood in place of its blocks' convolutions (Ramachandran et
    al. 2019)."""

    name: Literal["sasa"] = "sasa"
    channels: Several = (16, 48, 352)
    window: Positive = 5
    head_width: Positive = 16

    _has_a_middle = field_validator("window")(ViTWindow._has_a_middle.__func__)


class CNNAttention(CNN):
    """The CNN with every convolution rewritten as self-attention and then set free (Cordonnier et al. 2020; the gate
    is ConViT's, d'Ascoli et al. 2021): σ(gate) of a head's attention is where its convolution looked, the rest is by
    content. With `init_from: cnn` it starts from that trained CNN."""

    name: Literal["cnn-attention"] = "cnn-attention"
    gate: float = 4.0
    sharpness: Annotated[float, Field(gt=0)] = 4.0
    head_width: Positive = 8


class Linear(Frozen):
    """Logistic regression on pixels, the baseline. Each C is fitted; the best on validation is kept."""

    name: Literal["linear"] = "linear"
    C: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
        1e-3,
        1e-2,
        1e-1,
        1.0,
        10.0,
        100.0,
        1000.0,
    )


class InputSpec(Frozen):
    """The network's input size in pixels; tokens of its first layer (None: no tokens), and native pixels along a
    token."""

    image_size: int
    tokens: int | None = None
    native_pixels_per_token: float | None = None
