"""The training loop, in plain sight: a generator of records.

The caller decides what happens between two steps (validate, save, print, stop) and which images are learnt from at a
step; the loop only learns. What it does at
step k depends on the weights, the plans and k, and on nothing else: batch k is a function of (data, seed, k), dropout
is seeded by (seed, k), and the learning rate is a function of k and the plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ushape.network.classifier import Classifier
from ushape.network.hardware import autocast, best_dtype, in_best_format, training_format
from ushape.network.unet import UNet
from ushape.training.batches import Batch
from ushape.training.losses import total_loss
from ushape.training.muon import Muon
from ushape.training.recipe import OptimiserSettings, Recipe
from ushape.training.schedule import Plan, learning_rate_factor

__all__ = ["Record", "State", "new_state", "train_steps"]


@dataclass(frozen=True)
class Record:
    """What a step did: its number (from 1), its loss (a tensor, so that a GPU need not be waited for) and its rate."""

    step: int
    loss: Tensor
    learning_rate: float


@dataclass
class State:
    """Everything that training changes.

    average  the moving average of the network's tensors, statistics of normalisation included
    step     steps done
    plans    every plan made, by the step it was made at
    """

    network: UNet | Classifier
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0
    plans: list[Plan] = field(default_factory=list)


def make_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Muon, AdamW, or SGD with momentum (P12), fused where elements are all that counts: one pass over the weights."""
    parameters = list(network.parameters())
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, settings.learning_rate, momentum=settings.momentum, fused=True)
    if settings.name == "muon":
        # Neither the first layer, which sees a channel or three, nor the head, whose directions are the classes; nor
        # the widest kernels, of the bottom of the U and of the first way up from it: most of the arithmetic, and they
        # learn as well without it (docs/results.md).
        named = network.named_parameters()
        kernels = [weight for name, weight in named if weight.ndim > 2 and not name.startswith("head.")][1:]
        kernels = [kernel for kernel in kernels if len(kernel) < max(map(len, kernels))]
        chosen = {id(weight) for weight in kernels}
        others = [weight for weight in parameters if id(weight) not in chosen]
        dtype = best_dtype(parameters[0].device)
        return Muon(kernels, others, settings.learning_rate, settings.weight_decay, dtype)
    return torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def new_state(network: UNet | Classifier, recipe: Recipe, device: torch.device) -> State:
    """The state before the first step."""
    in_best_format(network, device, training_format(device))
    average = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return State(network, average, make_optimiser(network, recipe.optimiser))


def update_average(state: State, decay: float) -> None:
    """Move the average towards the weights; early on faster, so that it forgets the random start."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    current = state.network.state_dict()
    moving = [name for name, tensor in current.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([state.average[n] for n in moving], [current[n] for n in moving], 1 - decay)
    for name in current.keys() - set(moving):
        state.average[name].copy_(current[name])


def seed_dropout(seed: int, step: int) -> None:
    """Key the one random choice inside the network by (seed, step)."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1))


def train_steps(
    state: State,
    batches: Callable[[int], Batch],
    recipe: Recipe,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Record]:
    """Train until the last plan's end, yielding a record after each step; plans may be added in between.

    batches  gives batch k
    """
    settings, memory_format = recipe.optimiser, training_format(device)
    while state.step < state.plans[-1].stop:
        rate = settings.learning_rate * learning_rate_factor(state.step, state.plans, settings.warm_up)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        batch = batches(state.step)
        images = batch.images
        if state.network.dims == 2:
            images = images.contiguous(memory_format=memory_format)
        seed_dropout(seed, state.step)
        state.network.train()
        with autocast(device, dtype):
            logits = state.network(images)
        loss = total_loss(
            logits,
            batch.classes,
            batch.weights,
            batch.distance,
            dice=recipe.dice,
            distance_weight=recipe.distance_weight,
            smoothing=recipe.smoothing,
        )
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip:
            clip_grad_norm_(state.network.parameters(), settings.clip)
        state.optimiser.step()
        state.step += 1
        update_average(state, settings.average)
        yield Record(state.step, loss.detach(), rate)
