"""Several U-Nets that answer as one.

Networks that were trained with different seeds err in different places, so that the mean of their answers is a little
better than one of them, on average, and takes as many times as long. What is averaged are logits: of two classes the
log-odds, which of probabilities makes the geometric mean.

Conventions: those of `ushape.network.unet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ushape.errors import RecipeError
from ushape.network.unet import UNet

__all__ = ["Ensemble"]


class Ensemble(nn.Module):
    """The mean of several U-Nets' logits; see the module.

    networks  of the same settings and geometry, one or more; RecipeError otherwise
    """

    def __init__(self, networks: Sequence[UNet]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        if not networks or any(
            (each.settings, each.geometry) != (self.first.settings, self.first.geometry) for each in networks
        ):
            raise RecipeError(
                f"expected one or more networks of the same settings, found {[each.settings for each in networks]}; "
                "train them by one recipe"
            )
        first = self.first
        self.geometry, self.dims = first.geometry, first.dims
        self.in_channels, self.n_classes = first.in_channels, first.n_classes
        # In the mode of what it is made of, to which an engine sets them back.
        self.training = self.networks.training = first.training

    @property
    def first(self) -> UNet:
        """The network that speaks for all where they are alike."""
        return cast(UNet, self.networks[0])

    @property
    def settings(self) -> dict[str, Any]:
        """Those of each network, and how many there are."""
        return {**self.first.settings, "members": len(self.networks)}

    def core(self, images: Tensor) -> Tensor:
        """Logits for images of a legal size, without checks: the graph to compile or to export."""
        return torch.stack([cast(UNet, each).core(images) for each in self.networks]).mean(dim=0)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, *size) -> logits (B, n_classes, *out); SizeError as from each network."""
        return torch.stack([each(images) for each in self.networks]).mean(dim=0)

    def check(self, images: Tensor) -> None:
        """SizeError unless `images` is (B, in_channels, *size) of a legal size."""
        self.first.check(images)
