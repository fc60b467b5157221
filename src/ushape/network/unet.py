"""The whole U-Net in one file, ground up, for images and volumes.

    image ── down 0 ───────────── skip ─────────────► up 0 ── head ── logits
               └─ pool ─ down 1 ─ skip ─► up 1 ─ up-conv ─┘
                           └─ pool ─ bottom ─ up-conv ─┘

`UNet()` is the network of Ronneberger, Fischer and Brox (2015): five levels, 64 to 1024 channels, convolutions
without padding, 572x572 in and 388x388 out (PAPER P1-P9; the numbers in the comments below). Two numbers make any
other one: `channels` at the first level and `depth`.

Conventions: tensors are (B, C, *size); size is (height, width) or (depth, height, width). The network returns
logits. Which sizes are legal, what is lost at the border and how far a pixel sees is integer arithmetic and lives in
`ushape.geometry`; it is checked before the graph, so that the graph itself is free of checks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ushape.errors import RecipeError, SizeError
from ushape.geometry import Geometry, Padding

__all__ = ["Block", "Norm", "UNet", "Up", "crop_to_centre", "fold", "unfold"]

Norm = Literal["none", "batch", "instance", "group"]

CONVOLUTION: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
UP_CONVOLUTION: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

POOL = {2: F.max_pool2d, 3: F.max_pool3d}

GROUP_SIZE = 8
"""Channels that share one mean and variance under group normalisation."""


def fold(images: Tensor, scale: int) -> Tensor:
    """Blocks of scale^dims pixels become channels: (B, C, *size) -> (B, C * scale^dims, *(size / scale))."""
    if scale == 1:
        return images
    batch, channels, *size = images.shape
    dims = len(size)
    split = [part for n in size for part in (n // scale, scale)]
    blocks = images.reshape(batch, channels, *split)
    order = [0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)]
    return blocks.permute(order).reshape(batch, channels * scale**dims, *(n // scale for n in size))


def unfold(maps: Tensor, scale: int) -> Tensor:
    """The inverse of `fold`: (B, C * scale^dims, *size) -> (B, C, *(size * scale))."""
    if scale == 1:
        return maps
    batch, folded, *size = maps.shape
    dims = len(size)
    channels = folded // scale**dims
    blocks = maps.reshape(batch, channels, *[scale] * dims, *size)
    order = [0, 1, *(axis for d in range(dims) for axis in (2 + dims + d, 2 + d))]
    return blocks.permute(order).reshape(batch, channels, *(n * scale for n in size))


def crop_to_centre(skip: Tensor, size: Sequence[int]) -> Tensor:
    """The centre of a skip, cut to `size` on its spatial axes; what P2 concatenates.

    Negative padding rather than a view: the gradient of a view has the channels first whatever the skip
    has, and adding it to one with the channels last took a seventh of a training step (docs/performance.md).
    """
    margins = [(have - want) // 2 for have, want in zip(skip.shape[2:], size, strict=True)]
    ends = [have - want - margin for have, want, margin in zip(skip.shape[2:], size, margins, strict=True)]
    if not any(margins) and not any(ends):
        return skip
    return F.pad(skip, [-n for pair in zip(reversed(margins), reversed(ends), strict=True) for n in pair])


def normalisation(norm: Norm, channels: int, dims: int) -> list[nn.Module]:
    """The layers between a convolution and its ReLU; none in the paper (P9)."""
    if norm == "batch":
        return [BATCH_NORM[dims](channels)]
    if norm == "instance":
        return [INSTANCE_NORM[dims](channels, affine=True)]
    if norm == "group":
        return [nn.GroupNorm(math.gcd(channels, max(1, channels // GROUP_SIZE)), channels)]
    return []


class Block(nn.Sequential):
    """Two 3x3 convolutions, each followed by a ReLU (P1); dropout at the end where a rate is given (P8)."""

    def __init__(
        self, in_channels: int, channels: int, dims: int, padding: Padding, norm: Norm, dropout: float = 0.0
    ) -> None:
        layers: list[nn.Module] = []
        for n_in in (in_channels, channels):
            # A bias in front of a normalisation would be subtracted again.
            pad, bias = (1 if padding == "same" else 0), norm == "none"
            layers.append(CONVOLUTION[dims](n_in, channels, kernel_size=3, padding=pad, bias=bias))
            layers.extend(normalisation(norm, channels, dims))
            layers.append(nn.ReLU(inplace=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


class Up(nn.Module):
    """A 2x2 up-convolution that halves the channels, the cropped skip in front of it, then a block (P2)."""

    def __init__(self, in_channels: int, channels: int, dims: int, padding: Padding, norm: Norm) -> None:
        super().__init__()
        self.up_convolution = UP_CONVOLUTION[dims](in_channels, channels, kernel_size=2, stride=2)
        self.block = Block(2 * channels, channels, dims, padding, norm)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """(B, 2C, *size) from below and (B, C, *larger) from the left -> (B, C, *out)."""
        raised = self.up_convolution(below)
        return cast(Tensor, self.block(torch.cat([crop_to_centre(skip, raised.shape[2:]), raised], dim=1)))


class UNet(nn.Module):
    """The U-Net. `UNet()` is the paper's; see the module's docstring for conventions.

    in_channels  channels of the image
    n_classes    channels of the output (one logit per class and pixel)
    channels     features at the first level; each level below has twice as many (P1)
    depth        number of levels; there are depth - 1 poolings (P1)
    padding      `valid`: the paper's, the border is lost; `same`: zeros around every convolution
    norm         between convolution and ReLU; `none` in the paper (P9)
    dropout      rate after the last two blocks of the contracting path (P8)
    dims         2 for images, 3 for volumes
    scale        working scale: blocks of scale^dims pixels are folded into channels first and unfolded last, so that
                 the network works on a coarser grid and still answers for every pixel; 1 in the paper
    """

    def __init__(
        self,
        in_channels: int = 1,
        n_classes: int = 2,
        channels: int = 64,
        depth: int = 5,
        padding: Padding = "valid",
        norm: Norm = "none",
        dropout: float = 0.5,
        dims: int = 2,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "in_channels": in_channels,
            "n_classes": n_classes,
            "channels": channels,
            "depth": depth,
            "padding": padding,
            "norm": norm,
            "dropout": dropout,
            "dims": dims,
            "scale": scale,
        }
        check_settings(**self.settings)
        self.geometry = Geometry(depth=depth, padding=padding, scale=scale)
        self.in_channels, self.n_classes, self.dims, self.scale = in_channels, n_classes, dims, scale

        widths = [channels * 2**level for level in range(depth)]
        inputs = [in_channels * scale**dims, *widths]
        # The authors' release drops out after levels 4 and 5 of 5: the last two, at any depth.
        rates = [dropout if level >= depth - 2 else 0.0 for level in range(depth)]
        self.down = nn.ModuleList(
            Block(inputs[level], widths[level], dims, padding, norm, rates[level]) for level in range(depth - 1)
        )
        self.bottom = Block(inputs[depth - 1], widths[-1], dims, padding, norm, rates[-1])
        self.up = nn.ModuleList(
            Up(widths[level + 1], widths[level], dims, padding, norm) for level in reversed(range(depth - 1))
        )
        self.head = CONVOLUTION[dims](channels, n_classes * scale**dims, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every weight from N(0, 2 / N), N = incoming nodes of one neuron, and set every bias to 0 (P7).

        Through an up-convolution of kernel 2 and stride 2 each output pixel sees one input pixel, so there N is the
        number of input channels; `torch.nn.init.kaiming_normal_` would take another.
        """
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                incoming = module.in_channels * math.prod(module.kernel_size)
            elif isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
                incoming = module.in_channels
            else:
                continue
            nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def contract(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The way down: the skips, from the first level on, and the bottom's feature maps."""
        skips: list[Tensor] = []
        maps = fold(images, self.scale)
        for block in self.down:
            maps = block(maps)
            skips.append(maps)
            maps = POOL[self.dims](maps, 2)
        return skips, cast(Tensor, self.bottom(maps))

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps from the bottom up: [bottom, up ..., up at the first level], each (B, C, *size).

        `images` must have a legal size; `forward` is the entrance that checks.
        """
        skips, bottom = self.contract(images)
        levels = [bottom]
        for up, skip in zip(self.up, reversed(skips), strict=True):
            levels.append(up(levels[-1], skip))
        return levels

    def core(self, images: Tensor) -> Tensor:
        """Logits for images of a legal size, without checks: the graph to compile or to export."""
        return unfold(self.head(self.features(images)[-1]), self.scale)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, *size) -> logits (B, n_classes, *out).

        A valid network takes legal sizes only and loses a border (out = size - 184 at depth 5); SizeError names the
        nearest legal ones. A padded network takes any size: it pads right and bottom with zeros and crops back.
        """
        size = images.shape[2:]
        if not torch.compiler.is_compiling():
            self.check(images)
        if self.geometry.padding == "valid":
            return self.core(images)
        missing = [self.geometry.legal_at_least(int(n)) - int(n) for n in size]
        if not any(missing):
            return self.core(images)
        padding = [side for extra in reversed(missing) for side in (0, extra)]
        logits = self.core(F.pad(images, padding))
        for axis, n in enumerate(size, start=2):
            logits = logits.narrow(axis, 0, n)
        return logits

    def check(self, images: Tensor) -> None:
        """SizeError unless `images` is (B, in_channels, *size) of a legal size."""
        if images.ndim != self.dims + 2 or images.shape[1] != self.in_channels:
            axes = "(B, C, H, W)" if self.dims == 2 else "(B, C, D, H, W)"
            raise SizeError(
                f"expected a tensor {axes} with C = {self.in_channels}, found shape {tuple(images.shape)}; "
                "add the batch axis, or build the network with the image's number of channels"
            )
        for n in images.shape[2:]:
            self.geometry.output_size(int(n))


def check_settings(**settings: Any) -> None:
    """RecipeError unless the settings describe a network."""
    allowed = {"padding": ("valid", "same"), "norm": ("none", "batch", "instance", "group"), "dims": (2, 3)}
    for name, values in allowed.items():
        if settings[name] not in values:
            raise RecipeError(f"expected {name} to be one of {values}, found {settings[name]!r}; choose one of them")
    for name in ("in_channels", "n_classes", "channels", "depth", "scale"):
        value = settings[name]
        if not isinstance(value, int) or value < 1:
            raise RecipeError(f"expected {name} to be a whole number of at least 1, found {value!r}; change it")
    if not 0 <= settings["dropout"] < 1:
        raise RecipeError(f"expected dropout to lie in 0 <= rate < 1, found {settings['dropout']!r}; change it")
