"""The int8 copy of a trained model: the ranges of its 8-bit numbers are taken from some images, and others judge it.

On the images that the ranges were taken from, 8 bits would look better than they are. So data are divided as training
divides them: for the data that a model was trained on, the ranges come from what it has learnt from, and the judge is
what was held out. Files are read once; the copy is kept beside the model, if it scores nearly as well.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError, RecipeError, UshapeError
from ushape.model import Evaluation, Model
from ushape.prediction.choice import Engines
from ushape.prediction.conversions import Conversion
from ushape.prediction.openvino_engine import convert_to_openvino
from ushape.prediction.quantising import MOST_TILES, Quantised, need_quantiser, quantise_graph, spread_tiles
from ushape.training.examples import Example, first_and_more, read_examples, what_to_add
from ushape.training.holdout import hold_out
from ushape.training.recipe import Recipe

__all__ = ["quantise", "what_was_seen"]

MAIN_SCORE = {"semantic": "mean Dice", "instances": "AP@0.5:0.95", "classification": "accuracy"}
"""The one score that the copy is judged by: what training chooses weights by, too."""
CUT = "one image: calibrated with the part that training learns from first, judged on the quarter that it holds out"
Tile = NDArray[np.float32]


@dataclass(frozen=True)
class Division:
    """What the ranges are taken from, and what judges.

    note  where the two are parts of one image, or of series; empty otherwise
    """

    calibration: Dataset
    judged: Dataset
    note: str = ""


def share_held_out(model: Model) -> float:
    """The share of its images that the model's training held out; what recipes hold out where the file has none."""
    recipe = tomllib.loads(model.facts.get("recipe", ""))
    return float(recipe.get("validation", Recipe.validation))


def as_sample(example: Example) -> Sample:
    """The sample of an example, read already, and scored by the mask that training scores it by."""
    sample = replace(example.sample, image=lambda: example.image, reference=None, scored=True)
    return sample if sample.label is not None else replace(sample, mask=lambda: example.mask)


def divided(model: Model, dataset: Dataset) -> Division:
    """The dataset as training divides it: exactly so, where the model was trained on it.

    Parts of a single image are normalised each by itself here, for both networks alike; training does so by the whole.

    DataError where it cannot be divided, or is not of the model's kind.
    """
    dataset = model.matching(dataset)
    examples, problems = read_examples(dataset.samples)
    told = (*dataset.problems, *problems)
    if not examples:
        raise DataError(
            f"{dataset.name}: expected annotated images to calibrate with and to judge on, found none that could be "
            "used" + (f" ({first_and_more(told)})" if told else f"; {what_to_add(dataset.task)}")
        )
    training, held_out, told_of = hold_out(dataset, examples, share_held_out(model), model.network.geometry.margin)
    calibration = dataset.subset([as_sample(example) for example in training])
    judged = replace(dataset.subset([as_sample(example) for example in held_out]), problems=told)
    name = f"{dataset.name}, held out"
    if model.has_learnt_all(dataset):
        name += " and learnt from in the end"
    is_cut = any(example.whole is not None for example in held_out)
    return Division(calibration, replace(judged, name=name), CUT if is_cut else told_of)


def what_was_seen(model: Model, dataset: Dataset, validation: Dataset | None) -> str:
    """A sentence where the model was trained on what is to judge its copy; empty otherwise."""
    if validation is not None:
        return model.has_seen(validation)
    if model.has_learnt_all(dataset):
        return (
            f"{dataset.name}: the model has learnt from all of these images in the end, those held out included; "
            "judge by other images, with --val"
        )
    # What was held out of the data has chosen weights, but none was learnt from it.
    if not model.facts.get("validated on") or not model.has_seen(dataset):
        return ""
    return (
        f"{dataset.name}: the model was trained on all of these images, because it was validated on "
        f"{model.facts['validated on']}; judge by other images, with --val"
    )


