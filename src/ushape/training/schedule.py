"""Warm-up, stable, decay: a schedule that can be brought to a good end at any moment.

The learning rate is a function of the step and of the plans made so far, never of a clock: a clock may only make or
revise a plan, and each plan is an event that is written down, so that resuming and replaying read the events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ushape.errors import RecipeError

__all__ = ["Plan", "learning_rate_factor"]


@dataclass(frozen=True)
class Plan:
    """Made at `made_at`: from step `decay_from` on the rate falls linearly, to zero at step `stop`."""

    made_at: int
    decay_from: int
    stop: int

    def __post_init__(self) -> None:
        if not self.made_at <= self.stop or not self.decay_from <= self.stop:
            raise RecipeError(
                f"expected a plan that ends after it was made and after its decay begins, found {self}; "
                "give the run more steps"
            )


def learning_rate_factor(step: int, plans: Sequence[Plan], warm_up: int) -> float:
    """The share of the base learning rate to use at `step` (from 0), in [0, 1].

    A plan made while the rate is already falling starts from the rate reached, so that no revision makes it jump; one
    made after the end of the plan before it (a finished run that is extended) begins anew.
    """
    level = 1.0
    for plan, following in zip(plans, [*plans[1:], None], strict=True):
        until = step if following is None else min(step, following.made_at)
        begin = max(plan.decay_from, plan.made_at)
        if until > begin:
            level *= max(0.0, (plan.stop - until) / (plan.stop - begin)) if plan.stop > begin else 0.0
        if following is None or step < following.made_at:
            break
        if following.made_at >= plan.stop:
            level = 1.0
    return level * min(1.0, (step + 1) / (warm_up + 1))
