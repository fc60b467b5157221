"""The report of a run: filled from the session, for each task."""

import json
import math
import re

import numpy as np
import pytest

from conftest import disc_dataset
from test_training_classifying import SETTINGS as LABEL_SETTINGS
from test_training_classifying import striped
from ushape.data.dataset import Sample
from ushape.reporting import score_of
from ushape.run import train_run
from ushape.training.examples import Example

TINY = ("network.channels=4", "network.depth=3", "patch=[32, 32]")


def example(mask, complete=True):
    return Example(Sample("a", lambda: mask[None], lambda: mask, complete=complete), mask[None], mask)


@pytest.mark.parametrize(("task", "name"), [("instances", "AP@0.5"), ("semantic", "mean Dice")])
def test_an_image_that_has_no_score_has_no_perfect_one(task, name):
    mask = np.zeros((4, 5), np.int32)
    assert score_of({name: 0.5}, task, example(mask)) == (name, 0.5)
    assert score_of({}, task, example(mask)) == (name, 1.0)  # nothing there, and nothing found
    assert math.isnan(score_of({}, task, example(mask, complete=False))[1])
    assert math.isnan(score_of({}, task, example(mask - 1))[1])  # all of it is ignored


def page(folder):
    return re.sub(r"data:image/[^\"]*", "", (folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_of_a_segmenter_says_what_was_done(tmp_path):
    train_run(disc_dataset(5), output=tmp_path / "run", steps=3, settings=TINY, device="cpu", command="ushape train x")
    html = page(tmp_path / "run")
    assert "A network learned to find objects one by one in 4 images of discs, in 0." in html
    assert "ushape train x" in html
    for heading in ("Result", "Checks", "Images", "Objects", "Calibration", "Plan", "Training", "To do it again"):
        assert f"<h2>{heading}</h2>" in html
    assert re.search(r"<dt>memory used</dt><dd>\d+\.\d GB</dd>", html)
    assert "<script" not in html
    assert len((tmp_path / "run" / "report.html").read_bytes()) < 5_000_000


def test_of_one_image_the_page_says_what_was_held_out(tmp_path):
    train_run(disc_dataset(1), output=tmp_path / "run", steps=2, settings=TINY, device="cpu")
    assert "in 1 image of discs" in page(tmp_path / "run")
    assert "a quarter of it was held out to judge it, and learnt from too in the end." in page(tmp_path / "run")


def test_the_page_of_a_classifier_shows_its_mistakes(tmp_path):
    train_run(striped(40), output=tmp_path / "run", steps=2, settings=LABEL_SETTINGS, device="cpu")
    html = page(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert rows[-1]["validation"] < 1
    assert "A network learned to tell 2 classes of images in 32 images of stripes" in html
    assert "<h2>Mistakes</h2>" in html
    assert re.search(r"taken for (across|upright)<br>", html)
