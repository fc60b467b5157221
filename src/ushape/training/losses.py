"""How wrong: weighted cross entropy, soft Dice, and the distance head's error.

Conventions: logits are (B, K, *size), class channels first; classes (B, *size) int64 with -1 = ignore; weights
(B, *size). Of classes of whole images there is no size: (B, K) and (B,). Everything is computed in float32, whatever
the network computed in. References: PAPER P13.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["soft_dice_loss", "total_loss", "weighted_cross_entropy", "weighted_distance_loss"]


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor, smoothing: float = 0.0) -> Tensor:
    """P13: - w(x) log p_l(x)(x), summed and divided by the number of labelled pixels; 0 without any.

    smoothing  share of the truth that is spread evenly over all classes
    """
    losses = F.cross_entropy(logits.float(), classes, ignore_index=-1, reduction="none", label_smoothing=smoothing)
    return (losses * weights).sum() / (classes >= 0).sum().clamp_min(1)


def soft_dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """1 - mean Dice of the classes that occur in the batch, on probabilities; ignored pixels count nowhere."""
    labelled = (classes >= 0).unsqueeze(1)
    probabilities = logits.float().softmax(dim=1) * labelled
    one_hot = F.one_hot(classes.clamp_min(0), logits.shape[1]).movedim(-1, 1) * labelled
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * one_hot).sum(axes)
    total = probabilities.sum(axes) + one_hot.sum(axes)
    present = one_hot.sum(axes) > 0
    dice = (2 * overlap + 1) / (total + 1)
    return 1 - (dice * present).sum() / present.sum().clamp_min(1)


def weighted_distance_loss(logits: Tensor, distance: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of sigmoid(logits) against distances in [0, 1], (B, *size).

    Its gradient is the plain difference between the two, and its minimum, at the target itself, is the target's
    entropy: the loss of a perfect network is not 0.
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), distance, reduction="none")
    labelled = classes >= 0
    return (losses * weights * labelled).sum() / labelled.sum().clamp_min(1)


def total_loss(
    logits: Tensor,
    classes: Tensor,
    weights: Tensor,
    distance: Tensor | None,
    *,
    dice: float,
    distance_weight: float,
    smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy, plus `dice` times the Dice loss, plus `distance_weight` times the distance loss."""
    n_classes = logits.shape[1] - (distance is not None)
    loss = weighted_cross_entropy(logits[:, :n_classes], classes, weights, smoothing)
    if dice:
        loss = loss + dice * soft_dice_loss(logits[:, :n_classes], classes)
    if distance is not None:
        loss = loss + distance_weight * weighted_distance_loss(logits[:, n_classes], distance, classes, weights)
    return loss