def tiles_to_calibrate(
    model: Model, dataset: Dataset, problems: list[str], most: int = MOST_TILES
) -> Iterator[list[Tile]]:
    """Up to `most` of the tiles (C, *read) that prediction would cut the images into, evenly from all of them.

    Those of each image together; of a classifier the image, with sides that are legal. Images that cannot be used are
    left out, and told in `problems`.
    """
    n, geometry = min(most, len(dataset)), model.tile_geometry
    for place in range(n):
        share = (place + 1) * most // n - place * most // n
        sample = dataset.samples[place * len(dataset) // n]
        try:
            prepared = model.preparation(sample.read_image())
        except UshapeError as error:
            problems.append(str(error) if sample.where in str(error) else f"{sample.where}: {error}")
            continue
        if model.task == "classification":
            missing = [(0, geometry.legal_at_least(length) - length) for length in prepared.shape[1:]]
            yield [np.pad(prepared, [(0, 0), *missing])]
        else:
            yield list(spread_tiles(prepared, geometry, model.largest_tile(), share))


def make_copy(model: Model, tiles: list[Tile]) -> tuple[Conversion, Model]:
    """(the copy, the model as it would be run by it)."""
    network = model.tile_network
    key = model.engines.key_of(network, model.n_class_channels)
    copy = quantise_graph(convert_to_openvino(network, model.n_class_channels, key), tiles, key)
    candidate = replace(model, engine="int8", device="cpu", engines=Engines())
    candidate.engines.keep("int8", copy)
    return copy, candidate


def compared(
    model: Model, division: Division, by_image: list[list[Tile]], bound: float
) -> tuple[Quantised, Conversion]:
    """(what the copy is worth, the copy)."""

    tiles, name = [tile for image in by_image for tile in image], MAIN_SCORE[model.task]

    def score(each: Model) -> Evaluation:
        found = each.evaluate(division.judged)
        if name not in found.scores:
            # Where references are incomplete, what is not in them may be there all the same.
            raise DataError(
                f"{division.judged.name}: expected images that can be scored by {name}, to judge the copy by, found "
                "none: their masks lack objects, or hold none; judge by other images, with --val"
            )
        return found

    reference = score(replace(model, engine="torch"))
    copy, candidate = make_copy(model, tiles)
    estimate = score(candidate)
    # What one of the two could not score is in the other's mean.
    problems = (*division.calibration.problems, *reference.problems, *estimate.problems)
    return Quantised(
        name,
        reference.scores[name],
        estimate.scores[name],
        bound,
        len(tiles),
        len(by_image),
        len(reference.rows),
        problems=tuple(dict.fromkeys(problems)),
        note=division.note,
    ), copy


def quantise(model: Model, dataset: Dataset, validation: Dataset | None = None, bound: float = 0.005) -> Quantised:
    """Quantise a model to int8 with the images of a dataset, and keep the copy if its score falls by less than `bound`.

    validation  other images to judge on, all of the dataset being calibrated with; None: the dataset is divided as
                training divides it

    Judged by mean Dice, AP@0.5:0.95 for objects, accuracy for classes of whole images. The copy is kept beside the
    model file, where the engine `int8` finds it; one that is not accepted leaves an earlier one as it is.
    """
    if not 0 < bound < 1:
        raise RecipeError(f"expected a bound between 0 and 1, found {bound}; 0.005 is the usual one")
    need_quantiser()
    if validation is None:
        division = divided(model, dataset)
    else:
        division = Division(model.matching(dataset), model.matching(validation))
    problems = [*division.calibration.problems]
    by_image = list(tiles_to_calibrate(model, division.calibration, problems))
    if not by_image:
        raise DataError(
            f"{dataset.name}: expected images to calibrate with, found none that could be used; take images of the "
            "kind that the model was trained on"
        )
    division = replace(division, calibration=replace(division.calibration, problems=tuple(problems)))
    result, copy = compared(model, division, by_image, bound)
    if not result.accepted:
        return result
    about = {"score": result.score, "float": result.before, "int8": result.after, "bound": bound}
    about |= {"data": division.judged.name, "calibrated": result.calibrated, "judged": result.judged}
    return replace(result, path=model.engines.keep("int8", replace(copy, facts={**copy.facts, **about})))
