"""One prediction of one large image in a process of its own: its seconds, its peak of memory, and what it says.

    python -m speed.predicting SPEC

SPEC is a `Task` as JSON; one line of JSON is printed. A process of its own, because the largest amount of memory that a
process has held can be asked for, and what one way of predicting leaves behind must not help or burden the next. What
counts as memory comes on top of the program, the network and the image as read.

Every way gets the same image, as read (uint8), prepares it in the same way and has the same network and weights. The
others are called as their documentation does, in float32, with the default memory format; what they give are blended
logits, turned into probabilities after the clock has stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speed.engines import with_engine
from speed.interleave import Prepared
from speed.memory import peak_over
from ushape.data.phantom import phantom_image
from ushape.model import Model, load
from ushape.network.hardware import set_threads
from ushape.prediction.engines import to_maps

__all__ = ["Task", "in_own_process", "mosaic", "whole_window", "window_of"]

PIECE, N_PIECES = 256, 8
"""The large image is a mosaic of so many simulated images of so many pixels: simulating one piece takes too long."""
SHORT = 5.0
"""Seconds: what takes less is predicted again, so that being the first costs nothing."""
WARM_UP = 256
WINDOW = 1024
"""Side, at most, of the central part that is compared with the whole image's."""
BENCHMARKS = Path(__file__).parent.parent
Answer = NDArray[np.float32] | torch.Tensor


@dataclass(frozen=True)
class Task:
    """What is predicted, and how.

    way        `ushape`, `monai` or `nnunet`
    side       of the image, in pixels
    engine     of ours
    precision  of ours: `auto` or `float32`
    our_tile   side of our tiles at most; 0 for what the model chooses
    tile       side of the others' windows
    overlap    of the others' windows, as a share of their side
    blend      how the others blend: `constant` or `gaussian`
    windows    that MONAI runs at a time; four in its tutorials
    answer     file for the probabilities of the central part; none is written without
    """

    way: str
    model: str
    side: int
    engine: str = "torch"
    precision: str = "auto"
    our_tile: int = 0
    tile: int = 256
    overlap: float = 0.25
    blend: str = "constant"
    windows: int = 4
    answer: str = ""


def mosaic(side: int) -> NDArray[np.uint8]:
    """A large simulated image (1, side, side)."""
    count = -(-side // PIECE)
    pieces = [phantom_image(seed, (PIECE, PIECE))[0][0] for seed in range(min(N_PIECES, count * count))]
    rows = [np.concatenate([pieces[(3 * y + x) % len(pieces)] for x in range(count)], axis=1) for y in range(count)]
    return np.ascontiguousarray(np.concatenate(rows)[None, :side, :side])


def window_of(model: Model, side: int) -> tuple[int, int, int]:
    """(start, stop, margin): the central part whose pixels see no border of the image, by one axis.

    It starts at a multiple of the stride, and so does what is read for it, `margin` pixels more on each side.
    """
    geometry = model.network.geometry
    margin = -(-geometry.reach // geometry.stride) * geometry.stride
    width = min(WINDOW, side - 2 * margin) // geometry.stride * geometry.stride
    if width < geometry.stride:
        raise ValueError(f"expected an image of at least {2 * margin + geometry.stride} pixels, found {side}; enlarge")
    start = (side - width) // 2 // geometry.stride * geometry.stride
    return start, start + width, margin


def whole_window(model: Model, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities (K, *window) by one pass of the plain network, in float32: those of the whole image there.

    Independent of any tiling, ours included.
    """
    start, stop, margin = window_of(model, image.shape[-1])
    read = slice(start - margin, stop + margin)
    prepared = torch.from_numpy(model.preparation(image)[:, read, read].copy())[None]
    network = model.network.eval()
    with torch.inference_mode():
        logits = network(prepared)[:, :, margin:-margin, margin:-margin]
    n_classes = model.encoding.n_class_channels
    return to_maps(logits, n_classes)[0, :n_classes].numpy()


# The ways to predict: from the image as read to the answer for all pixels.


def ours(model: Model, task: Task) -> Callable[[NDArray[np.uint8]], Answer]:
    """The model's own way, as `ushape predict` goes it; by any engine that this version has."""
    precision: Any = task.precision
    tile_size = task.our_tile or model.tile_size
    return with_engine(replace(model, precision=precision, tile_size=tile_size), task.engine).maps


def monai_window(model: Model, task: Task) -> Callable[[NDArray[np.uint8]], Answer]:
    """MONAI's `sliding_window_inference`."""
    from monai.inferers import sliding_window_inference

    network = model.network.eval()

    def run(image: NDArray[np.uint8]) -> Answer:
        with torch.inference_mode():
            images = torch.from_numpy(model.preparation(image))[None]
            windows = task.tile, task.windows
            return sliding_window_inference(images, *windows, network, overlap=task.overlap, mode=task.blend)[0]

    return run


def nnunet_window(model: Model, task: Task) -> Callable[[NDArray[np.uint8]], Answer]:
    """nnU-Net's predictor, given this network; mirrored copies of the image, its default, are not averaged."""
    # It asks for its folders when it is imported, and needs none of them here.
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, "")
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=1 - task.overlap,
        use_gaussian=task.blend == "gaussian",
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        verbose=False,
        allow_tqdm=False,
    )
    predictor.network = model.network.eval()
    predictor.configuration_manager = SimpleNamespace(patch_size=[task.tile, task.tile])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=model.encoding.n_channels)
    predictor.allowed_mirroring_axes = None

    def run(image: NDArray[np.uint8]) -> Answer:
        return predictor.predict_sliding_window_return_logits(torch.from_numpy(model.preparation(image))[:, None])

    return run


