"""An engine gives probabilities, and leaves the network as it was."""

import numpy as np
import torch

from ushape.network.unet import UNet
from ushape.prediction.engines import TorchEngine, to_maps


def test_maps_are_probabilities_and_a_distance():
    maps = to_maps(torch.randn(2, 4, 5, 6), 3)
    torch.testing.assert_close(maps[:, :3].sum(dim=1), torch.ones(2, 5, 6))
    assert maps[:, 3].min() >= 0
    assert maps[:, 3].max() <= 1


def test_float64_stays_float64_and_the_mode_is_restored():
    network = UNet(channels=2, depth=2, padding="same").double().train()
    engine = TorchEngine(network, 2, torch.device("cpu"), torch.float32)
    tiles = np.random.default_rng(0).normal(size=(1, 1, 8, 8))
    first, second = engine(tiles), engine(tiles)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(first, second)  # dropout is off
    assert network.training


def test_half_the_mantissa_changes_little():
    torch.manual_seed(0)
    network = UNet(channels=8, depth=3, padding="same")
    tiles = np.random.default_rng(0).normal(size=(1, 1, 32, 32)).astype(np.float32)
    exact = TorchEngine(network, 2, torch.device("cpu"), torch.float32)(tiles)
    fast = TorchEngine(network, 2, torch.device("cpu"), torch.bfloat16)(tiles)
    assert fast.dtype == np.float32
    assert abs(fast - exact).max() < 0.05
