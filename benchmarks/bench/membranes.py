"""Scores of membranes, beside those that every evaluation gives, for splits that say `membranes = true`.

A row keeps the curves of each slice, because folds are pooled: the threshold that is best for all slices together is
found only when all folds are there. The mean of each fold's own best would be more flattering.

Conventions: those of `ushape.scoring.membranes`. The map of class 1 (cell) is scored, slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ushape.data.dataset import Sample
from ushape.model import Prediction
from ushape.scoring.membranes import MembraneCurve, count_membranes, membrane_scores

__all__ = ["LEAST_PIXEL_ERROR", "MembraneTally", "pooled_scores"]

CELL = 1
LEAST_PIXEL_ERROR = "least pixel error"
"""At the best threshold, as in the challenge; `pixel error` is that of the predicted labels, as everywhere else."""
DIGITS = 6
"""Behind the point: the paper tells its warping error (0.000353) to so many."""


@dataclass
class MembraneTally:
    """Is called with each slice and its prediction; keeps the curves by the slice's name."""

    curves: dict[str, MembraneCurve] = field(default_factory=dict)

    def __call__(self, sample: Sample, prediction: Prediction) -> None:
        """Count a slice."""
        self.curves[sample.name] = count_membranes(sample.read_reference(), prediction.probabilities[CELL])

    @property
    def contents(self) -> dict[str, Any]:
        """What a row keeps: the thresholds, and each slice's scores at each of them."""
        return {
            "thresholds": list(next(iter(self.curves.values())).thresholds),
            "slices": {
                slice_name: {name: [round(value, DIGITS) for value in values] for name, values in curve.scores.items()}
                for slice_name, curve in self.curves.items()
            },
        }


def pooled_scores(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """The scores of the slices of all rows together, each at the one threshold that is best for its mean."""
    curves = [
        MembraneCurve(tuple(kept["thresholds"]), {name: tuple(values) for name, values in scores.items()})
        for kept in (row["membranes"] for row in rows)
        for scores in kept["slices"].values()
    ]
    scores = membrane_scores(curves)
    return {LEAST_PIXEL_ERROR if name == "pixel error" else name: value for name, value in scores.items()}
