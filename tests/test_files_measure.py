"""Measurements of objects: drawn by hand, against scikit-image one object at a time, and in physical units."""

import numpy as np
import pytest
from skimage.measure import regionprops

from ushape.data.dataset import Spacing
from ushape.files.measure import measure_objects, measure_pieces


def blobs(*size, n=12, seed=0):
    """Overlapping boxes as objects, some of them in parts."""
    rng = np.random.default_rng(seed)
    objects = np.zeros(size, np.int32)
    for number in range(1, n + 1):
        low = [int(rng.integers(0, length - 4)) for length in size]
        objects[tuple(slice(a, a + int(rng.integers(2, 9))) for a in low)] = number
    return objects


def drawn(text):
    return np.array([[int(letter) for letter in row] for row in text.split()], np.int32)


# By hand.


def test_a_rectangle():
    objects = drawn("00000000 00222200 00222200 00000000")
    image = np.stack([objects * 5, np.arange(32).reshape(4, 8)])
    assert measure_objects(objects, image) == {
        "object": [2],
        "area": [8],
        "centroid_y": [1.5],
        "centroid_x": [3.5],
        "from_y": [1],
        "from_x": [2],
        "to_y": [3],
        "to_x": [6],
        "equivalent_diameter": [3.19154],  # 2 sqrt(8 / pi)
        "axis_major_length": [4.47214],  # 4 sqrt(15 / 12), the variance of 4 pixels in a row
        "axis_minor_length": [2.0],
        "orientation_degrees": [0.0],
        "mean_intensity_0": [10.0],
        "mean_intensity_1": [15.5],
    }


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_mean_of_a_large_object_is_exact_in_float32(channels):
    """Sums of single precision lose what is small beside them: 3 % of this one."""
    image = np.full((channels, 1500, 1500), 30001.3, np.float32)
    found = measure_objects(np.ones((1500, 1500), np.int32), image)
    assert [found[f"mean_intensity_{c}"] for c in range(channels)] == [[30001.3]] * channels


def test_no_object_has_no_mean():
    assert measure_objects(np.zeros((4, 8), np.int32), np.ones((2, 4, 8)))["mean_intensity_1"] == []


def test_a_rectangle_in_micrometres():
    objects = drawn("00000000 00222200 00222200 00000000")
    found = measure_objects(objects, objects[None], Spacing((0.5, 0.5)))
    assert {name: values for name, [*values] in found.items() if name.endswith(("um", "um2"))} == {
        "area_um2": [2.0],
        "centroid_y_um": [0.75],
        "centroid_x_um": [1.75],
        "equivalent_diameter_um": [1.59577],
        "axis_major_length_um": [2.23607],
        "axis_minor_length_um": [1.0],
    }


@pytest.mark.parametrize("spacing, across", [((0.5, 0.25), 0.0), ((0.25, 2.0), 0.0)])
def test_pixels_that_are_no_squares(spacing, across):
    """4 columns and 2 rows: a square of 1 um at half the width, and a bar of 0.5 x 8 um."""
    objects = drawn("00000000 00222200 00222200 00000000")
    found = measure_objects(objects, objects[None], Spacing(spacing))
    height, width = 2 * spacing[0], 4 * spacing[1]
    assert found["area_um2"] == [pytest.approx(height * width)]
    lengths = sorted(4 * np.sqrt((n * n - 1) / 12) * length for n, length in zip((2, 4), spacing, strict=True))
    assert found["axis_minor_length_um"] == [pytest.approx(lengths[0], rel=1e-5)]
    assert found["axis_major_length_um"] == [pytest.approx(lengths[1], rel=1e-5)]
    assert found["centroid_x_um"] == [3.5 * spacing[1]]


@pytest.mark.parametrize(
    "picture, degrees",
    [("111 000 000", 0), ("001 010 100", 45), ("010 010 010", 90), ("100 010 001", 135)],
)
def test_the_orientation_is_counted_from_the_x_axis_upwards(picture, degrees):
    objects = drawn(picture)
    assert measure_objects(objects, objects[None])["orientation_degrees"] == [degrees]


