"""Objects measured one by one: size, place, shape and brightness, as columns of a table.

Columns
- object, or object and class   the id in the label file; pieces of classes are numbered afresh, image by image, by
                                their first pixels, row by row, and have the same numbers among the outlines
- page, t, z                    of a stack, from 0: the page, and its frame and slice where the file tells these
- area (volume)                 pixels (voxels)
- centroid_y, centroid_x        pixels, counted from the middle of the first one; z stands before them for volumes
- from_y, to_y, ...             the bounding box in pixels: the first row inside, and the first one behind it
- equivalent_diameter           pixels, of the circle (ball) of the same area (volume)
- axis_major_length, axis_minor_length   pixels, of the ellipse with the same second moments; images only
- orientation_degrees           of the major axis, counter-clockwise from the x axis, from 0 to 180; images only
- area_um2, centroid_y_um, ...  the same in the unit of the spacing, where it is known
- mean_intensity_0, ...         the file's units, one for each channel

Objects at the frame are measured as far as they are seen. References: scikit-image, `regionprops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label, regionprops_table

from ushape.data.dataset import Spacing

__all__ = ["measure_objects", "measure_pieces"]

Labels = NDArray[np.int32]
Columns = dict[str, list[Any]]

ELLIPSE = ("axis_major_length", "axis_minor_length")


def rounded(values: NDArray[Any], digits: int = 6) -> list[float]:
    """The values with so many significant digits: more than a measurement has, and no tail of nines."""
    return [float(f"{value:.{digits}g}") for value in values]


def properties(objects: Labels, names: Sequence[str], **options: Any) -> dict[str, NDArray[Any]]:
    """scikit-image's measurements by name, each (n_objects,)."""
    found: dict[str, NDArray[Any]] = regionprops_table(  # type: ignore[no-untyped-call]
        objects, properties=tuple(names), **options
    )
    return found


def physical(objects: Labels, found: dict[str, NDArray[Any]], spacing: Spacing) -> Columns:
    """What was found in pixels, in the spacing's unit; the unit stands in the columns' names."""
    unit, values, axes = spacing.unit, np.array(spacing.values), "zyx"[-objects.ndim :]
    size = found["area"] * values.prod()
    columns = {f"area_{unit}2" if objects.ndim == 2 else f"volume_{unit}3": rounded(size)}
    for index, axis in enumerate(axes):
        columns[f"centroid_{axis}_{unit}"] = rounded(found[f"centroid-{index}"] * values[index], 7)
    if objects.ndim == 3:
        return columns | {f"equivalent_diameter_{unit}": rounded(np.cbrt(6 * size / np.pi))}
    columns[f"equivalent_diameter_{unit}"] = rounded(2 * np.sqrt(size / np.pi))
    # Pixels that are no squares change an ellipse's axes by more than a factor: they are measured anew.
    square = values[0] == values[1]
    ellipse = found if square else properties(objects, ELLIPSE, spacing=tuple(values))
    factor = values[0] if square else 1.0
    return columns | {f"{name}_{unit}": rounded(ellipse[name] * factor) for name in ELLIPSE}


def measure_objects(objects: Labels, image: NDArray[Any], spacing: Spacing | None = None) -> Columns:
    """The columns above, one entry per object by rising id; an image without objects has the columns all the same.

    objects  (*space) integers, 0 = background, ids above
    image    (C, *space)
    spacing  one length per axis of space; None: pixels only
    """
    axes, flat = "zyx"[-objects.ndim :], objects.ndim == 2
    names = ["label", "area", "centroid", "bbox", "equivalent_diameter_area"]
    found = properties(objects, names + [*ELLIPSE, "orientation"] * flat)
    columns: Columns = {"object": found["label"].tolist()}
    columns["area" if flat else "volume"] = found["area"].astype(np.int64).tolist()
    for index, axis in enumerate(axes):
        columns[f"centroid_{axis}"] = np.round(found[f"centroid-{index}"], 2).tolist()
    for first, side in ((0, "from"), (len(axes), "to")):
        for index, axis in enumerate(axes):
            columns[f"{side}_{axis}"] = found[f"bbox-{first + index}"].tolist()
    columns["equivalent_diameter"] = rounded(found["equivalent_diameter_area"])
    if flat:
        columns |= {name: rounded(found[name]) for name in ELLIPSE}
        # scikit-image turns from the axis of the rows.
        columns["orientation_degrees"] = np.round((90 + np.degrees(found["orientation"])) % 180, 1).tolist()
    if spacing is not None:
        columns |= physical(objects, found, spacing)
    # Not scikit-image's: of several channels in float32 it sums in float32, and is off by percents for large objects.
    means = [np.atleast_1d(ndimage.mean(channel, objects, found["label"])) for channel in image]
    return columns | {f"mean_intensity_{c}": rounded(values) for c, values in enumerate(means)}


def measure_pieces(
    labels: Labels, classes: Sequence[str], image: NDArray[Any], spacing: Spacing | None = None
) -> Columns:
    """The same of each connected piece of each class but the background, with the class's name.

    labels   (*space) integers, indices into `classes`
    """
    pieces: Labels = label(labels, background=0, connectivity=1).astype(np.int32)  # type: ignore[no-untyped-call]
    ids, first = np.unique(pieces, return_index=True)
    names = [classes[index] for index in labels.ravel()[first[ids > 0]]]
    columns = measure_objects(pieces, image, spacing)
    return {"object": columns.pop("object"), "class": names} | columns
