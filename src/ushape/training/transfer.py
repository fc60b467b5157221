"""Start from another model's network instead of from random weights.

Segmenters and classifiers have the same body, so weights go from each to each. Every tensor of the same name and shape
is taken; the first layer is refitted where the number of channels differs; the head starts anew where the classes do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ushape.errors import RecipeError
from ushape.model import Model
from ushape.training.recipe import OptimiserSettings, Recipe

__all__ = ["gentle", "like_network_of", "take_weights"]

BODY = "unet."
"""What the names of a classifier's body begin with."""
SHARED = ("channels", "depth", "norm", "scale", "padding")
"""What two networks must have in common to have the same body."""

HEADS = ("head.", "linear.")
"""What the names of the layers begin with that answer."""
MOST_TOLD = 4


def gentle(recipe: Recipe) -> Recipe:
    """The recipe with AdamW in place of Muon, for weights that have learnt something already."""
    return replace(recipe, optimiser=OptimiserSettings()) if recipe.optimiser.name == "muon" else recipe


def like_network_of(recipe: Recipe, model: Model) -> Recipe:
    """The recipe with the model's network, and with patches that are legal for it.

    RecipeError when the recipe's task cannot be done by such a network.
    """
    settings = {name: model.network.settings[name] for name in SHARED if name in model.network.settings}
    if recipe.network.head != "pixels" and settings.get("padding", "same") != "same":
        raise RecipeError(
            "expected a model with padded convolutions to start a classifier from, found padding "
            f"{settings['padding']}; start from another model"
        )
    network = replace(recipe.network, **settings)
    if network != recipe.network:
        told = ", ".join(f"{name} {getattr(network, name)}" for name in SHARED)
        reason = f"the network is that of the model to start from, whatever is said above: {told}"
        recipe = replace(recipe, reasons=(*recipe.reasons, reason))
    if network.head != "pixels":
        return replace(recipe, network=network)
    # Patches of the old network may be illegal for this one, so both change together.
    geometry = replace(recipe.geometry, depth=network.depth, padding=network.padding, scale=network.scale)
    patch = tuple(geometry.legal_at_least(n) for n in recipe.patch)
    recipe = replace(recipe, network=network, patch=patch)
    if recipe.optimiser.name != "adamw":
        return recipe
    reason = "training starts from a model, so AdamW moves the weights, more gently than Muon"
    return replace(recipe, reasons=(*recipe.reasons, reason))


def body_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The name of each tensor by its name in a plain U-Net."""
    return {name.removeprefix(BODY): name for name in tensors}


def refitted(weight: Tensor, like: Tensor) -> Tensor | None:
    """A first layer's weight for another number of input channels: their mean, scaled so that the sum stays."""
    if weight.shape[0] != like.shape[0] or weight.shape[2:] != like.shape[2:]:
        return None
    mean = weight.mean(dim=1, keepdim=True) * (weight.shape[1] / like.shape[1])
    return mean.expand_as(like).contiguous()


@torch.no_grad()
def take_weights(network: nn.Module, source: nn.Module, *, same_answers: bool) -> str:
    """Copy what fits from `source` into `network`; returns one sentence that says what did not.

    same_answers  whether both answer the same question, so that the head is taken too

    RecipeError when no convolution fits.
    """
    target, given = network.state_dict(), source.state_dict()
    names = body_of(given)
    first = next(name for name in target if target[name].ndim > 2)
    fresh: list[str] = []
    for name, tensor in target.items():
        other = None if name.startswith(HEADS) and not same_answers else names.get(name.removeprefix(BODY))
        found = None if other is None else given[other]
        if found is not None and found.shape != tensor.shape:
            found = refitted(found, tensor) if name == first else None
        if found is None:
            fresh.append(name)
        else:
            tensor.copy_(found)
    if all(name in fresh for name in target if target[name].ndim > 2):
        raise RecipeError(
            "expected a model whose network resembles the one to be trained, found none of its weights in it; "
            "start from another model"
        )
    n_fresh, n_all = (sum(target[name].numel() for name in part) for part in (fresh, list(target)))
    told = f"; new are {', '.join(fresh[:MOST_TOLD])}" if fresh else ""
    told += f" and {len(fresh) - MOST_TOLD} more" if len(fresh) > MOST_TOLD else ""
    share = math.floor(1000 * (1 - n_fresh / n_all)) / 10
    return f"started from another model's weights ({share:g} % of them{told})"
