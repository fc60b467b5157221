"""How much a network computes: operations of its convolutions and matrix products, counted without computing them.

Two operations for each multiply-add, as torch's own counter (`torch.utils.flop_counter`) has them; normalisation,
activations, pooling and the optimiser count nothing, as in the ceilings. A backward pass counts what torch computes:
the gradient of the weights and that of the inputs, except that of the image. The network is copied to the device
`meta`, where tensors have shapes and no numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["count_operations", "count_parameters"]


def first_of(answer: Tensor | Sequence[Tensor]) -> Tensor:
    """The network's answer, of those that give several the first, at full size."""
    return answer if isinstance(answer, Tensor) else answer[0]


def count_operations(network: nn.Module, shape: Sequence[int], *, backward: bool) -> int:
    """Operations of a forward pass of images of this shape (B, C, H, W); with `backward` of a training step."""
    copy = deepcopy(network).to("meta").train(backward)
    images = torch.empty(tuple(shape), device="meta")
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        answer = first_of(copy(images))
        if backward:
            answer.sum().backward()
    return int(counter.get_total_flops())


def count_parameters(network: nn.Module) -> int:
    """Numbers that are learnt."""
    return sum(parameter.numel() for parameter in network.parameters())
