"""Which engine runs a network, and how it is brought to run.

    torch        everywhere, in any precision; nothing is converted
    openvino     CPUs; in bfloat16 where the processor has it, as PyTorch
    int8         CPUs; a network that `ushape quantise` made and scored, through OpenVINO
    onnxruntime  CPUs; float32
    auto         on a CPU openvino, where a conversion lies there; `ushape predict` makes one where so much is to be
                 predicted that it pays; else, and for classifiers, torch

All but torch take float32 images: float64 is refused, because they would round it without a word.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ushape.errors import RecipeError, UshapeError
from ushape.network.classifier import Classifier
from ushape.prediction.conversions import Conversion, Keys, Network, Shelf
from ushape.prediction.onnx_engine import OnnxRunner, convert_to_onnx, need_onnx, need_onnxruntime
from ushape.prediction.openvino_engine import OpenVinoRunner, convert_to_openvino, need_openvino
from ushape.prediction.packages import version_of
from ushape.prediction.tiled import Runner

__all__ = [
    "CPU_ENGINES",
    "ConvertedEngine",
    "Engine",
    "Engines",
    "WithWayBack",
    "check_engine",
    "converting_pays",
    "key_by",
    "open_engine",
    "runs_openvino",
]

CONVERTING_PAYS = 3e8
"""Pixels of the working grid times channels of the first level from which on a conversion to OpenVINO, of two to three
seconds, is made up for: it takes 0.7 of PyTorch's time (docs/performance.md). 19 megapixels with 16 channels, 5 with
64."""
Engine = Literal["auto", "torch", "openvino", "int8", "onnxruntime"]
CPU_ENGINES = ("openvino", "int8", "onnxruntime")
CONVERTED_TO = {"openvino": "OpenVINO", "onnxruntime": "ONNX"}
"""What a network becomes, in a sentence; to int8 it is quantised by a command of its own."""


class Run(Protocol):
    """A compiled network: images (B, C, *size) float32 of a legal size -> probabilities."""

    compiling: float
    """Seconds that compiling has taken so far; 0 before anything is compiled."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See above."""


@dataclass(frozen=True)
class Made:
    """That a conversion was made, and not found.

    seconds  that it took
    path     the file it is kept in; None where it is kept in memory
    """

    seconds: float
    path: Path | None


def check_engine(engine: str, device: str) -> None:
    """RecipeError for an engine that is not offered, or not on the device that was asked for."""
    if engine not in get_args(Engine):
        raise RecipeError(f"expected an engine out of {', '.join(get_args(Engine))}, found {engine!r}; choose one")
    if engine in CPU_ENGINES and device not in ("auto", "cpu"):
        raise RecipeError(
            f"expected the device cpu for the engine {engine}, found {device!r}; leave the device at auto, or choose "
            "the engine torch"
        )


def converting_pays(network: Network, n_pixels: float) -> bool:
    """Whether so much is to be predicted that converting the network to OpenVINO first saves time."""
    channels, scale, dims = (network.settings[name] for name in ("channels", "scale", "dims"))
    return bool(n_pixels / scale**dims * channels >= CONVERTING_PAYS)


def runs_openvino() -> bool:
    """Whether OpenVINO is there and works, for who would rather do without it than hear of it."""
    try:
        need_openvino()
    except RecipeError:
        return False
    return True


