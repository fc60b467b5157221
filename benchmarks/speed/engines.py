"""Ours by an engine of a name: the one place that knows how a model is told which engine to use."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ushape.model import Model

__all__ = ["with_engine"]

FIELD = "engine_name"


def with_engine(model: Model, name: str) -> Model:
    """The model that predicts with this engine; ImportError where this version has only torch."""
    if name == "torch" and FIELD not in {field.name for field in fields(Model)}:
        return model
    if FIELD not in {field.name for field in fields(Model)}:
        raise ImportError(f"the engine {name} is not in this version")
    changes: dict[str, Any] = {FIELD: name}
    return replace(model, **changes)
