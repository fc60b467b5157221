"""The Cell Tracking Challenge's layout: frames, gold truth, silver truth and tracking markers.

    01/t034.tif                    a frame of sequence 01
    01_GT/SEG/man_seg034.tif       gold: outlines by people, for a few frames, sometimes for a part of the cells
    01_GT/TRA/man_track034.tif     a marker inside every cell of every frame
    01_ST/SEG/man_seg034.tif       silver: outlines on which submitted methods agree; nearly complete, no reference

Three rules make samples of it. (1) A gold frame is partial where a marker reaches into the field of interest and no
gold object covers it; its unlabelled pixels are ignored (-1) in training, except where silver says background.
(2) Cells that lie only within 50 px of the frame's border are not annotated, so unlabelled pixels there are ignored
in training and in scoring. (3) Only gold is a reference; silver frames are for training and are not scored.

Frames have one page, or are volumes where their files or `axes` say so. The border of a volume is that of its slices,
because few volumes are 100 slices deep. Gold of single slices (man_seg_034_007.tif) is not read.

References: Ulman et al. 2017, Maska et al. 2023, https://celltrackingchallenge.net.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset, Sample
from ushape.data.description import DESCRIPTION_FILE
from ushape.data.headers import stem_of
from ushape.data.images import read_image, read_layout, read_mask
from ushape.errors import DataError

__all__ = [
    "FIELD_MARGIN",
    "Truth",
    "ctc_sequences",
    "is_partial",
    "open_ctc",
    "read_gold_reference",
    "read_training_mask",
]

Mask = NDArray[np.int32]
Truth = Literal["gold", "gold+silver"]

FIELD_MARGIN = 50  # px; the challenge's value for both data sets of the catalog
GOLD_EMPHASIS = 3.0  # gold frames are few and better than silver: drawn three times as often

SEQUENCE = re.compile(r"\d\d")
FRAME = re.compile(r"t(\d{3,})\.tif")


@dataclass(frozen=True)
class _Frame:
    """The files of one frame; None for what does not exist. `axes` are those of the image where it does not say."""

    axes: str | None
    sequence: str
    number: int
    image: Path
    gold: Path | None
    silver: Path | None
    markers: Path | None

    @property
    def name(self) -> str:
        return f"{self.sequence}_{stem_of(self.image)}"

    @property
    def mask_axes(self) -> str | None:
        """Masks have no channels."""
        return None if self.axes is None else "".join(a for a in self.axes.upper() if a not in "CS")


def _in_field(size: tuple[int, ...], margin: int) -> NDArray[np.bool_]:
    """True inside the field of interest: further than `margin` px from every border of the frame, or of its slices."""
    inside = np.zeros(size, bool)
    rows, columns = (slice(margin, n - margin) for n in size[-2:])
    inside[..., rows, columns] = True
    return inside


def _ignore_margin(mask: Mask, margin: int) -> Mask:
    """Unlabelled pixels within the margin become -1 (rule 2)."""
    return np.where((mask == 0) & ~_in_field(mask.shape, margin), np.int32(-1), mask)


def is_partial(gold: Mask, markers: Mask, margin: int = FIELD_MARGIN) -> bool:
    """True when the gold mask (*space) lacks a cell that the markers (*space) show inside the field of interest."""
    in_field = np.unique(markers[_in_field(markers.shape, margin)])
    covered = np.unique(markers[gold > 0])
    return bool(np.setdiff1d(in_field, covered, assume_unique=True).any())


def read_gold_reference(gold: Path, margin: int, axes: str | None = None) -> Mask:
    """The mask to score against (*space): gold objects, 0 elsewhere, -1 for unlabelled pixels within the margin."""
    return _ignore_margin(read_mask(gold, axes=axes), margin)


def _require_same_size(path: Path, mask: Mask, size: tuple[int, ...]) -> None:
    if mask.shape != size:
        raise DataError(f"{path}: expected a mask of size {size}, found {mask.shape}; download the data set again")


def read_training_mask(
    gold: Path | None, silver: Path | None, partial: bool, margin: int, axes: str | None = None
) -> Mask:
    """The mask to train on (*space): gold where there is gold, else silver; a partial gold frame after rule 1."""
    source = gold or silver
    assert source is not None, "a frame without gold and silver has no mask"
    mask = read_mask(source, axes=axes)
    if partial:
        background = np.zeros(mask.shape, bool)
        if silver is not None:
            other = read_mask(silver, axes=axes)
            _require_same_size(silver, other, mask.shape)
            background = other == 0
        mask = np.where((mask == 0) & ~background, np.int32(-1), mask)
    return _ignore_margin(mask, margin)


def ctc_sequences(path: Path) -> tuple[str, ...]:
    """The sequences in a folder, such as ('01', '02'); empty when it is no Cell Tracking Challenge folder."""
    folders = sorted(p for p in path.iterdir() if p.is_dir() and SEQUENCE.fullmatch(p.name))
    return tuple(p.name for p in folders if any(FRAME.fullmatch(f.name) for f in p.iterdir()))


def _frames(path: Path, sequence: str, axes: str | None) -> list[_Frame]:
    frames = []
    for image in sorted((path / sequence).iterdir()):
        match = FRAME.fullmatch(image.name)
        if match is None:
            continue
        digits = match[1]
        gold = path / f"{sequence}_GT" / "SEG" / f"man_seg{digits}.tif"
        silver = path / f"{sequence}_ST" / "SEG" / f"man_seg{digits}.tif"
        markers = path / f"{sequence}_GT" / "TRA" / f"man_track{digits}.tif"
        found = [p if p.is_file() else None for p in (gold, silver, markers)]
        frames.append(_Frame(axes, sequence, int(digits), image, *found))
    return frames


def _space(path: Path, axes: str | None) -> tuple[int, ...]:
    """The size of a file's (*space), from its header; DataError where it cannot be read or has mere pages."""
    layout = read_layout(path, axes=axes)
    if layout.length("P") > 1:
        raise DataError(
            f'{path}: expected frames of one page, found {layout.n_pages} pages; write axes = "ZYX" into '
            f"{DESCRIPTION_FILE} to read them as volumes"
        )
    return (layout.length("Z"), *layout.size) if "Z" in layout.axes else layout.size


