"""The command line: one journey end to end, one line for every mistake, JSON where it is asked for."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from conftest import disc_image
from test_model import rewritten, small_model
from ushape import run as runs
from ushape.cli import app
from ushape.data.catalog import open_dataset
from ushape.errors import DataError
from ushape.model import load
from ushape.prediction import choice
from ushape.prediction.packages import is_there
from ushape.prediction.quantising import Quantised
from ushape.training import int8

TINY = ["--set", "network.channels=4", "--set", "network.depth=3", "--set", "patch=[32, 32]", "--device", "cpu"]


def ushape(*arguments):
    """(exit status, standard output, standard error) of a command."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_file_names_in_no_encoding_are_worked_with(tmp_path):
    """Names from old archives on Linux; what they are printed as does not matter, what was computed does."""
    data, run = tmp_path / "data", tmp_path / "run"
    for i in range(3):
        image, mask = disc_image(i)
        for folder, array in (("images", image[0]), ("masks", mask.astype(np.uint16))):
            (data / folder).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(data / folder / f"{i}0\udcb5m.tif", array)

    def main(*arguments):
        command = [sys.executable, "-c", "from ushape.cli import main; main()", *map(str, arguments)]
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        return subprocess.run(command, capture_output=True, check=False, env=environment)

    for arguments in (
        ("train", data, "-o", run, "--steps", 2, *TINY),
        ("predict", run, data / "images", "-o", tmp_path / "out", "--save", "labels,table"),
        ("evaluate", run, data, "--csv", tmp_path / "scores.csv"),
        ("score", data / "masks", tmp_path / "out", "--csv", tmp_path / "again.csv"),
    ):
        done = main(*arguments)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (tmp_path / "out" / "00\udcb5m.tif").exists()
    assert b"00\xb5m" in (tmp_path / "scores.csv").read_bytes()


