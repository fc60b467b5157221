"""The first five minutes of a newcomer, measured: a few images in each common layout, no flag, two minutes.

    python benchmarks/newcomer.py [--minutes 2] [--only NAME] [--keep FOLDER]

For each layout this writes a few simulated images of 200 x 300 pixels as people have them, runs `ushape check`, `train
--minutes 2`, `predict` on five fresh images and `score` against their masks, and prints one row: what was understood,
the held-out score, AP@0.5 on the fresh images, and how long it took. Where masks hold 0 and 255, cells that touch are
one piece in them, so that pieces are what is scored; "objects" repeats the score against the cells themselves.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from ushape.data.phantom import phantom_image

SIZE = (200, 300)
N_TEST = 5
Pair = tuple[np.ndarray, np.ndarray]


def pairs(n: int, seed: int) -> list[Pair]:
    """n times (image (H, W, 3) uint8, instances (H, W))."""
    made = [phantom_image(1000 * seed + index, SIZE, channels=3) for index in range(n)]
    return [(np.moveaxis(image, 0, -1), mask.astype(np.uint16)) for image, mask in made]


def two_valued(mask: np.ndarray) -> np.ndarray:
    """0 and 255."""
    return np.where(mask > 0, 255, 0).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> None:
    """Write a picture; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def png_folders(folder: Path, data: list[Pair]) -> None:
    """images/x.png and masks/x.png with 0 and 255."""
    for index, (image, mask) in enumerate(data):
        save(folder / "images" / f"cell{index}.png", image)
        save(folder / "masks" / f"cell{index}.png", two_valued(mask))


def ome_tiff(folder: Path, data: list[Pair]) -> None:
    """16-bit OME-TIFF with three channels; masks with ids."""
    for index, (image, mask) in enumerate(data):
        planes = np.moveaxis(image, -1, 0).astype(np.uint16) * 16
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "masks").mkdir(parents=True, exist_ok=True)
        metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tifffile.imwrite(
            folder / "images" / f"cell{index}.ome.tif", planes, metadata=metadata, photometric="minisblack"
        )
        tifffile.imwrite(folder / "masks" / f"cell{index}.tif", mask)


def jpeg_beside(folder: Path, data: list[Pair]) -> None:
    """x.jpg beside x_mask.png with ids."""
    for index, (image, mask) in enumerate(data):
        save(folder / f"cell{index}.jpg", image, quality=92)
        save(folder / f"cell{index}_mask.png", mask.astype(np.uint8))


def nnunet_raw(folder: Path, data: list[Pair]) -> None:
    """nnU-Net's raw layout: a file for each channel, dataset.json, two classes."""
    for index, (image, mask) in enumerate(data):
        for channel in range(3):
            save(folder / "imagesTr" / f"cell_{index:03d}_{channel:04d}.png", image[..., channel])
        save(folder / "labelsTr" / f"cell_{index:03d}.png", (mask > 0).astype(np.uint8))
    about = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "cell": 1},
        "numTraining": len(data),
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(about))


def cellpose(folder: Path, data: list[Pair]) -> None:
    """Cellpose's pairs: x.tif and x_masks.tif with ids."""
    folder.mkdir(parents=True)
    for index, (image, mask) in enumerate(data):
        tifffile.imwrite(folder / f"cell{index}.tif", image, photometric="rgb")
        tifffile.imwrite(folder / f"cell{index}_masks.tif", mask)


def table(folder: Path, data: list[Pair]) -> None:
    """A CSV that names images and masks in two other folders."""
    rows = []
    for index, (image, mask) in enumerate(data):
        save(folder / "raw" / f"a{index}.png", image)
        save(folder / "drawn" / f"b{index}.png", mask.astype(np.uint8))
        rows.append({"image": f"raw/a{index}.png", "mask": f"drawn/b{index}.png"})
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "mask"])
        writer.writeheader()
        writer.writerows(rows)


# name: (writer, training images)
LAYOUTS: dict[str, tuple[Callable[[Path, list[Pair]], None], int]] = {
    "three RGB PNG, masks 0/255": (png_folders, 3),
    "one RGB PNG, mask 0/255": (png_folders, 1),
    "three 16-bit OME-TIFF, ids": (ome_tiff, 3),
    "three JPEG, x_mask.png": (jpeg_beside, 3),
    "three in nnU-Net raw": (nnunet_raw, 3),
    "three Cellpose pairs": (cellpose, 3),
    "three in a CSV": (table, 3),
}


def ushape(*arguments: object) -> tuple[dict, str]:
    """(the JSON answer, the words) of a command; the words go to standard error when it fails."""
    command = [sys.executable, "-m", "ushape.cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command)}\n{done.stderr}", file=sys.stderr)
    return json.loads(done.stdout), done.stderr


def newcomer(name: str, folder: Path, minutes: float) -> str:
    """One row of the table."""
    write, n = LAYOUTS[name]
    data, out = folder / "data", folder / "out"
    write(data, pairs(n, 0))
    for index, (image, mask) in enumerate(pairs(N_TEST, 1)):
        planes = np.moveaxis(image, -1, 0)
        (folder / "new").mkdir(exist_ok=True)
        if write is ome_tiff:
            metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            tifffile.imwrite(
                folder / "new" / f"new{index}.ome.tif",
                planes.astype(np.uint16) * 16,
                metadata=metadata,
                photometric="minisblack",
            )
        else:
            save(folder / "new" / f"new{index}.png", image)
        told = two_valued(mask) if write is png_folders else mask.astype(np.uint8)
        save(folder / "truth" / f"new{index}.png", (mask > 0).astype(np.uint8) if write is nnunet_raw else told)
        save(folder / "cells" / f"new{index}.png", mask.astype(np.uint8))
    checked, _ = ushape("check", data)
    begun = time.perf_counter()
    trained, _ = ushape("train", data, "-o", folder / "run", "--minutes", minutes)
    seconds = time.perf_counter() - begun
    ushape("predict", folder / "run", folder / "new", "-o", out)
    scored, _ = ushape("score", folder / "truth", out)
    cells, _ = ushape("score", folder / "cells", out)
    values = (trained["validation"], scored["scores"], cells["scores"])
    held, fresh, objects = (scores["AP@0.5"] for scores in values)
    dice = scored["scores"].get("Dice object")
    return (
        f"| {name} | {checked['task']}; {checked['error']} errors, {checked['warning']} warnings | {held:.2f} | "
        f"**{fresh:.2f}** | {'-' if dice is None else f'{dice:.3f}'} | {objects:.2f} | {seconds:.0f} s |"
    )


def main() -> None:
    """Print the table, a row when it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--only", help="a part of a layout's name")
    parser.add_argument("--keep", type=Path, help="a new folder to leave everything in")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="newcomer-"))
    head = ("data", "read as", "held out AP@0.5", "AP@0.5", "Dice", "AP@0.5 of objects", "training")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for index, name in enumerate(LAYOUTS):
        if asked.only is None or asked.only in name:
            place = folder / f"layout{index}"
            place.mkdir(parents=True)
            print(newcomer(name, place, asked.minutes), flush=True)
    if asked.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
