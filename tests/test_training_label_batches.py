"""Batches of whole images: a pure function of (data, seed, k), without replacement, one resampling."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ushape.training.augment import Augmentation
from ushape.training.label_batches import LabelBatches, vary_images, warp_images

STILL = Augmentation(mirror=False, rotation=0, zoom=1, shift=0, elastic=0, brightness=0, contrast=1, gamma=1, noise=0)


def make(n=10, batch=4, seed=0, augmentation=STILL, size=(6, 5)):
    images = torch.from_numpy(np.random.default_rng(1).normal(size=(n, 2, *size))).half()
    return LabelBatches(images, torch.arange(n), torch.ones(n), batch, augmentation, seed)


def test_a_round_shows_each_image_once_and_the_next_one_in_another_order():
    batches = make(n=8)
    rounds = [torch.cat([batches(k).classes for k in (first, first + 1)]).tolist() for first in (0, 2)]
    assert [sorted(r) for r in rounds] == [list(range(8))] * 2
    assert rounds[0] != rounds[1]


def test_rounds_follow_each_other_within_a_batch():
    batches = make(n=10, batch=4)
    seen = torch.cat([batches(k).classes for k in range(5)]).tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_a_batch_is_the_same_whatever_was_drawn_before():
    strong = Augmentation(shift=1, elastic=0.5)
    first, second = make(augmentation=strong), make(augmentation=strong)
    first(0)
    first(7)
    for name in ("images", "classes", "weights"):
        assert torch.equal(getattr(first(3), name), getattr(second(3), name))
    assert not torch.equal(first(3).images, make(augmentation=strong, seed=1)(3).images)


def test_without_augmentation_the_pixels_are_the_images_own():
    batches = make()
    batch = batches(2)
    assert torch.allclose(batch.images, batches.images[batch.classes].float(), atol=1e-5)


def test_classes_weigh_what_they_are_told():
    batches = make()
    batches.weights = torch.arange(10) / 10
    batch = batches(0)
    assert torch.equal(batch.weights, batch.classes / 10)


def moved(images, **settings):
    plain = {"mirror": False, "rotation": 0.0, "zoom": 1.0, "elastic": 0.0}
    return warp_images(images, Augmentation(**plain | settings), np.random.default_rng(0))


def test_mirroring_swaps_left_and_right_and_never_top_and_bottom():
    images = torch.arange(12.0).view(1, 1, 3, 4).repeat(40, 1, 1, 1)
    found = moved(images, mirror=True)
    flipped = [torch.allclose(image, images[0].flip(-1), atol=1e-4) for image in found]
    same = [torch.allclose(image, images[0], atol=1e-4) for image in found]
    assert all(a != b for a, b in zip(flipped, same, strict=True))
    assert 8 < sum(flipped) < 32


def test_rotation_zoom_shift_and_bending_keep_within_their_strength():
    grid = torch.arange(21.0)
    ramp = grid.view(1, 1, 1, 21).expand(50, 1, 21, 21).contiguous()
    inner = (slice(None), 0, slice(8, 13), slice(8, 13))
    shifted = (moved(ramp, shift=3.0) - ramp)[inner]
    assert 2 < shifted.abs().max() <= 3 + 1e-3
    assert shifted.std(dim=(1, 2)).max() < 1e-3
    slopes = torch.diff(moved(ramp, zoom=1.5)[inner], dim=-1)
    assert slopes.min() >= 1 / 1.5 - 1e-3
    assert slopes.max() <= 1.5 + 1e-3
    assert slopes.max() / slopes.min() > 1.5
    turned = torch.diff(moved(ramp, rotation=30.0)[inner], dim=-1)
    assert turned.min() >= np.cos(np.radians(30)) - 1e-3
    bent = (moved(ramp, elastic=1.0) - ramp)[inner]
    assert 0.3 < bent.std() < 2


@pytest.mark.parametrize("size", [(7, 9), (5, 6, 7)])
def test_a_still_warp_is_the_identity_in_two_and_three_dimensions(size):
    images = torch.randn(3, 2, *size)
    assert torch.allclose(moved(images), images, atol=1e-4)


def test_a_hot_pixel_does_not_make_the_exponent_stronger():
    images = torch.randn((4, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    images[:, 0, 3, 3] = 1000.0
    gamma = replace(STILL, gamma=1.25)
    for seed in range(10):
        changed = vary_images(images, gamma, np.random.default_rng(seed))
        spread = changed[:, 0, 10:].std(dim=(1, 2)) / images[:, 0, 10:].std(dim=(1, 2))
        assert ((spread > 0.5) & (spread < 2)).all()
