"""Local-window self-attention: timm's Swin Transformer (Liu et al. 2021), in a small size."""

from timm.models.swin_transformer import SwinTransformer
from torch import nn


def swin(
    *,
    image_size: int,
    patch_size: int,
    channels: int,
    classes: int,
    width: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    window: int,
    drop_path: float,
) -> nn.Module:
    """(B, C, S, S) -> logits (B, classes). Tokens see only their own window; every second block of a stage shifts the
    windows, so that a stage of one block has them fixed.

    Each stage after the first joins 2×2 tokens and doubles the width. A stage whose grid is no larger than the window
    is attention over everything. Where windows do not divide a grid, zeros fill them up, which timm's unshifted blocks
    attend to as to tokens. Raises ValueError if tokens or heads do not come out whole.
    """
    if len(depths) != len(heads):
        raise ValueError(f"{len(depths)} depths and {len(heads)} heads: one of each per stage")
    if image_size % (patch_size * 2 ** (len(depths) - 1)):
        raise ValueError(
            f"an image of {image_size} pixels cannot be cut into {patch_size}×{patch_size} tokens "
            f"and halved {len(depths) - 1} times"
        )
    for stage, h in enumerate(heads):
        if width * 2**stage % h:
            raise ValueError(f"{h} heads do not divide the width {width * 2**stage} of stage {stage + 1}")
    return SwinTransformer(
        img_size=image_size,
        patch_size=patch_size,
        in_chans=channels,
        num_classes=classes,
        embed_dim=width,
        depths=depths,
        num_heads=heads,
        window_size=window,
        drop_path_rate=drop_path,
    )
