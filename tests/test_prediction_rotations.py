"""The average over seven angles: against a plain one, and by what turning must leave as it is."""

import math
import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator

from ushape.errors import DataError, RecipeError, SizeError
from ushape.geometry import Geometry, tiles
from ushape.network.unet import UNet
from ushape.prediction.rotations import ROTATIONS, Turn, predict_averaged, spline_coefficients
from ushape.prediction.tiled import predict_tiled

SEVENTH = 2 * math.pi / 7


pytestmark = pytest.mark.usefixtures("one_thread")


def small_network(depth, padding="valid", dims=2):
    torch.manual_seed(depth)
    return UNet(channels=2, n_classes=2, depth=depth, padding=padding, dims=dims).double().eval()


def runner(network):
    def run(batch):
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    return run


def itself(batch):
    """A network that says of each pixel what it is."""
    return batch


def noise(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def smooth(*shape, sigma=4):
    return ndimage.gaussian_filter(noise(*shape), (0, *[sigma] * (len(shape) - 1)))


def turned_by_hand(run, geometry, plane, angle):
    """The answer for one turned copy of an image (H, W): padded by NumPy, turned point by point, and back."""
    turn = Turn(angle, plane.shape)
    height, width = turn.grid_size
    # Context enough on all sides, and whole strides of it so that the pooling grid stays where it is.
    more = 4 * geometry.stride * math.ceil((geometry.reach + 1) / (4 * geometry.stride))
    row, column = np.mgrid[-more : height + more, -more : width + more]
    down, right = row - (height - 1) / 2, column - (width - 1) / 2
    y = (plane.shape[0] - 1) / 2 + math.cos(angle) * down + math.sin(angle) * right
    x = (plane.shape[1] - 1) / 2 - math.sin(angle) * down + math.cos(angle) * right
    far = 2 * more + max(turn.grid_size)
    mirrored = np.pad(plane, far, mode="reflect")
    copy = ndimage.map_coordinates(mirrored, [y + far, x + far], order=3)
    answer = predict_tiled(run, copy[None], geometry, 10000)[:, more:-more, more:-more]
    p, q = np.mgrid[: plane.shape[0], : plane.shape[1]].astype(float)
    p, q = p - (plane.shape[0] - 1) / 2, q - (plane.shape[1] - 1) / 2
    places = np.stack(
        [
            math.cos(angle) * p - math.sin(angle) * q + (height - 1) / 2,
            math.sin(angle) * p + math.cos(angle) * q + (width - 1) / 2,
        ],
        axis=-1,
    )
    return np.stack([RegularGridInterpolator((np.arange(height), np.arange(width)), a)(places) for a in answer])


@pytest.mark.parametrize("depth, padding", [(1, "valid"), (2, "valid"), (2, "same"), (3, "valid")])
def test_a_plain_average_gives_the_same(depth, padding):
    network = small_network(depth, padding)
    run, image = runner(network), noise(1, 33, 47)
    copies = [turned_by_hand(run, network.geometry, image[0], k * SEVENTH) for k in range(1, 7)]
    expected = np.mean([predict_tiled(run, image, network.geometry), *copies], axis=0)
    found = predict_averaged(run, image, network.geometry, network.geometry.smallest_tile + 20, 2, rotations=7)
    assert found.shape == (2, 33, 47)
    assert found.dtype == np.float64
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def test_volumes_are_turned_plane_by_plane():
    """A network that only looks within a plane answers as for images."""
    image = smooth(2, 5, 20, 26)

    def run(batch):
        return batch[:, ::-1] + np.roll(batch, 1, axis=-1)

    geometry = Geometry(2, "same")
    volume = predict_averaged(run, image, geometry, 28, rotations=7)
    for z in range(5):
        plane = predict_averaged(run, image[:, z], geometry, 28, rotations=7)
        assert np.abs(volume[:, z] - plane).max() < 1e-10


@settings(max_examples=6, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), more=st.integers(0, 40), batch_size=st.integers(1, 3))
def test_the_tile_size_makes_no_difference(height, width, more, batch_size):
    network = small_network(2)
    run, image = runner(network), noise(1, height, width)
    large = predict_averaged(run, image, network.geometry, 1000, rotations=7)
    tiled = predict_averaged(
        run, image, network.geometry, network.geometry.smallest_tile + more, batch_size, rotations=7
    )
    assert np.abs(tiled - large).max() < 1e-10 * max(1, np.abs(large).max())


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (30, 41)])
def test_an_even_image_stays_exactly_even(size):
    image = np.full((1, *size), 0.7)
    result = predict_averaged(itself, image, Geometry(2, "same"), rotations=7)
    np.testing.assert_allclose(result, 0.7, rtol=1e-12)


def test_probabilities_stay_probabilities():
    """Linear interpolation has no overshoot and keeps the sum of the classes at one."""

    def run(batch):
        first = (batch[:, 0] > 0).astype(np.float64)
        return np.stack([first, 1 - first], axis=1)

    result = predict_averaged(run, noise(1, 40, 50), Geometry(1, "same"), rotations=7)
    assert result.min() >= -1e-12
    assert result.max() <= 1 + 1e-12
    np.testing.assert_allclose(result.sum(axis=0), 1, atol=1e-12)
    assert ((result > 0.01) & (result < 0.99)).any()


