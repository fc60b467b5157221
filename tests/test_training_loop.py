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
from ushape.training.recipe import Recipe
from ushape.training.rules import plan_recipe
from ushape.training.schedule import Plan

CPU = torch.device("cpu")


def recipe_of(**optimiser) -> Recipe:
    recipe = plan_recipe(DataSummary("d", "semantic", ("a", "b"), 1, 1, ((64, 64),)))
    return replace(recipe, optimiser=replace(recipe.optimiser, **optimiser))


def learn(n_steps: int, recipe: Recipe) -> tuple[list[float], torch.Tensor, float]:
    """(losses, the feature maps of the bottom in the last step, how far all weights together have moved)."""
    mask = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.int32)
    image = to_training_image(mask[None].astype(np.float32), encode(mask, recipe.encoding), 1.0, CPU)
    torch.manual_seed(0)
    # Without dropout, whose mask follows the order in memory.
    network = UNet(channels=4, depth=3, padding="same", norm="batch", dropout=0)
    batches = Batches([image], network.geometry, (32, 32), 2, replace(recipe.augmentation, noise=0.0), 0)
    state, seen = new_state(network, recipe, CPU), []
    before = [weight.detach().clone() for weight in network.parameters()]
    network.bottom.register_forward_hook(lambda module, given, answer: seen.append(answer))
    state.plans = [Plan(0, n_steps, n_steps)]
    losses = [record.loss.item() for record in train_steps(state, batches, recipe, 0, CPU, torch.float32)]
    moved = [(weight - old).detach().norm() for weight, old in zip(network.parameters(), before, strict=True)]
    return losses, seen[-1], torch.stack(moved).norm().item()


@pytest.mark.parametrize("wide", [True, False])
def test_images_and_weights_lie_as_the_processor_wants_them(wide, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: wide)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: wide)
    _, maps, _ = learn(1, recipe_of())
    assert maps.is_contiguous(memory_format=torch.channels_last) == wide
    assert maps.is_contiguous() != wide


def test_losses_do_not_depend_on_the_memory_format(monkeypatch):
    monkeypatch.setattr("ushape.training.loop.training_format", lambda device: torch.channels_last)
    last, *_ = learn(3, recipe_of())
    monkeypatch.setattr("ushape.training.loop.training_format", lambda device: torch.contiguous_format)
    first, *_ = learn(3, recipe_of())
    assert first == pytest.approx(last, rel=1e-4)


def test_a_gradient_is_shortened_to_the_length_that_is_allowed():
    """A step of plain SGD is the rate times the gradient; the rate is halved by the warm-up of one step."""

    def length(clip: float) -> float:
        return learn(1, recipe_of(name="sgd", momentum=0.0, learning_rate=0.02, warm_up=1, decay=0.0, clip=clip))[2]

    free = length(0.0) / 0.01
    assert free > 0.1
    assert length(0.05) / 0.01 == pytest.approx(0.05, rel=1e-3)
    assert length(2 * free) / 0.01 == pytest.approx(free, rel=1e-3)


def test_dropout_acts_while_a_network_learns():
    """Whatever its caller has left it in: `eval` switches dropout off."""
    losses = []
    for rate in (0.0, 0.5):
        torch.manual_seed(0)
        mask = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.int32)
        recipe = recipe_of()
        image = to_training_image(mask[None].astype(np.float32), encode(mask, recipe.encoding), 1.0, CPU)
        network = UNet(channels=4, depth=3, padding="same", dropout=rate).eval()
        batches = Batches([image], network.geometry, (32, 32), 2, recipe.augmentation, 0)
        state = new_state(network, recipe, CPU)
        state.plans = [Plan(0, 1, 1)]
        (record,) = train_steps(state, batches, recipe, 0, CPU, torch.float32)
        losses.append(record.loss.item())
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("optimiser", [{}, {"name": "sgd", "momentum": 0.99, "learning_rate": 0.001, "clip": 0.5}])
def test_no_step_on_a_gpu_waits_for_the_gpu(optimiser):
    recipe, device = recipe_of(**optimiser), torch.device("cuda")
    mask = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.int32)
    image = to_training_image(mask[None].astype(np.float32), encode(mask, recipe.encoding), 1.0, device)
    network = UNet(channels=8, depth=3, padding="same", norm="batch")
    batches = Batches([image], network.geometry, (32, 32), 2, recipe.augmentation, 0)
    state = new_state(network, recipe, device)
    state.plans = [Plan(0, 6, 6)]
    records = train_steps(state, batches, recipe, 0, device, torch.bfloat16)
    losses = [next(records).loss, next(records).loss]
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses += [record.loss for record in records]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(torch.stack(losses)).all()
