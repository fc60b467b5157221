"""The loop of tutorials, with a clock in it: epochs, a validation behind every so many, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

__all__ = ["Progress", "fit"]


@dataclass
class Progress:
    """What happened.

    epochs      that were finished before the last one
    best        the best score of a validation, and after how many steps it was reached
    weights     the network's then
    validating  seconds spent on validations
    """

    steps: int = 0
    epochs: int = 0
    best: float = -math.inf
    best_step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    validating: float = 0.0

    def judge(self, network: nn.Module, validate: Callable[[], float]) -> float:
        """Validate, and keep the weights where they are the best so far; the seconds that it took."""
        begun = time.perf_counter()
        score = validate()
        # A first score that is not a number is no reason to end without weights.
        if not self.weights or score > self.best:
            self.best, self.best_step = score, self.steps
            self.weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        seconds = time.perf_counter() - begun
        self.validating += seconds
        return seconds


def fit(
    network: nn.Module,
    epoch: Callable[[], Iterator[None]],
    validate: Callable[[], float],
    left: Callable[[], float],
    every: int,
) -> Progress:
    """Train until no other step and the last validation fit into the time that is left; at least one step.

    The network ends with its best weights.

    epoch     makes the steps of one epoch, one at each turn; never none
    validate  scores the present weights, the larger the better
    left      seconds that are left
    every     epochs between two validations
    """
    done, cost, each, judged = Progress(), 0.0, 0.0, False
    while done.steps == 0 or left() > cost + each:
        begun = time.perf_counter()
        for _ in epoch():
            done.steps, judged = done.steps + 1, False
            each = time.perf_counter() - begun
            if left() <= cost + each:
                break
            begun = time.perf_counter()
        else:
            done.epochs += 1
            if done.epochs % every == 0:
                cost, judged = done.judge(network, validate), True
    if not judged:
        done.judge(network, validate)
    network.load_state_dict(done.weights)
    return done
