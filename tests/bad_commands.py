"""Bad inputs: settings and options of training, and masks that cannot be scored."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bad_cases import TRAIN, Cases, binary, cells, colour, ids, nothing, save, write

CASES = case = Cases("Settings and options")
TO_RUN = "train cells -o run --device cpu"
TOLD_BY_TYPER = r"(?<=': ).*"


def three(here: Path) -> None:
    """Three images."""
    cells(here / "cells")


case("a name that no setting has", TRAIN + " --set network.chanels=4", 1)(three)
case("a word for a number", TRAIN + " --set network.depth=deep", 1)(three)
case("no equals sign", TRAIN + " --set network.depth", 1)(three)
case("a network without levels", TRAIN + " --set network.depth=0", 1)(three)
case("a network without channels", TRAIN + " --set network.channels=0", 1)(three)
case("a patch that does not fit the network", TRAIN + " --set patch=[33,33]", 1)(three)
case("a patch of three sides for images", TRAIN + " --set patch=[32,32,32]", 1)(three)
case("a batch of nothing", TRAIN + " --set batch=0", 1)(three)
case("an unknown optimiser", TRAIN + " --set optimiser.name=adamm", 1)(three)
case("a learning rate below zero", TRAIN + " --set optimiser.learning_rate=-1", 1)(three)
case(
    "an absurd learning rate",
    TRAIN + " --set optimiser.learning_rate=1e30 --steps 5",
    1,
    "the run's folder stays, with its recipe and its log",
    written=("run/",),
)(three)
case("no minutes", TO_RUN + " --minutes 0", 1)(three)
case("minutes below zero", TO_RUN + " --minutes -3", 1)(three)
case("no minutes, planned", "plan cells --minutes 0", 1)(three)
case("no steps", TO_RUN + " --steps 0", 1)(three)
case("minutes and steps", TO_RUN + " --steps 1 --minutes 1", 1)(three)
case("a recipe that does not exist", TRAIN + " --recipe missing.toml", 1)(three)
case("nothing to resume", TO_RUN + " --steps 1 --resume", 1)(three)
case("resumed, no folder named", "train cells --resume", 1)(three)
case("resumed with other settings", TRAIN + " --resume", 1)(three)
case("resumed from another model", TO_RUN + " --resume --from other.safetensors", 1)(three)
case("maps of objects asked for classes", TRAIN + " --set encoding.kind=distance", 1)(three)
case("validation data that do not exist", TRAIN + " --val nowhere", 1)(three)
case("an unknown device", "train cells -o run --steps 1 --device gpu", 1, foreign=r"(?<=has \().*(?=\),)")(three)
case("a seed below zero", TRAIN + " --seed -1", 1)(three)
case("a seed in words", TRAIN + " --seed lucky", 2, foreign=TOLD_BY_TYPER)(three)
case("an option that does not exist", TRAIN + " --epochs 100", 2, foreign=r"(?<=--epochs).*")(three)
case("a task that does not exist", TRAIN + " --task detection", 2, foreign=TOLD_BY_TYPER)(three)
case("a command that does not exist", "segment cells", 2)(three)
case("no data named", "train", 2, foreign="(?<=argument ).*")(nothing)
case("a dataset to get, not named", "datasets get", 2)(nothing)


@case("validation images with other channels", TRAIN + " --val val", 1)
def _(here: Path) -> None:
    cells(here / "cells")
    cells(here / "val")
    for index in range(3):
        save(here / "val" / "images" / f"cell{index}.png", colour(index))


@case("a recipe that is no TOML", TRAIN + " --recipe my.toml", 1, foreign=r"(?<=mistake: ).*(?=; correct)")
def _(here: Path) -> None:
    three(here)
    write(here / "my.toml", "patch = [32,")


@case("a run from before in the folder", TRAIN, 1)
def _(here: Path) -> None:
    three(here)
    write(here / "run" / "model.safetensors")


@case("the folder for the run is a file", TRAIN, 1)
def _(here: Path) -> None:
    three(here)
    write(here / "run")


SCORES = case = Cases("Scores of masks made by any tool")
SCORE = "score reference estimate"


def sides(here: Path) -> tuple[Path, Path]:
    """Two folders of the same three masks."""
    for index in range(3):
        for side in ("reference", "estimate"):
            save(here / side / f"cell{index}.tif", ids(index))
    return here / "reference", here / "estimate"


def scored(n: int) -> dict[str, Any]:
    """What is said of n masks."""
    return {"done": f"{n} masks scored", "proof": {"": f"\nn_images{' ' * 15}{n}\n"}}


@case("one estimate of another size", SCORE, 1, **scored(2))
def _(here: Path) -> None:
    save(sides(here)[1] / "cell1.tif", ids(1)[:50])


@case("one estimate is missing", SCORE, 1, **scored(2))
def _(here: Path) -> None:
    (sides(here)[1] / "cell1.tif").unlink()


@case("a damaged estimate", SCORE, 1, foreign=r"(?<=cut short \().*(?=\))", **scored(2))
def _(here: Path) -> None:
    write(sides(here)[1] / "cell1.tif", b"II*\0")


@case("a reference as JPEG", SCORE, 1, **scored(2))
def _(here: Path) -> None:
    (sides(here)[0] / "cell1.tif").unlink()
    Image.fromarray(binary(1)).save(here / "reference" / "cell1.jpg")


@case("no names in common", SCORE, 1)
def _(here: Path) -> None:
    for index, path in enumerate(sorted(sides(here)[1].iterdir())):
        path.rename(path.with_name(f"{'xyz'[index]}.tif"))


@case("a folder against a file", SCORE + "/cell0.tif", 1)
def _(here: Path) -> None:
    sides(here)


@case("a side that does not exist", "score reference nowhere", 1)
def _(here: Path) -> None:
    sides(here)


@case("ids of objects called classes", SCORE + " --classes", 1)
def _(here: Path) -> None:
    for side in sides(here):
        for index in range(3):
            save(side / f"cell{index}.tif", 1000 * ids(index).astype(np.uint16))


@case("probabilities as estimates", SCORE, 1)
def _(here: Path) -> None:
    for path in sides(here)[1].iterdir():
        save(path, np.random.default_rng(0).random((64, 64), np.float32))


@case("a folder instead of a file for the rows", SCORE + " --csv estimate", 1)
def _(here: Path) -> None:
    sides(here)


case("a part of the recipe as a number", TRAIN + " --set network=3 --set network.depth=3", 1)(three)
case("classes that the data do not have", TRAIN + " --set encoding.n_classes=7", 1)(three)
case("a model to start from that does not exist", TRAIN + " --from nowhere", 1)(three)
