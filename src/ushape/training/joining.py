"""One model of several that were trained alike with different seeds: their answers are averaged.

What a threshold or a size decides is the middle of what the models had chosen, until it is tuned for all together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from ushape.errors import RecipeError
from ushape.model import Model
from ushape.network.unet import UNet
from ushape.prediction.choice import Engines
from ushape.targets.instances import Decision

__all__ = ["join"]

SAME = ("task", "classes", "values", "encoding", "preparation")
"""What models must have in common so that their maps can be averaged."""


def middle(decisions: Sequence[Decision]) -> Decision:
    """The median of each field; whole numbers stay whole."""
    fields = [decision.to_dict() for decision in decisions]
    values: dict[str, Any] = {name: median(each[name] for each in fields) for name in fields[0]}
    return Decision(**{name: type(fields[0][name])(value) for name, value in values.items()})


def join(models: Sequence[Model]) -> Model:
    """The model that answers with the mean of the models' answers; its facts are those of the first.

    RecipeError for models that do not tell the same of the same images, or whose networks differ in their settings.
    """
    first = models[0]
    networks = [network for model in models for network in (model.network, *model.others)]
    for model in models[1:]:
        different = [name for name in SAME if getattr(model, name) != getattr(first, name)]
        different += ["network"] * (model.network.settings != first.network.settings)
        if different:
            raise RecipeError(
                "expected models that were trained alike, with different seeds, to average their answers, found "
                f"another {' and '.join(different)} in one of them; train them on the same data by the same recipe"
            )
    others = tuple(network for network in networks[1:] if isinstance(network, UNet))
    if len(others) < len(networks) - 1:
        raise RecipeError("expected segmenters to average their answers, found classifiers; use them one by one")
    decision = middle([model.decision for model in models])
    # Conversions of the first model are not of all.
    return replace(first, others=others, decision=decision, facts=dict(first.facts), engines=Engines())
