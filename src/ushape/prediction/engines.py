"""One call to run a network: an array in, probabilities out.

An engine is a function from tiles (B, C, *read) to maps (B, K, *out): class probabilities that sum to 1, then, where
the encoding has one, the distance in [0, 1]. Averages over tiles' symmetries are therefore averages of probabilities.
Of a classifier it is a function from images (B, C, *size) to probabilities (B, K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ushape.network.classifier import Classifier
from ushape.network.ensemble import Ensemble
from ushape.network.hardware import autocast, in_best_format
from ushape.network.unet import UNet

__all__ = ["LabelEngine", "TorchEngine", "to_maps"]


def to_maps(logits: Tensor, n_class_channels: int) -> Tensor:
    """Logits (B, K, *size) -> maps: softmax over the class channels, sigmoid of the ones behind them."""
    classes = logits[:, :n_class_channels].softmax(dim=1)
    if logits.shape[1] == n_class_channels:
        return classes
    return torch.cat([classes, logits[:, n_class_channels:].sigmoid()], dim=1)


class TorchEngine:
    """The network run by PyTorch, in evaluation mode, in `dtype`; float64 inputs are computed in float64.

    The network is used as it is, not copied: its mode is set for each call and restored afterwards.
    """

    def __init__(
        self,
        network: UNet | Classifier | Ensemble,
        n_class_channels: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.network, self.n_class_channels = network, n_class_channels
        self.device, self.dtype = device, dtype
        in_best_format(network, device)

    def __call__(self, tiles: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """(B, C, *read) -> (B, K, *out), in the tiles' type; of a classifier (B, K)."""
        training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode(), autocast(self.device, self.dtype):
                images = torch.from_numpy(np.ascontiguousarray(tiles)).to(self.device)
                if self.network.dims == 2:
                    images = images.contiguous(memory_format=torch.channels_last)
                logits = self.network(images)
                wide = logits if logits.dtype == torch.float64 else logits.float()
                maps: NDArray[np.floating[Any]] = to_maps(wide, self.n_class_channels).cpu().numpy()
                return maps
        finally:
            self.network.train(training)


class LabelEngine:
    """A classifier for images of several sizes, run by any engine."""

    def __init__(self, run: Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]], n_classes: int) -> None:
        self.run, self.n_classes = run, n_classes

    def __call__(self, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Images (C, *size) -> probabilities (N, K); those of equal size run together."""
        probabilities = np.zeros((len(images), self.n_classes), np.float32)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(image.shape, []).append(index)
        for indices in by_size.values():
            probabilities[indices] = self.run(np.stack([images[index] for index in indices]))
        return probabilities
