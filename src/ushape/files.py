"""Files in, files out: predict images on disk, score masks on disk.

One file, or one page of it, that fails is reported and the others are done. Results appear under their name only when
they are complete, and replace neither an image that was given nor, unless told to, a result from before.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from ushape.data.images import is_image_file, read_image, read_layout, read_mask, write_image, write_labels
from ushape.errors import DataError, RecipeError, UshapeError
from ushape.model import Evaluation, Labels, Model, Prediction, Preparation, score_masks
from ushape.picture.overlay import overlay

__all__ = ["predict_files", "score_files", "sentence_of"]

PRODUCTS = ("labels", "probabilities", "overlay", "table")
TABLE = "objects.csv"
MOST_CLASSES = 1000
"""More classes than this are ids of objects, given by mistake."""
PAGES_TOLD = 5


def sentence_of(error: Exception) -> str | None:
    """What a person should read of an error that the program is not to blame for; None for any other."""
    text = " ".join(str(error).split())
    if isinstance(error, UshapeError):
        return str(error)
    if isinstance(error, OSError):
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or text
        return f"{reason}; check the path, the permissions and the space left"
    signs = ("out of memory", "allocate memory", "not enough memory")
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in signs):
        return f"expected enough memory, found too little ({text[:120]}); close other programs or use smaller images"
    return None


@dataclass(frozen=True)
class Input:
    """One image to predict: a file, or one page of it.

    axes     what the file's dimensions are, where that is known better than the file says
    finding  how its pages were understood, for a person
    """

    path: Path
    name: str
    page: int | None = None
    axes: str | None = None
    finding: str = ""


def find_images(names: Sequence[str]) -> tuple[dict[Path, Path], list[str]]:
    """({resolved path: path}, problems) of the image files that are named, alone or by their folder, each once."""
    found: dict[Path, Path] = {}
    problems: list[str] = []
    for path in map(Path, names):
        inside = sorted(p for p in path.iterdir() if is_image_file(p)) if path.is_dir() else [path]
        if not path.exists():
            problems.append(f"{path}: expected an image or a folder of images, found nothing; check the path")
        elif not inside:
            problems.append(f"{path}: expected images in the folder, found none; name the folder that holds them")
        else:
            found |= {p.resolve(): p for p in inside}
    return found, problems


def inputs_of(path: Path, preparation: Preparation) -> list[Input]:
    """What a file holds for a model, understood as in training.

    Pages that the file says nothing about are the slices of a volume for a model of volumes, the channels of one image
    where the model takes as many, and images of their own otherwise.
    """
    layout, name = read_layout(path), path.stem
    n = layout.n_pages
    if preparation.dims == 3:
        unsaid = "P" in layout.axes and "Z" not in layout.axes
        return [Input(path, name, axes=layout.axes.replace("P", "Z") if unsaid else None)]
    if n == 1:
        return [Input(path, name, page=0)]
    if n == preparation.channels and len(layout.axes) == 3:
        finding = f"{path.name}: its {n} pages are read as channels, as many as the model takes"
        return [Input(path, name, axes="CYX", finding=finding)]
    digits = len(str(n - 1))
    return [Input(path, f"{name}_{page:0{digits}d}", page=page) for page in range(n)]


def object_rows(name: str, image: NDArray[Any], prediction: Prediction) -> list[dict[str, Any]]:
    """Size, place and brightness of each object, in pixels and the file's units."""
    if prediction.instances is None:
        return []
    axes = "zyx"[-image.ndim + 1 :]
    rows = []
    for region in regionprops(  # type: ignore[no-untyped-call]
        prediction.instances, np.moveaxis(image, 0, -1)
    ):
        row: dict[str, Any] = {"image": name, "object": region.label, "area": int(region.area)}
        row |= {f"centroid_{axis}": round(float(c), 2) for axis, c in zip(axes, region.centroid, strict=True)}
        low, high = np.split(np.array(region.bbox), 2)
        row |= {f"from_{axis}": int(n) for axis, n in zip(axes, low, strict=True)}
        row |= {f"to_{axis}": int(n) for axis, n in zip(axes, high, strict=True)}
        row["equivalent_diameter"] = round(float(region.equivalent_diameter_area), 2)
        if len(axes) == 2:
            row["axis_major_length"] = round(float(region.axis_major_length), 2)
            row["axis_minor_length"] = round(float(region.axis_minor_length), 2)
        means = np.atleast_1d(region.intensity_mean)
        row |= {f"mean_intensity_{channel}": round(float(mean), 3) for channel, mean in enumerate(means)}
        rows.append(row)
    return rows


