"""Ours by an engine of a name: what the benchmarks' `--engines` mean."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ushape.model import Model
from ushape.prediction.choice import Engine

__all__ = ["with_engine"]


def with_engine(model: Model, name: str) -> Model:
    """The model that predicts with this engine, which is opened, or missed, when it is first asked."""
    return replace(model, engine=cast(Engine, name))