def test_a_wrong_file_for_the_rows_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    """Scores that are there when their file cannot be written would be lost."""
    monkeypatch.setattr("ushape.model.load", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr("ushape.files.score_files", lambda *_, **__: pytest.fail("scored"))
    for arguments in (("evaluate", "run", "data"), ("score", "a", "b")):
        status, _, told = ushape(*arguments, "--csv", tmp_path)
        assert status == 1
        assert "expected a file for the rows, found a folder" in told
    (tmp_path / "file").touch()
    status, _, told = ushape("score", "a", "b", "--csv", tmp_path / "file" / "rows.csv")
    assert status == 1
    assert told.startswith("error: ")


def fails(*arguments):
    """The one line a failing command prints; no traceback, status 1."""
    status, _, words = ushape(*arguments)
    assert status == 1, words
    assert "Traceback" not in words
    errors = [line for line in words.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, words
    return errors[0]


def replaced(function, monkeypatch):
    """What runs instead of training; returns the list of what it was asked for."""
    asked = []

    def train_run(dataset, **options):
        asked.append((dataset, options))
        return function()

    monkeypatch.setattr(runs, "train_run", train_run)
    return asked


def raises(error):
    """A function that raises."""

    def function():
        raise error

    return function


def write_folder(folder, n=5, seed=0):
    """images/ and masks/ of discs."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(n):
        image, mask = disc_image(seed + index)
        tifffile.imwrite(folder / "images" / f"cell{index}.tif", image[0])
        tifffile.imwrite(folder / "masks" / f"cell{index}.tif", mask.astype(np.uint16))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "cells")


@pytest.fixture
def model_file(tmp_path):
    return small_model("instances").save(tmp_path / "model.safetensors")


def test_the_whole_journey(folder, tmp_path):
    run, test = tmp_path / "run", write_folder(tmp_path / "test", n=2, seed=50)
    status, out, words = ushape("plan", folder, *TINY, "--minutes", 1)
    assert status == 0, words
    assert "[network]\nchannels = 4" in out
    status, out, words = ushape("train", folder, "-o", run, "--steps", 40, *TINY, "--json")
    assert status == 0, words
    assert json.loads(out)["steps"] == 40
    assert (run / "report.html").stat().st_size > 10_000
    status, out, words = ushape(
        "predict", run, test / "images", "-o", tmp_path / "out", "--save", "labels,overlay,table,probabilities"
    )
    assert status == 0, words
    names = {path.name for path in (tmp_path / "out").glob("[!.]*")}
    assert names == {"objects.csv"} | {
        f"cell{i}{end}" for i in (0, 1) for end in (".tif", "_overlay.png", "_probabilities.tif")
    }
    labels = tifffile.imread(tmp_path / "out" / "cell0.tif")
    assert labels.shape == (64, 64)
    assert labels.dtype == np.uint8
    table = (tmp_path / "out" / "objects.csv").read_text().splitlines()
    assert table[0].startswith("image,object,area,centroid_y,centroid_x,")
    status, out, words = ushape("evaluate", run, test, "--json")
    evaluated = json.loads(out)
    assert "warning" not in evaluated
    assert re.search(r"^predicted by \w+ in (float32|bfloat16)$", words, re.MULTILINE)
    # One image of the training among others, under another name and in another format, is told.
    mixed = shutil.copytree(test, tmp_path / "mixed")
    leaked = sorted((folder / "images").iterdir())[0]
    for part in ("images", "masks"):
        pixels = tifffile.imread(folder / part / leaked.name)
        tifffile.imwrite(mixed / part / "zz.tif", pixels.astype(np.float32 if part == "images" else np.int32))
    _, out, words = ushape("evaluate", run, mixed, "--json")
    told = (
        "mixed: the model was trained on 1 of these 3 images, or they helped to choose it (zz), so the scores are too"
    )
    assert told in words
    assert json.loads(out)["warning"].startswith(told)
    status, out, words = ushape("score", test / "masks", tmp_path / "out", "--json")
    assert status == 0, words
    assert json.loads(out)["scores"] == evaluated["scores"]
    status, out, _ = ushape("info", run)
    assert status == 0
    assert "instances of background, object" in out


def test_json_is_the_only_thing_on_standard_output(folder):
    status, out, _ = ushape("plan", folder, *TINY, "--json")
    assert status == 0
    assert json.loads(out)["recipe"]["network"]["channels"] == 4


def test_the_datasets_are_listed():
    status, out, _ = ushape("datasets", "list")
    assert status == 0
    for name in ("isbi2012", "dic-hela", "phc-u373", "dsb2018", "phantom"):
        assert name in out


def test_a_missing_folder():
    assert re.search(r"nowhere", fails("train", "nowhere/at/all"))


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in fails("train", tmp_path / "empty")


def test_an_image_without_mask_is_said_and_the_others_are_used(folder, tmp_path):
    (folder / "masks" / "cell2.tif").unlink()
    status, _, words = ushape("train", folder, "-o", tmp_path / "run", "--steps", 2, *TINY)
    assert status == 0, words
    assert re.search(r"warning: .*cell2.tif", words)


def test_a_mask_of_another_size_is_said_and_the_others_are_used(folder, tmp_path):
    tifffile.imwrite(folder / "masks" / "cell1.tif", np.ones((10, 12), np.uint8))
    status, _, words = ushape("train", folder, "-o", tmp_path / "run", "--steps", 2, *TINY)
    assert status == 0, words
    assert re.search(r"warning: .*cell1.tif", words)


def test_an_unreadable_image_is_said_and_the_others_are_used(folder, tmp_path):
    (folder / "images" / "cell3.tif").write_bytes(b"II*\x00garbage")
    status, _, words = ushape("train", folder, "-o", tmp_path / "run", "--steps", 2, *TINY)
    assert status == 0, words
    assert re.search(r"warning: .*cell3.tif", words)


def test_nan_pixels_are_said_and_the_others_are_used(folder, tmp_path):
    image = tifffile.imread(folder / "images" / "cell0.tif").astype(np.float32)
    image[3, 4] = np.nan
    tifffile.imwrite(folder / "images" / "cell0.tif", image)
    status, _, words = ushape("train", folder, "-o", tmp_path / "run", "--steps", 2, *TINY)
    assert status == 0, words
    assert re.search(r"warning: .*cell0.tif: expected finite pixel values, found 1 NaN or infinite", words)


def test_masks_of_all_background(folder):
    for path in (folder / "masks").iterdir():
        tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    line = fails("train", folder, "--steps", 1, *TINY)
    assert "expected something annotated in the masks, found only background in all" in line


def test_a_grey_model_given_colour_does_the_other_images(model_file, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    colour = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(colour).save(images / "b_colour.png")
    for name in ("a", "c"):
        Image.fromarray(disc_image(0)[0][0]).save(images / f"{name}.png")
    line = fails("predict", model_file, images, "-o", tmp_path / "out")
    assert "b_colour.png: expected an image with 1 channel, as in training, found 3 channels that differ" in line
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"a.tif", "c.tif"}


def test_a_damaged_image_does_the_other_images(model_file, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "bad.png").write_bytes(b"\x89PNG nonsense")
    Image.fromarray(disc_image(0)[0][0]).save(images / "good.png")
    assert "bad.png" in fails("predict", model_file, images, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "good.tif").exists()


@pytest.mark.skipif(not is_there("openvino"), reason="openvino is not installed")
def test_another_engine_predicts_and_scores_the_same(folder, tmp_path):
    model_file = small_model("instances", precision="float32").save(tmp_path / "model.safetensors")
    for engine in ("torch", "openvino"):
        arguments = ("predict", model_file, folder / "images", "-o", tmp_path / engine, "--engine", engine)
        status, _, words = ushape(*arguments, "--device", "cpu")
        assert status == 0, words
    for path in (tmp_path / "torch").glob("*.tif"):
        same = tifffile.imread(path) == tifffile.imread(tmp_path / "openvino" / path.name)
        assert same.mean() > 0.99
    assert (tmp_path / "model.safetensors.engines" / "openvino.safetensors").is_file()
    assert json.loads(ushape("info", model_file, "--json")[1])["engines"]["openvino"]["openvino"]
    status, out, words = ushape("evaluate", model_file, folder, "--engine", "openvino", "--json")
    assert status == 0, words
    values = json.loads(out)
    assert (values["scores"]["n_images"], values["engine"], values["precision"]) == (5, "openvino", "float32")
    assert values["compiling_seconds"] > 0
    out = ushape("evaluate", model_file, folder, "--engine", "torch", "--json")[1]
    assert (json.loads(out)["engine"], json.loads(out)["converting_seconds"]) == ("torch", 0)


@pytest.mark.skipif(not is_there("openvino"), reason="openvino is not installed")
def test_the_engine_that_auto_chose_by_pixels_is_told(folder, tmp_path, monkeypatch):
    path = small_model("instances", precision="float32").save(tmp_path / "model.safetensors")

    def told(name, pays):
        monkeypatch.setattr(choice, "CONVERTING_PAYS", pays * load(path).network.settings["channels"])
        arguments = ("predict", path, folder / "images", "-o", tmp_path / name, "--device", "cpu", "--json")
        values = json.loads(ushape(*arguments)[1])
        return values["engine"], values["converting_seconds"] > 0

    # Five images of 64 x 64 px.
    assert told("few", 5 * 64 * 64 + 1) == ("torch", False)
    assert told("enough", 5 * 64 * 64) == ("openvino", True)


@pytest.mark.skipif(not is_there("openvino"), reason="openvino is not installed")
def test_an_engine_that_auto_cannot_use_is_told_once_by_evaluate(folder, tmp_path, monkeypatch):
    path = small_model("instances", precision="float32").save(tmp_path / "model.safetensors")
    load(path, engine="openvino").runner()

    def fails_to_compile(*given):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(choice.OpenVinoRunner, "request", fails_to_compile)
    status, out, words = ushape("evaluate", path, folder, "--device", "cpu", "--json")
    line = "OpenVINO could not be used, so PyTorch predicts: no such instruction"
    assert (status, words.count(line), json.loads(out)["engine"]) == (0, 1, "torch")


@pytest.mark.skipif(not is_there("openvino"), reason="openvino is not installed")
def test_a_conversion_says_once_what_it_cost(folder, tmp_path):
    path = small_model("instances", precision="float32").save(tmp_path / "model.safetensors")
    end = (
        r" in \d+\.\d s, compiled in \d+\.\d s; "
        r"kept beside the model \(model\.safetensors\.engines/openvino\.safetensors\)"
    )

    def predicted(name, *options):
        arguments = ("predict", path, folder / "images", "-o", tmp_path / name, "--device", "cpu", "--json")
        status, out, words = ushape(*arguments, *options)
        assert status == 0, words
        values = json.loads(out)
        facts = values["engine"], values["precision"], values["converting_seconds"] > 0, values["compiling_seconds"] > 0
        return facts, [line for line in words.splitlines() if "convert" in line]

    facts, (line,) = predicted("one", "--engine", "openvino")
    assert re.fullmatch("converted to OpenVINO" + end, line)
    assert facts == ("openvino", "float32", True, True)
    assert predicted("two", "--engine", "openvino") == (("openvino", "float32", False, True), [])
    assert predicted("three") == (("openvino", "float32", False, True), [])
    assert predicted("four", "--engine", "torch") == (("torch", "float32", False, False), [])
    (tmp_path / "model.safetensors.engines" / "openvino.safetensors").unlink()
    words = ushape("evaluate", path, folder, "--engine", "openvino")[2]
    assert len(re.findall(f"^converted to OpenVINO{end}$", words, re.MULTILINE)) == 1


def test_an_engine_that_is_not_there_is_one_line(model_file, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    for command in (("predict", model_file, folder / "images", "-o", tmp_path / "o"), ("evaluate", model_file, folder)):
        line = fails(*command, "--engine", "openvino")
        assert line.endswith("found none; install it with: pip install openvino")
        assert "ushape quantise MODEL DATA" in fails(*command, "--engine", "int8")
    assert ushape("evaluate", model_file, folder, "--engine", "abacus")[0] == 2


@pytest.mark.parametrize("after, status", [(0.899, 0), (0.89, 1)])
def test_quantise_says_both_scores_and_its_verdict(model_file, folder, monkeypatch, after, status):
    asked = []

    def quantise(model, dataset, validation, bound):
        asked.append((dataset.name, validation and len(validation), bound))
        path = Path("there") if status == 0 else None
        return Quantised("AP@0.5:0.95", 0.9, after, bound, 7, 3, 2, path=path, note="one image: cut")

    monkeypatch.setattr(int8, "quantise", quantise)
    found, out, _ = ushape("quantise", model_file, folder, "--bound", 0.004, "--json")
    values = json.loads(out)
    assert (found, asked) == (status, [("cells", None, 0.004)])
    assert (values["tiles"], values["calibrated"], values["judged"]) == (7, 3, 2)
    assert (values["before"], values["after"], values["accepted"]) == (0.9, after, status == 0)
    assert values["path"] == ("there" if status == 0 else None)
    found, out, words = ushape("quantise", model_file, folder, "--bound", 0.004, "--val", folder)
    assert (found, asked[-1]) == (status, ("cells", 5, 0.004))
    told = f"AP@0.5:0.95 0.9000 in float, {after:.4f} in int8: falls by "
    assert out.startswith(f"calibrated with 7 tiles of 3 images, judged on 2 images; {told}")
    assert "  one image: cut\n" in words


def test_quantise_says_when_the_judge_was_learnt(folder, tmp_path, monkeypatch):
    data = open_dataset(folder, task="instances")
    facts = {"data fingerprint": data.fingerprint}
    path = small_model("instances", facts=facts).save(tmp_path / "m.safetensors")
    monkeypatch.setattr(int8, "quantise", lambda *given: Quantised("AP", 0.9, 0.9, 0.1, 7, 3, 2, path=path))
    assert "warning" not in ushape("quantise", path, folder)[2]
    _, out, words = ushape("quantise", path, folder, "--val", folder, "--json")
    assert "warning: cells: the model was trained on these images" in words
    assert json.loads(out)["warning"].startswith("cells: the model was trained on these images")
    # Without --val what was held out judges, unless nothing was.
    facts["validated on"] = "others"
    small_model("instances", facts=facts).save(path)
    _, out, words = ushape("quantise", path, folder, "--json")
    assert "warning: cells: the model was trained on all of these images, because it was validated on others" in words
    assert json.loads(out)["warning"].endswith("judge by other images, with --val")


def test_an_int8_copy_that_could_not_be_written_is_an_error(model_file, folder, monkeypatch):
    monkeypatch.setattr(int8, "quantise", lambda *given: Quantised("accuracy", 0.9, 0.9, 0.005, 7, 3, 2))
    status, printed, words = ushape("quantise", model_file, folder)
    assert (status, "kept" in printed) == (1, False)
    assert "expected to write the 8-bit copy beside the model, but that failed; check the rights" in words
    values = json.loads(ushape("quantise", model_file, folder, "--json")[1])
    assert (values["accepted"], values["kept"], values["path"]) == (True, False, None)


def test_existing_results_are_kept_unless_told(model_file, tmp_path):
    Image.fromarray(disc_image(0)[0][0]).save(tmp_path / "cell.png")
    assert ushape("predict", model_file, tmp_path / "cell.png", "-o", tmp_path / "out")[0] == 0
    assert "--overwrite" in fails("predict", model_file, tmp_path / "cell.png", "-o", tmp_path / "out")
    assert ushape("predict", model_file, tmp_path / "cell.png", "-o", tmp_path / "out", "--overwrite")[0] == 0


def test_an_image_is_never_replaced_by_its_labels(model_file, tmp_path):
    tifffile.imwrite(tmp_path / "cell.tif", disc_image(0)[0][0])
    before = (tmp_path / "cell.tif").read_bytes()
    line = fails("predict", model_file, tmp_path / "cell.tif", "-o", tmp_path, "--overwrite")
    assert f"found one that would replace {tmp_path / 'cell.tif'}; name another folder with -o" in line
    assert (tmp_path / "cell.tif").read_bytes() == before


def test_a_stack_gives_a_stack_of_labels(model_file, tmp_path):
    pages = np.stack([disc_image(i)[0][0] for i in range(3)])
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    status, _, words = ushape("predict", model_file, tmp_path / "stack.tif", "-o", tmp_path / "out")
    assert status == 0, words
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["stack.tif"]
    assert tifffile.imread(tmp_path / "out" / "stack.tif").shape == pages.shape


def test_model_files_of_another_kind_and_of_a_newer_format(model_file, tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    assert "notes.txt: expected a model file" in fails("info", tmp_path / "notes.txt")
    assert "found neither" in fails("evaluate", tmp_path / "none", "phantom:test")
    newer = rewritten(model_file, lambda settings: settings.update(format=7))
    assert "expected model format 2 or older, found 7; update ushape" in fails("predict", newer, "x.png", "-o", "out")


def test_a_wrong_setting_recipe_or_device(folder):
    assert "found 'network.width'" in fails("plan", folder, "--set", "network.width=3")
    assert "found no file" in fails("plan", folder, "--recipe", "best")
    assert "expected a device this machine has" in fails("train", folder, "--device", "abacus")


def test_score_says_what_is_missing(folder, tmp_path):
    (tmp_path / "estimates").mkdir()
    assert "found no cell0 (and 4 more missing)" in fails("score", folder / "masks", tmp_path / "estimates")


def test_an_unknown_command_is_bad_usage():
    assert ushape("segment")[0] == 2


def test_help_answers_without_torch():
    code = "import sys\nfrom ushape.cli import main\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert result.stdout.rstrip().endswith("False")


# What the masks mean.


def write_binary(folder, n=2):
    """images/ and masks/ of discs, the masks with 0 and 255."""
    write_folder(folder, n)
    for path in (folder / "masks").iterdir():
        tifffile.imwrite(path, 255 * (tifffile.imread(path) > 0).astype(np.uint8))
    return folder


def test_the_task_can_be_told(tmp_path):
    folder = write_binary(tmp_path / "binary", n=5)
    for task, kind in (("auto", "semantic"), ("semantic", "semantic"), ("instances", "distance")):
        status, out, words = ushape("plan", folder, "--task", task, *TINY, "--json")
        assert status == 0, words
        assert json.loads(out)["recipe"]["encoding"]["kind"] == kind
    assert "expected data for semantic, found masks that are always read for instances" in fails(
        "train", "phantom:train", "--task", "semantic", "--steps", 1
    )
    assert ushape("train", folder, "--task", "nonsense")[0] == 2


def test_training_and_validation_data_are_read_for_the_same_task(tmp_path, monkeypatch):
    folder, val = write_binary(tmp_path / "binary"), write_binary(tmp_path / "val")
    asked = replaced(raises(DataError("stop")), monkeypatch)
    fails("train", folder, "--val", val, "--task", "instances")
    [(dataset, options)] = asked
    assert (dataset.task, options["validation"].task) == ("instances", "instances")


def test_data_are_read_for_the_model_that_is_evaluated(model_file, tmp_path):
    status, out, words = ushape("evaluate", model_file, write_binary(tmp_path / "binary"), "--json")
    assert status == 0, words
    assert json.loads(out)["scores"]["n_reference"] == 8


def test_two_classes_are_the_same_whatever_their_names(tmp_path):
    model = small_model("semantic").save(tmp_path / "model.safetensors")
    status, out, words = ushape("evaluate", model, write_binary(tmp_path / "cells"), "--json")
    assert status == 0, words
    assert "Dice object" in json.loads(out)["scores"]


# Every warning is told once.


def test_a_warning_is_told_once(folder, model_file, tmp_path):
    tifffile.imwrite(folder / "masks" / "cell1.tif", np.ones((10, 12), np.uint8))
    val = write_folder(tmp_path / "val")
    tifffile.imwrite(val / "masks" / "cell4.tif", np.ones((10, 12), np.uint8))
    for command in (
        ["plan", folder, *TINY],
        ["train", folder, "--val", val, "-o", tmp_path / "run", "--steps", 1, *TINY],
        ["evaluate", model_file, folder],
    ):
        words = ushape(*command)[2]
        for path in (folder / "masks" / "cell1.tif", val / "masks" / "cell4.tif"):
            assert words.count(f"{path}: expected a mask of the image's size") == (
                path.is_relative_to(folder) or val in command
            ), words


# Mistakes are one line, and one object with --json.


def test_a_file_or_folder_that_cannot_be_used_is_one_line(folder, model_file, tmp_path):
    (tmp_path / "notes").write_text("")
    assert f"{tmp_path / 'notes'}: File exists; check the path, the permissions and the space left" in fails(
        "train", folder, "-o", tmp_path / "notes", "--steps", 1, *TINY
    )
    assert f"found the file {tmp_path / 'notes'}" in fails("predict", model_file, folder, "-o", tmp_path / "notes")
    assert f"{folder}: Is a directory; check" in fails("plan", folder, "--recipe", folder)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator:\n can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError("Unable to allocate 9 GiB"),
    ],
)
def test_too_little_memory_is_one_line(monkeypatch, error):
    replaced(raises(error), monkeypatch)
    assert "expected enough memory, found too little (" in fails("train", "phantom:train")


def test_an_error_is_one_json_object_too(folder, monkeypatch):
    for arguments in (["train", "nowhere/at/all"], ["plan", folder, "--recipe", folder]):
        status, out, words = ushape(*arguments, "--json")
        assert status == 1
        assert f"error: {json.loads(out)['error']}" == words.splitlines()[-1]
    assert json.loads(ushape("datasets", "get", "--json")[1])["error"].startswith("name the dataset")
    replaced(raises(KeyError("bug")), monkeypatch)
    result = CliRunner().invoke(app, ["train", "phantom:train", "--json"])
    assert isinstance(result.exception, KeyError)
    assert json.loads(result.stdout) == {"error": "KeyError: 'bug'"}


def test_an_interruption_is_one_json_object_too(monkeypatch):
    replaced(raises(KeyboardInterrupt()), monkeypatch)
    status, out, words = ushape("train", "phantom:train", "--json")
    assert (status, json.loads(out), words.splitlines()[-1]) == (130, {"error": "interrupted"}, "interrupted")
    replaced(lambda: SimpleNamespace(interrupted=True, folder=Path("runs/x")), monkeypatch)
    status, out, words = ushape("train", "phantom:train", "--json")
    assert status == 130
    assert json.loads(out)["error"] == words.splitlines()[-1]
    assert "everything is saved in runs/x" in words


def test_predicting_without_a_file_that_works_is_one_json_object(model_file, tmp_path):
    status, out, words = ushape("predict", model_file, "none.png", "-o", tmp_path / "out", "--json")
    assert status == 1
    assert json.loads(out)["written"] == []
    assert words.splitlines() == [f"error: {problem}" for problem in json.loads(out)["problems"]]


def test_wrong_options_of_a_prediction_are_one_error(folder, model_file, tmp_path):
    for command in (
        ["predict", model_file, folder / "images", "-o", tmp_path / "out"],
        ["evaluate", model_file, folder],
    ):
        assert "expected 1, 2, 4, 7 or 8 rotations, found 3" in fails(*command, "--rotations", 3)
        assert "expected a device this machine has" in fails(*command, "--device", "abacus")


def test_a_model_file_that_lacks_something_is_one_line(model_file):
    for part in ("facts", "encoding", "network"):
        path = rewritten(model_file, lambda settings, part=part: settings.pop(part))
        for command in (["info", path], ["predict", path, "x.png", "-o", "out"]):
            assert "model.safetensors: expected a complete model file, found one that lacks" in fails(*command)
        small_model("instances").save(model_file)


# Names of runs and datasets.


def test_the_demo_goes_to_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = replaced(raises(DataError("stop")), monkeypatch)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    fails("demo")
    fails("demo", "-o", "here")
    assert [options["output"] for _, options in asked] == [Path("runs/demo-2"), Path("here")]


def test_a_dataset_is_named_with_or_without_a_part(tmp_path, monkeypatch):
    (tmp_path / "isbi2012").mkdir()
    (tmp_path / "isbi2012" / "train-volume.tif").touch()
    monkeypatch.setenv("USHAPE_DATA", str(tmp_path))
    for name in ("isbi2012", "isbi2012:train"):
        for action in ("get", "path"):
            status, out, words = ushape("datasets", action, name)
            assert (status, out) == (0, f"{tmp_path / 'isbi2012'}\n"), words
        assert words == ""
        assert "non-commercial research; cite" in ushape("datasets", "get", name)[2]


def test_labels_hold_the_values_of_the_masks_that_were_trained_on(tmp_path):
    for index in range(4):
        image, mask = disc_image(index)
        classes = np.array([0, 128, 255], np.uint8)[np.digitize(mask, [1, 3])]
        for part, array in (("images", image[0]), ("masks", classes)):
            (tmp_path / "cells" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "cells" / part / f"{index}.png")
    assert ushape("train", tmp_path / "cells", "-o", tmp_path / "run", "--steps", 2, *TINY)[0] == 0
    status, _, words = ushape("predict", tmp_path / "run", tmp_path / "cells" / "images", "-o", tmp_path / "out")
    assert status == 0, words
    assert words.startswith("values in the label files: 0 background, 128 class 128, 255 class 255\n")
    values = {int(v) for path in (tmp_path / "out").glob("*.tif") for v in np.unique(tifffile.imread(path))}
    assert values <= {0, 128, 255}
    assert values - {0}
