"""The model file: tensors, and the JSON that says what they are, in one safetensors file.

The JSON lies under the metadata key `ushape`; it holds the format's number and the PARTS. A file of a newer format, one
that is damaged and one of another program are each refused with a sentence. Nothing that is read can run code.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ushape.errors import ModelFileError, UshapeError
from ushape.network.as_built import settings_without_padding
from ushape.prediction.choice import CPU_ENGINES, key_by
from ushape.prediction.conversions import Shelf, key_of, weights_key
from ushape.targets.maps import Encoding

__all__ = [
    "FORMAT_VERSION",
    "describe_model",
    "model_path",
    "read_settings",
    "read_tensors",
    "shelf_of",
    "whole_file",
    "write_model",
]

FORMAT_VERSION = 2
METADATA_KEY = "ushape"
INT8_FACTS = {"score": str, "float": float, "int8": float, "data": str}
"""What an int8 copy tells of itself, beside versions."""
PARTS = ("network", "preparation", "task", "classes", "encoding", "decision", "precision", "tile_size", "facts")
"""What the JSON holds beside the number of its format."""


def model_path(path: Path | str) -> Path:
    """The model file that `path`, a file or a run folder, stands for."""
    path = Path(path)
    return path / "model.safetensors" if path.is_dir() else path


def write_model(path: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model file, complete or not at all; `settings` are PARTS and what else is worth keeping."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    # What one network is enough for can be read by releases that know no others.
    number = FORMAT_VERSION if "members" in settings["network"] else 1
    about = {METADATA_KEY: json.dumps({"format": number, **settings})}
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, about)
    except SafetensorError as error:
        raise ModelFileError(
            f"{path}: expected to write the model there, but it failed ({error}); check the path and the space left"
        ) from error
    os.replace(temporary, path)


@contextmanager
def whole_file(path: Path) -> Iterator[None]:
    """Turn whatever a file without one of its parts leads to into one ModelFileError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UshapeError) as error:
        raise ModelFileError(
            f"{path}: expected a complete model file, found one that lacks or contradicts something "
            f"({' '.join(str(error).split())[:120]}); train or copy the model again"
        ) from error


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON of a model file; ModelFileError when it is missing, damaged, of another kind or of a newer format."""
    if not path.is_file():
        raise ModelFileError(
            f"{path}: expected a model file or a run folder with model.safetensors, found neither; check the path, or "
            "train a model first with `ushape train`"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path}: expected a model file (safetensors), found something else or a damaged file "
            f"({' '.join(str(error).split())[:100]}); use the model.safetensors of a run folder"
        ) from error
    if text is None:
        raise ModelFileError(
            f"{path}: expected a model that ushape saved, found tensors of another program; "
            "use the model.safetensors of a run folder"
        )
    with whole_file(path):
        settings: dict[str, Any] = json.loads(text)
        if settings["format"] <= FORMAT_VERSION:
            # Asks for each part by its name, so that a missing one is told here.
            return settings | {part: settings[part] for part in PARTS}
    raise ModelFileError(
        f"{path}: expected model format {FORMAT_VERSION} or older, found {settings['format']}; "
        "update ushape to use this model"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a model file that `read_settings` has read."""
    with warnings.catch_warnings(), safe_open(path, framework="pt") as file:
        warnings.simplefilter("ignore")
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def key_of_file(path: Path) -> str:
    """The key of the network in a model file as it is now; empty where there is no such file any more."""
    try:
        settings = read_settings(path)
        with whole_file(path):
            classifier, encoding = settings["task"] == "classification", Encoding.from_dict(settings["encoding"])
            n = settings["network"]["n_classes"] if classifier else encoding.n_class_channels
            # Conversions are made of what runs on tiles, `Model.tile_network`.
            network = settings["network"] if classifier else settings_without_padding(settings["network"])
            return key_of(network, read_tensors(path), n)
    except (ModelFileError, SafetensorError, OSError):
        return ""


def shelf_of(path: Path) -> Shelf:
    """Where conversions of the network in a model file are kept, and of no other: a loaded model may change."""
    return Shelf.beside(path, partial(key_of_file, path))


def describe_conversions(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """({engine: what is known of its conversion beside the file}, {engine: why its conversion is not used})."""
    shelf = shelf_of(path)
    found = {engine: facts for engine in CPU_ENGINES if (facts := shelf.facts(engine)) is not None}
    if not found:
        return {}, {}
    key = key_of_file(path)
    fitting = {engine: facts for engine, (made_of, facts) in found.items() if made_of == key_by(engine, key)}
    unused = {
        engine: unused_line(engine, weights_key(made_of) != key)
        for engine, (made_of, _) in found.items()
        if engine not in fitting
    }
    return fitting, unused


def conversion_line(engine: str, facts: dict[str, Any]) -> str:
    """One line for a person."""
    if engine != "int8":
        return "converted"
    known = all(isinstance(facts.get(name), kind) for name, kind in INT8_FACTS.items())
    if not known:
        return "quantised; what it scored is not known"
    return f"quantised; {facts['score']} {facts['float']:.4f} in float, {facts['int8']:.4f} in int8 on {facts['data']}"


def unused_line(engine: str, other_weights: bool) -> str:
    """One line for a person about a conversion of other weights, or by another version of what converts."""
    if not other_weights:
        return "converted by another version, and not used; made anew when it is asked for"
    again = "make it anew with `ushape quantise`" if engine == "int8" else "made anew when it is asked for"
    return f"stale: of other weights than the model's, or by an older version, and not used; {again}"


def describe_model(path: Path | str) -> tuple[dict[str, Any], str]:
    """(settings, text): what a model file says of itself, without loading its tensors into a network."""
    path = model_path(path)
    settings = read_settings(path)
    with whole_file(path):
        network, facts, preparation = settings["network"], settings["facts"], settings["preparation"]
        tiling = "equals the whole image" if network["norm"] in ("none", "batch") else "depends on the tile"
        lines = {
            "task": f"{settings['task']} of {', '.join(settings['classes'])}",
            "network": ", ".join(f"{name} {value}" for name, value in network.items()),
            "images": f"{preparation['channels']} channels, {preparation['dims']} axes, "
            f"normalised by the {preparation['normalisation']}",
            "tiled prediction": tiling,
            "decision": ", ".join(f"{name} {value}" for name, value in settings["decision"].items()),
            "rotations": f"{settings.get('rotations', 1)}, averaged when nobody asks for another number",
            "trained on": f"{facts.get('data', 'unknown data')}, {facts.get('n_images', '?')} images, "
            f"{facts.get('steps', '?')} steps, seed {facts.get('seed', '?')}",
        }
        if settings.get("values"):
            named = zip(settings["values"], settings["classes"], strict=True)
            lines["labels"] = ", ".join(f"{value} {name}" for value, name in named)
        scores = facts.get("validation scores, used for choosing", {})
        shown = [name for name in ("AP@0.5", "SEG", "mean Dice") if name in scores]
        lines |= {f"validation {name}": f"{scores[name]:.4f}" for name in shown}
        if (step := facts.get("refit from step")) is not None:
            weights = "before the end of each training" if network.get("members", 1) > 1 else f"up to step {step}"
            lines["validated"] = f"by weights {weights}; after it the held-out images were learnt from too"
        engines, unused = describe_conversions(path)
        lines |= {f"engine {engine}": conversion_line(engine, about) for engine, about in engines.items()}
        lines |= {f"engine {engine}": why for engine, why in unused.items()}
    width = max(map(len, lines))
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())
    return settings | {"engines": engines, "stale_engines": list(unused)}, text
