"""How long the paper's weight map (P14) takes, against its definition: a distance transform of all pixels per object.

    python benchmarks/weight_map.py [--repeat 3] [--objects 1000] [--size 1024] [--real dsb2018,dic-hela] [--json FILE]

The definition is given every advantage: it keeps two running minima instead of sorting all distances, which would
take gigabytes. Both are timed in turn, so that whatever else the machine does falls on both, and medians are
compared. Prints a table and writes it as JSON, by default into `runs/`, which git ignores. One thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ushape.data.catalog import open_dataset
from ushape.errors import DataError
from ushape.targets.borders import border_weights, compact_ids, separate_touching

Mask = NDArray[np.int32]
RADII = (6, 14)
"""Of the simulated objects, in pixels."""


def crowded(size: int, n_objects: int, seed: int = 0) -> Mask:
    """A square mask with that many discs, many of them close together, some partly covered by others."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.int32)
    made = 0
    while made < n_objects:
        row, column = rng.integers(0, size, 2)
        radius = int(rng.integers(*RADII))
        rows = slice(max(row - radius, 0), row + radius + 1)
        columns = slice(max(column - radius, 0), column + radius + 1)
        y, x = np.mgrid[rows.start : min(rows.stop, size), columns.start : min(columns.stop, size)]
        disc = (y - row) ** 2 + (x - column) ** 2 < radius**2
        free = disc & (mask[rows, columns] == 0)
        if free.sum() > 0.6 * disc.sum():
            made += 1
            mask[rows, columns][free] = made
    return separate_touching(mask)


def by_definition(mask: Mask, w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float64]:
    """The formula word by word."""
    labels, n = compact_ids(mask)
    first, second = np.full(mask.shape, np.inf), np.full(mask.shape, np.inf)
    for index in range(1, n + 1):
        distance = ndimage.distance_transform_edt(labels != index)
        second = np.minimum(second, np.maximum(first, distance))
        first = np.minimum(first, distance)
    n_object, n_background = (mask > 0).sum(), (mask == 0).sum()
    counted = n_object + n_background
    weights = np.zeros(mask.shape)
    weights[mask > 0] = counted / (2 * n_object) if n_object and n_background else 1
    weights[mask == 0] = counted / (2 * n_background) if n_object and n_background else 1
    background = mask == 0
    weights[background] += w0 * np.exp(-((first + second)[background] ** 2) / (2 * sigma**2))
    return weights


def timed(make: Callable[[Mask], NDArray[Any]], mask: Mask) -> tuple[float, NDArray[Any]]:
    """(seconds, weights)."""
    begun = time.perf_counter()
    weights = make(mask)
    return time.perf_counter() - begun, weights


def compare(name: str, mask: Mask, repeat: int) -> dict[str, Any]:
    """One row: both ways in turn, their median times and the largest difference of their weights."""
    times: dict[str, list[float]] = {"definition": [], "ushape": []}
    difference = 0.0
    for _ in range(repeat):
        slow, expected = timed(by_definition, mask)
        fast, weights = timed(border_weights, mask)
        times["definition"].append(slow)
        times["ushape"].append(fast)
        difference = max(difference, float(np.abs(weights - expected).max()))
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    return {
        "mask": name,
        "size": "x".join(map(str, mask.shape)),
        "objects": compact_ids(mask)[1],
        "definition_s": medians["definition"],
        "ushape_s": medians["ushape"],
        "ratio": medians["definition"] / medians["ushape"],
        "largest_difference": difference,
        "times_s": times,
    }


def real_masks(name: str, n: int = 3) -> list[tuple[str, Mask]]:
    """The masks with the most objects among the first sixty of a data set; none where there is no copy of it."""
    try:
        samples = open_dataset(name).annotated.samples[:60]
    except DataError as error:
        print(f"{name} is left out: {error}")
        return []
    masks = [(f"{name} {sample.name}", sample.read_mask()) for sample in samples if sample.mask is not None]
    masks.sort(key=lambda pair: -np.unique(pair[1]).size)
    return [(label, separate_touching(mask)) for label, mask in masks[:n]]


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| mask | size | objects | definition | ushape | ratio | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['mask'][:40]} | {row['size']} | {row['objects']} | {row['definition_s']:.3f} s "
        f"| {row['ushape_s']:.4f} s | {row['ratio']:.0f} | {row['largest_difference']:.1e} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Make or read the masks, time both ways, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--real", default="dsb2018,dic-hela", help="data sets, separated by commas; empty for none")
    parser.add_argument("--json", type=Path, default=Path("runs/weight_map.json"))
    asked = parser.parse_args()
    masks = [pair for name in filter(None, asked.real.split(",")) for pair in real_masks(name)]
    rows = [compare(name, mask, asked.repeat) for name, mask in masks]
    rows.append(compare("simulated", crowded(asked.size, asked.objects), asked.repeat))
    print(table(rows))
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
