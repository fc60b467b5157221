"""Bad inputs: folders, tables and what describes them."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bad_cases import TINY, TRAIN, Cases, binary, cells, checked, grey, ids, nothing, pictures, save, trained_on, write

CASES = case = Cases("Folders")
CHECK = "check cells"

case("does not exist", "check nowhere", 1)(nothing)
case("a public dataset's name, misspelt", "train dsb2081" + TINY, 1)(nothing)
case("a public dataset to get, misspelt", "datasets get isbi-2012", 1)(nothing)
case("a public dataset that is not on this machine", "datasets path dsb2018", 1)(nothing)
case("a part that a public dataset has not", "check phantom:training", 1)(nothing)


@case("called like a public dataset", "check digits", 0, also="note: digits: This is", done="the public one checked")
def _(here: Path) -> None:
    cells(here / "digits")


@case("is empty", TRAIN, 1)
def _(here: Path) -> None:
    (here / "cells").mkdir()


@case("is a text file", "check notes.txt", 1)
def _(here: Path) -> None:
    write(here / "notes.txt", "no images")


@case("is one image", "check cell.png", 1)
def _(here: Path) -> None:
    save(here / "cell.png", grey())


@case("is a packed archive", "check cells.zip", 1)
def _(here: Path) -> None:
    write(here / "cells.zip", b"PK\x05\x06" + bytes(18))


@case("holds text only", CHECK, 1)
def _(here: Path) -> None:
    write(here / "cells" / "readme.txt", "no images")


@case("holds a packed archive", CHECK, 1)
def _(here: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.png", b"")
    write(here / "cells" / "cells.zip", packed.getvalue())


@case("holds Zeiss files only", CHECK, 1)
def _(here: Path) -> None:
    write(here / "cells" / "a.czi", b"ZISRAWFILE")


@case("holds Nikon files only", TRAIN, 1)
def _(here: Path) -> None:
    write(here / "cells" / "a.nd2", b"\xda\xce\xbe\n")


@case("holds a Word document only", CHECK, 1)
def _(here: Path) -> None:
    write(here / "cells" / "images.docx", b"PK\x03\x04")


@case("holds a pickle only", CHECK, 1, done="nothing; the pickle was not opened")
def _(here: Path) -> None:
    write(here / "cells" / "data.pkl", pickle.dumps([1, 2]))


@case("images/ without masks/, checked", CHECK, 0, **checked(3, annotated=0))
def _(here: Path) -> None:
    pictures(here / "cells" / "images")


@case("damaged regions of Fiji instead of masks", TRAIN, 1)
def _(here: Path) -> None:
    pictures(here / "cells" / "images")
    for i in range(3):
        write(here / "cells" / "masks" / f"cell{i}.roi", b"Iout")


@case("images/ without masks/, to train on", TRAIN, 1)
def _(here: Path) -> None:
    pictures(here / "cells" / "images")


@case("masks/ without images/", CHECK, 1)
def _(here: Path) -> None:
    pictures(here / "cells" / "masks")


@case("no mask is named like an image", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells")
    for index, path in enumerate(sorted((here / "cells" / "masks").iterdir())):
        path.rename(path.with_name(f"drawing-{'xyz'[index]}.png"))


@case("an image without mask", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cells(here / "cells")
    (here / "cells" / "masks" / "cell1.png").unlink()


@case("a mask without image", CHECK, 1, **checked(3))
def _(here: Path) -> None:
    cells(here / "cells")
    save(here / "cells" / "masks" / "cell9.png", binary(9))


@case("two images of one name", TRAIN, 0, **trained_on(2))
def _(here: Path) -> None:
    cells(here / "cells")
    save(here / "cells" / "images" / "cell1.tif", grey(1))


@case("all masks have another size than their images", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells", lambda i: binary(i)[: 50 - i, :40])


@case("one mask of three has another size", TRAIN, 0, **trained_on(1))
def _(here: Path) -> None:
    cells(here / "cells")
    save(here / "cells" / "masks" / "cell1.png", binary(1)[:30])


@case("images of different sizes", TRAIN, 0, **trained_on(2))
def _(here: Path) -> None:
    for index, side in enumerate((64, 71, 90)):
        save(here / "cells" / "images" / f"cell{index}.png", grey(index, side))
        save(here / "cells" / "masks" / f"cell{index}.png", binary(index, side))


@case("a microscope's file beside the images", TRAIN, 0, **trained_on(2))
def _(here: Path) -> None:
    cells(here / "cells")
    write(here / "cells" / "images" / "cell3.lif", b"p\0\0\0")


@case("images and masks lie two folders deeper", CHECK, 0, also="note: cells: Everything", **checked(3))
def _(here: Path) -> None:
    cells(here / "cells" / "export" / "cells")


@case("images/ itself is named", "train cells/images" + TINY, 1)
def _(here: Path) -> None:
    cells(here / "cells")


@contextmanager
def locked() -> Iterator[None]:
    """A folder called locked cannot be listed, as if without permissions; the superuser could list it all the same."""
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "iterdir", iterdir)
        yield


@case("may not be read", "check locked", 1, while_run=locked)
def _(here: Path) -> None:
    cells(here / "locked")


@case("a part that is not there", "train cells:vla" + TINY, 1)
def _(here: Path) -> None:
    cells(here / "cells" / "train")
    cells(here / "cells" / "val")


@case("several parts, none for training", TRAIN, 1)
def _(here: Path) -> None:
    cells(here / "cells" / "test")
    cells(here / "cells" / "val")


@case("two datasets in one folder", "check data", 0, also="note: data: Each folder", **checked(6))
def _(here: Path) -> None:
    cells(here / "data" / "monday")
    cells(here / "data" / "friday")


@case("a description from before", "check cells --write", 1)
def _(here: Path) -> None:
    write(cells(here / "cells") / "dataset.toml", 'task = "semantic"\n')


@case("a description for what is no folder", "check phantom:train --write", 1)
def _(here: Path) -> None:
    cells(here / "cells")


# Tables.


def table(here: Path, text: str) -> None:
    """A CSV file beside images/ and masks/."""
    write(cells(here / "cells") / "list.csv", text)


PAIRS = "image,mask\n" + "".join(f"images/cell{i}.png,masks/cell{i}.png\n" for i in range(3))
CHECK_LIST, TRAIN_LIST = "check cells/list.csv", "train cells/list.csv" + TINY


@case("CSV without a column of images", CHECK_LIST, 1)
def _(here: Path) -> None:
    table(here, PAIRS.replace("image,mask", "left,right"))


@case("CSV without a line of names", CHECK_LIST, 1)
def _(here: Path) -> None:
    table(here, PAIRS.partition("\n")[2])


@case("CSV that lists an image which is not there", TRAIN_LIST, 0, **trained_on(1))
def _(here: Path) -> None:
    table(here, PAIRS.replace("images/cell1", "images/cell7"))


@case("CSV that lists a mask which is not there", TRAIN_LIST, 0, **trained_on(1))
def _(here: Path) -> None:
    table(here, PAIRS.replace("masks/cell1", "masks/cell7"))


@case("CSV that lists files none of which is there", TRAIN_LIST, 1)
def _(here: Path) -> None:
    table(here, PAIRS.replace("images/", "pictures/"))


@case("CSV that is empty", CHECK_LIST, 1)
def _(here: Path) -> None:
    table(here, "")


@case("CSV with a first line only", CHECK_LIST, 1)
def _(here: Path) -> None:
    table(here, "image,mask\n")


@case("CSV with semicolons", TRAIN_LIST, 0, also="list.csv: 3 lines", **trained_on(2))
def _(here: Path) -> None:
    table(here, PAIRS.replace(",", ";"))


@case("two CSV files", CHECK, 1)
def _(here: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write(here / "cells" / name, PAIRS)


# nnU-Net.

STATED = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "cell": 1}, "file_ending": ".png"}
TRAIN_NNUNET = "train Dataset1" + TINY


def nnunet(here: Path, stated: str = json.dumps(STATED)) -> Path:
    """Three cases of two channels."""
    folder = here / "Dataset1"
    for number in range(3):
        for channel in range(2):
            save(folder / "imagesTr" / f"case{number}_{channel:04d}.png", grey(number + 10 * channel))
        save(folder / "labelsTr" / f"case{number}.png", binary(number) // 255)
    write(folder / "dataset.json", stated)
    return folder


@case("nnU-Net, a channel is missing", TRAIN_NNUNET, 0, **trained_on(1))
def _(here: Path) -> None:
    (nnunet(here) / "imagesTr" / "case1_0001.png").unlink()


@case("nnU-Net, a mask is missing", TRAIN_NNUNET, 0, **trained_on(1))
def _(here: Path) -> None:
    (nnunet(here) / "labelsTr" / "case1.png").unlink()


@case("nnU-Net, dataset.json is cut short", TRAIN_NNUNET, 0, foreign="Unterminated.*(?=; correct)", **trained_on(2))
def _(here: Path) -> None:
    nnunet(here, json.dumps(STATED)[:-20])


@case("nnU-Net, dataset.json states another file ending", "check Dataset1", 1)
def _(here: Path) -> None:
    nnunet(here, json.dumps(STATED | {"file_ending": ".nii.gz"}))


# What describes a folder.


def described(here: Path, text: str) -> None:
    """A folder with a dataset.toml."""
    write(cells(here / "cells") / "dataset.toml", text)


@case("dataset.toml is no TOML", CHECK, 1, foreign=r"(?<=mistake \().*(?=\);)")
def _(here: Path) -> None:
    described(here, 'task = "semantic\n')


@case("dataset.toml with an unknown key", TRAIN, 1)
def _(here: Path) -> None:
    described(here, "labels = 3\n")


@case("dataset.toml with an unknown task", CHECK, 1)
def _(here: Path) -> None:
    described(here, 'task = "detection"\n')


@case("dataset.toml does not name the values of the masks", CHECK, 1)
def _(here: Path) -> None:
    described(here, '[[classes]]\nname = "background"\nvalue = 0\n[[classes]]\nname = "cell"\nvalue = 7\n')


@case("dataset.toml with a broken regular expression", CHECK, 1, foreign=r"(?<=' \().*(?=\);)")
def _(here: Path) -> None:
    described(here, 'groups = "(cell"\n')


@case("dataset.toml with axes that do not fit", CHECK, 1)
def _(here: Path) -> None:
    described(here, 'axes = "ZYX"\n')


# Layouts of other programs, incomplete.


@case("Cellpose's _seg.npy without masks", TRAIN, 1, also="cell0_seg", done="nothing; no pickle was opened")
def _(here: Path) -> None:
    pictures(here / "cells", suffix=".tif")
    for index in range(3):
        np.save(here / "cells" / f"cell{index}_seg.npy", np.array({"masks": ids(index)}, object))


@case("Cell Tracking Challenge without SEG", TRAIN, 1)
def _(here: Path) -> None:
    for frame in range(3):
        save(here / "cells" / "01" / f"t{frame:03d}.tif", grey(frame))
    (here / "cells" / "01_GT" / "TRA").mkdir(parents=True)


@case("Data Science Bowl, masks/ of one image is empty", "train bowl" + TINY, 0, **trained_on(1))
def _(here: Path) -> None:
    for index in range(3):
        folder = here / "bowl" / f"id{index}"
        save(folder / "images" / f"id{index}.png", grey(index))
        (folder / "masks").mkdir()
        for number in range(1, 5 if index != 1 else 1):
            save(folder / "masks" / f"object{number}.png", (255 * (ids(index) == number)).astype(np.uint8))


@case("class folders, only one class", "train pets --task classification" + TINY, 1)
def _(here: Path) -> None:
    pictures(here / "pets" / "cat")


@case("class folders, asked for masks", "train pets --task semantic" + TINY, 1)
def _(here: Path) -> None:
    pictures(here / "pets" / "cat")
    pictures(here / "pets" / "dog")


def idx(array: np.ndarray) -> bytes:
    """An IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@case("IDX file that is cut short", "check numerals", 1)
def _(here: Path) -> None:
    images = np.stack([grey(i)[:28, :28] for i in range(6)])
    write(here / "numerals" / "train-images-idx3-ubyte", idx(images)[:-1000])
    write(here / "numerals" / "train-labels-idx1-ubyte", idx(np.arange(6) % 3))
