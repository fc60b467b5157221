"""What the scripts have in common: their options, the machine, and a result at the end."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from bench.provenance import REPOSITORY, commit
from speed.machine import CPU, describe, measure_ceilings
from speed.tables import FORMS, Result, Table, render, write_result
from ushape.network.hardware import set_threads

__all__ = ["RESULTS", "Sitting", "measure", "parser", "tell"]

RESULTS = REPOSITORY / "runs" / "speed"
CEILING_SIZES = {"tiny": (256, 2**22), "quick": (2048, 2**28), "full": (4096, 2**28)}
"""Side of the matrices that are multiplied, and bytes that are copied."""
GPU_CEILING_SIZES = (8192, 2**30)
"""The same on a GPU, which smaller ones do not fill."""
PEERS = (
    "monai",
    "dynamic-network-architectures",
    "segmentation-models-pytorch",
    "nnunetv2",
    "albumentations",
    "batchgeneratorsv2",
)
"""Distributions whose versions are told, where they are installed."""


@dataclass(frozen=True)
class Sitting:
    """What a script needs to know: `full`, `quick` or `tiny`, and the folder for results."""

    form: str
    folder: Path


def tell(text: str) -> None:
    """A line on standard error, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--form", choices=FORMS, default="quick", help="how thorough; tiny only tries the script")
    made.add_argument("--output", type=Path, default=RESULTS, help="folder of the results (runs/speed)")
    return made


def versions() -> dict[str, str]:
    """The peers that are installed."""
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measure(
    sitting: Sitting,
    name: str,
    title: str,
    about: str,
    tables: Callable[[Sitting], list[Table]],
    device: torch.device = CPU,
) -> Result:
    """Measure, write the result and print its tables."""
    begun = time.perf_counter()
    set_threads()
    tell(f"{name}: ceilings")
    sizes = CEILING_SIZES[sitting.form] if device.type == "cpu" else GPU_CEILING_SIZES
    ceilings, machine = measure_ceilings(*sizes, device), describe(device)
    result = Result(name, title, about, sitting.form, machine, ceilings, tables(sitting), versions=versions())
    named, dirty = commit("benchmarks/speed", "benchmarks/speed_*.py")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    result = replace(result, seconds=time.perf_counter() - begun, commit=named, dirty=dirty, date=now)
    path = write_result(sitting.folder, result)
    print(f"## {title}\n\n{render(result)}\n", flush=True)
    tell(f"{name}: {result.seconds:.0f} s, {path}")
    return result
