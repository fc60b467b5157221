"""Networks in the form of other engines: what is converted, how it is known again, and where it lies.

A conversion takes seconds, so it is kept: in a folder beside the model file, or in memory for a model without a file.
Each one is one safetensors file, named after the engine, with its bytes as tensors and a JSON text as metadata. It
carries the key of the weights it was made from; where the file's weights have another one, it is made anew in its
place, and so is a damaged file. The folder belongs to the file: a model that was loaded and has other weights since
keeps its conversions in memory. Nothing that is read can run code.

    model.safetensors
    model.safetensors.engines/openvino.safetensors

Conventions: a converted network takes images (B, C, *size) float32 of a legal size and gives probabilities, the maps
(B, K, *out) of a segmenter or the classes (B, K) of a classifier.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from ushape.errors import RecipeError
from ushape.network.as_built import is_altered
from ushape.network.classifier import Classifier
from ushape.network.ensemble import Ensemble
from ushape.network.hardware import in_best_format
from ushape.network.unet import UNet
from ushape.prediction.engines import to_maps

__all__ = ["Conversion", "Graph", "Keys", "Network", "Shelf", "as_traced", "key_of", "weights_key"]

Network = UNet | Classifier | Ensemble
METADATA_KEY = "ushape conversion"
CONVERSION_FORMAT = 1
"""Raised when what is kept, or how it is converted, changes: older conversions are made again."""


class Graph(nn.Module):
    """The network and what turns its logits into probabilities, without checks and without a choice by size."""

    def __init__(self, network: Network, n_class_channels: int) -> None:
        super().__init__()
        self.network, self.n_class_channels = network, n_class_channels

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *size) of a legal size -> probabilities; see the module's docstring."""
        return to_maps(self.network.core(images), self.n_class_channels)


@contextmanager
def as_traced(network: Network, n_class_channels: int) -> Iterator[tuple[Graph, Tensor]]:
    """(graph, example) to convert, on the CPU: in evaluation mode, which is restored, and with small images.

    The example has two images and differs along each axis, so that no converter takes an axis for another, or for 1.
    """
    training, geometry = network.training, network.geometry
    in_best_format(network, torch.device("cpu"))
    size = [geometry.smallest_legal + (axis + 1) * geometry.stride for axis in range(network.dims)]
    example = torch.zeros((2, network.in_channels, *size))
    try:
        yield Graph(network.eval(), n_class_channels).eval(), example
    finally:
        network.train(training)


def key_of(settings: Mapping[str, Any], tensors: Mapping[str, Tensor], n_class_channels: int) -> str:
    """A hash of everything that a network computes with: equal keys, equal answers."""
    about = [CONVERSION_FORMAT, dict(sorted(settings.items())), n_class_channels]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_key(key: str) -> str:
    """Of a conversion's key the part that `key_of` gives; what made the conversion stands behind it."""
    return key.partition(" ")[0]


