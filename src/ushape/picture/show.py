"""Pictures on request: of a network, of what happens inside it at an image, of what it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ushape.data.dataset import Dataset
from ushape.data.images import read_image, read_layout, write_image
from ushape.data.phantom import phantom_image
from ushape.errors import DataError, RecipeError
from ushape.geometry import Tile
from ushape.model import Model, Preparation, load
from ushape.model_file import model_path
from ushape.network.as_built import geometry_without_padding
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.picture import inside
from ushape.picture.augmentation import draw_classifier_augmentation, draw_segmenter_augmentation
from ushape.picture.borders import draw_borders
from ushape.picture.canvas import Drawing, png, svg
from ushape.picture.diagram import architecture_png, architecture_svg
from ushape.picture.plate import Plate
from ushape.picture.skip import skip_png, skip_svg
from ushape.picture.tiles import Answer, draw_tiles
from ushape.picture.trace import usual_size
from ushape.prediction.tiled import TILE_SIZE, read_tile
from ushape.targets.borders import compact_ids
from ushape.training.batches import Batches, TrainingImage
from ushape.training.checkpoint import write_text
from ushape.training.classifying import to_label_tensors
from ushape.training.examples import Example, make_preparation, spread, to_training_images
from ushape.training.label_batches import LabelBatches
from ushape.training.planning import make_plan
from ushape.training.recipe import Recipe

__all__ = [
    "LOOKS",
    "augmentation_drawing",
    "borders_plate",
    "chosen_network",
    "inside_plate",
    "tiles_drawing",
    "write_drawing",
    "write_picture",
    "write_plate",
]

SIMULATED = (512, 512)
"""Size of the simulated image where nobody names one: the EM slices of the paper's first experiment have it."""

MOST_EXAMPLES = 6
"""Images that samples are drawn from, for a picture."""

PNG_SCALE = 1.5
"""Pixels of a PNG for each unit of a drawing."""

LOOKS: dict[str, Callable[..., Plate]] = {
    "features": inside.features_plate,
    "receptive": inside.receptive_field_plate,
    "saliency": inside.saliency_plate,
    "skips": inside.skips_plate,
}
"""Ways to look inside a model at an image."""


def chosen_network(model: str | None, **settings: Any) -> tuple[UNet | Classifier, Model | None]:
    """(network, model): that of a model, or the paper's with other settings where these are not None, and no model.

    RecipeError when both are named: a model's network is what it is.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if model is None:
        with torch.device("meta"):  # nobody needs its weights
            return UNet(**given), None
    if given:
        raise RecipeError(
            f"expected a model or settings of a network, found {model} and {', '.join(given)}; leave one of them out"
        )
    loaded = load(model)
    return loaded.network, loaded


def suiting_size(network: UNet | Classifier, model: Model | None) -> tuple[int, ...]:
    """The size to show a network with: that of the images of a classifier, else the usual one."""
    return (model.preparation.size if model else None) or usual_size(network)


def keep_inputs(path: Path, *inputs: str | Path | None) -> None:
    """RecipeError where a picture would replace what it is made of."""
    for given in inputs:
        if given is not None and path.exists() and path.resolve() == Path(given).resolve():
            raise RecipeError(f"expected a picture that replaces no input, found {path}; give it another name with -o")


def _check_name(path: Path) -> None:
    """RecipeError unless a picture can be written there as .svg or .png; makes its folder."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise RecipeError(f"expected a picture called .svg or .png, found {path}; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)


def write_picture(
    path: Path, network: UNet | Classifier, size: int | Sequence[int], *, level: int | None = None
) -> None:
    """Write the architecture, or the skip connection of a level, as .svg or .png; complete or not at all."""
    _check_name(path)
    if path.suffix.lower() == ".png":
        drawn = architecture_png(network, size) if level is None else skip_png(network, size, level)
        write_image(path, np.moveaxis(drawn, -1, 0))
        return
    write_text(path, architecture_svg(network, size) if level is None else skip_svg(network, size, level))


def _read(image: Path, dims: int) -> NDArray[Any]:
    """The pixels of an image file: of a stack the first page; of a volume, for a network of volumes, all of it."""
    page = 0 if dims == 2 and read_layout(image).n_pages > 1 else None
    return read_image(image, page=page)


def inside_plate(what: str, model: str, image: Path, at: tuple[int, ...] | None = None) -> Plate:
    """A look inside a model at one image file.

    what  one of LOOKS
    at    the pixel (row, column) for `receptive` and `saliency`; None: one near the middle
    """
    loaded = load(model)
    pixels = _read(image, loaded.preparation.dims)
    options: dict[str, Any] = {"place": at} if what in ("receptive", "saliency") else {}
    return LOOKS[what](loaded, pixels, axes="CZYX" if pixels.ndim == 4 else "CYX", **options)


