"""The U-Net as a classifier: its features, averaged over the image, and one linear layer.

    features (B, C, *size) -> global average pooling (B, C) -> linear -> logits (B, K)

The features are those of the decoder's last level, which a segmentation reads its pixels from, or those of the bottom,
which have seen most of the image. The body is `UNet` itself, so weights go from a segmenter to a classifier and back.

Conventions: images are (B, C, H, W) or (B, C, D, H, W), of any size: what the poolings cannot halve is padded with
zeros at the far end, as in a padded U-Net. Convolutions are always padded here: there is no border to be exact about.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from ushape.errors import RecipeError, SizeError
from ushape.network.unet import Norm, UNet

__all__ = ["Classifier", "Head", "depth_for"]

Head = Literal["decoder", "bottom"]

SMALLEST_BOTTOM = 3.5
"""Pixels along a side that the bottom should still have: 28 px at depth 3 and scale 2."""
MOST_LEVELS = 5


def depth_for(size: tuple[int, ...], scale: int = 1) -> int:
    """How many levels suit images of this size: as many as leave the bottom 3.5 px a side; 2 to 5."""
    halvings = math.floor(math.log2(max(1, min(size) / scale / SMALLEST_BOTTOM)))
    return min(MOST_LEVELS, max(2, 1 + halvings))


class Classifier(nn.Module):
    """U-Net features, global average pooling, linear; see the module's docstring.

    in_channels  channels of the image
    n_classes    logits
    channels     features at the first level; each level below has twice as many
    depth        number of levels
    norm         between convolution and ReLU
    dropout      rate after the last two blocks of the contracting path, and in front of the linear layer
    dims         2 for images, 3 for volumes
    scale        working scale, as in `UNet`: blocks of scale^dims pixels are folded into channels first
    head         `decoder` reads the last level of the expansive path, `bottom` the bottom, without an expansive path
    """

    def __init__(
        self,
        in_channels: int = 1,
        n_classes: int = 10,
        channels: int = 32,
        depth: int = 3,
        norm: Norm = "batch",
        dropout: float = 0.0,
        dims: int = 2,
        scale: int = 1,
        head: Head = "decoder",
    ) -> None:
        super().__init__()
        if head not in get_args(Head):
            raise RecipeError(f"expected head to be one of {get_args(Head)}, found {head!r}; choose one of them")
        self.settings: dict[str, Any] = {
            "in_channels": in_channels,
            "n_classes": n_classes,
            "channels": channels,
            "depth": depth,
            "norm": norm,
            "dropout": dropout,
            "dims": dims,
            "scale": scale,
            "head": head,
        }
        self.unet = UNet(in_channels, n_classes, channels, depth, "same", norm, dropout, dims, scale)
        # What answers for every pixel, and for the bottom the whole way up, would be weights without any use.
        self.unet.head = nn.Identity()
        if head == "bottom":
            self.unet.up = nn.ModuleList()
        self.dropout = nn.Dropout(dropout)
        n_features = channels if head == "decoder" else channels * 2 ** (depth - 1)
        self.linear = nn.Linear(n_features, n_classes)
        nn.init.normal_(self.linear.weight, std=math.sqrt(1 / n_features))
        nn.init.zeros_(self.linear.bias)
        self.in_channels, self.n_classes, self.dims, self.head = in_channels, n_classes, dims, head
        self.geometry = self.unet.geometry

    def pooled(self, images: Tensor) -> Tensor:
        """(B, in_channels, *size) -> (B, n_features): what the linear layer sees."""
        size = images.shape[2:]
        if images.ndim != self.dims + 2 or images.shape[1] != self.in_channels:
            axes = "(B, C, H, W)" if self.dims == 2 else "(B, C, D, H, W)"
            raise SizeError(
                f"expected a tensor {axes} with C = {self.in_channels}, found shape {tuple(images.shape)}; "
                "add the batch axis, or build the network with the image's number of channels"
            )
        missing = [self.geometry.legal_at_least(int(n)) - int(n) for n in size]
        if any(missing):
            images = F.pad(images, [side for extra in reversed(missing) for side in (0, extra)])
        return self.averaged(images)

    def averaged(self, images: Tensor) -> Tensor:
        """`pooled` of images of a legal size, without checks."""
        maps = self.unet.contract(images)[1] if self.head == "bottom" else self.unet.features(images)[-1]
        return maps.mean(dim=tuple(range(2, maps.ndim)))

    def core(self, images: Tensor) -> Tensor:
        """Logits for images of a legal size, without checks: the graph to compile or to export."""
        return cast(Tensor, self.linear(self.dropout(self.averaged(images))))

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, *size) -> logits (B, n_classes)."""
        return cast(Tensor, self.linear(self.dropout(self.pooled(images))))
