"""Files in, files out: predict images on disk, score masks on disk.

One file that fails is reported and the others are done; results appear under their name only when they are complete.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from ushape.data.images import is_image_file, n_pages, read_image, read_mask, write_image, write_labels
from ushape.errors import DataError, RecipeError, UshapeError
from ushape.model import Evaluation, Model, Prediction, score_masks
from ushape.picture.overlay import overlay

__all__ = ["predict_files", "score_files"]

PRODUCTS = ("labels", "probabilities", "overlay", "table")
TABLE = "objects.csv"


@dataclass(frozen=True)
class Input:
    """One image to predict: a file, or one page of it."""

    path: Path
    page: int | None
    name: str

    def read(self) -> NDArray[Any]:
        """The image (C, *space)."""
        return read_image(self.path, page=self.page)


def find_images(names: Sequence[str]) -> list[Path]:
    """The image files that the names stand for: files as they are, folders by the images in them."""
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if is_image_file(p))
            if not inside:
                raise DataError(f"{path}: expected images in the folder, found none; name the folder that holds them")
            found.extend(inside)
        else:
            found.append(path)
    return found


def pages_of(path: Path) -> Iterator[Input]:
    """One input for each page of a stack, or the one image."""
    pages = n_pages(path)
    if pages == 1:
        yield Input(path, None, path.stem)
    else:
        width = len(str(pages - 1))
        for page in range(pages):
            yield Input(path, page, f"{path.stem}_{page:0{width}d}")


def with_suffix(name: str, product: str) -> str:
    """The file name of a product."""
    return f"{name}{'' if product == 'labels' else '_' + product}.{'png' if product == 'overlay' else 'tif'}"


def write_products(
    item: Input, image: NDArray[Any], prediction: Prediction, output: Path, save: Sequence[str]
) -> list[Path]:
    """Write what was asked for; returns the paths."""
    written = []
    for product in save:
        path = output / with_suffix(item.name, product)
        if product == "labels":
            write_labels(path, prediction.labels)
        elif product == "probabilities":
            write_image(path, prediction.probabilities)
        elif product == "overlay":
            middle = image.shape[1] // 2
            flat = image if image.ndim == 3 else image[:, middle]
            labels = prediction.labels if image.ndim == 3 else prediction.labels[middle]
            write_image(path, np.moveaxis(overlay(flat, labels), -1, 0))
        else:
            continue
        written.append(path)
    return written


def object_rows(name: str, image: NDArray[Any], prediction: Prediction) -> list[dict[str, Any]]:
    """Size, place and brightness of each object, in pixels and the file's units."""
    if prediction.instances is None:
        return []
    rows = []
    for region in regionprops(  # type: ignore[no-untyped-call]
        prediction.instances, np.moveaxis(image, 0, -1)
    ):
        axes = "zyx"[-image.ndim + 1 :]
        row: dict[str, Any] = {"image": name, "object": region.label, "area": int(region.area)}
        row |= {f"centroid_{axis}": round(float(c), 2) for axis, c in zip(axes, region.centroid, strict=True)}
        low, high = np.split(np.array(region.bbox), 2)
        row |= {f"from_{axis}": int(n) for axis, n in zip(axes, low, strict=True)}
        row |= {f"to_{axis}": int(n) for axis, n in zip(axes, high, strict=True)}
        means = np.atleast_1d(region.intensity_mean)
        row |= {f"mean_intensity_{channel}": round(float(mean), 3) for channel, mean in enumerate(means)}
        rows.append(row)
    return rows


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as CSV, complete or not at all."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["image", "object"])
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def check_products(save: Sequence[str]) -> None:
    """RecipeError for a product that does not exist."""
    for product in save:
        if product not in PRODUCTS:
            raise RecipeError(f"expected --save to name any of {', '.join(PRODUCTS)}, found {product!r}; correct it")