def test_there_and_back_is_nearly_nothing_on_a_smooth_image_and_blurs_a_rough_one():
    image = smooth(1, 60, 80)
    error = predict_averaged(itself, image, Geometry(2, "same"), 40, rotations=7) - image
    assert np.abs(error).max() < 0.02 * np.abs(image).max()
    rough = noise(1, 60, 80)
    error = predict_averaged(itself, rough, Geometry(2, "same"), 40, rotations=7) - rough
    assert np.abs(error).max() > 0.1 * np.abs(rough).max()


def test_one_angle_in_seven_is_the_image_as_it_is():
    calls = []

    def run(batch):
        calls.append(batch.copy())
        return np.full_like(batch, 7.0 if len(calls) == 1 else 0.0)

    image = noise(1, 21, 30)
    geometry = Geometry(2, "same")
    result = predict_averaged(run, image, geometry, 1000, rotations=7)
    np.testing.assert_allclose(result, 1.0)
    assert len(calls) == 7
    upright = []
    predict_tiled(lambda batch: upright.append(batch.copy()) or batch, image, geometry, 1000)
    assert np.array_equal(calls[0], upright[0])


@pytest.mark.parametrize("rotations", [1, 2, 4, 8])
def test_the_exact_ones_are_those_of_predict_tiled(rotations):
    network = small_network(2)
    run, image = runner(network), noise(1, 25, 31)
    found = predict_averaged(run, image, network.geometry, 40, rotations=rotations)
    assert np.array_equal(found, predict_tiled(run, image, network.geometry, 40, symmetries=rotations))
    assert ROTATIONS == (1, 2, 4, 7, 8)


def test_a_turned_copy_reads_the_mirrored_plane_with_the_same_centre():
    plane = smooth(1, 31, 20)[0]
    quarter = Turn(math.pi / 2, plane.shape)
    (tile,) = tiles(Geometry(1, "same"), quarter.grid_size, 1000)
    copy = quarter.read(spline_coefficients(plane[None]), tile)[0]
    inside = copy[(slice(-tile.read[0][0], None), slice(-tile.read[1][0], None))]
    down, right = quarter.origin
    np.testing.assert_allclose(
        inside[3, 4], ndimage.map_coordinates(plane, [[down + 4], [right - 3]], order=3, mode="mirror")[0], rtol=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), angle=st.floats(0, 6.28))
def test_only_tiles_that_some_pixel_needs_are_computed(height, width, angle):
    turn = Turn(angle, (height, width))
    rows, columns = np.mgrid[:height, :width]
    places = (np.stack([rows, columns], -1) - turn.origin) @ turn.matrix
    assert places.min() >= 0
    assert (places <= np.array(turn.grid_size) - 1).all()
    used = np.zeros(turn.grid_size, bool)
    for corner in (np.floor, np.ceil):
        for other in (np.floor, np.ceil):
            used[corner(places[..., 0]).astype(int), other(places[..., 1]).astype(int)] = True
    for tile in tiles(Geometry(1, "same"), turn.grid_size, 16):
        if used[tile.target].any():
            assert turn.needs(tile)


def test_corners_that_hold_nothing_of_the_image_are_left_out():
    turn = Turn(math.pi / 4, (200, 200))
    todo = tiles(Geometry(1, "same"), turn.grid_size, 20)
    share = sum(turn.needs(tile) for tile in todo) / len(todo)
    assert 0.5 < share < 0.7


def test_progress_counts_every_tile_once():
    heard, n_read = [], []

    def run(batch):
        n_read.append(len(batch))
        return batch

    predict_averaged(
        run, noise(1, 50, 60), Geometry(1, "same"), 24, 4, rotations=7, progress=lambda *counts: heard.append(counts)
    )
    assert [done for done, _ in heard] == np.cumsum(n_read).tolist()
    assert {total for _, total in heard} == {sum(n_read)}


def test_memory_holds_one_turned_copy_at_a_time():
    image = noise(1, 300, 300)
    tracemalloc.start()
    predict_averaged(itself, image, Geometry(1, "same"), 64, rotations=7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The average and the spline coefficients take 1 each, a turned copy at most 2, and bringing it back 1 more.
    assert peak < 6 * image.nbytes


@pytest.mark.parametrize(
    "error, options, sentence",
    [
        (RecipeError, {"rotations": 3}, "expected 1, 2, 4, 7 or 8 rotations, found 3; choose one of these"),
        (RecipeError, {"rotations": 7, "batch_size": 0}, "expected a batch of at least 1 tile, found 0; choose 1 or"),
        (SizeError, {"rotations": 7, "tile_size": 3}, "expected tiles of at least"),
    ],
)
def test_options_that_cannot_be(error, options, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        predict_averaged(itself, noise(1, 30, 30), Geometry(3, "same"), **options)


def test_what_is_no_image_and_a_network_of_another_geometry():
    with pytest.raises(DataError, match="found float64 of shape \\(30, 30\\); normalise it, and add the channel axis"):
        predict_averaged(itself, noise(30, 30), Geometry(2, "same"), rotations=7)
    with pytest.raises(SizeError, match=r"expected the network's output to be \(batch, classes, \*size\) = \(1, K, "):
        predict_averaged(itself, noise(1, 30, 30), Geometry(2), rotations=7)
