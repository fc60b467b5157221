"""The network run by ONNX Runtime, in float32: the engine that exists nearly everywhere.

References: PyTorch, `torch.onnx.export`; ONNX Runtime, Python API.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ushape.prediction.conversions import Conversion, Network, as_traced
from ushape.prediction.packages import need, version_of

__all__ = ["OnnxRunner", "convert_to_onnx", "need_onnx", "need_onnxruntime"]

PURPOSE = "for --engine onnxruntime"
EXTRA = "export"
OPSET = 18


def need_onnx() -> Any:
    """The package that converts; RecipeError where it is missing."""
    return need("onnx", PURPOSE, EXTRA)


def need_onnxruntime() -> Any:
    """The package that runs what was converted; RecipeError where it is missing."""
    return need("onnxruntime", PURPOSE, EXTRA)


def convert_to_onnx(network: Network, n_class_channels: int, key: str) -> Conversion:
    """The network and its probabilities as an ONNX graph for images of every legal size."""
    need_onnx()
    open_axes = {0: "batch"} | {2 + axis: f"size_{axis}" for axis in range(network.dims)}
    with (
        as_traced(network, n_class_channels) as (graph, example),
        tempfile.TemporaryDirectory() as folder,
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        path = Path(folder) / "graph.onnx"
        # The exporter by tracing leaves sizes open; the one by torch.export wants each relation between them proven.
        torch.onnx.export(
            graph,
            (example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_axes={"images": open_axes},
        )
        found = path.read_bytes()
    return Conversion(key, {"onnx": found}, {"onnx": version_of("onnx"), "torch": torch.__version__})


class OnnxRunner:
    """A converted network on the CPU: images (B, C, *size) float32 of a legal size -> probabilities."""

    def __init__(self, parts: Mapping[str, bytes], threads: int) -> None:
        runtime = need_onnxruntime()
        # Builds for Windows report their use to the system unless told not to.
        runtime.disable_telemetry_events()
        options: Any = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        begun = time.perf_counter()
        self.session = runtime.InferenceSession(parts["onnx"], options, providers=["CPUExecutionProvider"])
        self.compiling = time.perf_counter() - begun

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See above."""
        answer: NDArray[np.float32] = self.session.run(None, {"images": images})[0]
        return answer
