"""MONAI's 2-D segmentation tutorial with BasicUNet in place of its UNet, and with a clock in place of ten epochs.

As `2d_segmentation/torch/unet_training_dict.py` of its tutorials has it: intensities scaled to 0 to 1, four crops of
96 x 96 from each of two images in a batch, half of them around foreground, turned by quarters every other time; Adam at
1e-3; Dice loss of one sigmoid channel for two classes, Dice and cross entropy for more; behind every second epoch a
validation by mean Dice with the sliding window at its defaults; the best weights are kept.

Changed: the images lie in memory (`CacheDataset`, no worker processes), which is faster here; a fifth is held out and
not a half; the loss and the metric ignore pixels that nobody labelled. Crops of 256 x 256 are a second variant, since
a crop of the tutorial's size is smaller than a cell of `dic-hela`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from racing.contest import Finish, Image, Maps, Start, need
from racing.lesson import IGNORED, Lesson, Page, conclude, make_lesson
from racing.loop import fit
from ushape.network.hardware import set_threads

__all__ = ["loss_for", "probabilities_of", "run_large", "run_tutorial"]

SIDE, LARGE_SIDE = 96, 256
IMAGES, CROPS = 2, 4
"""Images in a batch, and crops of each."""
EVERY = 2
"""Epochs between two validations."""
WINDOWS = 4
"""That the sliding window predicts together."""
LEARNING_RATE = 1e-3
STRIDE = 16


def n_channels(lesson: Lesson) -> int:
    """Of the network's answer: one for two classes, as in the tutorial."""
    return 1 if lesson.n_classes == 2 else lesson.n_classes


def probabilities_of(logits: Tensor) -> Tensor:
    """(B, 1 or K, H, W) -> (B, 2 or K, H, W)."""
    if logits.shape[1] > 1:
        return logits.softmax(dim=1)
    second = logits.sigmoid()
    return torch.cat([1 - second, second], dim=1)


def loss_for(channels: int) -> Callable[[Tensor, Tensor], Tensor]:
    """(logits, classes (B, 1, H, W)) -> the loss; pixels without a label do not count."""
    from monai.losses import DiceLoss

    if channels == 1:
        return DiceLoss(sigmoid=True, ignore_index=IGNORED)
    dice = DiceLoss(to_onehot_y=True, softmax=True, ignore_index=IGNORED)
    # DiceCELoss is this sum, without a way to ignore pixels.
    entropy = nn.CrossEntropyLoss(ignore_index=IGNORED)
    return lambda logits, classes: dice(logits, classes) + entropy(logits, classes[:, 0].long())


def case(page: Page) -> dict[str, Any]:
    """An image as MONAI takes it; crops are placed by `label`, where what nobody labelled is background."""
    classes = page.classes[None]
    return {"image": page.image.astype(np.float32), "label": np.maximum(classes, 0), "classes": classes}


def loader_of(lesson: Lesson, side: int) -> Any:
    """Batches of crops, in a new order in each epoch."""
    from monai.data import CacheDataset, DataLoader, list_data_collate
    from monai.transforms import Compose, RandCropByPosNegLabeld, RandRotate90d, ScaleIntensityd

    keys = ["image", "label", "classes"]
    transform = Compose(
        [
            ScaleIntensityd(keys="image"),
            RandCropByPosNegLabeld(keys, "label", spatial_size=[side, side], pos=1, neg=1, num_samples=CROPS),
            RandRotate90d(keys, prob=0.5, spatial_axes=(0, 1)),
        ]
    )
    cases = CacheDataset([case(page) for page in lesson.training], transform, num_workers=1, progress=False)
    return DataLoader(cases, batch_size=IMAGES, shuffle=True, collate_fn=list_data_collate)


@torch.inference_mode()
def predict(network: nn.Module, image: Image, side: int) -> Maps:
    """Probabilities (K, H, W) of an image (C, H, W)."""
    from monai.inferers import sliding_window_inference
    from monai.transforms import ScaleIntensity

    network.eval()
    prepared = torch.as_tensor(np.asarray(ScaleIntensity()(image.astype(np.float32))))[None]
    maps: Maps = probabilities_of(sliding_window_inference(prepared, (side, side), WINDOWS, network))[0].numpy()
    return maps


def mean_dice(network: nn.Module, lesson: Lesson, side: int) -> float:
    """MONAI's mean Dice over the images held out: of the one channel, or of each class; nothing counts if ignored."""
    from monai.metrics import DiceMetric
    from monai.networks.utils import one_hot

    metric = DiceMetric(include_background=True, reduction="mean")
    for page in lesson.validation:
        classes = torch.from_numpy(page.classes)[None, None]
        estimate = torch.from_numpy(predict(network, page.image, side).argmax(axis=0))[None, None]
        pair = [one_hot(each, lesson.n_classes) for each in (estimate, classes.clamp(min=0))]
        counted = [each[:, 1 if n_channels(lesson) == 1 else 0 :] * (classes != IGNORED) for each in pair]
        metric(y_pred=counted[0], y=counted[1])
    return float(metric.aggregate().item())


def one_epoch(
    network: nn.Module, optimiser: torch.optim.Optimizer, loader: Any, loss: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[None]:
    """A step for each batch."""
    for batch in loader:
        network.train()
        optimiser.zero_grad()
        loss(network(batch["image"]), batch["classes"]).backward()
        optimiser.step()
        yield


def run_tutorial(start: Start, side: int = SIDE) -> Finish:
    """Train for the minutes; thresholds are chosen behind them."""
    need("monai")
    from monai.networks.nets import BasicUNet
    from monai.utils import set_determinism

    set_threads()
    set_determinism(start.seed)
    lesson = make_lesson(start.training)
    side = min(side, lesson.smallest_side // STRIDE * STRIDE)
    network = BasicUNet(spatial_dims=2, in_channels=lesson.channels, out_channels=n_channels(lesson))
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    loader, loss = loader_of(lesson, side), loss_for(n_channels(lesson))
    done = fit(
        network,
        lambda: one_epoch(network, optimiser, loader, loss),
        lambda: mean_dice(network, lesson, side),
        start.left,
        EVERY,
    )
    return conclude(start, lesson, network, done, lambda image: predict(network, image, side), side, IMAGES * CROPS)


def run_large(start: Start) -> Finish:
    """The same with crops of 256 x 256."""
    return run_tutorial(start, LARGE_SIDE)
