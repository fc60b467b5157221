"""From float to int8: NNCF watches the activations on real tiles and chooses each layer's range of 8-bit numbers.

What the 8 bits cost is not known before it is scored; who calls this keeps the result only where the score allows it.

References: NNCF, `nncf.quantize` (post-training quantisation); OpenVINO 2026, "Basic Quantization Flow".
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.geometry import Geometry, tiles
from ushape.prediction.conversions import Conversion
from ushape.prediction.openvino_engine import openvino_bytes, openvino_graph
from ushape.prediction.packages import need, version_of
from ushape.prediction.tiled import read_tile

__all__ = ["MOST_TILES", "Quantised", "need_quantiser", "quantise_graph", "spread_tiles"]

PURPOSE = "to quantise to int8"
MOST_TILES = 128
"""Tiles that the ranges are taken from."""


def counted(n: int, what: str) -> str:
    """As in '1 image' and '2 images'."""
    return f"{n} {what}{'s' * (n != 1)}"


@dataclass(frozen=True)
class Quantised:
    """What quantisation to int8 came to.

    score       the name of the score it was judged by, the larger the better
    before, after  the score in float and in int8
    bound       the largest drop that is accepted
    tiles       how many the ranges were taken from
    calibrated  how many images the tiles are of
    judged      how many other images were scored
    path        the file it was written to; None where it was not accepted, or kept in memory
    problems    images that could not be used, one sentence each
    note        how the images were divided, where that is out of the ordinary
    """

    score: str
    before: float
    after: float
    bound: float
    tiles: int
    calibrated: int
    judged: int
    path: Path | None = None
    problems: tuple[str, ...] = ()
    note: str = ""

    @property
    def drop(self) -> float:
        """By how much the score fell."""
        return self.before - self.after

    @property
    def accepted(self) -> bool:
        """Whether it fell by less than the bound; a score that is no number is not accepted."""
        return self.drop < self.bound

    def __str__(self) -> str:
        """As in a sentence."""
        verdict = f"by {self.drop:.4f}, less than the bound of {self.bound:g}"
        if not self.accepted:
            verdict = f"by {self.drop:.4f}, not less than the bound of {self.bound:g}; not kept; "
            verdict += "raise --bound, or go on in float"
        shown = f"calibrated with {counted(self.tiles, 'tile')} of {counted(self.calibrated, 'image')}"
        scores = f"{self.score} {self.before:.4f} in float, {self.after:.4f} in int8"
        return f"{shown}, judged on {counted(self.judged, 'image')}; {scores}: falls {verdict}"


def need_quantiser() -> None:
    """RecipeError where NNCF or OpenVINO is missing: better known before anything is scored."""
    need("openvino", PURPOSE, "export")
    need("nncf", PURPOSE, "export")


def spread_tiles(image: NDArray[np.float32], geometry: Geometry, limit: int, n: int) -> Iterator[NDArray[np.float32]]:
    """Up to n of the tiles (C, *read) that prediction would cut an image (C, *space) into, evenly from all of them."""
    found = tiles(geometry, image.shape[1:], limit)
    places = np.unique(np.linspace(0, len(found) - 1, min(n, len(found))).round().astype(int))
    return (read_tile(image, found[place]) for place in places)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep NNCF's words and progress bars off standard output, which belongs to the answer."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        logger.setLevel(level)


def quantise_graph(conversion: Conversion, examples: Sequence[NDArray[np.float32]], key: str) -> Conversion:
    """An OpenVINO conversion with weights and activations in int8.

    examples  what the network is shown, each (C, *size) of a legal size
    key       of the new conversion
    """
    with quiet():
        nncf = need("nncf", PURPOSE, "export")
        quantised: Any = nncf.quantize(
            openvino_graph(conversion.parts),
            nncf.Dataset(examples, lambda tile: tile[None]),
            # Activations behind a ReLU are never negative: half of a symmetric range would be wasted on them.
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(examples),
        )
    return Conversion(key, openvino_bytes(quantised), {"nncf": version_of("nncf"), "openvino": version_of("openvino")})
