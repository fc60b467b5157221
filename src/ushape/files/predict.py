"""Predict images on disk.

One file, or one page of it, that fails is reported and the others are done. An interrupted prediction leaves the
results of the images that were finished, and with `resume` another one skips these; a file with a page that failed is
not finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ushape.data.dataset import Spacing
from ushape.errors import UshapeError
from ushape.files.ahead import Opened, opened_ahead
from ushape.files.inputs import Input, find_images, input_of
from ushape.files.results import Labels, Results
from ushape.files.sentences import Reasons
from ushape.model import Model, Prediction
from ushape.prediction.choice import converting_pays

__all__ = ["predict_files"]

Say = Callable[[str], None]
OTHER_SPACING = 1.5
"""How many times larger or smaller pixels may be than in training without a word; augmentation zooms by 1.25."""


def describe(name: str, prediction: Prediction, model: Model) -> str:
    """One line for a person."""
    if model.task == "classification":
        return f"{name}: {model.classes[int(prediction.labels)]} ({prediction.probabilities.max():.0%} sure)"
    if prediction.instances is None:
        shares = np.bincount(prediction.labels.ravel(), minlength=len(model.classes)) / prediction.labels.size
        return f"{name}: " + ", ".join(f"{c} {share:.0%}" for c, share in zip(model.classes, shares, strict=True))
    return f"{name}: {int(prediction.instances.max(initial=0))} objects"


def name_of(model: Model, item: Input, page: int | None) -> str:
    """What a person is told the image or page by."""
    return str(item.path) if model.task == "classification" else item.page_name(page)


def with_page(stack: Labels | None, item: Input, index: int, labels: Labels) -> Labels:
    """The labels (P, height, width) of a file with those of one page in them, in the smallest type that holds all."""
    smallest = np.min_scalar_type(int(labels.max(initial=0)))
    if stack is None:
        stack = np.zeros((len(item.pages), *labels.shape), smallest)
    elif np.iinfo(smallest).max > np.iinfo(stack.dtype).max:
        stack = stack.astype(smallest)
    stack[index] = labels
    return stack


def numbered_from(prediction: Prediction, n_before: int) -> Prediction:
    """The prediction with the ids of its objects raised by the number of objects before them."""
    if prediction.instances is None or not n_before:
        return prediction
    raised = np.where(prediction.instances > 0, prediction.instances + np.int32(n_before), 0)
    labels = raised if prediction.labels is prediction.instances else prediction.labels
    return replace(prediction, instances=raised, labels=labels)


def predict_pages(
    model: Model, file: Opened, item: Input, results: Results, symmetries: int | None, reasons: Reasons, say: Say
) -> None:
    """Predict the image, volume or pages of a file; pages that fail are reasons, and 0 in the labels."""
    labels: Labels | None = None
    n_labelled = n_objects = 0
    for index, page in enumerate(item.pages):
        with reasons.gathering(page if item.is_stack else None):
            image = file.image(item, index)
            prediction = model.predict(image, axes="CZYX" if image.ndim == 4 else "CYX", symmetries=symmetries)
            cost = model.engines.news()
            if cost:
                say(cost)
            told = describe(name_of(model, item, page), prediction, model)
            if results.needs_ids_apart(item):
                prediction = numbered_from(prediction, n_objects)
            # First, so that they are not lost where another product cannot be made.
            labels = with_page(labels, item, index, prediction.labels) if item.is_stack else prediction.labels
            n_labelled += 1
            if prediction.instances is not None:
                n_objects = max(n_objects, int(prediction.instances.max(initial=0)))
            results.write_page(item, page, image, prediction)
            say(told)
    if labels is not None:
        if n_labelled < len(item.pages) and "labels" in results.products:
            empty = results.values[0] if results.values else 0
            reasons.consequence = f" (such pages are {empty} in the labels)"
        results.write_labels(item, labels)
        if not reasons.pages:
            results.end(item)


def other_spacing(item: Input, trained: dict[str, Any] | None) -> str:
    """A sentence where the pixels of a file are of quite another size than those that the model was trained on."""
    if item.spacing is None or not trained or item.spacing.unit != trained["unit"]:
        return ""
    pairs = zip(item.spacing.values, trained["values"], strict=False)
    if all(1 / OTHER_SPACING < own / usual < OTHER_SPACING for own, usual in pairs):
        return ""
    return (
        f"{item.path.name}: its pixels are {item.spacing}, those the model was trained on {Spacing(**trained)}; "
        "objects look larger or smaller to it, so look at the result, or bring the image to that size first"
    )


def predict_file(model: Model, file: Opened, results: Results, symmetries: int | None, say: Say) -> list[str]:
    """The problems of one file."""
    reasons = Reasons(file.path)
    with reasons.gathering():
        item = file.item()
        results.check(item)
        if results.has(item):
            say(f"{item.name}: done before")
            return []
        for note in (item.finding, other_spacing(item, model.facts.get("spacing"))):
            if note:
                say(note)
        results.begin(item)
        predict_pages(model, file, item, results, symmetries, reasons, say)
    return reasons.told()


def ready_for(model: Model, images: Iterable[Path], results: Results, symmetries: int | None) -> Model:
    """The model by the engine that suits so much to predict; files are counted until that is known.

    Decided before the first image, so that all are predicted alike. Nothing is converted yet: that waits for the first
    image that can be used.
    """
    chosen = model.settled()
    if chosen.engine != "torch" or not model.may_choose_openvino():
        return chosen
    n_pixels, views = 0, model.rotations if symmetries is None else symmetries
    for path in images:
        with suppress(UshapeError, OSError):
            item = input_of(path, model.preparation)
            # Pages that are channels of one image are read together.
            if item.layout is not None and not results.has(item):
                n_pixels += views * item.layout.length("ZYX" if item.axes == "CYX" else "PZYX")
        if converting_pays(model.network, n_pixels):
            # Whether OpenVINO runs is asked once, and only where it matters: to import it takes time.
            return model.for_pixels(n_pixels).settled()
    return chosen


def predict_files(
    model: Model,
    names: Sequence[str],
    output: Path,
    *,
    save: Sequence[str] = ("labels",),
    format: str = "tif",
    symmetries: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    say: Say = lambda _: None,
) -> tuple[list[Path], list[str], dict[str, str | float]]:
    """(written, problems, what computed): segment or classify every image; the files are called after the images.

    names       files, folders or patterns
    save        any of labels, probabilities, overlay, table, geojson, rois
    format      of the labels: tif, nii.gz, or png for single images with up to 65535 objects
    symmetries  1, 2, 4 or 8 flips and quarter turns to average over, or 7 angles, as in the paper; None: the model's
                own number
    overwrite   replace results from before
    resume      continue an interrupted prediction with the same model and options: images with all results are skipped
    say         called with words for a person after each image, and once with what a conversion has cost

    RecipeError or DataError, before anything is done, for what would fail every image.
    """
    model.check(symmetries)
    images, problems = find_images(names, output)
    results = Results(output, model, save, format, overwrite, resume, images.keys())
    results.prepare()
    if results.legend and images:
        say(results.legend)
    model = ready_for(model, images.values(), results, symmetries)
    # Closed at once, so that no thread goes on reading behind an error that ends everything.
    with closing(opened_ahead([*images.values()], model.preparation, results.has)) as files:
        for file in files:
            problems += predict_file(model, file, results, symmetries, say)
    results.finish()
    return results.written, problems, model.computing()