def draw_overlay(image: NDArray[Any], labels: Labels) -> NDArray[np.uint8]:
    """The labels on the image (C, *space) as colours (3, height, width); of a volume, on its middle slice."""
    if image.ndim == 4:
        middle = image.shape[1] // 2
        image, labels = image[:, middle], labels[middle]
    return np.moveaxis(overlay(image, labels), -1, 0)


@dataclass
class Results:
    """The folder of results: what may be written there, and what has been.

    products  out of PRODUCTS
    inputs    resolved paths of all the images that were given
    claimed   which image a path is the result of
    """

    folder: Path
    products: Sequence[str]
    overwrite: bool
    inputs: Collection[Path]
    claimed: dict[Path, Path] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def prepare(self) -> None:
        """Refuse what would refuse every image, and make the folder."""
        unknown = [product for product in self.products if product not in PRODUCTS]
        if unknown or not self.products:
            found = repr(unknown[0]) if unknown else "none"
            raise RecipeError(f"expected --save to name any of {', '.join(PRODUCTS)}, found {found}; correct it")
        if self.folder.exists() and not self.folder.is_dir():
            raise RecipeError(f"expected a folder for the results, found the file {self.folder}; name another with -o")
        if "table" in self.products:
            self.check_path(self.folder / TABLE)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, item: Input, product: str) -> Path:
        """Where the product of an image goes."""
        ending = {"labels": ".tif", "overlay": "_overlay.png"}.get(product, f"_{product}.tif")
        return self.folder / (item.name + ending)

    def check_path(self, path: Path) -> None:
        """DataError when a result there would replace an image or an earlier result."""
        if path.resolve() in self.inputs:
            raise DataError(
                f"expected a result that replaces no image, found one that would replace {path}; name another folder "
                "with -o"
            )
        if path.exists() and not self.overwrite:
            raise DataError(
                f"expected no result called {path}, found one from before; allow replacing it with --overwrite"
            )

    def check(self, item: Input) -> None:
        """DataError when a result of the image would replace anything, or has another image's name."""
        for path in (self.path(item, product) for product in self.products if product != "table"):
            other = self.claimed.setdefault(path, item.path)
            if other != item.path:
                raise DataError(
                    f"expected images with different names, found {other} too; predict them into another folder"
                )
            self.check_path(path)

    def write(self, item: Input, image: NDArray[Any], prediction: Prediction) -> None:
        """Write what was asked for; rows of the table are kept for the end."""
        for product in self.products:
            path = self.path(item, product)
            if product == "table":
                self.rows.extend(object_rows(item.name, image, prediction))
                continue
            if product == "labels":
                write_labels(path, prediction.labels)
            elif product == "probabilities":
                write_image(path, prediction.probabilities)
            else:
                write_image(path, draw_overlay(image, prediction.labels))
            self.written.append(path)

    def write_table(self) -> None:
        """The rows as CSV, complete or not at all; a column that an image lacks stays empty there."""
        path = self.folder / TABLE
        columns = dict.fromkeys(["image", "object", *(column for row in self.rows for column in row)])
        temporary = path.with_name(path.name + ".part")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(columns), restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, path)
        self.written.append(path)


