"""Tiled equals whole: by hypothesis, against windows cut without `geometry`, and by moving tiles off the stride."""

import re
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ushape.errors import DataError, RecipeError, SizeError
from ushape.geometry import Geometry, Tile, tiles
from ushape.network.as_built import without_padding
from ushape.network.unet import UNet
from ushape.prediction.tiled import predict_tiled, predict_whole, read_tile

pytestmark = pytest.mark.usefixtures("one_thread")


@lru_cache(maxsize=64)
def network_with(depth=5, padding="valid", norm="none", scale=1, dims=2, channels=2) -> UNet:
    """A small network in double precision, evaluation mode, whose biases and running statistics are not trivial."""
    torch.manual_seed(depth)
    network = UNet(
        channels=channels, n_classes=2, depth=depth, padding=padding, norm=norm, scale=scale, dims=dims
    ).double()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(std=0.3)
    return network.eval()


def runner(network):
    """The network as a function from arrays to arrays."""

    def run(batch):
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    return run


def noise(*shape, dtype=np.float64):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def window_by_hand(network, image):
    """The whole image in one pass over a window that NumPy mirrors and plain arithmetic places on the stride."""
    settings = network.settings
    stride = settings["scale"] * 2 ** (settings["depth"] - 1)
    before = -(-settings["scale"] * 120 // stride) * stride
    remainder = -4 * settings["scale"] if settings["padding"] == "valid" else 0
    pads = [(before, before + (remainder - 2 * before - n) % stride) for n in image.shape[1:]]
    window = np.pad(image, [(0, 0), *pads], mode="reflect")
    logits = runner(network)(window[None])[0]
    lost = (window.shape[1] - logits.shape[1]) // 2
    return logits[(slice(None), *(slice(before - lost, before - lost + n) for n in image.shape[1:]))]


# Tiled is whole.

networks = {
    "depth": st.integers(2, 5),
    "padding": st.sampled_from(["valid", "same"]),
    "norm": st.sampled_from(["none", "batch"]),
    "scale": st.integers(1, 2),
}


@settings(max_examples=100, deadline=None)
@given(
    **networks,
    long=st.integers(1, 700),
    short=st.integers(1, 90),
    tall=st.booleans(),
    more=st.integers(0, 200),
    batch_size=st.integers(1, 3),
)
def test_tiled_is_whole(depth, padding, norm, scale, long, short, tall, more, batch_size):
    network = network_with(depth, padding, norm, scale)
    image = noise(1, *((long, short) if tall else (short, long)))
    # Not many more than 16 tiles, so that the test is over soon.
    tile_size = network.geometry.smallest_tile + max(more, long // 16)
    whole = window_by_hand(network, image)
    tiled = predict_tiled(runner(network), image, network.geometry, tile_size, batch_size)
    assert tiled.shape == whole.shape == (2, *image.shape[1:])
    assert tiled.dtype == np.float64
    assert np.abs(tiled - whole).max() < 1e-10
    assert np.abs(predict_whole(runner(network), image, network.geometry) - whole).max() < 1e-10
    # What was trained with padding needs none where its context can be read.
    bare = without_padding(network)
    assert bare.geometry.padding == "valid"
    tiled = predict_tiled(runner(bare), image, bare.geometry, tile_size, batch_size)
    assert np.abs(tiled - whole).max() < 1e-10


@settings(max_examples=8, deadline=None)
@given(
    depth=st.integers(1, 3),
    padding=networks["padding"],
    scale=networks["scale"],
    size=st.tuples(*[st.integers(1, 30)] * 3),
    more=st.integers(0, 12),
)
def test_tiled_is_whole_in_3_d(depth, padding, scale, size, more):
    network = network_with(depth, padding, scale=scale, dims=3, channels=1)
    image = noise(1, *size)
    tiled = predict_tiled(runner(network), image, network.geometry, network.geometry.smallest_tile + more)
    whole = predict_whole(runner(network), image, network.geometry)
    assert np.abs(tiled - whole).max() < 1e-10
    bare = without_padding(network)
    tiled = predict_tiled(runner(bare), image, bare.geometry, bare.geometry.smallest_tile + more)
    assert np.abs(tiled - whole).max() < 1e-10


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_tiled_is_whole_in_single_precision(padding, norm):
    double = network_with(5, padding, norm, channels=4)
    network = UNet(**double.settings)
    network.load_state_dict(double.state_dict())
    image = noise(1, 333, 257, dtype=np.float32)
    tiled = predict_tiled(runner(network.eval()), image, network.geometry, 300)
    assert tiled.dtype == np.float32
    # Logits of an untrained network are as large as 100, so the difference is counted in units of the largest.
    whole = window_by_hand(network, image)
    assert np.abs(tiled - whole).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_norms_that_take_their_mean_from_the_tile_break_it(norm):
    network = network_with(3, "valid", norm, channels=8)
    image = noise(1, 100, 100)
    difference = predict_tiled(runner(network), image, network.geometry, 60) - window_by_hand(network, image)
    assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth, scale", [(2, 1), (3, 1), (3, 2), (5, 1)])
def test_tiles_off_the_stride_would_break_it(padding, depth, scale):
    network = network_with(depth, padding, scale=scale)
    geometry, run = network.geometry, runner(network)
    image = noise(1, 3 * geometry.stride, 2 * geometry.stride)
    whole = predict_whole(run, image, geometry)
    (tile,) = tiles(geometry, image.shape[1:], 1000)
    reads = tuple((start, geometry.legal_at_least(stop - start) + start + geometry.stride) for start, stop in tile.read)
    for shift in range(-geometry.stride, 1):
        moved = replace(
            tile,
            read=tuple((start + shift, stop + shift) for start, stop in reads),
            offset=tuple(offset - shift for offset in tile.offset),
        )
        answer = run(read_tile(image, moved)[None])[0]
        difference = np.abs(answer[(slice(None), *moved.source)] - whole).max()
        if shift % geometry.stride == 0:
            assert difference < 1e-10
        else:
            assert difference > 1e-6


def test_a_network_without_margins_answers_as_inside_the_prediction():
    network = network_with(4, "valid")
    image = noise(1, 124, 140)
    inner = runner(network)(image[None])[0]
    tiled = predict_tiled(runner(network), image, network.geometry, 108)
    assert np.abs(tiled[:, 44:-44, 44:-44] - inner).max() < 1e-10


# What an output depends on.


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth, scale", [(1, 1), (2, 1), (3, 1), (4, 1), (1, 3), (2, 2), (3, 2)])
def test_context_is_what_the_network_depends_on(padding, depth, scale):
    network = UNet(channels=1, depth=depth, padding=padding, scale=scale).double().eval()
    with torch.no_grad():
        # Positive weights, no bias and a lit row: no ReLU cuts and no maximum hides what depends on the row.
        for tensor in network.parameters():
            tensor.copy_(torch.ones_like(tensor) if tensor.ndim > 1 else torch.zeros_like(tensor))
    geometry = network.geometry
    n = geometry.legal_at_least(2 * geometry.margin + 2 * geometry.stride)
    width = geometry.smallest_legal
    rows = np.repeat(np.eye(n)[:, None, :, None], width, axis=3)
    depends = runner(network)(rows)[:, 0, :, 0] > 0
    for index, row in enumerate(depends.T):
        start, stop = geometry.context(geometry.lost + index, geometry.lost + index + 1)
        expected = np.zeros(n, dtype=bool)
        expected[max(0, start) : stop] = True
        np.testing.assert_array_equal(row, expected)


# Reading and writing.


def test_read_tile_by_hand():
    image = np.array([[[1, 2, 3], [4, 5, 6]]])
    tile = Tile(read=((-2, 3), (1, 5)), write=((0, 1), (1, 2)), offset=(0, 0))
    expected = [[2, 3, 2, 1], [5, 6, 5, 4], [2, 3, 2, 1], [5, 6, 5, 4], [2, 3, 2, 1]]
    assert read_tile(image, tile).tolist() == [expected]


def test_the_network_is_called_with_batches_of_one_size():
    geometry, shapes, heard = Geometry(2, "same"), [], []

    def run(batch):
        shapes.append(batch.shape)
        return batch[:, [0, 1, 0]]

    image = noise(2, 20, 30, dtype=np.float32)
    result = predict_tiled(run, image, geometry, 26, batch_size=4, progress=lambda *counts: heard.append(counts))
    np.testing.assert_array_equal(result, image[[0, 1, 0]])
    assert shapes == [(4, 2, 26, 26), (2, 2, 26, 26)]
    assert heard == [(4, 6), (6, 6)]
    heard.clear()
    predict_tiled(run, image, geometry, 26, 6, symmetries=2, progress=lambda *counts: heard.append(counts))
    assert heard == [(6, 12), (12, 12)]


def test_the_default_tile_is_the_papers_and_never_too_small():
    sizes = []

    def run(batch):
        sizes.append(batch.shape[2:])
        return batch

    predict_tiled(run, np.zeros((1, 370 + 3 * 368, 10)), Geometry(5, "same"))
    predict_tiled(run, np.zeros((1, 3000, 10)), Geometry(7, "same"))
    predict_tiled(run, np.zeros((1, 86 + 2 * 88, 3, 3)), Geometry(3, "same"))
    assert [max(size) for size in sizes[:1] + sizes[5:6] + sizes[-1:]] == [560, 832, 132]


# Symmetries.


@pytest.mark.parametrize("symmetries, orders", [(1, [0]), (2, [0, 2]), (4, [0, 1, 2, 3])])
def test_the_average_over_turns_is_that_of_turned_images(symmetries, orders):
    network = network_with(3)
    run, image = runner(network), noise(1, 45, 70)
    turned = [
        np.rot90(predict_whole(run, np.rot90(image, order, (1, 2)), network.geometry), -order, (1, 2))
        for order in orders
    ]
    tiled = predict_tiled(run, image, network.geometry, 60, symmetries=symmetries)
    assert np.abs(tiled - np.mean(turned, axis=0)).max() < 1e-10


@pytest.mark.parametrize("symmetries", [2, 4, 8])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_average_turns_along_with_the_image(symmetries, dims):
    network = network_with(2, dims=dims, channels=1)
    image = noise(1, *(9, 20, 31)[-dims:])

    def predict(image):
        return predict_tiled(runner(network), image, network.geometry, 30, symmetries=symmetries)

    moves = {
        2: [lambda array: np.rot90(array, 2, (-2, -1))],
        4: [lambda array: np.rot90(array, 1, (-2, -1))],
        8: [
            lambda array: np.rot90(array, 1, (-2, -1)),
            lambda array: array[..., ::-1],
            lambda array: array.swapaxes(-1, -2),
        ],
    }
    for move in moves[symmetries]:
        assert np.abs(predict(move(image)) - move(predict(image))).max() < 1e-10


def test_eight_symmetries_are_eight_different_ones():
    geometry, seen = Geometry(1, "same"), []
    image = noise(1, 3, 3)

    def run(batch):
        seen.append(batch[0, 0, 2:5, 2:5].tobytes())
        return batch

    result = predict_tiled(run, image, geometry, symmetries=8)
    assert len(set(seen)) == 8
    np.testing.assert_allclose(result, image, rtol=1e-12)


# What is refused.


@pytest.mark.parametrize(
    "error, options, sentence",
    [
        (RecipeError, {"symmetries": 3}, "expected 1, 2, 4 or 8 symmetries to average, found 3; choose one of these"),
        (RecipeError, {"batch_size": 0}, "expected a batch of at least 1 tile, found 0; choose 1 or more"),
        (SizeError, {"tile_size": 20}, "expected tiles of at least 44 pixels"),
    ],
)
def test_options_that_cannot_be(error, options, sentence):
    with pytest.raises(error, match=re.escape(sentence)):
        predict_tiled(runner(network_with(3)), noise(1, 100, 100), Geometry(3), **options)


@pytest.mark.parametrize("image", [np.zeros((5, 5)), np.zeros((1, 5, 5), dtype=np.uint8), np.zeros((1, 1, 5, 5, 5))])
@pytest.mark.parametrize("predict", [predict_tiled, predict_whole])
def test_an_image_that_is_not_channels_first_and_floating(predict, image):
    sentence = f"found {image.dtype} of shape {image.shape}; normalise it, and add the channel axis where it is missing"
    with pytest.raises(DataError, match=re.escape(sentence)):
        predict(runner(network_with(3)), image, Geometry(3))


def test_a_network_of_another_geometry():
    with pytest.raises(SizeError, match=re.escape("= (1, K, 20, 20), found (1, 2, 60, 60); give the network's own")):
        predict_tiled(runner(network_with(3, "same")), noise(1, 20, 20), Geometry(3))
