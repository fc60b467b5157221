import re

import numpy as np
import pytest
import torch

from ushape.errors import DataError, RecipeError
from ushape.network.as_built import without_padding
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.prediction.gradients import (
    Question,
    _asked,
    extent,
    given_class,
    gradient,
    influence,
    log_odds,
    mean_influence,
    reads,
    saliency,
)
from ushape.prediction.tiled import predict_whole


def network_of(**settings) -> UNet:
    torch.manual_seed(0)
    return UNet(**({"channels": 4, "depth": 3, "padding": "same", "dropout": 0.0, "n_classes": 3} | settings)).eval()


def image_of(*size: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, *size)).astype(np.float32)


def only(size: tuple[int, ...], *places: tuple[int, ...]) -> np.ndarray:
    where = np.zeros(size, bool)
    for place in places:
        where[place] = True
    return where


def odds_of(network, image: np.ndarray, target: int, where: np.ndarray | None) -> float:
    """The mean log odds by NumPy alone, of the prediction on the mirrored plane, in double precision."""

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(pixels)).numpy()

    network.double()
    image = image.astype(np.float64)
    logits = run(image[None])[0][:, None] if where is None else predict_whole(run, image, network.geometry)[:, where]
    network.float()
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    return float(np.mean(np.log(p[target] / (1 - p[target]))))


def by_differences(network, image: np.ndarray, target: int, where: np.ndarray | None, places) -> np.ndarray:
    """Central differences at some pixels, in steps small enough to cross few kinks."""
    found = []
    for place in places:
        step = np.zeros(image.shape)
        step[place] = 1e-5
        more, less = (odds_of(network, image + sign * step, target, where) for sign in (1, -1))
        found.append((more - less) / 2e-5)
    return np.array(found)


