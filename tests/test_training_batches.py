"""Batch k is a pure function of (data, seed, k)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import disc_image
from ushape.geometry import Geometry
from ushape.targets.maps import Encoding, encode
from ushape.training.augment import Augmentation
from ushape.training.batches import Batches, draw_centre, to_training_image

CPU = torch.device("cpu")


def make_batches(seed=0, geometry=None, patch=(32, 32), foreground=0.0, kind="distance", augmentation=None):
    images = []
    for index in range(3):
        image, mask = disc_image(index)
        images.append(to_training_image(image.astype(np.float32), encode(mask, Encoding(kind)), 1.0 + index, CPU))
    geometry = geometry or Geometry(3, "same")
    return Batches(images, geometry, patch, 4, augmentation or Augmentation(), seed, foreground)


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))


def test_a_batch_depends_on_seed_and_number_and_not_on_what_was_drawn_before():
    batches = make_batches()
    fresh = make_batches()
    for k in range(5):
        batches(k)
    assert same(batches(7), fresh(7))
    assert not same(batches(7), batches(8))
    assert not torch.equal(make_batches(seed=1)(7).images, fresh(7).images)


def test_a_thinned_list_of_pixels_does_not_keep_the_whole_one(monkeypatch):
    monkeypatch.setattr("ushape.training.batches.FOREGROUND_PIXELS", 100)
    image, mask = disc_image(0)
    (pixels,) = to_training_image(image.astype(np.float32), encode(mask, Encoding("distance")), 1.0, CPU).foreground
    assert 100 <= len(pixels) < 200
    assert pixels.base is None


def scribbled(foreground):
    """Batches of one large image with five strokes of background, and five of an object."""
    mask = np.full((900, 900), -1, np.int32)
    for i in range(5):
        mask[100 + 150 * i, 100:400] = 0
        mask[150 + 150 * i, 500:800] = 1
    image = np.zeros((1, 900, 900), np.float32)
    made = to_training_image(image, encode(mask, Encoding("semantic")), 1.0, CPU)
    return Batches([made], Geometry(3, "same"), (64, 64), 8, Augmentation(), 0, foreground)


def test_patches_of_a_scribbled_image_are_drawn_around_its_strokes_and_of_each_class():
    drawn = torch.cat([scribbled(0.33)(k).classes.flatten(1) for k in range(25)])
    labelled = (drawn >= 0).any(dim=1).float().mean()
    assert labelled > 0.9  # a stroke is thin, and deformed patches may miss it
    background, objects = ((drawn == c).any(dim=1).float().mean() for c in (0, 1))
    assert abs(background - objects) < 0.15
    # A recipe without such centres keeps drawing anywhere.
    anywhere = torch.cat([scribbled(0.0)(k).classes.flatten(1) for k in range(25)])
    assert (anywhere >= 0).any(dim=1).float().mean() < 0.5


def test_shapes_and_types():
    batch = make_batches()(0)
    assert batch.images.shape == (4, 1, 32, 32)
    assert batch.classes.shape == batch.weights.shape == batch.distance.shape == (4, 32, 32)
    assert batch.classes.dtype == torch.int64
    assert make_batches(kind="border")(0).distance is None


def test_a_valid_network_is_given_the_maps_of_its_output_only():
    still = Augmentation(mirror=False, warped=0, brightness=0, contrast=1, gamma=1, noise=0)
    geometry = Geometry(2, "valid")
    batch = make_batches(geometry=geometry, patch=(36, 36), augmentation=still)(3)
    assert batch.classes.shape == (4, 20, 20)
    # Discs are 100 grey values brighter, so image and maps can be held against each other.
    bright = batch.images[:, 0, 8:-8, 8:-8] > 110
    assert float((bright == (batch.classes > 0)).float().mean()) > 0.98


@pytest.mark.parametrize("geometry", [Geometry(2, "valid"), Geometry(2, "same")])
def test_image_classes_weights_and_distance_are_of_the_same_pixels(geometry):
    image, mask = disc_image(0)
    maps = encode(mask, Encoding("distance"))
    # Each map holds the grey values, in its own way.
    maps = replace(maps, weights=image[0] + 1.0, distance=image[0] + 2.0, classes=np.round(image[0]).astype(np.int64))
    still = Augmentation(warped=0, brightness=0, contrast=1, gamma=1, noise=0)
    made = to_training_image(image.astype(np.float32), maps, 1.0, CPU)
    batches = Batches([made], geometry, (36, 36), 4, still, 0)
    lost = (36 - batches.out[0]) // 2
    for k in range(3):
        batch = batches(k)
        seen = batch.images[:, 0, lost : 36 - lost, lost : 36 - lost]
        assert seen.std() > 10
        assert torch.equal(batch.weights, seen + 1)
        assert torch.equal(batch.distance, seen + 2)
        assert torch.equal(batch.classes, seen.round().long())


def test_emphasis_sets_how_often_an_image_is_drawn():
    batches = make_batches()
    assert batches.shares == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_foreground_patches_hold_an_object():
    batches = make_batches(patch=(8, 8), foreground=1.0, augmentation=Augmentation(elastic=0, zoom=1, rotation=0))
    assert all((batches(k).classes > 0).flatten(1).any(1).all() for k in range(10))


def test_every_pixel_of_an_image_can_be_drawn():
    rng, covered = np.random.default_rng(0), np.zeros((30, 20), bool)
    for _ in range(500):
        centre = draw_centre((30, 20), (8, 8), (8, 8), None, rng)
        start = [int(c - 3.5) for c in centre]
        covered[max(0, start[0]) : start[0] + 8, max(0, start[1]) : start[1] + 8] = True
    assert covered.all()


def test_every_pixel_is_answered_for_by_some_tile_that_is_larger_than_its_answer():
    """As of the paper's network, whose tile may be larger than the image: the answers lie anywhere in it."""
    rng, patch, out, space = np.random.default_rng(0), (220, 220), (36, 36), (96, 100)
    starts = []
    for _ in range(500):
        centre = draw_centre(space, patch, out, None, rng)
        starts.append([int(c - 17.5) for c in centre])
    first, last = np.min(starts, axis=0), np.max(starts, axis=0)
    # As far beyond the border as an eighth of the answer, and no further.
    assert first.tolist() == [-4, -4]
    assert last.tolist() == [96 - 36 + 4, 100 - 36 + 4]
    assert len({tuple(start) for start in starts}) > 400


def test_a_patch_larger_than_the_image_is_centred():
    assert draw_centre((10, 10), (64, 64), (64, 64), None, np.random.default_rng(0)) == (4.5, 4.5)


def test_a_rare_class_is_drawn_as_often_as_a_common_one():
    mask = np.zeros((64, 64), np.int32)
    mask[:, 32:] = 1
    mask[60:, :4] = 2
    image = np.zeros((1, 64, 64), np.float32)
    maps = encode(mask, Encoding("semantic", n_classes=3))
    plain = Augmentation(mirror=False, elastic=0, zoom=1, rotation=0)
    device = torch.device("cpu")
    drawn = {}
    for by_class in (False, True):
        training = to_training_image(image, maps, 1.0, device, by_class=by_class)
        assert len(training.foreground) == (2 if by_class else 1)
        batches = Batches([training], Geometry(2, "same", 1), (8, 8), 8, plain, 0, 1.0)
        drawn[by_class] = np.mean([bool((member == 2).any()) for k in range(20) for member in batches(k).classes])
    assert drawn[False] < 0.1
    assert 0.35 < drawn[True] < 0.65