def predict_files(
    model: Model,
    names: Sequence[str],
    output: Path,
    *,
    save: Sequence[str] = ("labels",),
    symmetries: int = 1,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Path], list[str]]:
    """(written, problems): segment every image; the files are called after the images."""
    check_products(save)
    output.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    problems: list[str] = []
    rows: list[dict[str, Any]] = []
    claimed: dict[str, Path] = {}
    for path in find_images(names):
        try:
            for item in pages_of(path):
                check_target(item, output, save, claimed, overwrite)
                image = item.read()
                prediction = model.predict(image, axes="CZYX" if image.ndim == 4 else "CYX", symmetries=symmetries)
                written.extend(write_products(item, image, prediction, output, save))
                rows.extend(object_rows(item.name, image, prediction))
                say(describe(item, prediction))
        except UshapeError as error:
            problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if "table" in save:
        write_table(output / TABLE, rows)
        written.append(output / TABLE)
    return written, problems


def check_target(item: Input, output: Path, save: Sequence[str], claimed: dict[str, Path], overwrite: bool) -> None:
    """DataError when a result would replace an input's, an earlier one, or one of another image."""
    other = claimed.setdefault(item.name, item.path)
    if other != item.path:
        raise DataError(
            f"{item.path}: expected images with different names, found {other} too; predict them into another folder"
        )
    for product in save:
        path = output / with_suffix(item.name, product)
        if path.resolve() == item.path.resolve():
            raise DataError(f"{item.path}: expected another folder for the results, found the image's own; change -o")
        if product != "table" and path.exists() and not overwrite:
            raise DataError(
                f"{path}: expected no result of that name, found one from before; allow replacing it with --overwrite"
            )


def describe(item: Input, prediction: Prediction) -> str:
    """One line for a person."""
    if prediction.instances is None:
        shares = np.bincount(prediction.labels.ravel()) / prediction.labels.size
        return f"{item.name}: classes " + ", ".join(f"{i} {share:.0%}" for i, share in enumerate(shares))
    return f"{item.name}: {int(prediction.instances.max())} objects"


def score_files(reference: Path, estimate: Path, *, classes: bool = False) -> Evaluation:
    """Score mask files, or two folders of them paired by stem; pairs that cannot be scored are reported."""
    pairs, problems = [], []
    for name, first, second in pair_masks(reference, estimate):
        try:
            masks = read_mask(first), read_mask(second)
            if masks[0].shape != masks[1].shape:
                raise DataError(
                    f"{second}: expected the reference's size {masks[0].shape}, found {masks[1].shape}; "
                    "score each estimate against the mask of the same image"
                )
            pairs.append((name, *masks, True))
        except UshapeError as error:
            problems.append(str(error))
    if not pairs:
        raise DataError(
            f"{estimate}: expected masks that can be scored, found none" + f" ({problems[0]})" * bool(problems)
        )
    if not classes:
        return Evaluation(*score_masks("instances", ("background", "object"), pairs), tuple(problems))
    n_classes = 1 + max(int(max(r.max(), e.max())) for _, r, e, _ in pairs)
    names = [f"class {index}" for index in range(max(2, n_classes))]
    return Evaluation(*score_masks("semantic", names, pairs), tuple(problems))


def pair_masks(reference: Path, estimate: Path) -> list[tuple[str, Path, Path]]:
    """(name, reference, estimate) of two files, or of the files with the same stem in two folders."""
    for path in (reference, estimate):
        if not path.exists():
            raise DataError(f"{path}: expected a mask or a folder of masks, found nothing; check the path")
    if reference.is_file() and estimate.is_file():
        return [(reference.stem, reference, estimate)]
    if reference.is_file() or estimate.is_file():
        raise DataError(
            f"{reference}, {estimate}: expected two masks or two folders, found one of each; name two of a kind"
        )
    estimates = {p.stem: p for p in sorted(estimate.iterdir()) if is_image_file(p)}
    references = [p for p in sorted(reference.iterdir()) if is_image_file(p)]
    missing = [p.stem for p in references if p.stem not in estimates]
    if missing or not references:
        what = f"no {missing[0]}" if missing else f"no masks in {reference}"
        raise DataError(
            f"{estimate}: expected an estimate with the name of every reference mask, found {what}"
            + (f" (and {len(missing) - 1} more missing)" if len(missing) > 1 else "")
            + "; predict the missing images or remove their masks"
        )
    return [(p.stem, p, estimates[p.stem]) for p in references]
