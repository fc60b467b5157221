"""What this machine computes fastest, found by asking it.

Half the time of a U-Net on a CPU goes into moving activations, so bfloat16 with channels last is two to four times
faster than float32 wherever the processor has instructions for it; where it has not, bfloat16 is emulated and slower.
Weights and the optimiser's state stay in float32 everywhere.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ushape.errors import RecipeError

__all__ = [
    "autocast",
    "best_dtype",
    "choose_device",
    "describe_device",
    "finish",
    "in_best_format",
    "peak_memory",
    "set_threads",
    "to_device",
    "training_format",
]


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`, or for `auto` the fastest one there is; RecipeError when it is not there."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if present["cuda"] else "mps" if present["mps"] else "cpu")
    if not present.get(name.split(":")[0], False):
        there = ", ".join(device for device, is_there in present.items() if is_there)
        raise RecipeError(f"expected a device this machine has ({there}), found {name!r}; choose one or leave `auto`")
    return torch.device(name)


def has_onednn_bf16() -> bool:
    """What oneDNN says of bfloat16, which obeys ONEDNN_MAX_CPU_ISA; PyTorch for Apple Silicon is built without it."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    # The library says yes to mere AVX512 too, where bfloat16 is emulated; the processor's own flags know that.
    processor = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if processor and has_onednn_bf16() else torch.float32


@contextmanager
def without_tf32() -> Iterator[None]:
    """A context in which a GPU's convolutions of float32 keep its 23 bits; by default they keep 10, which is TF32."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """A context in which convolutions compute in `dtype`, and in float32 to the last bit of it."""
    if device.type == "cuda" and dtype == torch.float32:
        return without_tf32()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def training_format(device: torch.device) -> torch.memory_format:
    """In which order images and 2-D weights lie in memory while a network learns: nearly always channels last.

    An x86 processor without AVX-512 computes the gradient of the weights two to four times slower from channels that
    come last, and the whole step of the paper's network one and a half times (docs/performance.md). There they come
    first; prediction, which has no gradients, is faster with them last there too.
    """
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        # Some newer processors have bfloat16 but no AVX-512.
        wide = has_onednn_bf16() and torch.cpu._is_avx512_supported()
        return torch.channels_last if wide else torch.contiguous_format
    return torch.channels_last


def in_best_format(
    network: nn.Module, device: torch.device, memory_format: torch.memory_format = torch.channels_last
) -> nn.Module:
    """The network on the device, its 2-D weights with the channels last, as the convolutions want them."""
    if getattr(network, "dims", 2) == 2:
        return network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]
    return network.to(device=device)


def to_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device; a GPU gets it through pinned memory, so that the program need not wait for it."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def finish(device: torch.device) -> None:
    """Wait until all that was asked of a GPU is done: it works behind the program's back, a processor does not."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def set_threads() -> int:
    """Use the cores this process may run on; returns how many. OMP_NUM_THREADS is obeyed."""
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch.get_num_threads()


def describe_device(device: torch.device) -> str:
    """One line for reports: the device, its threads and the number format."""
    dtype = str(best_dtype(device)).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {dtype}"
    return f"{device.type} with {torch.get_num_threads()} threads, {dtype}"


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has held so far, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB on the device"
    try:
        import resource
    except ImportError:  # Windows
        return "not known on this system"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB"
