"""Self-attention as the lecture note writes it: q = W^q a, k = W^k a, v = W^v a; b^i = Σ_j softmax_j(q^i · k^j) v^j.

Shapes: B images, N words, D numbers a word, h heads of d = D / h numbers.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017): (B, N, D) -> (B, N, D).

    Every word looks at every word, itself included. The only things learned are W^q, W^k, W^v (one matrix, `qkv`) and
    W^O (`out`). The score is the dot product divided by √d. Words have no positions here: permuting them permutes the
    output. Raises ValueError where the heads do not divide D.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, a: Tensor) -> Tensor:
        B, N, D = a.shape
        q, k, v = self.qkv(a).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # each (B, h, N, d)
        b = F.scaled_dot_product_attention(q, k, v)  # each head talks only to itself
        return self.out(b.transpose(1, 2).reshape(B, N, D))  # concatenate the heads, then W^O
