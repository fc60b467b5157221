"""What commands share: tables of scores, `check`, `show`, CSV of rows, intervals."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import disc_image
from test_cli import fails, ushape, write_folder
from test_model import small_model
from ushape.console import MOST_LINES, image_table, path_list, score_table
from ushape.data.catalog import open_dataset


def test_scores_stand_beside_their_intervals():
    text = score_table({"AP@0.5": 0.5, "n_images": 3}, {"AP@0.5": (0.25, 0.75)})
    assert text.splitlines() == ["AP@0.5    0.5000  (0.2500 to 0.7500)", "n_images  3"]


def test_a_long_table_of_images_says_how_many_are_left_out():
    rows = [{"name": f"image{i}", "AP@0.5": i / 100} for i in range(MOST_LINES + 7)]
    lines = image_table(rows).splitlines()
    assert len(lines) == MOST_LINES + 2
    assert lines[0].split() == ["image", "AP@0.5"]
    assert lines[-1] == "and 7 more; --csv FILE writes all of them"


def test_what_an_image_lacks_is_a_dash():
    assert image_table([{"name": "a", "SEG": 1.0}, {"name": "b"}]).splitlines()[2].split() == ["b", "-"]


def test_few_results_are_named_and_many_are_counted(tmp_path):
    paths = [tmp_path / f"{i}{end}" for i in range(20) for end in ("_overlay.png", "_probabilities.tif", ".nii.gz")]
    assert path_list(paths, tmp_path).splitlines() == list(map(str, paths))
    assert path_list([*paths, tmp_path / "objects.csv"], tmp_path) == (
        f"61 results in {tmp_path}: 20 *_overlay.png, 20 *_probabilities.tif, 20 *.nii.gz, objects.csv; --json names "
        "all of them"
    )
    assert path_list([], tmp_path) == ""


def test_predict_counts_many_results_and_json_names_them(tmp_path):
    model = small_model("instances").save(tmp_path / "m.safetensors")
    (tmp_path / "in").mkdir()
    for index in range(MOST_LINES + 1):
        Image.fromarray(disc_image(0)[0][0][:8, :9]).save(tmp_path / "in" / f"{index}.png")
    arguments = ("predict", model, tmp_path / "in", "--device", "cpu", "-o")
    status, out, words = ushape(*arguments, tmp_path / "out")
    assert (status, out) == (0, f"61 results in {tmp_path / 'out'}: 61 *.tif; --json names all of them\n"), words
    found = json.loads(ushape(*arguments, tmp_path / "again", "--json")[1])["written"]
    assert sorted(found) == sorted(str(tmp_path / "again" / f"{index}.tif") for index in range(MOST_LINES + 1))


@pytest.fixture
def scored(tmp_path):
    """Two folders of four masks each, the estimates one object short."""
    for side in ("reference", "estimate"):
        (tmp_path / side).mkdir()
        for index in range(4):
            mask = disc_image(index)[1].astype(np.uint8)
            mask[(mask == 1) & (side == "estimate")] = 0
            Image.fromarray(mask).save(tmp_path / side / f"{index}.png")
    return tmp_path


def test_images_without_a_pixel_to_score_are_told(scored):
    (scored / "reference" / "2.png").unlink()
    tifffile.imwrite(scored / "reference" / "2.tif", np.full_like(disc_image(2)[1], -1, np.int32))
    status, out, words = ushape("score", scored / "reference", scored / "estimate", "--json")
    assert (status, json.loads(out)["unscorable"]) == (0, ["2"])
    assert words.startswith("warning: 1 image has no pixel to score, because the reference ignores all of them; it is")


def test_score_gives_rows_intervals_json_and_csv(scored):
    status, out, words = ushape("score", scored / "reference", scored / "estimate", "--json", "--csv", scored / "x.csv")
    assert status == 0, words
    found = json.loads(out)
    assert found["scores"]["AP@0.5"] == pytest.approx(0.75)
    # All images alike: the draws do not know how uncertain the score is.
    assert "AP@0.5" not in found["intervals"]
    assert [row["name"] for row in found["images"]] == ["0", "1", "2", "3"]
    with (scored / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["recall@0.5"]) for row in rows] == [0.75] * 4


def test_evaluate_writes_its_rows_too(tmp_path):
    model = small_model("instances").save(tmp_path / "model.safetensors")
    data = write_folder(tmp_path / "cells", n=3)
    status, out, words = ushape("evaluate", model, data, "--csv", tmp_path / "rows.csv")
    assert status == 0, words
    assert "drawn anew (bootstrap)" in out
    assert (tmp_path / "rows.csv").read_text().count("\n") == 4


def test_check_tells_what_it_found_and_leaves_with_1_for_an_error(tmp_path):
    data = write_folder(tmp_path / "cells")
    status, out, words = ushape("check", data)
    assert (status, words) == (0, "")
    assert out.splitlines()[0] == "5 images, 5 annotated, for instances of background, object"
    assert out.splitlines()[-1].startswith("0 errors, ")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(data / "masks" / "cell0.tif")
    status, out, _ = ushape("check", data, "--json")
    found = json.loads(out)
    odd = [finding for finding in found["findings"] if finding["severity"] != "note"]
    assert (status, found["error"], found["warning"]) == (0, 0, 1)
    assert odd[0]["where"].endswith("cell0.tif")
    assert odd[0]["sentence"] == "expected a mask of the image's size (64, 64), found (5, 5)"
    for path in (data / "masks").iterdir():
        tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    status, out, _ = ushape("check", data)
    assert status == 1
    assert "1 error, " in out.splitlines()[-1]


def test_check_drafts_a_description_once_that_reads_the_same(tmp_path):
    data = write_folder(tmp_path / "cells")
    status, out, words = ushape("check", data, "--write")
    assert status == 0, words
    assert out.splitlines()[-1] == f"written  {data / 'dataset.toml'}"
    assert 'task = "instances"' in (data / "dataset.toml").read_text()
    assert "5 images, 5 annotated, for instances of background, object" in ushape("check", data)[1]
    assert "found one; edit it, or remove it first" in fails("check", data, "--write")


def test_show_describes_and_draws_the_network(tmp_path):
    status, out, words = ushape("show", "architecture", "--depth", "3", "--channels", "4", "-o", tmp_path / "u.svg")
    assert status == 0, words
    assert out.startswith("U-Net of depth 3 with 4 channels")
    assert (tmp_path / "u.svg").read_text().startswith("<svg")
    assert ushape("show", "skip", "--depth", "3", "--channels", "4", "-o", tmp_path / "u.png")[0] == 0
    assert Image.open(tmp_path / "u.png").width > 500


def test_show_takes_a_model_or_settings_and_a_picture_it_can_write(tmp_path):
    model = small_model().save(tmp_path / "model.safetensors")
    found = json.loads(ushape("show", "architecture", model, "--json")[1])
    assert found["parameters"] == sum(p.numel() for p in small_model().network.parameters())
    assert fails("show", "architecture", model, "--depth", "3").endswith("leave one of them out")
    assert fails("show", "architecture", "-o", tmp_path / "u.gif").endswith("u.gif; rename it")
    assert fails("show", "architecture", "--size", "573").endswith("found 573; take 572 or 588")


def test_show_looks_inside_a_model_at_an_image(tmp_path):
    model = small_model("instances").save(tmp_path / "model.safetensors")
    Image.fromarray(disc_image(0)[0][0]).save(tmp_path / "cell.png")
    for what in ("features", "receptive", "saliency", "skips"):
        status, out, words = ushape(
            "show", what, model, tmp_path / "cell.png", "-o", tmp_path / f"{what}.png", "--at", "20,30"
        )
        assert status == 0, words
        assert Image.open(tmp_path / f"{what}.png").width > 100
        assert len(out.splitlines()[0]) > 40
    assert ushape("show", "features", model)[0] == 2
    assert ushape("show", "receptive", model, tmp_path / "cell.png", "-o", "x.png", "--at", "middle")[0] == 2


def test_show_draws_the_borders_of_a_data_set(tmp_path):
    data = write_folder(tmp_path / "cells")
    assert ushape("show", "borders", data, "-o", tmp_path / "b.png")[0] == 0
    assert Image.open(tmp_path / "b.png").width > 100
    assert "found data for semantic" in fails("show", "borders", semantic(tmp_path), "-o", "b.png")


def semantic(folder):
    """Three images with masks of 0 and 255."""
    for name in ("images", "masks"):
        (folder / "two" / name).mkdir(parents=True)
    for index in range(3):
        image, mask = disc_image(index)
        Image.fromarray(image[0]).save(folder / "two" / "images" / f"{index}.png")
        Image.fromarray(((mask > 0) * 255).astype(np.uint8)).save(folder / "two" / "masks" / f"{index}.png")
    return folder / "two"


def test_scores_of_images_that_were_trained_on_are_told_so(tmp_path):
    data = write_folder(tmp_path / "cells", n=3)
    model = small_model("instances")
    model.facts["data fingerprint"] = open_dataset(str(data)).fingerprint
    model.save(tmp_path / "model.safetensors")
    status, out, words = ushape("evaluate", tmp_path / "model.safetensors", data, "--json")
    assert status == 0
    sentence = "cells: the model was trained on these images, or they helped to choose it"
    assert f"warning: {sentence}" in words
    assert json.loads(out)["warning"].startswith(sentence)
    other = write_folder(tmp_path / "others", n=3, seed=9)
    assert "warning" not in json.loads(ushape("evaluate", tmp_path / "model.safetensors", other, "--json")[1])


def test_classes_that_are_scored_as_objects_are_told(tmp_path):
    mask = np.tile(np.array([[0, 1, 0, 2]], np.uint8).repeat(4, 0), (4, 4))
    for side in ("reference", "estimate"):
        (tmp_path / side).mkdir()
        for index in range(3):
            Image.fromarray(np.roll(mask, index, axis=1)).save(tmp_path / side / f"{index}.png")
    words = ushape("score", tmp_path / "reference", tmp_path / "estimate")[2]
    assert "warning: the reference looks like classes of pixels" in words
    assert "add --classes" in words
    assert "looks like classes" not in ushape("score", tmp_path / "reference", tmp_path / "estimate", "--classes")[2]
