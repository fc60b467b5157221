"""Bad inputs: models, and images that a model cannot take. What can be predicted is predicted."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as tensors_to_bytes

from bad_cases import Cases, cells, colour, cut_short, grey, ids, nothing, pictures, save, save_volume, write
from test_model import rewritten, small_model

CASES = case = Cases("Models and prediction")
MODEL = "predict model.safetensors "
TO_OUT = " -o out --device cpu"
OTHER_PROGRAM = r"(?<=damaged file \().*(?=\);)"


@cache
def model_bytes(task: str, dims: int) -> bytes:
    """A small untrained network for grey images, as a model file."""
    with tempfile.TemporaryDirectory() as folder:
        return small_model(task, dims=dims).save(Path(folder) / "model.safetensors").read_bytes()


def model(here: Path, task: str = "instances", dims: int = 2) -> Path:
    """The model file of a case."""
    return write(here / "model.safetensors", model_bytes(task, dims))


def ready(here: Path) -> None:
    """A model and three images that it can take."""
    model(here)
    pictures(here / "new")


def predicted(*numbers: int, ending: str = ".tif") -> dict[str, Any]:
    """The results of some of the images."""
    n = len(numbers)
    written = tuple(f"out/cell{number}{ending}" for number in numbers)
    return {"done": f"{n} image{'s' * (n > 1)} predicted", "written": written}


case("to be shown, does not exist", "show architecture nowhere", 1)(nothing)
case("a network without levels", "show architecture --depth 0", 1)(nothing)
case("a size that the network cannot take", "show architecture --size 100", 1)(nothing)
case("a level that the network has not", "show skip --level 9 -o skip.svg", 1)(nothing)
case("a picture of an unknown kind", "show architecture -o picture.docx", 1)(nothing)


@case("does not exist", "predict nowhere new" + TO_OUT, 1)
def _(here: Path) -> None:
    pictures(here / "new")


@case("is a text file", "info notes.txt", 1, foreign=OTHER_PROGRAM)
def _(here: Path) -> None:
    write(here / "notes.txt", "no model")


@case("is an image", "evaluate cell.png phantom:test", 1, foreign=OTHER_PROGRAM)
def _(here: Path) -> None:
    save(here / "cell.png", grey())


@case("is another program's", "predict other.safetensors new" + TO_OUT, 1)
def _(here: Path) -> None:
    pictures(here / "new")
    write(here / "other.safetensors", tensors_to_bytes({"weight": np.zeros(3, np.float32)}))


@case("is cut short", "info model.safetensors", 1, foreign=OTHER_PROGRAM)
def _(here: Path) -> None:
    cut_short(model(here))


def rewrite(here: Path, change: Any) -> None:
    """A model whose settings were changed."""
    ready(here)
    rewritten(here / "model.safetensors", change).replace(here / "model.safetensors")


@case("is of a newer format", MODEL + "new" + TO_OUT, 1)
def _(here: Path) -> None:
    rewrite(here, lambda settings: settings.update(format=7))


@case("contradicts itself", MODEL + "new" + TO_OUT, 1, foreign=r"(?<=something \().*(?=\);)")
def _(here: Path) -> None:
    rewrite(here, lambda settings: settings["network"].update(channels=8))


@case("is a folder without a model", "predict run new" + TO_OUT, 1)
def _(here: Path) -> None:
    pictures(here / "new")
    write(here / "run" / "log.txt", "")


@case("takes grey images, one is of colour", MODEL + "new" + TO_OUT, 1, **predicted(0, 2))
def _(here: Path) -> None:
    ready(here)
    save(here / "new" / "cell1.png", colour(1))


STACK = {"done": "each slice predicted", "written": ("out/stack.tif",)}


@case("takes images, given a volume", MODEL + "stack.tif" + TO_OUT, 0, also="stack.tif: its 3 pages", **STACK)
def _(here: Path) -> None:
    model(here)
    save_volume(here / "stack.tif", np.stack([grey(i) for i in range(3)]))


@case("takes volumes, given an image", MODEL + "new" + TO_OUT, 1)
def _(here: Path) -> None:
    model(here, dims=3)
    pictures(here / "new", 1)


@case("images that do not exist", MODEL + "old" + TO_OUT, 1)
def _(here: Path) -> None:
    ready(here)


@case("a pattern that nothing matches", MODEL + "'new/*.jpg'" + TO_OUT, 1)
def _(here: Path) -> None:
    ready(here)


@case("a folder without images", MODEL + "notes" + TO_OUT, 1)
def _(here: Path) -> None:
    ready(here)
    write(here / "notes" / "a.txt")


@case("a file that is no image", MODEL + "new notes.txt" + TO_OUT, 1, **predicted(0, 1, 2))
def _(here: Path) -> None:
    ready(here)
    write(here / "notes.txt")


@case("one damaged file among four", MODEL + "new" + TO_OUT, 1, **predicted(0, 2, 3))
def _(here: Path) -> None:
    model(here)
    pictures(here / "new", 4)
    cut_short(here / "new" / "cell1.png")


OTHER_PAGES = {"done": "the 2 other pages predicted", "written": ("out/stack.tif",)}


@case("NaN on one page of a stack", MODEL + "stack.tif" + TO_OUT, 1, **OTHER_PAGES)
def _(here: Path) -> None:
    model(here)
    pages = np.stack([grey(i) for i in range(3)]).astype(np.float32)
    pages[1, 2, 3] = np.nan
    save(here / "stack.tif", pages)


@case("two images of one name", MODEL + "new old" + TO_OUT, 1, **predicted(0))
def _(here: Path) -> None:
    model(here)
    pictures(here / "new", 1)
    pictures(here / "old", 1)


@case("the output is a file", MODEL + "new -o notes.txt", 1)
def _(here: Path) -> None:
    ready(here)
    write(here / "notes.txt")


@case("no output is named", MODEL + "new", 2, foreign="'-o'.*")
def _(here: Path) -> None:
    ready(here)


@case("a result from before", MODEL + "new" + TO_OUT, 1, **predicted(0, 2))
def _(here: Path) -> None:
    ready(here)
    save(here / "out" / "cell1.tif", ids(1))


@case("results would replace the images", MODEL + "new -o new --overwrite --device cpu", 1)
def _(here: Path) -> None:
    model(here)
    pictures(here / "new", 2, ".tif")


@case("overwritten and resumed", MODEL + "new --overwrite --resume" + TO_OUT, 1)
def _(here: Path) -> None:
    ready(here)


@case("an unknown result is asked for", MODEL + "new --save masks" + TO_OUT, 1)
def _(here: Path) -> None:
    ready(here)


@case("an unknown format is asked for", MODEL + "new --format jpg" + TO_OUT, 1)
def _(here: Path) -> None:
    ready(here)


@case("PNG is asked for of a stack", MODEL + "stack.tif new --format png" + TO_OUT, 1, **predicted(0, 1, ending=".png"))
def _(here: Path) -> None:
    model(here)
    pictures(here / "new", 2)
    save(here / "stack.tif", np.stack([grey(i) for i in range(3)]))


@case("three rotations", MODEL + "new --rotations 3" + TO_OUT, 1)
def _(here: Path) -> None:
    ready(here)


@case("an unknown device", MODEL + "new -o out --device gpu", 1, foreign=r"(?<=has \().*(?=\),)")
def _(here: Path) -> None:
    ready(here)


@case("evaluated without masks", "evaluate model.safetensors new --device cpu", 1)
def _(here: Path) -> None:
    ready(here)


@case("evaluated on other classes", "evaluate model.safetensors cells --device cpu", 1)
def _(here: Path) -> None:
    model(here, "semantic")
    cells(here / "cells", lambda i: (ids(i) > 0) + (np.roll(ids(i), 9) > 2).astype(np.uint8))


@case("evaluated on classes of whole images", "evaluate model.safetensors pets --device cpu", 1)
def _(here: Path) -> None:
    model(here)
    pictures(here / "pets" / "cat")
    pictures(here / "pets" / "dog")


ROWS = {"done": "2 images scored", "written": ("rows.csv",), "proof": {"rows.csv": "cell2,"}}


@case("evaluated, one image is damaged", "evaluate model.safetensors cells --csv rows.csv --device cpu", 1, **ROWS)
def _(here: Path) -> None:
    model(here)
    cut_short(cells(here / "cells") / "images" / "cell1.png")
