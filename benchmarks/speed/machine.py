"""The machine that is measured: what it is, and how fast it can be, by its own matrix product and memory copy.

A time says little without these. The ceilings are what torch reaches here on the simplest work there is: a product of
two square matrices in float32 and in bfloat16 (two operations for each multiply-add), and a copy of memory that is far
larger than any cache (each byte counted twice, as read and as written). A convolution can be better than the matrix
product, so that a share of the ceiling above 1 is no mistake.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.provenance import processor
from speed.interleave import Competitor, Limits, Prepared, interleave, timed
from ushape.network.hardware import best_dtype, describe_device, finish

__all__ = ["CEILINGS", "CEILING_COPY", "CPU", "OLD_PROCESSOR", "describe", "flags_in", "measure_ceilings", "sentence"]

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
"""What decides how fast a processor multiplies; in /proc/cpuinfo's words."""
VARIABLES = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "OMP_NUM_THREADS")
"""What in the environment changes a measurement."""
OLD_PROCESSOR = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""Makes torch compute as on a processor without AVX-512, bfloat16 and AMX: its convolutions, its own loops and its
matrix products, each asked in its own way."""
CEILINGS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CEILING_COPY = "copy"
CPU = torch.device("cpu")
LIMITS = Limits(least=3, most=7, seconds=10.0)


def flags_in(cpuinfo: str) -> tuple[str, ...]:
    """Which of FLAGS the text of /proc/cpuinfo names, in the order of FLAGS."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    named = {word for head, _, words in lines if head.strip() in ("flags", "Features") for word in words.split()}
    return tuple(flag for flag in FLAGS if flag in named)


def read_text(path: str) -> str:
    """A file's text; nothing where there is no such file."""
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def memory_gigabytes(meminfo: str) -> float:
    """The machine's memory, of the text of /proc/meminfo; 0 where it does not say."""
    for line in meminfo.splitlines():
        head, _, rest = line.partition(":")
        if head == "MemTotal":
            return round(int(rest.split()[0]) * 1024 / 1e9, 1)
    return 0.0


def describe(device: torch.device = CPU) -> dict[str, Any]:
    """The machine, as numbers and words ready for JSON; device is what computes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor() if device.type == "cpu" else f"{describe_device(device)}, beside {processor()}",
        "flags": list(flags_in(read_text("/proc/cpuinfo"))),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "memory": memory_gigabytes(read_text("/proc/meminfo")),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dtype": str(best_dtype(device)).removeprefix("torch."),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def done_on(device: torch.device, work: Callable[[], object]) -> None:
    """Do the work, to its end."""
    work()
    finish(device)


def product(side: int, dtype: torch.dtype, device: torch.device = CPU) -> Prepared:
    """A product of two square matrices, to be timed."""
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(one)
    return Prepared(timed(partial(done_on, device, partial(torch.mm, one, other, out=out))), {"amount": 2 * side**3})


def copy(n_bytes: int, device: torch.device = CPU) -> Prepared:
    """A copy of memory, to be timed."""
    source = torch.ones(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return Prepared(timed(partial(done_on, device, partial(target.copy_, source))), {"amount": 2 * n_bytes})


def measure_ceilings(side: int, n_bytes: int, device: torch.device = CPU) -> dict[str, float]:
    """Thousand million operations (for the copy: bytes) per second, by CEILINGS' names and CEILING_COPY; medians.

    side     of the matrices; bfloat16 is left out where the processor lacks it
    n_bytes  that are copied; far more than any cache holds
    """
    # Where the processor has no bfloat16, torch multiplies number by number: minutes, for a figure that limits nothing.
    dtypes = {name: dtype for name, dtype in CEILINGS.items() if dtype in (torch.float32, best_dtype(device))}
    competitors = [Competitor(name, partial(product, side, dtype, device)) for name, dtype in dtypes.items()]
    copying = Competitor(CEILING_COPY, partial(copy, n_bytes, device))
    outcomes = interleave([*competitors, copying], LIMITS)
    return {each.name: each.facts["amount"] / each.median / 1e9 for each in outcomes if not each.failed}


def sentence(machine: dict[str, Any], ceilings: dict[str, float]) -> str:
    """What stands above a table: the machine and its ceilings."""
    told = f"{machine['processor']} ({', '.join(machine['flags']) or 'flags unknown'}), {machine['cores']} cores"
    if machine["memory"]:
        told += f", {machine['memory']:.0f} GB"
    told += f"; torch {machine['torch']} on {machine['threads']} threads"
    told += "".join(f", {name}={value}" for name, value in machine["environment"].items())
    rates = [f"{ceilings[name]:.0f} GFLOP/s in {name}" for name in CEILINGS if name in ceilings]
    told += f". Its ceilings, by a matrix product: {' and '.join(rates)}" if rates else ""
    if CEILING_COPY in ceilings:
        told += f"; memory copy {ceilings[CEILING_COPY]:.0f} GB/s"
    return told + "."