def _check_sizes(frame: _Frame) -> None:
    """DataError when the image cannot be read or a mask has another size than it."""
    size = _space(frame.image, frame.axes)
    for path in (frame.gold, frame.silver, frame.markers):
        found = size if path is None else _space(path, frame.mask_axes)
        if found != size:
            raise DataError(
                f"{path}: expected a mask of the frame's size {size}, found {found}; download the data set again"
            )


def _is_partial_frame(frame: _Frame, margin: int) -> bool:
    # Without markers nothing is known to be missing.
    if frame.gold is None or frame.markers is None:
        return False
    axes = frame.mask_axes
    return is_partial(read_mask(frame.gold, axes=axes), read_mask(frame.markers, axes=axes), margin)


def _sample(frame: _Frame, partial_gold: bool, margin: int) -> Sample:
    mask = reference = None
    if frame.gold is not None or frame.silver is not None:
        mask = partial(read_training_mask, frame.gold, frame.silver, partial_gold, margin, frame.mask_axes)
    if frame.gold is not None:
        reference = partial(read_gold_reference, frame.gold, margin, frame.mask_axes)
    return Sample(
        name=frame.name,
        image=partial(read_image, frame.image, axes=frame.axes),
        mask=mask,
        reference=reference,
        scored=frame.gold is not None,
        complete=not partial_gold,
        group=frame.sequence,
        position=frame.number,
        emphasis=GOLD_EMPHASIS if frame.gold is not None else 1.0,
        files=tuple(p for p in (frame.image, frame.gold, frame.silver) if p is not None),
    )


def _finding(sequence: str, samples: Sequence[Sample]) -> str:
    n_gold = sum(s.reference is not None for s in samples)
    n_silver = sum(s.mask is not None and s.reference is None for s in samples)
    n_partial = sum(not s.complete for s in samples)
    return (
        f"Sequence {sequence}: {len(samples)} frames, {n_gold} with gold truth ({n_partial} of them partial, "
        f"unlabelled pixels ignored), {n_silver} with silver truth only (for training, not scored)."
    )


def open_ctc(
    path: Path,
    *,
    name: str | None = None,
    sequences: Sequence[str] | None = None,
    truth: Truth = "gold+silver",
    margin: int = FIELD_MARGIN,
    axes: str | None = None,
) -> Dataset:
    """A Cell Tracking Challenge folder as a dataset of instances; names are like '01_t034'.

    sequences  which of them, such as ("01",); None for all
    truth      "gold": frames without gold are left out and silver is not looked at
    margin     px from the frame's border within which cells may be unannotated
    axes       what the dimensions of the frames are, as in `read_image`; "ZYX" for volumes

    Frames that cannot be used become problems. DataError when a sequence is missing or no frame can be used.
    """
    found = ctc_sequences(path)
    wanted = found if sequences is None else tuple(sequences)
    missing = [s for s in wanted if s not in found]
    if missing or not wanted:
        raise DataError(
            f"{path}: expected sequence {' and '.join(missing) or '01'} of the Cell Tracking Challenge, "
            f"found {', '.join(found) or 'none'}; check the path and the sequence"
        )
    samples, findings, problems = [], [], []
    for sequence in wanted:
        own = []
        for frame in _frames(path, sequence, axes):
            if truth == "gold" and frame.gold is None:
                continue
            used = replace(frame, silver=None) if truth == "gold" else frame
            try:
                _check_sizes(used)
                own.append(_sample(used, _is_partial_frame(used, margin), margin))
            except DataError as error:
                problems.append(str(error))
        findings.append(_finding(sequence, own))
        samples += own
    if not samples:
        raise DataError(
            f"{path}: expected frames that can be used, found none in {', '.join(wanted)} "
            f"({problems[0] if problems else 'no frame has gold truth'})"
        )
    findings.append(f"Unlabelled pixels within {margin} px of a frame's border are ignored.")
    return Dataset(
        name or path.name, tuple(samples), "instances", ("background", "object"), tuple(findings), tuple(problems)
    )
