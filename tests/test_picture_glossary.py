"""Every score has a meaning, and the first one becomes a sentence."""

import math

import numpy as np
import pytest

from ushape.picture.glossary import answer, meaning
from ushape.scoring.classes import class_scores
from ushape.scoring.objects import count_objects, object_scores
from ushape.scoring.pixels import pixel_scores


def test_every_score_that_is_computed_is_explained():
    objects = object_scores([count_objects(np.eye(3, dtype=int), np.eye(3, dtype=int))])
    labels = class_scores(np.array([[5, 1], [1, 5]]), ("cat", "dog"))
    pixels = pixel_scores(np.array([[5, 1], [1, 5]]), ("background", "cell"))
    assert [name for name in objects | pixels | labels if not meaning(name)] == []
    assert len(objects | pixels) > 20


def test_a_meaning_names_what_is_in_the_name():
    assert meaning("recall@0.75") == (
        "of the objects that are there, the share that the network found (IoU above 0.75)"
    )
    assert "in the class red cell:" in meaning("Dice red cell")
    assert meaning("PQ per image") == f"{meaning('PQ')}; the mean of each image's own value"
    assert meaning("AP@0.5:0.95") != meaning("AP@0.5")
    assert "lower is better" in meaning("pixel error")


@pytest.mark.parametrize("name", ["", "unknown", "AP", "SEG2", "Dice"])
def test_an_unknown_name_has_no_meaning(name):
    assert meaning(name) == ""


@pytest.mark.parametrize(
    "scores, intervals, expected",
    [
        (
            {"AP@0.5": 0.834, "SEG": 0.1},
            {},
            "AP@0.5 is 0.83: of all objects found, missed or invented, 83 % were found (with an overlap of more than "
            "0.5).",
        ),
        (
            {"mean Dice": 0.9},
            {"mean Dice": (0.85, 0.949)},
            "The mean Dice is 0.90 (95 % interval 0.85 to 0.95): estimate and reference overlap by 90 %, averaged over "
            "the classes.",
        ),
        ({"SEG": 1.0}, {"AP": (0, 1)}, "SEG is 1.00: each object and its estimate overlap by 100 % on average."),
        ({"accuracy": 0.999}, {}, "The accuracy is 1.00: 99.9 % of all answers are right."),
        ({"new score": 0.5}, {}, "The new score is 0.50."),
        ({"SEG": math.nan}, {}, "SEG is not defined on these images."),
        ({}, {}, ""),
    ],
)
def test_the_first_score_is_said(scores, intervals, expected):
    assert answer(scores, intervals) == expected
