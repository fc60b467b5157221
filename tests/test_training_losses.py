"""Losses against definitions written out with NumPy."""

import numpy as np
import pytest
import torch

from ushape.training.losses import soft_dice_loss, total_loss, weighted_cross_entropy, weighted_distance_loss


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5, 6)).astype(np.float32)
    classes = rng.integers(-1, 3, size=(2, 5, 6))
    weights = rng.uniform(0.5, 3, size=(2, 5, 6)).astype(np.float32)
    return logits, classes, weights


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_weighted_cross_entropy_is_the_papers_sum_over_labelled_pixels(case):
    logits, classes, weights = case
    probabilities, total, n = softmax(logits), 0.0, 0
    for b, y, x in np.argwhere(classes >= 0):
        total -= weights[b, y, x] * np.log(probabilities[b, classes[b, y, x], y, x])
        n += 1
    found = weighted_cross_entropy(*map(torch.from_numpy, case))
    assert float(found) == pytest.approx(total / n, rel=1e-5)


def test_soft_dice_counts_labelled_pixels_of_present_classes(case):
    logits, classes, _ = case
    classes = np.where(classes == 2, 1, classes)  # class 2 does not occur
    probabilities = softmax(logits) * (classes >= 0)[:, None]
    values = []
    for index in (0, 1):
        truth = classes == index
        overlap = (probabilities[:, index] * truth).sum()
        values.append((2 * overlap + 1) / (probabilities[:, index].sum() + truth.sum() + 1))
    found = soft_dice_loss(torch.from_numpy(logits), torch.from_numpy(classes))
    assert float(found) == pytest.approx(1 - np.mean(values), rel=1e-5)


def test_the_distance_loss_is_least_at_the_target_and_its_gradient_the_difference():
    target = torch.tensor([[[0.0, 0.25, 0.5, 1.0]]])
    classes, weights = torch.zeros((1, 1, 4)), torch.ones((1, 1, 4))
    at_target = torch.logit(target, eps=1e-7)
    least = float(weighted_distance_loss(at_target, target, classes, weights))
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75) + np.log(0.5)) / 4
    assert least == pytest.approx(entropy, abs=1e-5)
    assert least < float(weighted_distance_loss(at_target + 0.3, target, classes, weights))
    logits = torch.zeros((1, 1, 4), requires_grad=True)
    weighted_distance_loss(logits, target, classes, weights).backward()
    torch.testing.assert_close(logits.grad, (0.5 - target) / 4)


def test_ignored_pixels_change_nothing(case):
    logits, classes, weights = (torch.from_numpy(a) for a in case)
    distance = torch.rand(2, 5, 6)
    with_head = torch.cat([logits, logits[:, :1]], dim=1)
    before = total_loss(with_head, classes, weights, distance, dice=1.0, distance_weight=1.0)
    ignored = classes == -1
    noisy = torch.where(ignored[:, None], 9.0, with_head)
    after = total_loss(noisy, classes, weights, torch.where(ignored, 0.3, distance), dice=1.0, distance_weight=1.0)
    torch.testing.assert_close(before, after)


def test_a_batch_without_labels_costs_nothing():
    logits, classes = torch.randn(1, 2, 4, 4), torch.full((1, 4, 4), -1)
    assert float(weighted_cross_entropy(logits, classes, torch.zeros(1, 4, 4))) == 0
