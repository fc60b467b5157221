"""A U-Net with some of its skip connections cut, for as long as a `with` block lasts.

    with without_skips(model.network, 0):
        prediction = model.predict(image)       # evaluates without the skip of the first level

The weights stay as they were trained, with the skip. So what is lost shows what this network relies on, and not how
well one would do that had been trained without: that one would have learnt to live without it.

Conventions: a skip is named by its level, 0 at full resolution; there are depth - 1 of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ushape.errors import RecipeError
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet

__all__ = ["Filling", "n_skips", "without_skips"]

Filling = Literal["zero", "mean"]
"""What stands in for a skip: zeros, or the mean of each of its channels over the map that is read (of a tile, where
an image is predicted by tiles). The mean keeps how strong a channel is and loses where; it disturbs less."""


def n_skips(network: UNet | Classifier) -> int:
    """How many skips there are; none where a classifier reads the bottom."""
    return len((network.unet if isinstance(network, Classifier) else network).up)


@contextmanager
def without_skips(network: UNet | Classifier, levels: int | Iterable[int], filling: Filling = "zero") -> Iterator[None]:
    """Cut the skips of these levels inside the `with` block; RecipeError for one that is not there."""
    body = network.unet if isinstance(network, Classifier) else network
    wanted = [levels] if isinstance(levels, int) else list(levels)
    n = len(body.up)
    if filling not in get_args(Filling):
        raise RecipeError(f"expected a skip to be filled by {get_args(Filling)}, found {filling!r}; choose one of them")
    for level in wanted:
        if not 0 <= level < n:
            there = f"one of 0 to {n - 1}" if n else "none, because this network has no way up"
            raise RecipeError(f"expected the level of a skip connection, {there}, found {level}; choose another")
    # The first of the ups is the deepest.
    hooks = [body.up[n - 1 - level].register_forward_pre_hook(partial(_fill, filling)) for level in wanted]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _fill(filling: Filling, module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The inputs of an `Up`, the second one without what it told."""
    below, skip = inputs
    if filling == "zero":
        return below, torch.zeros_like(skip)
    return below, skip.mean(dim=tuple(range(2, skip.ndim)), keepdim=True).expand_as(skip)