def describe(item: Input, prediction: Prediction) -> str:
    """One line for a person."""
    if prediction.instances is None:
        shares = np.bincount(prediction.labels.ravel()) / prediction.labels.size
        return f"{item.name}: classes " + ", ".join(f"{i} {share:.0%}" for i, share in enumerate(shares))
    return f"{item.name}: {int(prediction.instances.max())} objects"


@contextmanager
def gathering(reasons: dict[str, list[int]], page: int) -> Iterator[None]:
    """Turn what goes wrong with one file or page into an entry of `reasons`; what no file is to blame for goes on."""
    try:
        yield
    except (UshapeError, OSError, MemoryError, RuntimeError) as error:
        reason = sentence_of(error)
        if reason is None or isinstance(error, RecipeError):
            raise
        reasons.setdefault(reason, []).append(page)


def told(path: Path, pages: Sequence[int], reason: str) -> str:
    """One sentence for a file, or for those of its pages that share the reason."""
    where = str(path)
    if pages:
        shown = ", ".join(map(str, pages[:PAGES_TOLD]))
        more = f" and {len(pages) - PAGES_TOLD} more" if len(pages) > PAGES_TOLD else ""
        where += f" (page{'s' * (len(pages) > 1)} {shown}{more})"
    return f"{where}: {reason.removeprefix(f'{path}: ')}"


def predict_file(
    model: Model, path: Path, results: Results, symmetries: int, say: Callable[[str], None]
) -> tuple[int, list[str]]:
    """(images done, problems) of one file."""
    reasons: dict[str, list[int]] = {}
    items: list[Input] = []
    n_done = 0
    with gathering(reasons, 0):
        items = inputs_of(path, model.preparation)
    for page, item in enumerate(items):
        with gathering(reasons, page):
            results.check(item)
            image = read_image(item.path, page=item.page, axes=item.axes)
            prediction = model.predict(image, axes="CZYX" if image.ndim == 4 else "CYX", symmetries=symmetries)
            results.write(item, image, prediction)
            n_done += 1
            say("\n".join(filter(None, (item.finding, describe(item, prediction)))))
    return n_done, [told(path, pages if len(items) > 1 else (), reason) for reason, pages in reasons.items()]


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
    model.check(symmetries)
    images, problems = find_images(names)
    results = Results(output, save, overwrite, images.keys())
    results.prepare()
    n_done = 0
    for path in images.values():
        n, more = predict_file(model, path, results, symmetries, say)
        n_done += n
        problems += more
    if "table" in save and n_done:
        results.write_table()
    return results.written, problems


def read_pair(reference: Path, estimate: Path, *, classes: bool) -> tuple[Labels, Labels]:
    """Two masks that can be scored against each other; DataError names the one that cannot."""
    first, second = read_mask(reference), read_mask(estimate)
    if first.shape != second.shape:
        raise DataError(
            f"{estimate}: expected the reference's size {first.shape}, found {second.shape}; "
            "score each estimate against the mask of the same image"
        )
    if classes:
        second[first == -1] = 0
        if second.min(initial=0) < 0:
            raise DataError(
                f"{estimate}: expected classes from 0 up in an estimate, found {second.min()}; give each pixel a class"
            )
        for path, mask in ((reference, first), (estimate, second)):
            if mask.max(initial=0) >= MOST_CLASSES:
                raise DataError(
                    f"{path}: expected classes from 0 to {MOST_CLASSES - 1}, found {mask.max()}; drop --classes if "
                    "the values are ids of objects"
                )
    return first, second


def score_files(reference: Path, estimate: Path, *, classes: bool = False) -> Evaluation:
    """Score mask files, or two folders of them paired by stem; pairs that cannot be scored are reported."""
    pairs: list[tuple[str, Labels, Labels, bool]] = []
    problems: list[str] = []
    for name, first, second in pair_masks(reference, estimate):
        try:
            pairs.append((name, *read_pair(first, second, classes=classes), True))
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
