"""Whose results a folder holds: another model does not continue them."""

import json

import numpy as np
import pytest
import torch

from test_files import disc_image, objects_by_threshold, rows_of, stopping_at, write_png
from test_model import small_model
from ushape.errors import DataError
from ushape.files import predict_files
from ushape.files.origin import NOTE
from ushape.model import load
from ushape.targets.instances import Decision


def model_of(seed, **changes):
    """A model whose weights and answers differ by the seed."""
    model = small_model("instances", **changes)
    with torch.no_grad():
        next(model.network.parameters()).fill_(seed)
    return objects_by_threshold(model)


@pytest.fixture
def images(tmp_path):
    for index in range(3):
        write_png(tmp_path / "in" / f"{index}.png", disc_image(index)[0][0])
    return tmp_path / "in"


def noted(out):
    return [about["fingerprint"] for about in json.loads((out / NOTE).read_text())["models"]]


def test_equal_models_have_equal_fingerprints(tmp_path):
    model = small_model("instances")
    path = model.save(tmp_path / "m.safetensors")
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "n.safetensors")
    assert load(moved, engine="torch").fingerprint == model.fingerprint
    model.facts["data"], model.rotations = "cells", 8
    assert load(moved).fingerprint == model.fingerprint
    others = [small_model(), small_model("instances", decision=Decision(min_size=4)), model_of(1), model_of(2)]
    assert len({each.fingerprint for each in (model, *others)}) == 5


@pytest.mark.parametrize("save", [("labels",), ("table",), ("labels", "table")])
def test_another_model_does_not_continue(images, tmp_path, save):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping_at(model_of(1), 2), [str(images)], out, save=save)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    own, other = model_of(2).fingerprint, model_of(1).fingerprint
    with pytest.raises(DataError) as caught:
        predict_files(model_of(2), [str(images)], out, save=save, resume=True)
    assert str(caught.value) == (
        f"{out}: expected results of the same model to continue ({own}), found some of another ({other}); do all of "
        "them anew with --overwrite, or name another folder with -o"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert predict_files(model_of(1), [str(images)], out, save=save, resume=True)[1] == []
    assert noted(out) == [other]


def test_all_that_is_done_anew_is_the_new_models_and_what_is_not_is_both_models(images, tmp_path):
    out, save = tmp_path / "out", ("labels", "table")
    first, second = model_of(1), model_of(2)
    predict_files(first, [str(images)], out, save=save)
    predict_files(second, [str(images / "0.png")], out, save=save, overwrite=True)
    assert noted(out) == [first.fingerprint, second.fingerprint]
    for model in (first, second):
        with pytest.raises(DataError, match=r"out: expected results of the same model to continue .* of an"):
            predict_files(model, [str(images)], out, save=save, resume=True)
    predict_files(second, [str(images)], out, save=save, overwrite=True)
    assert noted(out) == [second.fingerprint]
    assert predict_files(second, [str(images)], out, save=save, resume=True)[:2] == ([], [])
    assert {row["image"] for row in rows_of(out / "objects.csv")} == set("012")


def test_a_replacement_that_was_interrupted_is_not_taken_for_done(images, tmp_path):
    out = tmp_path / "out"
    predict_files(model_of(1), [str(images)], out)
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping_at(model_of(2), 1), [str(images)], out, overwrite=True)
    with pytest.raises(DataError, match=r"do all of them anew with --overwrite"):
        predict_files(model_of(2), [str(images)], out, resume=True)


@pytest.mark.parametrize("note", [None, "", "[]", '{"models": 3}', '{"models": [{}]}', '{"models": ["a"]}'])
def test_folders_without_a_note_that_makes_sense_are_continued(images, tmp_path, note):
    out = tmp_path / "out"
    predict_files(model_of(1), [str(images / "0.png")], out)
    (out / NOTE).unlink()
    if note is not None:
        (out / NOTE).write_text(note)
    assert predict_files(model_of(2), [str(images)], out, resume=True)[1] == []
    assert noted(out) == [model_of(2).fingerprint]


def test_a_note_without_results_says_nothing(images, tmp_path):
    out = tmp_path / "out"
    predict_files(model_of(1), [str(images)], out)
    for path in out.glob("*.tif"):
        path.unlink()
    assert predict_files(model_of(2), [str(images)], out, resume=True)[1] == []
    assert noted(out) == [model_of(2).fingerprint]


def test_nothing_is_noted_where_nothing_was_done(tmp_path):
    path = write_png(tmp_path / "a.png", np.zeros((2, 3), np.uint8))
    path.write_bytes(b"no picture")
    assert len(predict_files(model_of(1), [str(path)], tmp_path / "out")[1]) == 1
    assert not (tmp_path / "out").exists()
