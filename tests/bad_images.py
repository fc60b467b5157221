"""Bad inputs: damaged images, and images that do not go together. Mostly one of three is bad, and two are used."""

import gzip
import struct
from pathlib import Path

import numpy as np

from bad_cases import (
    TRAIN,
    Cases,
    binary,
    cells,
    checked,
    colour,
    cut_short,
    grey,
    save,
    save_volume,
    trained_on,
    write,
)

CASES = case = Cases("Images")
CHECK = "check cells"


def replaced(here: Path, array: np.ndarray, suffix: str = ".tif") -> Path:
    """Three images, of which the second is this one."""
    folder = cells(here / "cells")
    (folder / "images" / "cell1.png").unlink()
    return save(folder / "images" / f"cell1{suffix}", array)


@case("PNG cut short", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cut_short(cells(here / "cells") / "images" / "cell1.png")


@case("JPEG cut short", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cut_short(replaced(here, grey(1), ".jpg"))


@case("TIFF cut short", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cut_short(replaced(here, grey(1)))


def nifti(planes: np.ndarray) -> bytes:
    """A compressed NIfTI-1 file of (z, y, x) uint8, as its standard writes it."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)  # the size of the header
    struct.pack_into("<8h", header, 40, 3, *planes.shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)  # uint8, 8 bits
    struct.pack_into("<f", header, 108, 352.0)  # where the values begin
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + planes.tobytes())


@case("NIfTI cut short", "check volumes", 1, needs="nibabel", foreign=r"(?<=cut short \().*(?=\))", **checked(1))
def _(here: Path) -> None:
    for index in range(2):
        for kind, plane in (("images", grey(index)), ("masks", binary(index))):
            write(here / "volumes" / kind / f"v{index}.nii.gz", nifti(np.stack([plane] * 9)))
    cut_short(here / "volumes" / "images" / "v1.nii.gz")


@case("zero bytes", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    write(cells(here / "cells") / "images" / "cell1.png", b"")


@case("text called .png", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    write(cells(here / "cells") / "images" / "cell1.png", "I am no picture.\n")


@case("NaN in a TIFF of real numbers", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    array = grey(1).astype(np.float32)
    array[5, :3] = np.nan
    replaced(here, array)


@case("infinite values in a TIFF of real numbers", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    array = grey(1).astype(np.float32)
    array[5, 5:7] = np.inf
    replaced(here, array)


@case("NaN in all images", TRAIN, 1)
def _(here: Path) -> None:
    for path in (cells(here / "cells") / "images").iterdir():
        path.unlink()
        save(path.with_suffix(".tif"), np.full((64, 64), np.nan, np.float32))


@case("all images constant", CHECK, 0, **checked(3))
def _(here: Path) -> None:
    for path in (cells(here / "cells") / "images").iterdir():
        save(path, np.full((64, 64), 90, np.uint8))


@case("one image constant", TRAIN, 0, **trained_on(2))
def _(here: Path) -> None:
    replaced(here, np.full((64, 64), 90, np.uint8))


@case("complex numbers in .npy", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    replaced(here, np.fft.fft2(grey(1)), ".npy")


class Trap:
    """What a pickle runs when it is opened: it leaves a file behind."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("the pickle was opened"),)


UNOPENED = trained_on(1) | {"done": "trained on 2 images; the pickle was not opened"}


@case("Python objects in .npy", TRAIN, 0, **UNOPENED)
def _(here: Path) -> None:
    replaced(here, np.array([Trap()], object), ".npy")


@case("five dimensions in .npy", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    replaced(here, np.zeros((2, 3, 4, 64, 64), np.uint8), ".npy")


@case("one dimension in .npy", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    replaced(here, np.zeros(64, np.uint8), ".npy")


@case("no pixels in .npy", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    replaced(here, np.zeros((0, 64), np.uint8), ".npy")


@case("grey and colour mixed", TRAIN, 0, **trained_on(2))
def _(here: Path) -> None:
    replaced(here, colour(1), ".png")


@case(
    "three channels, and four in one image",
    TRAIN,
    1,
)
def _(here: Path) -> None:
    cells(here / "cells")
    for index in range(3):
        (here / "cells" / "images" / f"cell{index}.png").unlink()
        planes = np.moveaxis(colour(index, 4 if index == 1 else 3), -1, 0)
        save_volume(here / "cells" / "images" / f"cell{index}.tif", planes, "CYX")


@case("images, and one volume", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells")
    for kind, plane in (("images", grey(1)), ("masks", binary(1))):
        (here / "cells" / kind / "cell1.png").unlink()
        save_volume(here / "cells" / kind / "cell1.tif", np.stack([plane] * 9))


@case("images of a single pixel", TRAIN, 1)
def _(here: Path) -> None:
    for index in range(3):
        save(here / "cells" / "images" / f"cell{index}.png", np.full((1, 1), 9 * index, np.uint8))
        save(here / "cells" / "masks" / f"cell{index}.png", np.full((1, 1), 255, np.uint8))


@case("one image of a single pixel", TRAIN, 0, **trained_on(2))
def _(here: Path) -> None:
    replaced(here, np.full((1, 1), 9, np.uint8))
    save(here / "cells" / "masks" / "cell1.png", np.full((1, 1), 255, np.uint8))


@case("strips of 3 x 2000 px", TRAIN, 0, **trained_on(2))
def _(here: Path) -> None:
    for index in range(3):
        for kind, array in (("images", grey(index, 80)), ("masks", binary(index, 80))):
            save(here / "cells" / kind / f"cell{index}.png", np.tile(array[15:18], 25))


@case("all that is seen lies in the alpha channel", CHECK, 0, **checked(3))
def _(here: Path) -> None:
    cells(here / "cells")
    for index in range(3):
        array = np.zeros((64, 64, 4), np.uint8)
        array[..., 3] = grey(index)
        save(here / "cells" / "images" / f"cell{index}.png", array)


@case("a stack of six pages with five masks", "check stacks", 1, **checked(6, annotated=0))
def _(here: Path) -> None:
    save(here / "stacks" / "train-volume.tif", np.stack([grey(i) for i in range(6)]))
    save(here / "stacks" / "train-labels.tif", np.stack([binary(i) for i in range(5)]))


@case("the same image three times", CHECK, 0, also="note: cells: the same image", **checked(3))
def _(here: Path) -> None:
    for index in range(3):
        save(here / "cells" / "images" / f"cell{index}.png", grey(0))
        save(here / "cells" / "masks" / f"cell{index}.png", binary(0))


@case("one image, all objects in a corner", TRAIN, 1)
def _(here: Path) -> None:
    corner = np.zeros((64, 64), np.uint8)
    corner[:8, :8] = 255
    save(here / "cells" / "images" / "cell.png", grey())
    save(here / "cells" / "masks" / "cell.png", corner)
