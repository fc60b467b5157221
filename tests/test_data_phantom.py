"""The simulated cells: the same for the same seed, exact, and beyond the reach of a threshold."""

import numpy as np
import pytest
from scipy import ndimage

from ushape.data.phantom import _keep_whole, phantom_dataset, phantom_image
from ushape.errors import DataError


@pytest.mark.parametrize("size, channels, dtype", [((256, 256), 1, np.uint8), ((100, 171), 2, np.uint16)])
def test_types_and_shapes(size, channels, dtype):
    image, mask = phantom_image(3, size, channels, dtype)
    assert (image.shape, image.dtype) == ((channels, *size), dtype)
    assert (mask.shape, mask.dtype) == (size, np.int32)


def test_the_seed_decides_everything():
    image, mask = phantom_image(1)
    again = phantom_image(1)
    np.testing.assert_array_equal(again[0], image)
    np.testing.assert_array_equal(again[1], mask)
    assert (phantom_image(2)[1] != mask).any()


def test_what_a_caller_changes_is_not_what_the_next_one_gets():
    _, mask = phantom_image(1)
    kept = mask.copy()
    mask[:] = 0
    np.testing.assert_array_equal(phantom_image(1)[1], kept)


def test_crumbs_and_small_cells_become_background():
    labels = np.zeros((40, 40), np.int32)
    labels[0:15, 0:15] = labels[20:23, 0:3] = 1  # a cell and its crumb
    labels[0:10, 20:30] = 2  # 100 px: too small
    labels[20:35, 20:35] = 5
    expected = np.zeros((40, 40), np.int32)
    expected[0:15, 0:15], expected[20:35, 20:35] = 1, 2
    np.testing.assert_array_equal(_keep_whole(labels), expected)


@pytest.mark.parametrize("seed", range(6))
def test_objects_are_connected_numbered_and_of_the_size_of_cells(seed):
    _, mask = phantom_image(seed)
    n = int(mask.max())
    assert 25 < n < 90
    assert np.unique(mask).tolist() == list(range(n + 1))
    for index in range(1, n + 1):
        assert ndimage.label(mask == index)[1] == 1
    areas = np.bincount(mask.ravel())[1:]
    assert areas.min() >= 120
    assert 20 < np.median(2 * np.sqrt(areas / np.pi)) < 40  # diameters in px
    assert 0.3 < (mask > 0).mean() < 0.7


def test_most_cells_touch_another_and_some_stand_alone():
    touching = alone = 0
    for seed in range(4):
        _, mask = phantom_image(seed)
        for index in range(1, mask.max() + 1):
            ring = mask[ndimage.binary_dilation(mask == index)]
            touches = ((ring > 0) & (ring != index)).any()
            touching, alone = touching + touches, alone + (not touches)
    assert touching > 3 * alone > 0


def average_precision(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Pairs that overlap by more than half of their union, of all objects on both sides."""
    n, m = reference.max(), estimate.max()
    both = np.zeros((n + 1, m + 1), int)
    np.add.at(both, (reference, estimate), 1)
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    matches = int((both[1:, 1:] > 0.5 * union[1:, 1:]).sum())
    return matches / (n + m - matches)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("blur", [0, 2])
def test_no_threshold_finds_the_cells(seed, blur):
    image, mask = phantom_image(seed)
    smooth = ndimage.gaussian_filter(image[0].astype(float), blur)
    for level in np.percentile(smooth, range(4, 100, 4)):
        for foreground in (smooth > level, smooth < level):
            overlap = (foreground & (mask > 0)).sum() / (foreground | (mask > 0)).sum()
            assert overlap < 0.7
            pieces, _ = ndimage.label(foreground)
            large = np.bincount(pieces.ravel()) >= 60
            large[0] = False
            numbers = np.where(large, np.cumsum(large), 0)
            assert average_precision(mask, numbers[pieces]) < 0.3


def outline_of(mask: np.ndarray) -> np.ndarray:
    return ndimage.grey_dilation(mask, 3) != ndimage.grey_erosion(mask, 3)


def test_outlines_are_steep_where_the_truth_has_them():
    image, mask = phantom_image(0)
    smooth = ndimage.gaussian_filter(image[0].astype(float), 1)
    change = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))
    outline = outline_of(mask)
    far = ~ndimage.binary_dilation(outline, iterations=4)
    assert change[outline].mean() > 1.8 * change[far].mean()


def test_each_cell_has_a_dark_membrane_inside_its_outline():
    image, mask = phantom_image(0)
    local = image[0] - ndimage.gaussian_filter(image[0].astype(float), 8)  # without the uneven light
    membrane = outline_of(mask) & (mask > 0)
    assert local[membrane].mean() < -8
    assert abs(local[(mask > 0) & ~membrane].mean() - local[mask == 0].mean()) < 4


def test_channels_show_the_same_cells_differently():
    image, mask = phantom_image(5, channels=2)
    assert (image[0] != image[1]).mean() > 0.9
    assert mask.ndim == 2


def test_a_dataset_simulates_when_read_and_shares_nothing_with_other_seeds():
    first, second = phantom_dataset(3, 0, (64, 64)), phantom_dataset(3, 1, (64, 64))
    assert [s.name for s in second.samples] == ["phantom_001000", "phantom_001001", "phantom_001002"]
    assert (first.task, first.classes) == ("instances", ("background", "object"))
    np.testing.assert_array_equal(second.samples[1].read_image(), phantom_image(1001, (64, 64))[0])
    np.testing.assert_array_equal(second.samples[1].read_mask(), phantom_image(1001, (64, 64))[1])
    images = [s.read_image().tobytes() for d in (first, second) for s in d.samples]
    assert len(set(images)) == 6
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("n", [0, 1001])
def test_a_dataset_has_1_to_1000_images(n):
    with pytest.raises(DataError, match=f"phantom: expected 1 to 1000 simulated images, found {n}"):
        phantom_dataset(n)
