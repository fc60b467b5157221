"""The network run by OpenVINO, which computes convolutions on CPUs faster than PyTorch does.

The network is converted as it is, sizes left open (OpenVINO's PyTorch frontend, by tracing). It is compiled for the
size of the tiles when they first come, because a fixed size allows more; behind a few sizes, one compiled for all
takes the rest. OpenVINO would choose the precision of computing by itself: here it is always told.

References: OpenVINO 2026, "Converting a PyTorch Model", "CPU Device", "Precision Control".
"""

from __future__ import annotations

import tempfile
import threading
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

__all__ = ["OpenVinoRunner", "convert_to_openvino", "need_openvino", "openvino_bytes", "openvino_graph"]

PURPOSE = "for --engine openvino or int8"
MOST_SIZES = 4
"""Sizes of tiles that are compiled for, each with its own memory for activations."""


def need_openvino() -> Any:
    """The package; RecipeError where it is missing."""
    return need("openvino", PURPOSE)


CORE: list[Any] = []
CORE_LOCK = threading.Lock()


def openvino_core() -> Any:
    """What reads and compiles graphs: one for the whole process, never closed.

    Its CPU plugin gives the thread that first compiles a stack for signals, and takes it away in its destructor. Of two
    plugins, closed in the order they were made, the second one puts back the stack that the first one took away: the
    next signal, such as a Ctrl-C, would end the process without a word.
    """
    with CORE_LOCK:
        if not CORE:
            CORE.append(need_openvino().Core())
        return CORE[0]


def openvino_bytes(graph: Any) -> dict[str, bytes]:
    """An OpenVINO graph as the bytes of its two files, weights in float32."""
    openvino = need_openvino()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        # Left to its default it would round the weights to float16.
        openvino.save_model(graph, path, compress_to_fp16=False)
        return {"xml": path.read_bytes(), "bin": path.with_suffix(".bin").read_bytes()}


def openvino_graph(parts: Mapping[str, bytes]) -> Any:
    """The inverse of `openvino_bytes`."""
    openvino = need_openvino()
    weights = openvino.Tensor(np.frombuffer(parts["bin"], np.uint8).copy())
    return openvino_core().read_model(parts["xml"], weights)


def convert_to_openvino(network: Network, n_class_channels: int, key: str) -> Conversion:
    """The network and its probabilities as an OpenVINO graph for images of every legal size."""
    openvino = need_openvino()
    with as_traced(network, n_class_channels) as (graph, example), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = [-1, network.in_channels, *[-1] * network.dims]
        converted = openvino.convert_model(graph, example_input=example, input=[(shape, np.float32)])
    return Conversion(key, openvino_bytes(converted), {"openvino": version_of("openvino")})


class OpenVinoRunner:
    """A converted network on the CPU: images (B, C, *size) float32 of a legal size -> probabilities.

    dtype    float32, or bfloat16 where the processor has it
    threads  how many
    """

    def __init__(self, parts: Mapping[str, bytes], dtype: torch.dtype, threads: int) -> None:
        self.compiling = 0.0
        self.graph = openvino_graph(parts)
        self.options = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
        }
        self.requests: dict[tuple[int, ...], Any] = {}
        self.lock = threading.Lock()

    def request(self, shape: tuple[int, ...]) -> Any:
        """What runs images of this shape; () stands for all that have none of their own."""
        if shape not in self.requests and len(self.requests) >= MOST_SIZES:
            shape = ()
        if shape not in self.requests:
            begun, graph = time.perf_counter(), self.graph
            if shape:
                graph = graph.clone()
                graph.reshape(list(shape))
            self.requests[shape] = openvino_core().compile_model(graph, "CPU", self.options).create_infer_request()
            self.compiling += time.perf_counter() - begun
        return self.requests[shape]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """See above."""
        # A request has one place for its answer, so threads take turns until they have copied theirs.
        with self.lock:
            request = self.request(images.shape)
            request.infer([images])
            answer: NDArray[np.float32] = np.array(request.get_output_tensor(0).data, np.float32)
        return answer
