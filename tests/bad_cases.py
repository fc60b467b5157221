"""What a bad input is: files, a command, and what has to come of it; and the files that most of them start from.

Each case has a folder of its own, in which its command runs; so paths in commands and in sentences begin there. Images
are discs on noise, 64 x 64 pixels (see `conftest`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from conftest import disc_image

TINY = " --steps 1 --set network.channels=4 --set network.depth=2 --set patch=[32,32] --set batch=2 --device cpu -o run"
"""Options of a training that takes a moment."""
TRAIN = "train cells" + TINY
NOTHING = "nothing"

Arrange = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One bad input. What is printed stands in docs/bad_inputs.md.

    area       what is wrong, roughly
    title      what is wrong, in words
    command    what is typed, without `ushape`
    status     the exit status
    done       what was done all the same, in words
    arrange    writes the files
    also       beginning of another line that is printed and belongs to the answer
    foreign    what another program or library says in the sentence: it may say it otherwise one day
    written    the files that are there afterwards and were not before, a run as "run/"; nothing else may have changed
    proof      text that a written file, or what is printed (""), holds
    while_run  what the machine is like while the command runs
    needs      a package that the case is about
    bug        why the case fails today; '' where it does not
    wanted     what has to be said once that is mended
    """

    area: str
    title: str
    command: str
    status: int
    done: str
    arrange: Arrange
    also: str = ""
    foreign: str = ""
    written: tuple[str, ...] = ()
    proof: dict[str, str] = field(default_factory=dict)
    while_run: Callable[[], AbstractContextManager[Any]] = nullcontext
    needs: str = ""
    bug: str = ""
    wanted: str = ""


class Cases:
    """The cases of one area, in the order in which they are written down."""

    def __init__(self, area: str) -> None:
        self.area = area
        self.all: list[Case] = []

    def __call__(self, title: str, command: str, status: int, done: str = NOTHING, **more: Any) -> Any:
        """A decorator for the function that writes the files."""

        def decorated(arrange: Arrange) -> Arrange:
            self.all.append(Case(self.area, title, command, status, done, arrange, **more))
            return arrange

        return decorated


def trained_on(training: int, held_out: int = 1) -> dict[str, Any]:
    """What is left of a training: a run folder, whose report says how many images there were."""
    n = training + held_out
    text = f"{training} image{'s' * (training != 1)} to train on, {held_out} held out"
    return {"done": f"trained on {n} images", "written": ("run/",), "proof": {"run/report.html": text}}


def checked(n: int, annotated: int | None = None) -> dict[str, Any]:
    """What `check` says of n images."""
    return {
        "done": f"{n} image{'s' * (n > 1)} checked",
        "proof": {"": f"{n} images, {n if annotated is None else annotated} annot"},
    }


# Files to start from.


def grey(seed: int = 0, size: int = 64) -> np.ndarray:
    """(height, width) uint8."""
    return disc_image(seed, size)[0][0]


def ids(seed: int = 0, size: int = 64) -> np.ndarray:
    """(height, width) uint8, the instances of `grey`."""
    return disc_image(seed, size)[1].astype(np.uint8)


def binary(seed: int = 0, size: int = 64) -> np.ndarray:
    """(height, width) uint8, 0 and 255."""
    return (255 * (ids(seed, size) > 0)).astype(np.uint8)


def colour(seed: int = 0, n: int = 3) -> np.ndarray:
    """(height, width, n) uint8."""
    return np.stack([grey(seed + 7 * i) for i in range(n)], axis=-1)


def save(path: Path, array: np.ndarray) -> Path:
    """Write an array in the format that the name tells, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        Image.fromarray(array).save(path)
    return path


def save_volume(path: Path, planes: np.ndarray, axes: str = "ZYX") -> Path:
    """Write a TIFF that says what its dimensions are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, planes, metadata={"axes": axes}, photometric="minisblack")
    return path


def write(path: Path, content: str | bytes = b"") -> Path:
    """Write text or bytes, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pictures(folder: Path, n: int = 3, suffix: str = ".png") -> None:
    """n images and no masks."""
    for index in range(n):
        save(folder / f"cell{index}{suffix}", grey(index))


def cells(folder: Path, masks: Callable[[int], np.ndarray] = binary, suffix: str = ".png") -> Path:
    """images/ and masks/ of three images; the masks hold 0 and 255, or what `masks` gives for an image's number."""
    pictures(folder / "images")
    for index in range(3):
        save(folder / "masks" / f"cell{index}{suffix}", masks(index))
    return folder


def cut_short(path: Path, share: float = 0.5) -> None:
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def nothing(here: Path) -> None:
    """No files at all."""
