import numpy as np
import pytest
import torch

from ushape.errors import RecipeError
from ushape.network.classifier import Classifier
from ushape.network.skips import n_skips, without_skips
from ushape.network.unet import UNet


def network_of(**settings) -> UNet:
    torch.manual_seed(0)
    return UNet(**({"channels": 4, "depth": 3, "padding": "same", "dropout": 0.0} | settings)).eval()


@torch.no_grad()
def logits_of(network, images=None) -> np.ndarray:
    torch.manual_seed(1)
    return network(torch.randn(2, 1, 16, 16) if images is None else images).numpy()


def silence_skip(network: UNet, level: int) -> None:
    """The weights that read a skip become 0: the first half of the channels that enter the block."""
    up = network.up[len(network.up) - 1 - level]
    with torch.no_grad():
        weight = up.block[0].weight
        weight[:, : weight.shape[1] // 2] = 0


@pytest.mark.parametrize("filling", ["zero", "mean"])
@pytest.mark.parametrize("level", [0, 1])
def test_a_skip_that_is_read_with_weights_of_0_is_not_missed(level, filling):
    network = network_of()
    silence_skip(network, level)
    full = logits_of(network)
    with without_skips(network, level, filling):
        np.testing.assert_array_equal(logits_of(network), full)
    with without_skips(network, 1 - level, filling):
        assert np.abs(logits_of(network) - full).max() > 0.01


@pytest.mark.parametrize("level", [0, 1])
def test_zeros_are_what_silent_weights_give(level):
    network, silent = network_of(), network_of()
    silence_skip(silent, level)
    with without_skips(network, level):
        np.testing.assert_allclose(logits_of(network), logits_of(silent), atol=1e-6)


def test_several_at_once():
    network, silent = network_of(), network_of()
    silence_skip(silent, 0)
    silence_skip(silent, 1)
    with without_skips(network, (0, 1)):
        np.testing.assert_allclose(logits_of(network), logits_of(silent), atol=1e-6)


def test_the_mean_of_a_constant_map_changes_nothing():
    """Without padding a constant image makes constant maps, which are their own mean."""
    network = network_of(padding="valid")
    images = torch.full((1, 1, 44, 44), 0.7)
    full = logits_of(network, images)
    with without_skips(network, (0, 1), "mean"):
        np.testing.assert_allclose(logits_of(network, images), full, atol=1e-5)
    with without_skips(network, (0, 1), "zero"):
        assert np.abs(logits_of(network, images) - full).max() > 1e-3


def test_the_mean_is_of_each_image_and_channel():
    network = network_of()
    torch.manual_seed(3)
    images = torch.randn(2, 1, 16, 16)
    with without_skips(network, 0, "mean"):
        together, alone = logits_of(network, images), logits_of(network, images[1:])
    np.testing.assert_allclose(together[1:], alone, atol=1e-5)


def test_the_skips_are_back_behind_the_block_even_after_an_error():
    network = network_of()
    full = logits_of(network)
    with pytest.raises(KeyError), without_skips(network, 0):
        raise KeyError
    np.testing.assert_array_equal(logits_of(network), full)


def test_a_classifier_has_those_of_its_way_up():
    torch.manual_seed(0)
    network = Classifier(1, 3, 4, 3).eval()
    full = logits_of(network)
    assert n_skips(network) == 2
    with without_skips(network, 0):
        assert np.abs(logits_of(network) - full).max() > 1e-4


def test_a_level_that_is_not_there():
    words = "^expected the level of a skip connection, one of 0 to 1, found 2; choose another$"
    with pytest.raises(RecipeError, match=words), without_skips(network_of(), 2):
        pass


def test_a_network_without_skips():
    network = Classifier(1, 3, 4, 3, head="bottom")
    assert n_skips(network) == 0
    words = "none, because this network has no way up, found 0; choose another$"
    with pytest.raises(RecipeError, match=words), without_skips(network, 0):
        pass


def test_an_unknown_filling():
    words = r"^expected a skip to be filled by \('zero', 'mean'\), found 'noise'; choose one of them$"
    with pytest.raises(RecipeError, match=words), without_skips(network_of(), 0, "noise"):
        pass