WAYS = {"ushape": ours, "monai": monai_window, "nnunet": nnunet_window}


def central(model: Model, task: Task, answer: Answer) -> NDArray[np.float32]:
    """Class probabilities of the central part."""
    start, stop, _ = window_of(model, task.side)
    n_classes = model.encoding.n_class_channels
    if isinstance(answer, np.ndarray):
        return answer[:n_classes, start:stop, start:stop]
    logits = answer.float().reshape(-1, *answer.shape[-2:])[None, :, start:stop, start:stop]
    return to_maps(logits, n_classes)[0, :n_classes].numpy()


def perform(task: Task) -> dict[str, float]:
    """The task in this process: seconds, and bytes at the peak."""
    set_threads()
    model, image = load(task.model, device="cpu"), mosaic(task.side)
    run = WAYS[task.way](model, task)
    # Something small first: what is loaded only when it is needed belongs to the program.
    run(image[:, : min(WARM_UP, task.side), : min(WARM_UP, task.side)])
    begun = time.perf_counter()
    answer, peak = peak_over(lambda: run(image))
    seconds = time.perf_counter() - begun
    if task.answer:
        np.save(task.answer, central(model, task, answer))
    del answer
    if seconds < SHORT:
        begun = time.perf_counter()
        run(image)
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "peak": float(peak)}


def in_own_process(task: Task, after: Callable[[dict[str, Any]], None] = lambda facts: None) -> Prepared:
    """A task to be timed: each run is a process, whose peaks are collected among the facts.

    after  called with the facts after each run, as for what is to be told of the answer
    """
    facts: dict[str, Any] = {"peak": [], "pixels": task.side**2}

    def run() -> float:
        path = os.pathsep.join([str(BENCHMARKS), *filter(None, sys.path)])
        done = subprocess.run(
            [sys.executable, "-m", "speed.predicting", json.dumps(asdict(task))],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
            kind = ImportError if said.startswith(("ImportError", "ModuleNotFoundError")) else RuntimeError
            raise kind(said.partition(": ")[2] or said)
        told = json.loads(done.stdout.splitlines()[-1])
        facts["peak"].append(told["peak"])
        after(facts)
        return float(told["seconds"])

    return Prepared(run, facts, warm=True)


if __name__ == "__main__":
    print(json.dumps(perform(Task(**json.loads(sys.argv[1])))))
