"""The command line: one journey end to end, one line for every mistake, JSON where it is asked for."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from conftest import disc_image
from test_model import rewritten, small_model
from ushape.cli import app

TINY = ["--set", "network.channels=4", "--set", "network.depth=3", "--set", "patch=[32, 32]", "--device", "cpu"]


def ushape(*arguments):
    """(exit status, standard output, standard error) of a command."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def fails(*arguments):
    """The one line a failing command prints; no traceback, status 1."""
    status, _, words = ushape(*arguments)
    assert status == 1, words
    assert "Traceback" not in words
    errors = [line for line in words.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, words
    return errors[0]


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
    names = {path.name for path in (tmp_path / "out").iterdir()}
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
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.tif", "c.tif"}


def test_a_damaged_image_does_the_other_images(model_file, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "bad.png").write_bytes(b"\x89PNG nonsense")
    Image.fromarray(disc_image(0)[0][0]).save(images / "good.png")
    assert "bad.png" in fails("predict", model_file, images, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "good.tif").exists()


def test_existing_results_are_kept_unless_told(model_file, tmp_path):
    Image.fromarray(disc_image(0)[0][0]).save(tmp_path / "cell.png")
    assert ushape("predict", model_file, tmp_path / "cell.png", "-o", tmp_path / "out")[0] == 0
    assert "--overwrite" in fails("predict", model_file, tmp_path / "cell.png", "-o", tmp_path / "out")
    assert ushape("predict", model_file, tmp_path / "cell.png", "-o", tmp_path / "out", "--overwrite")[0] == 0


def test_an_image_is_never_replaced_by_its_labels(model_file, tmp_path):
    tifffile.imwrite(tmp_path / "cell.tif", disc_image(0)[0][0])
    before = (tmp_path / "cell.tif").read_bytes()
    line = fails("predict", model_file, tmp_path / "cell.tif", "-o", tmp_path, "--overwrite")
    assert "found the image's own" in line
    assert (tmp_path / "cell.tif").read_bytes() == before


def test_a_stack_gives_labels_for_each_page(model_file, tmp_path):
    pages = np.stack([disc_image(i)[0][0] for i in range(3)])
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    status, _, words = ushape("predict", model_file, tmp_path / "stack.tif", "-o", tmp_path / "out")
    assert status == 0, words
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"stack_{i}.tif" for i in range(3)}


def test_model_files_of_another_kind_and_of_a_newer_format(model_file, tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    assert "notes.txt: expected a model file" in fails("info", tmp_path / "notes.txt")
    assert "found neither" in fails("evaluate", tmp_path / "none", "phantom:test")
    newer = rewritten(model_file, lambda settings: settings.update(format=7))
    assert "expected model format 1 or older, found 7; update ushape" in fails("predict", newer, "x.png", "-o", "out")


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
