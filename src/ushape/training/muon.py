"""Muon: momentum whose update is made orthogonal, so that a step moves every direction of a kernel alike.

A gradient of a convolution has few strong directions and many weak ones, and plain momentum follows the strong ones.
Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the singular values of the momentum by
about one. A U-Net learns more with it in the same minutes (docs/results.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonal"]

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Jordan's polynomial: odd, steep at zero, and within 0.65 to 1.21 from 0.2 to 1."""
ROUNDS = 3
"""How often it is applied: singular values above a fiftieth of the norm become about one. Five are usual where matrices
are divided by their Frobenius norm, which leaves all values small; the norm used here is closer to the largest."""
MOMENTUM = 0.95
ADAMW_RMS = 0.2
"""The root mean square of an update of AdamW at rate 1, about; Muon's is made the same (Liu et al. 2025,
arXiv:2502.16982), so that one learning rate serves both."""


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The matrix with its singular values brought to about one (0.65 to 1.21), its singular vectors kept.

    The matrix is divided by the fourth root of the sum of the values' fourth powers, which is no less than the largest
    and comes with the first product. Values below a fiftieth of that stay smaller.

    Args:
        matrix: (rows, columns).
        dtype: of the products; nothing here needs precision.
    """
    a, b, c = QUINTIC
    wide = matrix.to(dtype) if len(matrix) <= matrix.shape[1] else matrix.T.to(dtype)
    gram = wide @ wide.T
    largest = gram.norm().clamp(min=1e-20)
    gram, wide = gram / largest, wide / largest.sqrt()
    for round_ in range(ROUNDS):
        gram = wide @ wide.T if round_ else gram
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if len(matrix) <= matrix.shape[1] else wide.T


class Muon(torch.optim.AdamW):
    """Muon for kernels, AdamW for everything else.

    A kernel is the matrix that takes what it looks at to a pixel's channels; one that doubles the resolution takes a
    pixel to its block.

    Args:
        kernels: weights of convolutions, (out, in, *window), or (in, out, *window) of those that double.
        others: all other weights: of normalisation, of the first layer and of the head.
        learning_rate: of both; updates have the same root mean square.
        weight_decay: decoupled, of both.
        dtype: of Muon's products.
    """

    def __init__(
        self,
        kernels: Sequence[Tensor],
        others: Sequence[Tensor],
        learning_rate: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        groups = [{"params": list(others), "kernels": False}, {"params": list(kernels), "kernels": True}]
        super().__init__(groups, learning_rate, weight_decay=weight_decay, fused=True)
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step; the kernels' gradients are used up."""
        [group] = [group for group in self.param_groups if group["kernels"]]
        for kernel in group["params"]:
            gradient = kernel.grad
            if gradient is None:
                continue
            state = self.state[kernel]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(kernel)
            momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
            ahead = gradient.lerp(momentum, MOMENTUM).movedim(1, -1)
            update = orthogonal(ahead.flatten(1), self.dtype).reshape(ahead.shape).movedim(-1, 1)
            size = ADAMW_RMS * math.sqrt(max(len(ahead), ahead[0].numel()))
            kernel.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"] * size)
            # AdamW passes over what has no gradient.
            kernel.grad = None
        super().step()
