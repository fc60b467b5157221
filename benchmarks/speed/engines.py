"""Ours by an engine of a name: what the benchmarks' `--engines` mean.

An int8 copy is quantised where it is asked for: by what it loses on images that the model has not seen, or, where only
time counts, from any tiles at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset
from ushape.model import Model
from ushape.prediction.choice import Engine
from ushape.prediction.openvino_engine import convert_to_openvino
from ushape.prediction.quantising import quantise_graph
from ushape.tally import score_masks
from ushape.training.int8 import quantise

__all__ = ["LOST", "foreground_dice", "keep_int8_copy", "quantised_for_time", "with_engine"]

LOST = "Dice lost"
"""The column that says what 8 bits cost."""
ANY_LOSS = 0.999
"""A row of a table shows a copy whatever it loses, and says so."""


def with_engine(model: Model, name: str) -> Model:
    """The model that predicts with this engine, which is opened, or missed, when it is first asked."""
    return replace(model, engine=cast(Engine, name))


def quantised_for_time(model: Model, tiles: Sequence[NDArray[np.float32]]) -> Model:
    """The model by an int8 copy in memory whose ranges are those of some tiles (C, *size), whatever it answers."""
    network = model.tile_network
    key = model.engines.key_of(network, model.n_class_channels)
    converted = convert_to_openvino(network, model.n_class_channels, key)
    model.engines.keep("int8", quantise_graph(converted, tiles, key))
    return with_engine(model, "int8")


def foreground_dice(model: Model, dataset: Dataset) -> float:
    """Dice of everything that is an object, over all images of a dataset."""
    pairs = []
    for sample in dataset.samples:
        labels = model.predict(sample.read_image(), axes="CYX").labels
        pairs.append((sample.name, np.minimum(sample.read_reference(), 1), np.minimum(labels, 1), True))
    return score_masks("semantic", ("background", "object"), pairs)[0]["Dice object"]


def keep_int8_copy(model: Model, data: Dataset, unseen: Dataset) -> dict[str, Any]:
    """Quantise a model with the data it was trained on and keep the copy beside its file; what it costs, as facts."""
    quantise(model, data, unseen, bound=ANY_LOSS)
    before, after = (foreground_dice(with_engine(model, engine), unseen) for engine in ("torch", "int8"))
    return {"Dice": before, "Dice of int8": after, LOST: f"{before - after:.4f}"}
