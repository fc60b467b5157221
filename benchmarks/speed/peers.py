"""The networks that a step is compared with, at matched widths: `channels` at the first level, doubled at each level.

The plain loop is written here as most repositories write a U-Net: one class per block, default memory format, float32,
the framework's own optimiser and loss. The others are imported late, so that one that is not installed is a row that
says so. They pad their convolutions and normalise, so that they compute something else than the paper's network and
answer more pixels per tile; hence operations and parameters are told beside the times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["PEERS", "Peer", "TextbookUNet"]


def double_convolution(n_in: int, n_out: int, padded: bool) -> nn.Sequential:
    """Two 3x3 convolutions with ReLU; padded ones with batch normalisation."""
    layers: list[nn.Module] = []
    for first in (n_in, n_out):
        layers.append(nn.Conv2d(first, n_out, 3, padding=1 if padded else 0, bias=not padded))
        layers += [nn.BatchNorm2d(n_out)] if padded else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class TextbookUNet(nn.Module):
    """The U-Net as tutorials have it.

    padded  zeros around, with batch normalisation, as most do; or neither, as in the paper
    """

    def __init__(self, n_in: int = 1, n_classes: int = 2, channels: int = 64, depth: int = 5, *, padded: bool) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(depth)]
        pairs = list(pairwise(widths))
        self.encoders = nn.ModuleList(
            double_convolution(first, last, padded) for first, last in [(n_in, widths[0]), *pairs]
        )
        self.raisers = nn.ModuleList(nn.ConvTranspose2d(last, first, 2, 2) for first, last in reversed(pairs))
        self.decoders = nn.ModuleList(double_convolution(last, first, padded) for first, last in reversed(pairs))
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(channels, n_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_classes, *out)."""
        skips: list[Tensor] = []
        maps = images
        for encoder in self.encoders:
            maps = encoder(self.pool(maps) if skips else maps)
            skips.append(maps)
        for raiser, decoder, skip in zip(self.raisers, self.decoders, reversed(skips[:-1]), strict=True):
            maps = raiser(maps)
            top, left = ((skip.shape[axis] - maps.shape[axis]) // 2 for axis in (2, 3))
            cut = skip[:, :, top : top + maps.shape[2], left : left + maps.shape[3]]
            maps = decoder(torch.cat([cut, maps], dim=1))
        return self.head(maps)


def monai_basic(channels: int) -> nn.Module:
    """MONAI's BasicUNet, as its documentation calls it; its last number is the width behind the last raise."""
    from monai.networks.nets import BasicUNet

    widths = [channels * 2**level for level in range(5)]
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=(*widths, channels))


def monai_dynamic(channels: int) -> nn.Module:
    """MONAI's DynUNet: nnU-Net's architecture, five levels; its supervision at several levels is off by default."""
    from monai.networks.nets import DynUNet

    widths = [channels * 2**level for level in range(5)]
    strides = [1, 2, 2, 2, 2]
    return DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        kernel_size=[3] * 5,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=widths,
    )


def nnunet_plain(channels: int) -> nn.Module:
    """nnU-Net's PlainConvUNet, with the layers that nnU-Net's plans give it."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(
        input_channels=1,
        n_stages=5,
        features_per_stage=[channels * 2**level for level in range(5)],
        conv_op=nn.Conv2d,
        kernel_sizes=3,
        strides=[1, 2, 2, 2, 2],
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
    )


def smp_unet(channels: int) -> nn.Module:
    """segmentation_models.pytorch's Unet with its default encoder (resnet34, not pretrained); its width is fixed."""
    import segmentation_models_pytorch as smp

    return smp.Unet(encoder_name="resnet34", encoder_weights=None, in_channels=1, classes=2)


@dataclass(frozen=True)
class Peer:
    """A network of others: from channels to network. Sides of its images are multiples of `stride`."""

    name: str
    build: Callable[[int], nn.Module]
    stride: int = 16


PEERS = (
    Peer("MONAI BasicUNet", monai_basic),
    Peer("MONAI DynUNet", monai_dynamic),
    Peer("nnU-Net PlainConvUNet", nnunet_plain),
    Peer("smp Unet (resnet34)", smp_unet, 32),
)