class Keys:
    """The key of a network as it is now; hashed anew only when its weights have changed since.

    PyTorch counts the changes of each tensor, but for those made behind its back (`tensor.data`, a NumPy view). Tensors
    of inference mode have no count and are hashed each time. The tensors of the last hash are held, so that their
    memory cannot become that of others.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, int]] = []
        self.about: tuple[object, ...] = ()
        self.key = ""

    def __call__(self, network: Network, n_class_channels: int) -> str:
        """The key; RecipeError where the network has been changed, so that its settings and weights do not tell all."""
        if is_altered(network):
            raise RecipeError(
                "expected a network as it was trained for an engine other than torch, found one that was changed, as "
                "by hooks that cut skips; choose the engine torch"
            )
        tensors, about = network.state_dict(), (n_class_channels, dict(network.settings))
        if any(tensor.is_inference() for tensor in tensors.values()):
            return key_of(network.settings, tensors, n_class_channels)
        now = [(tensor, tensor._version) for tensor in tensors.values()]
        same = about == self.about and len(now) == len(self.seen)
        same = same and all(
            one.data_ptr() == other.data_ptr() and version == before
            for (one, version), (other, before) in zip(now, self.seen, strict=True)
        )
        if not self.key or not same:
            self.key, self.seen = key_of(network.settings, tensors, n_class_channels), now
            self.about = about
        return self.key


@dataclass(frozen=True)
class Conversion:
    """One network in the form of one engine.

    key    of the weights and settings it was made from, and of the version of the engine where that matters
    parts  its bytes by name
    facts  what is worth knowing of it: versions, scores
    """

    key: str
    parts: Mapping[str, bytes]
    facts: Mapping[str, Any] = field(default_factory=dict)


def checksum(parts: Mapping[str, bytes]) -> str:
    """Of all the parts together."""
    digest = hashlib.sha256()
    for name, content in sorted(parts.items()):
        digest.update(f"|{name}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()


def read_conversion(path: Path, *, whole: bool) -> Conversion | None:
    """The conversion in a file; None where there is none, or a damaged one.

    whole  or without its parts
    """
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})[METADATA_KEY])
            parts = {name: file.get_tensor(name).tobytes() for name in file.keys()} if whole else {}  # noqa: SIM118
        if whole and about["checksum"] != checksum(parts):
            return None
        return Conversion(str(about["key"]), parts, dict(about["facts"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


class Shelf:
    """Where the conversions of one model lie: in a folder, and in memory where there is none or it cannot be written.

    folder  need not exist; None for a model without a file
    owner   gives the key of the weights that the folder's conversions are made from; None where any may lie there
    """

    def __init__(self, folder: Path | None = None, owner: Callable[[], str] | None = None) -> None:
        self.folder, self.owner = folder, owner
        self.kept: dict[str, Conversion] = {}

    @classmethod
    def beside(cls, model_file: Path, owner: Callable[[], str] | None = None) -> Shelf:
        """The shelf of a model file."""
        return cls(model_file.with_name(model_file.name + ".engines"), owner)

    def path(self, engine: str) -> Path | None:
        """The file of an engine's conversion, whether it is there or not; None without a folder."""
        return None if self.folder is None else self.folder / f"{engine}.safetensors"

    def has(self, engine: str) -> bool:
        """Whether there is a conversion, of whichever weights."""
        path = self.path(engine)
        return engine in self.kept or (path is not None and path.is_file())

    def facts(self, engine: str, key: str | None = None) -> tuple[str, dict[str, Any]] | None:
        """(key, facts) of what `read` gives, without reading all of it; the file may be damaged behind its head."""
        found = self.find(engine, key, whole=False)
        return None if found is None else (found.key, dict(found.facts))

    def read(self, engine: str, key: str | None = None) -> Conversion | None:
        """The conversion for an engine; None where there is none, or a damaged one.

        key  that it must have; None: any
        """
        return self.find(engine, key, whole=True)

    def find(self, engine: str, key: str | None, *, whole: bool) -> Conversion | None:
        """The conversion in memory or else in its file."""
        path, found = self.path(engine), self.kept.get(engine)
        if found is None or key not in (None, found.key):
            found = None if path is None else read_conversion(path, whole=whole)
        return found if found is not None and key in (None, found.key) else None

    def takes(self, conversion: Conversion) -> bool:
        """Whether the folder is the place for a conversion: not where it belongs to other weights."""
        return self.folder is not None and (self.owner is None or weights_key(conversion.key) == self.owner())

    def write(self, engine: str, conversion: Conversion) -> Path | None:
        """Keep a conversion, complete or not at all; the file, or None where it is kept in memory only."""
        path = self.path(engine)
        if path is None or not self.takes(conversion):
            self.kept[engine] = conversion
            return None
        about = {"key": conversion.key, "facts": dict(conversion.facts), "checksum": checksum(conversion.parts)}
        tensors = {name: np.frombuffer(content, np.uint8) for name, content in conversion.parts.items()}
        # Other processes may write the same conversion at the same time.
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(about)})
            os.replace(temporary, path)
        except (SafetensorError, OSError):
            # A model in a folder that cannot be written is used all the same.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            self.kept[engine] = conversion
            return None
        self.kept.pop(engine, None)
        return path