def borders_plate(dataset: Dataset) -> Plate:
    """The ridges and weights of the first annotated image of a data set of objects; of a volume its middle slice."""
    if dataset.task != "instances":
        raise DataError(
            f"{dataset.name}: expected objects one by one, found data for {dataset.task}; name other data, or ask for "
            "--task instances"
        )
    sample = next((s for s in dataset.samples if s.mask is not None), None)
    if sample is None:
        raise DataError(f"{dataset.name}: expected an image with a mask, found none; add masks")
    image, mask = sample.read_image(), sample.read_mask()
    if mask.ndim == 3:
        image, mask = image[:, mask.shape[0] // 2], mask[mask.shape[0] // 2]
    return draw_borders(image, mask)


def tiles_drawing(
    model: str | None = None,
    image: Path | None = None,
    *,
    tile_size: int | None = None,
    at: tuple[int, ...] | None = None,
    **settings: Any,
) -> Drawing:
    """The overlap-tile figure of a network, or of a model at an image.

    model      a run folder or model file, or an image file instead; None: the paper's network, with other `settings`
               where these are not None
    image      None: a simulated one
    tile_size  largest side of a tile; None: what the model uses, the paper's tile for a network
    at         the pixel (row, column) whose tile is drawn; None: the first tile
    """
    if model is not None and image is None and model_path(model).suffix != ".safetensors":
        image, model = Path(model), None
    network, loaded = chosen_network(model, **settings)
    if isinstance(network, Classifier):
        raise RecipeError(
            "expected a network that answers for every pixel, found a classifier, which sees the whole image at once; "
            "name a segmenter"
        )
    geometry = geometry_without_padding(network)
    limit = loaded.largest_tile() if loaded else max(TILE_SIZE[network.dims], geometry.smallest_tile)
    limit = limit if tile_size is None else tile_size
    if image is None:
        if network.dims == 3:
            raise RecipeError("expected a volume to cut into tiles for a network of volumes, found none; name one")
        shown = phantom_image(0, SIMULATED, network.in_channels)[0]
        return draw_tiles(shown, geometry, limit, place=at)
    pixels = _read(image, network.dims)
    answer = None if loaded is None else _answer(loaded, pixels)
    return draw_tiles(pixels, geometry, limit, place=at, answer=answer)


def _answer(model: Model, image: NDArray[Any]) -> Answer:
    """How sure a model is, for each pixel of a tile of this image, that it is no background."""
    prepared, engine = model.preparation(image), model.runner()

    def answer(tile: Tile) -> NDArray[np.floating[Any]]:
        background: NDArray[np.floating[Any]] = engine(read_tile(prepared, tile)[None])[0, 0]
        return 1 - background

    return answer


def _masked(examples: Sequence[Example], recipe: Recipe, preparation: Preparation) -> list[TrainingImage]:
    """What training draws patches from, but with the masks where it has what the network is asked."""
    images = to_training_images(examples, recipe, preparation, torch.device("cpu"))
    for image, example in zip(images, examples, strict=True):
        mask = example.mask
        if recipe.encoding.kind != "semantic":
            mask = np.where(mask < 0, -1, compact_ids(mask)[0])
        image.planes[-1] = torch.from_numpy(mask.astype(np.float32))
    return images


def augmentation_drawing(dataset: Dataset, *, recipe: str = "auto", settings: Sequence[str] = ()) -> Drawing:
    """What training with a recipe would make of some images of a data set.

    recipe, settings  as in `make_plan`
    """
    planned = make_plan(dataset, recipe=recipe, settings=settings, device="cpu")
    chosen, examples = planned.recipe, spread(planned.training, MOST_EXAMPLES)
    name = f"{dataset.name}, recipe {chosen.name}"
    preparation = make_preparation(chosen, planned.summary, planned.training)
    if planned.summary.task == "classification":
        images, labels = to_label_tensors(examples, preparation, torch.device("cpu"))
        weights = torch.ones(len(planned.summary.classes))
        batch = min(chosen.batch, len(examples))
        drawn = LabelBatches(images, labels, weights, batch, chosen.augmentation, 0)
        return draw_classifier_augmentation(name, drawn, planned.summary.classes)
    batches = Batches(
        _masked(examples, chosen, preparation),
        chosen.geometry,
        chosen.patch,
        chosen.batch,
        chosen.augmentation,
        0,
        chosen.foreground,
    )
    colours = planned.summary.colours if planned.summary.task == "semantic" else ()
    return draw_segmenter_augmentation(name, batches, colours=colours)


def write_drawing(path: Path, drawing: Drawing) -> None:
    """Write a drawing as .svg or .png, complete or not at all."""
    _check_name(path)
    if path.suffix.lower() == ".png":
        write_image(path, np.moveaxis(png(drawing, round(PNG_SCALE * drawing.width)), -1, 0))
        return
    write_text(path, svg(drawing))


def write_plate(path: Path, plate: Plate) -> None:
    """Write a picture as .png, complete or not at all."""
    if path.suffix.lower() != ".png":
        raise RecipeError(f"expected a picture called .png, found {path}; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.moveaxis(plate.picture, -1, 0))
