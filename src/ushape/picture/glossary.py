"""What the scores mean, in words that need no other words.

`meaning` explains a score by its name; `answer` says its value as a sentence. Names are those that `ushape.scoring`
gives; a name that is not known here has no explanation rather than a wrong one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from ushape.picture.page import percent

__all__ = ["answer", "meaning"]

# By the form of the name; {0} is what stands in its parentheses, such as a threshold or the name of a class.
MEANINGS: tuple[tuple[str, str], ...] = (
    (
        r"AP@0\.5:0\.95",
        "the mean of AP over the thresholds 0.5, 0.55, ... 0.95: how exactly outlines are drawn, too",
    ),
    (
        r"AP@([\d.]+)",
        "of all objects found, missed or invented, the share that was found (IoU above {0}); the IoU is the common "
        "area of estimate and reference over their joint area",
    ),
    (r"F1@([\d.]+)", "the balance (harmonic mean) of precision and recall of objects (IoU above {0})"),
    (r"precision@([\d.]+)", "of the objects that the network claims, the share that is really there (IoU above {0})"),
    (r"recall@([\d.]+)", "of the objects that are there, the share that the network found (IoU above {0})"),
    (r"PQ", "panoptic quality: F1 at 0.5, times the mean IoU of the objects that were found"),
    (r"SEG", "the mean overlap (IoU) of each reference object with its estimate; a missed object counts as 0"),
    (
        r"mean Dice",
        "the overlap of estimate and reference (twice the common area over the sum of both), mean of classes",
    ),
    (r"mean IoU", "the overlap of estimate and reference (common area over joint area), mean of classes"),
    (
        r"Dice (.+)",
        "the overlap of estimate and reference in the class {0}: twice the common area over the sum of both",
    ),
    (r"IoU (.+)", "the overlap of estimate and reference in the class {0}: common area over joint area"),
    (r"pixel accuracy", "the share of pixels whose class is right, background included"),
    (r"pixel error", "the share of pixels whose class is wrong, background included: lower is better"),
    (r"accuracy", "the share of images whose class is right"),
    (r"error", "the share of images whose class is wrong: lower is better"),
    (r"balanced accuracy", "the share that is right in each class, mean of classes: rare classes count as much"),
    (r"mean F1", "the balance (harmonic mean) of precision and recall of each class, mean of classes"),
    (r"precision (.+)", "of what the network calls {0}, the share that is {0}"),
    (r"recall (.+)", "of what is {0}, the share that the network calls {0}"),
    (r"expected calibration error", "by how much the stated certainty is off on average: lower is better"),
    (r"n_reference", "objects in the reference"),
    (r"n_estimate", "objects that the network claims"),
    (r"n_images", "images that were scored"),
    (r"n_incomplete", "images whose reference lacks objects; they count for SEG and recall only"),
    (r"n_pixels", "pixels that were scored"),
)

PER_IMAGE = " per image"

ANSWERS: tuple[tuple[str, Callable[[float, str], str]], ...] = (
    (
        r"AP@([\d.]+)",
        lambda value, at: (
            f"of all objects found, missed or invented, {percent(value)} were found (with an overlap of more than {at})"
        ),
    ),
    (r"SEG", lambda value, _: f"each object and its estimate overlap by {percent(value)} on average"),
    (r"mean (Dice)", lambda value, _: f"estimate and reference overlap by {percent(value)}, averaged over the classes"),
    (r"mean (IoU)", lambda value, _: f"estimate and reference overlap by {percent(value)}, averaged over the classes"),
    (r"F1@([\d.]+)", lambda value, _: f"the balance of objects found and objects truly there is {percent(value)}"),
    (r"(?:pixel )?accuracy", lambda value, _: f"{percent(value)} of all answers are right"),
)


def meaning(name: str) -> str:
    """What a score measures, in one line without a full stop; empty where the name is not known."""
    stem = name.removesuffix(PER_IMAGE)
    for form, words in MEANINGS:
        found = re.fullmatch(form, stem)
        if found:
            words = words.format(*found.groups())
            return words if stem == name else f"{words}; the mean of each image's own value"
    return ""


def answer(scores: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> str:
    """The first score as a sentence, with its interval where there is one; empty without a score."""
    if not scores:
        return ""
    name, value = next(iter(scores.items()))
    if math.isnan(value):
        return f"{name} is not defined on these images."
    low, high = intervals.get(name, (math.nan, math.nan))
    said = f"{'The ' * name[0].islower()}{name} is {value:.2f}" + (
        "" if math.isnan(low) else f" (95 % interval {low:.2f} to {high:.2f})"
    )
    for form, words in ANSWERS:
        found = re.fullmatch(form, name)
        if found:
            return f"{said}: {words(float(value), found.group(1) if found.groups() else '')}."
    return f"{said}."
