"""Sizes of objects: squares and cubes drawn by hand, and scikit-image's own diameters."""

import math

import numpy as np
import pytest
from skimage.measure import regionprops

from ushape.scoring.objects import count_objects
from ushape.scoring.sizes import Sizes, measure_sizes


def test_drawn_by_hand():
    reference, estimate = np.zeros((2, 12, 12), int)
    reference[:4, :4], reference[6:8, 6:8] = 3, 9
    estimate[:4, :4] = 1
    sizes = measure_sizes(reference, estimate, instances=True)
    assert sizes.reference == pytest.approx([2 * math.sqrt(16 / math.pi), 2 * math.sqrt(4 / math.pi)])
    assert sizes.estimate == pytest.approx([2 * math.sqrt(16 / math.pi)])
    assert sizes.counts == ((2, 1),)


def test_classes_are_cut_into_pieces():
    reference, estimate = np.zeros((2, 9, 9), int)
    reference[:2, :2] = reference[4:6, 4:6] = 1
    estimate[:6, :6] = 1
    assert measure_sizes(reference, estimate, instances=False).counts == ((2, 1),)
    assert measure_sizes(reference, estimate, instances=True).counts == ((1, 1),)


@pytest.mark.parametrize("size", [(40, 50), (12, 14, 16)])
def test_diameters_agree_with_scikit_image(size):
    labels = np.random.default_rng(0).integers(-1, 6, size) * 7
    labels[labels < 0] = -1
    found = measure_sizes(np.zeros(size, int), labels, instances=True).estimate
    assert found == pytest.approx([region.equivalent_diameter_area for region in regionprops(np.maximum(labels, 0))])


def test_spacing_gives_lengths():
    labels = np.ones((4, 6, 10), int)
    (diameter,) = measure_sizes(labels, labels, instances=True, spacing=(2.0, 0.5, 0.5)).reference
    assert math.pi / 6 * diameter**3 == pytest.approx(240 * 0.5)


def test_objects_on_ignored_pixels_count_as_in_the_scores():
    reference, estimate = np.zeros((2, 10, 20), int)
    reference[:, 10:] = -1
    estimate[0, 7:12] = 1  # three of five outside
    estimate[2, 8:12] = 2  # half: still counted
    estimate[4, 8:13] = 3  # three of five inside
    sizes = measure_sizes(reference, estimate, instances=True)
    assert sizes.counts == ((0, 2),)
    assert sizes.counts[0][1] == count_objects(reference, estimate).n_estimate
    assert sizes.estimate == pytest.approx([2 * math.sqrt(5 / math.pi), 2 * math.sqrt(4 / math.pi)])


def test_images_add_up_and_an_empty_one_counts():
    one = np.ones((3, 3), int)
    total = measure_sizes(one, one * 0, instances=True) + measure_sizes(one * 0, one * 0, instances=True) + Sizes()
    assert total.counts == ((1, 0), (0, 0))
    assert len(total.reference) == 1
    assert total.estimate == ()