def test_a_box_in_a_volume():
    objects = np.zeros((4, 6, 8), np.int32)
    objects[1:3, 2:5, 3:7] = 5
    found = measure_objects(objects, np.full((1, 4, 6, 8), 7.5, np.float32), Spacing((2.0, 0.5, 0.25), "nm"))
    assert found == {
        "object": [5],
        "volume": [24],
        "centroid_z": [1.5],
        "centroid_y": [3.0],
        "centroid_x": [4.5],
        "from_z": [1],
        "from_y": [2],
        "from_x": [3],
        "to_z": [3],
        "to_y": [5],
        "to_x": [7],
        "equivalent_diameter": [3.5788],  # (6 24 / pi) ** (1/3)
        "volume_nm3": [6.0],
        "centroid_z_nm": [3.0],
        "centroid_y_nm": [1.5],
        "centroid_x_nm": [1.125],
        "equivalent_diameter_nm": [2.2545],
        "mean_intensity_0": [7.5],
    }


def test_connected_pieces_of_classes():
    """Pieces that touch at a corner only are two, and classes that touch do not mix."""
    labels = drawn("1100 1100 0012 0012")
    found = measure_pieces(labels, ("background", "cell", "dirt"), labels[None])
    assert (found["object"], found["class"], found["area"]) == ([1, 2, 3], ["cell", "cell", "dirt"], [4, 2, 2])
    assert list(found)[:3] == ["object", "class", "area"]
    assert found["mean_intensity_0"] == [1, 1, 2]
    full = measure_pieces(np.full((3, 3), 2, np.int32), ("background", "cell", "dirt"), labels[None, :3, :3])
    assert full["class"] == ["dirt"]


# Against scikit-image, one object at a time.


@pytest.mark.parametrize("size", [(40, 44), (9, 30, 32)])
def test_every_object_is_measured_as_alone(size):
    objects = blobs(*size)
    image = np.random.default_rng(1).normal(50, 20, (3, *size)).astype(np.float32)
    found = measure_objects(objects, image)
    assert found["object"] == np.unique(objects)[1:].tolist()
    for index, number in enumerate(found["object"]):
        alone = (objects == number).astype(np.int32)
        [region] = regionprops(alone, np.moveaxis(image, 0, -1))
        assert found["area" if len(size) == 2 else "volume"][index] == region.area == alone.sum()
        for axis, value in zip("zyx"[-len(size) :], region.centroid, strict=True):
            assert found[f"centroid_{axis}"][index] == pytest.approx(value, abs=0.005)
        for channel in range(3):
            assert found[f"mean_intensity_{channel}"][index] == pytest.approx(
                image[channel][alone > 0].mean(), rel=1e-5
            )
        if len(size) == 2:
            assert found["axis_major_length"][index] == pytest.approx(region.axis_major_length, rel=1e-5)


def test_discs_have_their_diameter():
    y, x = np.mgrid[:60, :60]
    disc = ((y - 30) ** 2 + (x - 30) ** 2 < 20**2).astype(np.int32)
    found = measure_objects(disc, disc[None], Spacing((0.1, 0.1)))
    for name in ("equivalent_diameter", "axis_major_length", "axis_minor_length"):
        assert found[f"{name}_um"][0] == pytest.approx(4, rel=0.02), name


# What is there without objects, and with the least.


@pytest.mark.parametrize("spacing", [None, Spacing((1.0, 1.0)), Spacing((1.0, 2.0))])
def test_the_columns_are_the_same_without_objects(spacing):
    image = np.ones((2, 5, 5), np.uint16)
    none = measure_objects(np.zeros((5, 5), np.int32), image, spacing)
    assert list(none) == list(measure_objects(np.eye(5, dtype=np.int32), image, spacing))
    assert not any(none.values())
    assert list(measure_pieces(np.zeros((5, 5), np.int32), ("a", "b", "c"), image))[:2] == ["object", "class"]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (1, 1, 1)])
def test_one_pixel_is_an_object(size):
    objects = np.zeros(size, np.int32)
    objects.flat[0] = 1
    found = measure_objects(objects, np.ones((1, *size), np.uint8), Spacing((2.0,) * len(size)))
    assert found["mean_intensity_0"] == [1]
    assert found[f"{'area' if len(size) == 2 else 'volume'}_um{len(size)}"] == [2.0 ** len(size)]