class ConvertedEngine:
    """A network that another engine runs, in the place of `TorchEngine`.

    network  what was converted: for its checks and its geometry
    run      the compiled network
    made     how it was converted; None where a conversion was found
    """

    def __init__(self, network: Network, run: Run, made: Made | None = None) -> None:
        self.network, self.run, self.made = network, run, made

    def __call__(self, tiles: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """(B, C, *read) float32 -> (B, K, *out) float32; of a classifier (B, K)."""
        if tiles.dtype != np.float32:
            raise RecipeError(
                f"expected float32 images for this engine, found {tiles.dtype}; convert them, or choose the engine "
                "torch, which computes in float64 too"
            )
        tiles = np.ascontiguousarray(tiles)
        body = self.network.unet if isinstance(self.network, Classifier) else self.network
        body.check(torch.from_numpy(tiles))
        size, geometry = tiles.shape[2:], self.network.geometry
        missing = [geometry.legal_at_least(n) - n for n in size]
        if not any(missing):
            return self.run(tiles)
        # As the networks do themselves: zeros behind the far end, and of maps the part without them.
        answer = self.run(np.pad(tiles, [(0, 0), (0, 0), *((0, extra) for extra in missing)]))
        return answer[(slice(None), slice(None), *map(slice, size))] if answer.ndim > 2 else answer


def kept(shelf: Shelf, engine: str, key: str, convert: Callable[[str], Conversion]) -> tuple[Conversion, Made | None]:
    """(the conversion with this key from the shelf, None), or (a new one, which is put there, how it was made)."""
    found = shelf.read(engine, key)
    if found is not None:
        return found, None
    begun = time.perf_counter()
    conversion = convert(key)
    seconds = time.perf_counter() - begun
    return conversion, Made(seconds, shelf.write(engine, conversion))


def quantised(shelf: Shelf, key: str) -> Conversion:
    """The conversion to int8; RecipeError where it has not been made for these weights."""
    found = shelf.read("int8", key)
    if found is not None:
        return found
    reason = "a damaged one" if shelf.has("int8") else "none"
    reason = "one of other weights or by an older version" if shelf.read("int8") is not None else reason
    raise RecipeError(
        f"expected a network quantised to int8 beside the model, found {reason}; make it with: "
        "ushape quantise MODEL DATA"
    )


def key_by(engine: str, key: str) -> str:
    """The key of a conversion: that of the weights, and the version of what converts where that matters."""
    made_by = {"openvino": f" openvino {version_of('openvino')}", "onnxruntime": f" torch {torch.__version__}"}
    return key + made_by.get(engine, "")


def need_packages(engine: str, *, converting: bool) -> None:
    """RecipeError where a package is missing that runs the engine or, with `converting`, brings a network to it."""
    if engine != "onnxruntime":
        need_openvino()
        return
    need_onnxruntime()
    if converting:
        need_onnx()


def open_engine(
    engine: str, network: Network, n_class_channels: int, key: str, shelf: Shelf, dtype: torch.dtype
) -> ConvertedEngine:
    """The network in one of the CPU_ENGINES, converted where the shelf has no conversion of these weights.

    key    of the weights and settings, by `key_of`
    dtype  to compute in, for openvino and what int8 leaves as it is
    """
    threads = torch.get_num_threads()
    if engine == "int8":
        return ConvertedEngine(network, OpenVinoRunner(quantised(shelf, key).parts, dtype, threads))
    convert = convert_to_onnx if engine == "onnxruntime" else convert_to_openvino
    found, made = kept(shelf, engine, key_by(engine, key), lambda name: convert(network, n_class_channels, name))
    run = OnnxRunner(found.parts, threads) if engine == "onnxruntime" else OpenVinoRunner(found.parts, dtype, threads)
    return ConvertedEngine(network, run, made)


class Engines:
    """The engines of one model: where their conversions are kept, and the one that is open.

    To convert and compile takes longer than to compute most images. What is open is used again as long as weights,
    precision and threads are the same.

    shelf    beside the model file, or in memory
    failure  why an engine that nobody asked for by name could not be used; empty where none failed
    """

    def __init__(self, shelf: Shelf | None = None) -> None:
        self.shelf = shelf or Shelf()
        self.key_of = Keys()
        self.open: tuple[tuple[object, ...], ConvertedEngine] | None = None
        self.told: ConvertedEngine | None = None
        self.failure = ""
        self.failure_told = False
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[type[Engines], tuple[Shelf]]:
        """What is copied or sent to another process: where conversions are kept, not what is open."""
        return Engines, (self.shelf,)

    def __call__(self, engine: str, network: Network, n_class_channels: int, dtype: torch.dtype) -> ConvertedEngine:
        """The network in one of the CPU_ENGINES, ready to run."""
        with self.lock:
            key = self.key_of(network, n_class_channels)
            wanted = (engine, key, dtype, torch.get_num_threads())
            if self.open is None or self.open[0] != wanted:
                # One at a time: compiled for other weights, it is of no use any more.
                self.open = wanted, open_engine(engine, network, n_class_channels, key, self.shelf, dtype)
            return self.open[1]

    def check(self, engine: str, network: Network, n_class_channels: int, dtype: torch.dtype) -> None:
        """RecipeError where the engine cannot be opened, as far as that is known before anything is converted."""
        if engine == "int8":
            # Nothing is converted for it: what is needed lies there, or the engine is refused.
            self(engine, network, n_class_channels, dtype)
            return
        with self.lock:
            key = key_by(engine, self.key_of(network, n_class_channels))
            converting = self.shelf.facts(engine, key) is None
        need_packages(engine, converting=converting)

    def is_ready(self, network: Network, n_class_channels: int) -> bool:
        """Whether OpenVINO can run the network without converting it first."""
        with self.lock:
            # Nothing is hashed or imported where nothing lies.
            if not self.shelf.has("openvino") or not runs_openvino():
                return False
            key = key_by("openvino", self.key_of(network, n_class_channels))
            return self.shelf.facts("openvino", key) is not None

    def keep(self, engine: str, conversion: Conversion) -> Path | None:
        """Put a conversion on the shelf and close what is open, which may be an older one; the file, or None."""
        with self.lock:
            self.open = None
            return self.shelf.write(engine, conversion)

    def seconds(self) -> tuple[float, float]:
        """What (converting, compiling) for the open engine has taken; 0 where that was not needed."""
        if self.open is None:
            return 0.0, 0.0
        opened = self.open[1]
        return (0.0 if opened.made is None else opened.made.seconds), opened.run.compiling

    def news(self) -> str:
        """What a conversion has cost, once it is compiled, or that it failed; empty where that was told, or none made.

        One sentence.
        """
        with self.lock:
            if self.failure:
                if self.failure_told:
                    return ""
                self.failure_told = True
                return f"OpenVINO could not be used, so PyTorch predicts: {self.failure}"
            if self.open is None or self.open[1] is self.told:
                return ""
            (engine, *_), opened = self.open
            converting, compiling = self.seconds()
            if opened.made is None or not compiling:
                return ""
            self.told, path = opened, opened.made.path
        place = "in memory only" if path is None else f"beside the model ({path.parent.name}/{path.name})"
        told = f"converted to {CONVERTED_TO[str(engine)]} in {converting:.1f} s, compiled in {compiling:.1f} s"
        return f"{told}; kept {place}"


class WithWayBack:
    """An engine that nobody asked for by name: PyTorch runs the network where it cannot be converted or compiled.

    engines    that remember why
    opening    gives the engine; converts the network first where that is needed
    otherwise  gives what runs the network instead
    """

    def __init__(
        self, engines: Engines, opening: Callable[[], ConvertedEngine], otherwise: Callable[[], Runner]
    ) -> None:
        self.engines, self.opening, self.otherwise = engines, opening, otherwise

    def __call__(self, tiles: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """(B, C, *read) -> (B, K, *out)."""
        if not self.engines.failure:
            engine = None
            try:
                engine = self.opening()
                return engine(tiles)
            except UshapeError:
                raise
            # OpenVINO raises kinds of its own, which have nothing in common.
            except Exception as error:
                # What has been compiled does work: then it is the image that it cannot do, as with any engine.
                if engine is not None and engine.run.compiling:
                    raise
                self.engines.failure = " ".join(str(error).split())[:200] or type(error).__name__
        return self.otherwise()(tiles)
