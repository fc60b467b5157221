"""The folder of results: what may be written there, and what has been.

    NAME.tif (.png, .nii.gz)    labels: ids of objects, or classes; several images in one file give one with its pages.
                                Three and more classes have the values that the masks of the training had for them,
                                where these were numbers, and otherwise their places in the model's list, from 0
    NAME_probabilities.tif      the network's maps (K, *space) float32; NAME_07_probabilities.tif for one of the pages
    NAME_overlay.png            the labels on the image, for each page too; of a volume, on its middle slice
    NAME.geojson                outlines of the objects, or of the pieces of each class, for QuPath; for each page too
    NAME_rois.zip               the same for ImageJ and Fiji, without holes
    objects.csv                 one row per object of all images, see `measure`
    labels.csv                  of a classifier, instead of all these: class and confidence of each image; with
                                probabilities, that of each class
    .prediction.json            which model all these are of, see `origin`
    .images.jsonl               which images are wholly done, and of which files they are, see `finished`

The size of a pixel is kept where the image tells it, and NIfTI labels of a NIfTI image keep its place in space. Labels
in a TIFF lie along the frames and slices of a stack that names them; ids begin anew in each slice, which the file
notes, so that they are read as pages again.
The labels are written last. An image whose files are all there is done, but for a stack some of whose pages failed.
Nothing replaces an image that was given, nor a result from before unless that is asked for; then the tables keep the
rows of images that are not done anew, as their files are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Colour, Spacing
from ushape.data.headers import suffix_of
from ushape.data.images import read_frame_interval, write_image, write_labels
from ushape.errors import DataError, RecipeError
from ushape.files.finished import Finished, Noted
from ushape.files.inputs import Input, spacing_of
from ushape.files.measure import measure_objects, measure_pieces
from ushape.files.origin import Origin
from ushape.files.outlines import Outline, trace, write_geojson, write_rois
from ushape.files.table import GrowingTable, unfinished
from ushape.model import Model, Prediction
from ushape.picture.overlay import overlay

__all__ = ["FORMATS", "PRODUCTS", "TABLE", "Labels", "Results"]

PRODUCTS = ("labels", "probabilities", "overlay", "table", "geojson", "rois")
PICTURED = ("overlay", "geojson", "rois")
"""Those that show where something is, which classes of whole images do not say."""
FORMATS = ("tif", "png", "nii.gz")
OUTLINES = ("geojson", "rois")
ENDINGS = {
    "probabilities": "_probabilities.tif",
    "geojson": ".geojson",
    "rois": "_rois.zip",
    "overlay": "_overlay.png",
}
"""What is behind the name of an image, or of a page of one, in the files that it gives beside its labels."""
TABLE = "objects.csv"
LABEL_TABLE = "labels.csv"
NIFTI_SUFFIXES = (".nii", ".nii.gz")
NIFTI_LONGEST = 32767  # a size is a short integer there
Labels = NDArray[np.integer[Any]]


def draw_overlay(image: NDArray[Any], labels: NDArray[np.int32], colours: Sequence[Colour]) -> NDArray[np.uint8]:
    """The labels on the image (C, *space) as colours (3, height, width); of a volume, on its middle slice."""
    if image.ndim == 4:
        middle = image.shape[1] // 2
        image, labels = image[:, middle], labels[middle]
    return np.moveaxis(overlay(image, labels, colours=colours), -1, 0)


def place_of_rois(item: Input, page: int | None) -> dict[str, int]:
    """Where in a stack ImageJ shows the outlines of a page.

    By frame and slice where there are two of frames, slices and channels: it counts channels among the pages.
    """
    if page is None or not item.is_stack:
        return {}
    place = item.place(page)
    n_channels = 1 if item.layout is None else item.layout.length("C")
    return place if len(place) == 2 or (place and n_channels > 1) else {"position": page}


def row_of_label(prediction: Prediction, classes: Sequence[str], *, each: bool) -> dict[str, list[Any]]:
    """What a classifier says of one image: the class, how sure it is and, with `each`, how probable each class is."""
    given = [float(f"{value:.6g}") for value in prediction.probabilities]
    label = int(prediction.labels)
    row: dict[str, list[Any]] = {"class": [classes[label]], "confidence": [given[label]]}
    return row | {f"probability {name}": [value] for name, value in zip(classes, given, strict=True) if each}


def check_nifti(item: Input) -> None:
    """DataError when labels of the file do not fit into a NIfTI file."""
    if len(item.page_axes) > 1:
        raise DataError("expected one volume for labels as NIfTI, found volumes over time; choose --format tif")
    longest = 0 if item.layout is None else max(item.layout.shape)
    if longest > NIFTI_LONGEST:
        raise DataError(
            f"expected at most {NIFTI_LONGEST} pixels along each axis for labels as NIfTI, found {longest}; choose "
            "--format tif"
        )


@dataclass
class Results:
    """See the module's docstring.

    model      whose results they are
    products   out of PRODUCTS
    format     of the labels, out of FORMATS
    overwrite  replace results from before
    resume     keep results from before, and skip images that have all of them
    inputs     resolved paths of all the images that were given
    claimed    which image a path, or a name in the table, is of
    made       whether the folder was not there before
    """

    folder: Path
    model: Model
    products: Sequence[str]
    format: str
    overwrite: bool
    resume: bool
    inputs: Collection[Path]
    claimed: dict[Path | str, Path] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    table: GrowingTable | None = None
    made: bool = False
    origin: Origin = field(init=False)
    finished: Finished = field(init=False)

    def __post_init__(self) -> None:
        self.origin = Origin(self.folder, self.model)
        self.finished = Finished(self.folder)

    @property
    def classifies(self) -> bool:
        """Whether whole images have a class, and all results are one table."""
        return self.model.task == "classification"

    @property
    def wanted(self) -> frozenset[str]:
        """The products; of a classifier, whose labels are its table, what the table holds."""
        return frozenset(self.products) - {"labels"} | {"table"} if self.classifies else frozenset(self.products)

    def prepare(self) -> None:
        """Refuse what would refuse every image, and make the folder."""
        unknown = [product for product in self.products if product not in PRODUCTS]
        if unknown or not self.products:
            found = repr(unknown[0]) if unknown else "none"
            raise RecipeError(f"expected --save to name any of {', '.join(PRODUCTS)}, found {found}; correct it")
        if self.format not in FORMATS:
            raise RecipeError(f"expected --format {', '.join(FORMATS)}, found {self.format!r}; choose one of these")
        if self.overwrite and self.resume:
            raise RecipeError(
                "expected --overwrite or --resume, found both; resume keeps what is done, overwrite does it anew"
            )
        pictured = [product for product in self.products if product in PICTURED]
        if self.classifies and pictured:
            raise RecipeError(
                f"expected --save labels, probabilities or table for a classifier, found {pictured[0]}; leave it out"
            )
        outlines = [product for product in self.products if product in OUTLINES]
        if outlines and self.model.preparation.dims == 3:
            raise RecipeError(
                f"expected a model of images for outlines, found one of volumes; leave {outlines[0]} out of --save"
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise RecipeError(f"expected a folder for the results, found the file {self.folder}; name another with -o")
        if self.resume:
            self.origin.check()
        if "table" in self.products or self.classifies:
            path = self.table_path
            self.check_path(path)
            self.check_unfinished(path)
            empty = self.finished.without_rows()
            self.table = GrowingTable(path, resume=self.resume, others=self.overwrite, empty=empty)
        self.made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)

    def check_unfinished(self, path: Path) -> None:
        """DataError when the table of an interrupted prediction would be lost."""
        part = unfinished(path)
        if part.exists() and not (self.overwrite or self.resume):
            raise DataError(
                f"expected no table of an interrupted prediction, found {part}; continue that with --resume or "
                "replace it with --overwrite"
            )

    @property
    def table_path(self) -> Path:
        """Where the table goes."""
        return self.folder / (LABEL_TABLE if self.classifies else TABLE)

    def paths(self, item: Input, products: Collection[str] | None = None) -> list[Path]:
        """All files that the image gives, but for the table; `products`: others than those that are asked for."""
        if self.classifies:
            return []
        products = self.products if products is None else products
        pages = [item.page_name(page) for page in item.pages]
        kinds = [product for product in ENDINGS if product in products]
        files = [self.folder / f"{page}{ENDINGS[kind]}" for kind in kinds for page in pages]
        return files + [self.labels_path(item)] * ("labels" in products)

    @property
    def values(self) -> tuple[int, ...]:
        """What stands for the model's classes in label files; empty where ids of objects or two classes do."""
        if self.model.task != "semantic" or len(self.model.classes) < 3:
            return ()
        return self.model.values or tuple(range(len(self.model.classes)))

    @property
    def legend(self) -> str:
        """A sentence that says what the values of the label files are, where they are several classes."""
        if "labels" not in self.products or not self.values:
            return ""
        meant = ", ".join(f"{value} {name}" for value, name in zip(self.values, self.model.classes, strict=True))
        return f"values in the label files: {meant}"

    def labels_path(self, item: Input) -> Path:
        """Where the labels go."""
        return self.folder / f"{item.name}.{self.format}"

    def check_path(self, path: Path) -> None:
        """DataError when a result there would replace an image or an earlier result."""
        if path.resolve() in self.inputs:
            raise DataError(
                f"expected a result that replaces no image, found one that would replace {path}; name another folder "
                "with -o"
            )
        if path.exists() and not (self.overwrite or self.resume):
            raise DataError(
                f"expected no result called {path}, found one from before; allow replacing it with --overwrite, or "
                "skip what is done with --resume"
            )

    def check_source(self, item: Input) -> None:
        """DataError when results of that name are of another file, or of what the file was before."""
        noted = self.finished.images.get(self.row_name(item))
        if self.overwrite or noted is None:
            return
        own = Noted.of(item.path)
        remaining = [*self.paths(item, PRODUCTS)]
        if not self.classifies:
            remaining += [self.folder / f"{item.name}.{ending}" for ending in FORMATS]
        if "table" in noted.saved | noted.unfinished:
            remaining += [self.table_path, unfinished(self.table_path)]
        if noted.is_of(own) or not any(path.exists() and path.resolve() not in self.inputs for path in remaining):
            return
        if noted.path != own.path:
            raise DataError(
                f"expected no results of another image with this name, found those of {noted.path}; predict this one "
                "into another folder with -o, or replace them with --overwrite"
            )
        # What failed before may have been mended.
        if noted.saved:
            raise DataError(
                f"expected the file that its results are of, with {noted.size} bytes, found another one with "
                f"{own.size}; predict it into another folder with -o, or replace them with --overwrite"
            )

    def check(self, item: Input) -> None:
        """DataError when a result of the image cannot be written, would replace anything, or has another's name."""
        flat = not item.is_stack and self.model.preparation.dims == 2
        if self.format == "png" and "labels" in self.products and not flat and not self.classifies:
            found = f"{len(item.pages)} of them" if item.is_stack else "a volume"
            raise DataError(f"expected one image for labels as PNG, found {found}; choose --format tif")
        if self.format == "nii.gz" and "labels" in self.products and not self.classifies:
            check_nifti(item)
        paths = self.paths(item)
        # In the table an image is its name.
        claims: list[Path | str] = [self.row_name(item), *paths]
        for claim in claims:
            other = self.claimed.setdefault(claim, item.path)
            if other != item.path:
                raise DataError(
                    f"expected images with different names, found {other} too; predict them into another folder"
                )
        self.check_source(item)
        for path in paths:
            self.check_path(path)

    def has(self, item: Input) -> bool:
        """Whether earlier work, that is to be continued, did all of the image."""
        if not self.resume:
            return False
        noted = self.finished.images.get(self.row_name(item))
        if noted is not None and self.wanted & noted.unfinished:
            return False
        if self.table is not None and self.row_name(item) not in self.table.complete:
            return False
        return all(path.is_file() for path in self.paths(item))

    def needs_ids_apart(self, item: Input) -> bool:
        """Whether objects of all pages need ids of their own: NIfTI's labels are one volume and say nothing else."""
        return item.is_stack and self.format == "nii.gz" and self.model.task == "instances"

    def row_name(self, item: Input) -> str:
        """What the image is called in the table: by its path where it gives no file of its own name."""
        return str(item.path) if self.classifies else item.name

    def begin(self, item: Input) -> None:
        """Drop what an interrupted prediction left of the image in the table."""
        if self.table is not None:
            self.table.forget(self.row_name(item))

    def add_rows(self, item: Input, page: int | None, image: NDArray[Any], prediction: Prediction) -> None:
        """Add what is said of an image or page to the table."""
        if self.table is None:
            return
        columns: Mapping[str, Sequence[Any]]
        if self.classifies:
            columns = row_of_label(prediction, self.model.classes, each="probabilities" in self.products)
        elif prediction.instances is not None:
            columns = measure_objects(prediction.instances, image, item.spacing)
        else:
            columns = measure_pieces(prediction.labels, self.model.classes, image, item.spacing)
        self.table.add(self.row_name(item), columns, page if item.is_stack else None, item.place(page))

    def write_page(self, item: Input, page: int | None, image: NDArray[Any], prediction: Prediction) -> None:
        """Write all that was asked for of an image or page but the labels."""
        self.origin.write()
        # All that a classifier says of an image is one row, with probabilities or without.
        begun = self.wanted | {"probabilities"} if self.classifies else self.wanted
        self.finished.begin(self.row_name(item), item.path, begun)
        self.add_rows(item, page, image, prediction)
        if self.classifies:
            return
        name = item.page_name(page)
        if "probabilities" in self.products:
            path = self.folder / f"{name}{ENDINGS['probabilities']}"
            write_image(path, prediction.probabilities, spacing=item.written_spacing)
            self.written.append(path)
        if "geojson" in self.products:
            path = self.folder / f"{name}{ENDINGS['geojson']}"
            write_geojson(path, self.outlines(prediction, holes=True))
            self.written.append(path)
        if "rois" in self.products:
            path = self.folder / f"{name}{ENDINGS['rois']}"
            write_rois(path, self.outlines(prediction, holes=False), place_of_rois(item, page))
            self.written.append(path)
        if "overlay" in self.products:
            path = self.folder / f"{name}{ENDINGS['overlay']}"
            # Ids of objects are no classes, and have their own colours.
            colours = () if self.model.task == "instances" else self.model.colours
            write_image(path, draw_overlay(image, prediction.labels, colours), spacing=item.written_spacing)
            self.written.append(path)

    def outlines(self, prediction: Prediction, *, holes: bool) -> list[Outline]:
        """Of its objects, or of the pieces of its classes but the first."""
        if prediction.instances is not None:
            return trace(prediction.instances, holes=holes)
        return trace(prediction.labels, self.model.classes, holes=holes)

    def along_pages(self, item: Input, labels: Labels) -> tuple[Labels, str, Spacing | None, float | None]:
        """Labels of the pages of a file as they lie over it: (labels, axes, spacing, seconds between frames)."""
        if self.format != "tif":
            return labels, "PYX", item.spacing, None
        labels, axes = item.in_place(labels)
        spacing = spacing_of(item.path, 3) if "Z" in axes else None
        return labels, axes, spacing or item.spacing, read_frame_interval(item.path)

    def write_labels(self, item: Input, labels: Labels) -> None:
        """Write the labels (*space), or (P, height, width) of several images."""
        if "labels" in self.products and not self.classifies:
            path = self.labels_path(item)
            if self.values:
                # Wide enough for any value; `write_labels` chooses the type that suits them.
                labels = np.array(self.values, np.int32)[labels]
            # NIfTI knows no size without a depth: it would be invented.
            spacing = item.spacing if self.format == "nii.gz" else item.written_spacing
            axes, interval = "ZYX"[-labels.ndim :], None
            if item.is_stack:
                labels, axes, spacing, interval = self.along_pages(item, labels)
            nifti = self.format == "nii.gz" and suffix_of(item.path) in NIFTI_SUFFIXES
            like = item.path if nifti else None
            write_labels(
                path, labels, spacing=spacing, axes=axes, like=like, interval=interval, slices_apart=item.is_stack
            )
            self.written.append(path)

    def end(self, item: Input) -> None:
        """Note that all of the image is done."""
        name = self.row_name(item)
        self.finished.end(name, self.wanted, None if self.table is None else self.table.added[name])

    def finish(self) -> None:
        """Give the table its name, and leave no empty folder behind where nothing could be done."""
        if self.table is not None and self.table.close():
            self.written.append(self.table.path)
        self.origin.settle(self.written)
        if self.made and not any(self.folder.iterdir()):
            self.folder.rmdir()
