"""The loop learns the same, however images and weights lie in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ushape.network.unet import UNet
from ushape.targets.maps import encode
from ushape.training.batches import Batches, to_training_image
from ushape.training.examples import DataSummary
from ushape.training.loop import new_state, train_steps
from ushape.training.rules import plan_recipe
from ushape.training.schedule import Plan

CPU = torch.device("cpu")


def learn(n_steps: int) -> tuple[list[float], torch.Tensor]:
    """(losses, the feature maps of the bottom in the last step)."""
    recipe = plan_recipe(DataSummary("d", "semantic", ("a", "b"), 1, 1, ((64, 64),)))
    mask = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.int32)
    image = to_training_image(mask[None].astype(np.float32), encode(mask, recipe.encoding), 1.0, CPU)
    torch.manual_seed(0)
    # Without dropout, whose mask follows the order in memory.
    network = UNet(channels=4, depth=3, padding="same", norm="batch", dropout=0)
    batches = Batches([image], network.geometry, (32, 32), 2, replace(recipe.augmentation, noise=0.0), 0)
    state, seen = new_state(network, recipe, CPU), []
    network.bottom.register_forward_hook(lambda module, given, answer: seen.append(answer))
    state.plans = [Plan(0, n_steps, n_steps)]
    losses = [record.loss.item() for record in train_steps(state, batches, recipe, 0, CPU, torch.float32)]
    return losses, seen[-1]


@pytest.mark.parametrize("wide", [True, False])
def test_images_and_weights_lie_as_the_processor_wants_them(wide, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: wide)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: wide)
    _, maps = learn(1)
    assert maps.is_contiguous(memory_format=torch.channels_last) == wide
    assert maps.is_contiguous() != wide


def test_losses_do_not_depend_on_the_memory_format(monkeypatch):
    monkeypatch.setattr("ushape.training.loop.training_format", lambda device: torch.channels_last)
    last, _ = learn(3)
    monkeypatch.setattr("ushape.training.loop.training_format", lambda device: torch.contiguous_format)
    first, _ = learn(3)
    assert first == pytest.approx(last, rel=1e-4)
