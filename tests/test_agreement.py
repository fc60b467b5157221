"""How far two engines agree, in numbers worked out by hand."""

import numpy as np
import pytest

from agreement import agreement, changed_labels

ONE = np.array([[[[0.9, 0.6], [0.2, 0.5]], [[0.1, 0.4], [0.8, 0.5]]]], np.float32)


def test_the_share_of_changed_labels():
    other = ONE.copy()
    assert changed_labels(ONE, other) == 0
    other[0, :, 0, 1] = 0.4, 0.6
    assert changed_labels(ONE, other) == 0.25
    # A distance behind the classes is no class, however large.
    with_distance = np.concatenate([other, np.ones((1, 1, 2, 2), np.float32)], axis=1)
    assert changed_labels(np.concatenate([ONE, 0 * ONE[:, :1]], axis=1), with_distance, n_classes=2) == 0.25


def test_classes_of_whole_images():
    assert changed_labels(np.eye(4), np.eye(4)[[0, 1, 3, 2]]) == 0.5


def test_the_agreement_of_several_calls_weighs_each_pixel_alike():
    calls = [np.zeros((1, 1, 1, 3)), np.zeros((1, 1, 1, 1))]

    def reference(tiles):
        return np.concatenate([tiles + 0.75, tiles + 0.25], axis=1)

    def estimate(tiles):
        return 1 - reference(tiles) if tiles.shape[-1] == 3 else reference(tiles)

    found = agreement(reference, estimate, calls)
    assert found.changed == 0.75
    assert found.largest == pytest.approx(0.5)
