"""Seconds become epochs and iterations, for the trainer beside this file.

nnU-Net's own training is 1000 epochs of 250 iterations, each followed by 50 of validation, and the learning rate falls
from epoch to epoch (a polynomial). Cut to a budget it has fewer and shorter epochs, in the same proportion of five to
one: as many as the time holds, up to 50, so that the learning rate still falls in small steps.
"""

__all__ = ["iterations_now", "plan_epochs", "validations"]

EPOCHS = 50
RATIO = 5
VALIDATION_COST = 1 / 3
"""Of a validation iteration, in training iterations: a step without its backward pass."""


def validations(iterations: int) -> int:
    """Validation iterations behind so many of training; at least one."""
    return max(1, round(iterations / RATIO))


def plan_epochs(seconds: float, each: float) -> int:
    """Epochs of five iterations or more that fit into the time; 1 to 50.

    each  seconds of a training iteration
    """
    iterations = seconds / (each * (1 + VALIDATION_COST / RATIO))
    return max(1, min(EPOCHS, int(iterations / RATIO)))


def iterations_now(seconds: float, epochs: int, each: float) -> int:
    """Training iterations of the next epoch, with `epochs` to go in so many seconds; at least one.

    each  seconds of a training iteration, with its share of validation and of saving
    """
    return max(1, int(seconds / (epochs * each)))