def test_log_odds_by_hand():
    logits = torch.tensor([[[0.0], [1.0], [2.0]]])
    p = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    for k in range(3):
        assert log_odds(logits, k)[0, 0].item() == pytest.approx(np.log(p[k] / (1 - p[k])), abs=1e-6)
    # With two classes and a distance behind them it is the difference of two logits, and the distance's own logit.
    assert log_odds(logits, 1, 2)[0, 0].item() == pytest.approx(1.0)
    assert log_odds(logits, 2, 2)[0, 0].item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 1, "padding": "valid"},
        {"depth": 2, "padding": "valid"},
        {"depth": 3},
        {"depth": 2, "scale": 2, "in_channels": 2},
        {"depth": 2, "padding": "valid", "norm": "batch"},
    ],
)
def test_a_segmenter_against_finite_differences(settings):
    network = network_of(**settings)
    image = image_of(13, 17, channels=settings.get("in_channels", 1))
    where = only((13, 17), (0, 3), (5, 6), (12, 16))
    found = gradient(network, image, 1, where)
    assert found.shape == image.shape
    assert found.dtype == np.float32
    rng = np.random.default_rng(0)
    # The corners too: there a pixel is read several times, by its mirror images.
    places = [(0, 0, 0), (0, 12, 16), (0, 1, 3), *((0, int(rng.integers(13)), int(rng.integers(17))) for _ in range(8))]
    expected = by_differences(network, image, 1, where, places)
    np.testing.assert_allclose([found[place] for place in places], expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("head", ["decoder", "bottom"])
def test_a_classifier_against_finite_differences(head):
    torch.manual_seed(0)
    network = Classifier(2, 3, 4, 3, head=head).eval()
    image = image_of(10, 9, channels=2)
    found = gradient(network, image, 2)
    places = [(0, 0, 0), (1, 9, 8), (0, 4, 4), (1, 5, 2), (0, 9, 0)]
    expected = by_differences(network, image, 2, None, places)
    np.testing.assert_allclose([found[place] for place in places], expected, rtol=1e-3, atol=1e-6)
    assert np.abs(expected).max() > 1e-5


def test_saliency_of_one_level_by_hand():
    """One channel and weights of 1: the log odds are a sum over 5x5 pixels, the middle one nine times."""
    network = network_of(channels=1, depth=1, padding="valid", n_classes=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
        network.head.weight[0] = 0
    image = np.ones((1, 11, 11), np.float32)
    line = np.array([0, 0, 0, 1, 2, 3, 2, 1, 0, 0, 0])
    np.testing.assert_allclose(influence(network, image, (5, 5), 1), np.outer(line, line))
    np.testing.assert_allclose(influence(network, image, (5, 5), 0), np.outer(line, line))
    # At the corner the mirrored pixels are the image's own: (3, 2, 1) and (2, 1) of the other side on top.
    corner = np.array([3, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(influence(network, image, (0, 0), 1), np.outer(corner, corner))


def test_the_length_over_the_channels():
    network, image = network_of(in_channels=3), image_of(12, 12, channels=3)
    where = only((12, 12), (4, 4))
    expected = np.sqrt((gradient(network, image, 1, where).astype(float) ** 2).sum(axis=0))
    np.testing.assert_allclose(saliency(network, image, 1, where), expected, rtol=1e-5)
    np.testing.assert_allclose(influence(network, image, (4, 4), 1), expected, rtol=1e-5)


def test_nothing_outside_of_what_is_read_has_influence():
    network, image = network_of(channels=2, padding="valid"), image_of(100, 100)
    (top, bottom), (left, right) = reads(network, (50, 41))
    found = influence(network, image, (50, 41))
    inside = found[top:bottom, left:right]
    assert (top, left) >= (0, 0)
    assert (bottom, right) <= (100, 100)
    assert (bottom - top, right - left) == (44, 44)
    assert found.sum() == pytest.approx(inside.sum())
    assert (inside > 0).mean() > 0.1


@pytest.mark.parametrize("scale", [1, 2])
def test_the_same_weights_without_padding_read_the_same_pixels(scale):
    network, image = network_of(norm="batch", scale=scale), image_of(90, 90)
    bare = without_padding(network)
    assert bare.geometry != network.geometry
    for place in [(5, 40), (38, 41), (89, 0)]:
        assert reads(bare, place) == reads(network, place)
        first = place[0] // scale * scale
        assert reads(bare, place)[0] == bare.geometry.context(first, first + scale)
        expected = influence(network, image, place)
        np.testing.assert_allclose(influence(bare, image, place), expected, rtol=1e-4, atol=1e-6)


def test_touching_a_pixel_outside_of_what_is_read_changes_nothing():
    network, image = network_of(channels=2), image_of(64, 64)
    place = (30, 33)
    (top, bottom), (left, right) = reads(network, place)

    def answer(pixels: np.ndarray) -> float:
        return odds_of(network, pixels, 1, only((64, 64), place))

    before = answer(image)
    outside = np.ones((64, 64), bool)
    outside[top:bottom, left:right] = False
    assert answer(np.where(outside, 100.0, image)) == before
    changed = [answer(np.where(only((64, 64), (row, left)), 9.0, image)) for row in range(top, bottom)]
    assert any(value != before for value in changed)


@pytest.mark.parametrize("head,width", [("decoder", 44), ("bottom", 32)])
def test_what_a_classifiers_features_read(head, width):
    torch.manual_seed(0)
    network = Classifier(1, 3, 6, 3, head=head).eval()
    (top, bottom), (left, right) = reads(network, (30, 31))
    assert bottom - top == right - left == width
    found = influence(network, image_of(64, 64), (30, 31))
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    # Pooling lets one of two pixels through, at each of two levels.
    for seen, start, stop in ((rows, top, bottom), (columns, left, right)):
        assert start <= seen.min() <= start + 4
        assert stop - 4 <= seen.max() + 1 <= stop


@pytest.mark.parametrize("head", ["decoder", "bottom"])
def test_the_places_of_a_classifier_make_up_its_answer(head):
    """The linear layer of a mean is the mean of the linear layer."""
    torch.manual_seed(0)
    network, image = Classifier(1, 3, 6, 3, scale=2, head=head).eval(), image_of(16, 24)
    with torch.no_grad():
        whole = network(torch.from_numpy(image)[None])[0]
        pixels = torch.from_numpy(image)[None]
        everywhere = Question(0, np.ones((16, 24), bool))
        places = _asked(network, pixels, everywhere, (0, 0))
    torch.testing.assert_close(places.mean(dim=2)[0], whole)


def test_the_class_that_is_given():
    network, image = network_of(), image_of(24, 24)
    where = only((24, 24), (3, 4))
    odds = [odds_of(network, image, k, where) for k in range(3)]
    assert given_class(network, image, where) == int(np.argmax(odds))
    np.testing.assert_array_equal(
        gradient(network, image, None, where), gradient(network, image, int(np.argmax(odds)), where)
    )


def test_smoothed_is_the_mean_of_noisy_gradients():
    network, image = network_of(), image_of(16, 16)
    where = only((16, 16), (8, 8))
    rng = np.random.default_rng(7)
    sigma = 0.2 * np.ptp(image)
    noisy = [gradient(network, image + sigma * rng.standard_normal(image.shape), 1, where) for _ in range(3)]
    expected = np.abs(np.mean(noisy, axis=0)[0])
    found = saliency(network, image, 1, where, n_samples=3, noise=0.2, seed=7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_noise_does_not_change_the_question():
    network, image = network_of(depth=2), image_of(32, 32)
    where = only((32, 32), (16, 16))
    with torch.no_grad():
        # A close decision: all logits are nearly the same there, far from the frame.
        network.head.bias -= network(torch.from_numpy(image)[None])[0, :, 16, 16] - torch.tensor([0.0, 0.01, 0.0])
    chosen = given_class(network, image, where)
    assert chosen == 1
    options = {"n_samples": 8, "noise": 2.0}
    expected = saliency(network, image, chosen, where, **options)
    np.testing.assert_array_equal(saliency(network, image, None, where, **options), expected)
    # Some of the noisy copies alone would be of another class.
    rng = np.random.default_rng(0)
    noisy = [image + 2 * np.ptp(image) * rng.standard_normal(image.shape) for _ in range(8)]
    assert {given_class(network, copy, where) for copy in noisy} != {chosen}


def test_mean_influence_of_one_level():
    network = network_of(channels=2, depth=1, padding="valid", n_classes=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
        network.head.weight[0] = 0
    found = mean_influence(network, np.ones((1, 9, 8), np.float32), n_places=5)
    line = np.array([1, 2, 3, 2, 1]) / 9
    np.testing.assert_allclose(found, np.outer(line, line), rtol=1e-5)


def test_mean_influence_lies_in_the_middle():
    network = network_of(channels=2, depth=2)
    found = mean_influence(network, image_of(40, 40), n_places=6)
    radius = network.geometry.reach
    assert found.shape == (2 * radius + 1, 2 * radius + 1)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert extent(found, 0.5) < extent(found, 0.95) < radius


def test_extent_by_hand():
    field = np.zeros((7, 7))
    field[3, 3], field[3, 4], field[0, 0] = 5, 3, 2
    assert [extent(field, share) for share in (0.4, 0.5, 0.6, 0.8, 0.9, 1.0)] == [0, 0, 1, 1, 3, 3]


def test_a_volume():
    network = network_of(dims=3, depth=2, channels=6)
    found = influence(network, image_of(6, 10, 12), (3, 4, 5))
    assert found.shape == (6, 10, 12)
    assert found.max() > 0


def test_the_networks_mode_and_weights_are_kept():
    network = network_of().train()
    gradient(network, image_of(16, 16), 0, only((16, 16), (0, 0)))
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_segmenter_must_be_told_which_pixels():
    words = "because a segmenter answers for each, found none; give `where`, a mask of the image's size$"
    with pytest.raises(DataError, match=words):
        gradient(network_of(), image_of(16, 16), 0)


@pytest.mark.parametrize("size,n", [((16, 15), 1), ((16, 16), 0)])
def test_a_mask_that_does_not_fit(size, n):
    where = np.zeros(size, bool)
    where[:n, :1] = True
    words = f"of the image's size (16, 16) with at least one pixel, found {size} with {n}; mark the pixels"
    with pytest.raises(DataError, match=re.escape(words)):
        gradient(network_of(), image_of(16, 16), 0, where)


def test_a_pixel_outside_the_image():
    words = r"^expected a pixel inside the image of size \(16, 16\), found \(16, 0\); choose another$"
    with pytest.raises(DataError, match=words):
        influence(network_of(), image_of(16, 16), (16, 0))


def test_a_class_that_is_not_there():
    words = "^expected a class or channel from 0 to 2, found 3; choose one of these$"
    with pytest.raises(RecipeError, match=words):
        influence(network_of(), image_of(16, 16), (0, 0), 3)


def test_no_samples():
    with pytest.raises(RecipeError, match=r"^expected at least 1 sample to average, found 0; 1 is the plain gradient$"):
        saliency(network_of(), image_of(16, 16), 0, only((16, 16), (0, 0)), n_samples=0)
