"""Bad inputs: masks that hold something else than was meant."""

from pathlib import Path

import numpy as np

from bad_cases import TRAIN, Cases, binary, cells, checked, colour, cut_short, grey, ids, save, trained_on

CASES = case = Cases("Masks")
CHECK = "check cells"


@case("JPEG with four classes", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: 60 * ids(i), ".jpg")


@case("JPEG with two classes", TRAIN, 0, also="3 of 3 masks hold ghosts", **trained_on(2))
def _(here: Path) -> None:
    cells(here / "cells", binary, ".jpg")


@case("colours that run into each other", TRAIN, 1)
def _(here: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    cells(here / "cells", lambda i: np.stack([ramp, ramp.T, grey(3)], axis=-1))


@case("a photograph among masks", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cells(here / "cells")
    save(here / "cells" / "masks" / "cell1.png", colour(3))


@case("one mask for five slices", TRAIN, 1)
def _(here: Path) -> None:
    for i in range(3):
        save(here / "cells" / "images" / f"cell{i}.tif", np.stack([grey(i)] * 5))
        save(here / "cells" / "masks" / f"cell{i}.tif", binary(i))


@case("five slices of masks for one image", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: np.stack([binary(i)] * 5), ".tif")


@case("probabilities instead of classes", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: (grey(i) / 255).astype(np.float32), ".tif")


@case("probabilities in one mask of three", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cells(here / "cells", lambda i: (grey(i) / 255).astype(np.float32) if i == 1 else binary(i), ".tif")


@case("negative values", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: ids(i).astype(np.int16) - 5, ".tif")


@case("ids above 2147483647", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: np.where(ids(i) > 0, ids(i) + np.uint32(2**31), np.uint32(0)), ".tif")


@case("nothing but background", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: np.zeros((64, 64), np.uint8))


@case("nothing but background in one of three", TRAIN, 0, also="1 of 3 masks", **trained_on(2))
def _(here: Path) -> None:
    cells(here / "cells", lambda i: (i != 1) * binary(i))


@case("nothing but foreground", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: np.full((64, 64), 255, np.uint8))


@case("white background, black objects", CHECK, 0, also="note: cell0, cell1, cell2: the foreground", **checked(3))
def _(here: Path) -> None:
    cells(here / "cells", lambda i: 255 - binary(i))


@case("the image is its mask", CHECK, 0, **checked(3))
def _(here: Path) -> None:
    for index in range(3):
        for kind in ("images", "masks"):
            save(here / "cells" / kind / f"cell{index}.png", binary(index))


@case("the mask is its image", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", grey)


@case("300 values, not connected", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: np.random.default_rng(i).integers(0, 300, (64, 64)).astype(np.uint16), ".tif")


@case("all masks twice as large as the images", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: np.kron(binary(i), np.ones((2, 2), np.uint8)))


@case("16-bit ids in one mask, 0 and 255 in the others", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cells(here / "cells", lambda i: ids(i).astype(np.uint16) if i == 1 else binary(i), ".tif")


@case("0 and 255 in one mask, 16-bit ids in the others", CHECK, 0, **checked(3, annotated=2))
def _(here: Path) -> None:
    cells(here / "cells", lambda i: binary(i) if i == 1 else ids(i).astype(np.uint16), ".tif")


@case("ids of objects, asked for classes", TRAIN + " --task semantic", 0, also="The masks hold ids", **trained_on(2))
def _(here: Path) -> None:
    cells(here / "cells", lambda i: ids(i) + 10 * i * (ids(i) > 0).astype(np.uint8))


@case("objects of one pixel", CHECK, 0, **checked(3))
def _(here: Path) -> None:
    dots = np.zeros((64, 64), np.uint8)
    dots[4::8, 4::8] = 255
    cells(here / "cells", lambda i: np.roll(dots, i, axis=0))


@case("one mask cut short", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cut_short(cells(here / "cells") / "masks" / "cell1.png", 0.9)
