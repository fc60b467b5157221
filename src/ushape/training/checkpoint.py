"""Checkpoints: the whole state of a run in one safetensors file, replaced atomically.

A run that was killed at any moment continues from its last checkpoint and, on a CPU, ends with the same weights as one
that was not (a GPU adds in changing order): batches, dropout and learning rate are functions of the step, so tensors,
plans and counters are the whole state; one of the counters is the step after which the held-out images are learnt from
too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ushape.errors import ModelFileError
from ushape.training.loop import State
from ushape.training.schedule import Plan

__all__ = ["load_checkpoint", "save_checkpoint", "write_lines", "write_text"]

METADATA_KEY = "ushape-checkpoint"


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may be in no encoding
    os.replace(temporary, path)


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as JSON lines, complete or not at all."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def state_tensors(state: State, best: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of the state under one flat name."""
    tensors = {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in state.average.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for index, values in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
    # Clones, because safetensors refuses tensors that share memory; contiguous, because it stores rows.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def save_checkpoint(path: Path, state: State, best: dict[str, Tensor], notes: dict[str, Any]) -> None:
    """Write state, best weights and notes (JSON) to `path`, complete or not at all; ModelFileError when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, plans = type(state.optimiser).__name__, [asdict(plan) for plan in state.plans]
    text = json.dumps({"step": state.step, "optimiser": kind, "plans": plans, "notes": notes})
    temporary = path.with_name(path.name + ".part")
    try:
        save_file(state_tensors(state, best), temporary, metadata={METADATA_KEY: text})
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path}: expected to write the checkpoint there, but it failed ({error}); check the path and the space"
        ) from error


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix/`, without it."""
    return {name.removeprefix(prefix + "/"): t for name, t in tensors.items() if name.startswith(prefix + "/")}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the moments back, in the memory format of their weights, as an uninterrupted run has them."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for name, tensor in tensors.items():
        index, key = name.split("/")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False)
            value.copy_(tensor)
        else:
            value = tensor.to(parameter.device)
        optimiser.state[parameter][key] = value


def load_checkpoint(path: Path, state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore the state in place; returns (best weights, notes). ModelFileError when the file does not fit."""
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})[METADATA_KEY])
            # Clones, because what is read is a view of the file, which Windows would not let be replaced meanwhile.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        state.network.load_state_dict(under(tensors, "network"))
        for name, tensor in under(tensors, "average").items():
            state.average[name].copy_(tensor)
        kind = type(state.optimiser).__name__
        if (made_by := settings.get("optimiser", kind)) != kind:
            raise ValueError(f"its optimiser is {made_by}, not {kind}")
        restore_optimiser(state.optimiser, under(tensors, "optimiser"))
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"{path}: expected the checkpoint of a run with this recipe, found one that does not fit "
            f"({' '.join(str(error).split())[:120]}); train anew into another folder"
        ) from error
    state.step, state.plans = settings["step"], [Plan(**plan) for plan in settings["plans"]]
    return under(tensors, "best"), settings["notes"]
