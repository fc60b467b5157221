"""Pictures on request: which network, image and data they are of, and the files that are written."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from conftest import disc_dataset
from ushape.cli import app
from ushape.data.images import read_image, write_image
from ushape.data.phantom import phantom_dataset, phantom_image
from ushape.errors import RecipeError
from ushape.geometry import tiles
from ushape.model import Model, Preparation
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.picture import show
from ushape.picture.canvas import Bitmap, Text
from ushape.picture.plate import colour_map
from ushape.picture.tiles import tile_at
from ushape.prediction.tiled import predict_tiled
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding


def words(drawing) -> str:
    return " ".join(shape.words for shape in drawing.shapes if isinstance(shape, Text))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Model:
    torch.manual_seed(0)
    network = UNet(channels=4, depth=2, padding="same").eval()
    encoding = Encoding("semantic", n_classes=2)
    model = Model(network, Preparation(), "semantic", ("no", "yes"), encoding, Decision(), precision="float32")
    model.device, model.tile_size = "cpu", 40
    model.facts["path"] = str(tmp_path_factory.mktemp("model") / "m.safetensors")
    model.save(model.facts["path"])
    return model


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "cells.png"
    write_image(path, phantom_image(0, (70, 90))[0])
    return path


def test_the_papers_network_is_shown_on_a_simulated_image(monkeypatch):
    monkeypatch.setattr(show, "SIMULATED", (300, 300))
    text = words(show.tiles_drawing())
    assert "The overlap-tile of a U-Net of depth 5 without padding" in text
    assert "One tile of 492×492 px." in text
    text = words(show.tiles_drawing(depth=3, padding="same", tile_size=100))
    assert "of depth 3 trained with padding" in text
    assert "36 tiles of 92×92 px" in text
    text = words(show.tiles_drawing(depth=3, padding="same", norm="instance", tile_size=100))
    assert "of depth 3 with padding" in text
    assert "36 tiles of 96×96 px" in text


def test_an_image_alone_is_tiled_for_the_papers_network(picture):
    text = words(show.tiles_drawing(str(picture), tile_size=236))
    assert "the tile writes" in text
    assert "the image stands for the answer" in text


def test_a_model_answers_as_it_predicts(segmenter, picture):
    drawing = show.tiles_drawing(segmenter.facts["path"], picture, at=(35, 45))
    prepared, geometry = segmenter.preparation(read_image(picture)), segmenter.tile_geometry
    maps = predict_tiled(segmenter.runner(), prepared, geometry, 40)
    answer = [shape for shape in drawing.shapes if isinstance(shape, Bitmap)][3].picture
    expected = colour_map(1 - maps[0], 1.0, "viridis")
    # The whole answer of the tile is 24 px; what is not written is hatched.
    k = answer.shape[0] // 24
    tile = tile_at(tiles(geometry, prepared.shape[1:], 40), (35, 45))
    assert len(np.unique(expected[tile.target].reshape(-1, 3), axis=0)) > 5
    np.testing.assert_array_equal(answer[::k, ::k][tile.source], expected[tile.target])
    assert "surely no background" in words(drawing)
    assert "tiles of 40×40 px" in words(drawing)


def test_a_model_alone_is_shown_without_its_answer(segmenter, monkeypatch):
    monkeypatch.setattr(show, "SIMULATED", (60, 60))
    assert "the image stands for the answer" in words(show.tiles_drawing(segmenter.facts["path"]))


def test_networks_that_have_no_tiles(tmp_path):
    torch.manual_seed(0)
    network = Classifier(1, 3, channels=4, depth=2)
    encoding = Encoding("label", n_classes=3)
    model = Model(network, Preparation(size=(8, 8)), "classification", ("a", "b", "c"), encoding, Decision())
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(RecipeError, match=r"^expected a network that answers for every pixel, found a classifier"):
        show.tiles_drawing(str(tmp_path))
    with pytest.raises(RecipeError, match=r"^expected a volume to cut into tiles for a network of volumes, found none"):
        show.tiles_drawing(dims=3, depth=2)
    with pytest.raises(RecipeError, match=r"^expected a model or settings of a network, found .* and depth; leave one"):
        show.tiles_drawing(str(tmp_path), depth=2)


def test_the_augmentation_of_a_recipe():
    drawing = show.augmentation_drawing(phantom_dataset(4, size=(64, 64)), settings=["augmentation.elastic=3"])
    assert "What training sees: phantom, recipe auto" in words(drawing)
    assert "displacements of 3 px" in drawing.description
    # A fourth part is held out.
    assert "draws from these 3 images" in drawing.description
    paper = show.augmentation_drawing(phantom_dataset(3, size=(64, 64)), recipe="paper", settings=["patch=[204, 204]"])
    assert "zoomed" not in paper.description
    assert "A patch of 204×204 px" in words(paper)


def test_objects_keep_their_own_outlines():
    """Not what the network is asked, where touching objects are one."""
    drawing = show.augmentation_drawing(phantom_dataset(2, size=(64, 64)), settings=["augmentation.warped=0"])
    colours = {shape.line for shape in drawing.shapes if getattr(shape, "line_width", 0) == 1.3}
    assert len(colours) > 2


def test_objects_with_large_ids_have_outlines():
    """Not one entry for each id below; and as floats ids that differ by one would be equal."""
    data = disc_dataset(3)
    samples = tuple(replace(s, mask=partial(large_ids, s.mask)) for s in data.samples)
    drawing = show.augmentation_drawing(replace(data, samples=samples))
    usual = show.augmentation_drawing(data)
    assert len(drawing.shapes) == len(usual.shapes)


def test_what_is_not_annotated_is_hatched(monkeypatch):
    """Of objects too, whose ids are numbered anew."""
    seen = []
    monkeypatch.setattr("ushape.picture.augmentation.hatch", lambda picture, where: seen.append(where) or picture)
    data = disc_dataset(3)
    samples = tuple(replace(s, mask=partial(half_ignored, s.mask)) for s in data.samples)
    show.augmentation_drawing(replace(data, samples=samples), settings=["augmentation.warped=0"])
    assert 0.2 < np.mean([where.mean() for where in seen]) < 0.8
    seen.clear()
    show.augmentation_drawing(data, settings=["augmentation.warped=0"])
    assert not any(where.any() for where in seen)


def half_ignored(mask):
    """The same objects on an image whose lower half nobody looked at."""
    found = mask()
    found[found.shape[0] // 2 :] = -1
    return found


def large_ids(mask):
    """The same objects under ids that a program draws from all there are."""
    ids = mask()
    return np.where(ids > 0, 2_000_000_000 + ids, ids).astype(np.int32)


def test_borders_are_drawn_of_what_is_asked_to_be_objects(tmp_path):
    for name, values in (("a", (1, 2)), ("b", (1, 2)), ("c", (1, 2)), ("d", (2, 1)), ("e", (1, 2)), ("f", (1, 2))):
        mask = np.zeros((60, 60), np.uint8)
        mask[5:25, 5:25], mask[5:25, 26:50] = values
        for folder, array in (("images", mask * 60), ("masks", mask)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "data" / folder / f"{name}.png")
    arguments = ["show", "borders", str(tmp_path / "data"), "-o", str(tmp_path / "b.png")]
    assert CliRunner().invoke(app, arguments).exit_code == 1
    result = CliRunner().invoke(app, [*arguments, "--task", "instances"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b.png").is_file()


@pytest.mark.parametrize("what", ["borders", "augmentation"])
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_no_picture_replaces_an_image_or_a_mask(tmp_path, what, folder):
    pixels = np.zeros((40, 40), np.uint8)
    pixels[5:15, 5:15], pixels[20:35, 20:35] = 1, 2
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for name in "ab":
            Image.fromarray(pixels).save(tmp_path / part / f"{name}.png")
    there = tmp_path / folder / "b.png"
    before = there.read_bytes()
    result = CliRunner().invoke(app, ["show", what, str(tmp_path), "--task", "instances", "-o", str(there)])
    assert result.exit_code == 1
    assert "expected a picture that replaces no input" in " ".join(result.stderr.split())
    assert there.read_bytes() == before


def test_a_classifier_is_shown_at_the_size_of_its_images(tmp_path):
    torch.manual_seed(0)
    network = Classifier(1, 3, channels=4, depth=3, scale=2)
    preparation, encoding = Preparation(size=(28, 28)), Encoding("label", n_classes=3)
    model = Model(network, preparation, "classification", ("a", "b", "c"), encoding, Decision())
    path = str(tmp_path / "m.safetensors")
    model.save(path)
    assert show.suiting_size(*show.chosen_network(path)) == (28, 28)
    assert show.suiting_size(UNet(), None) == (572, 572)
    result = CliRunner().invoke(app, ["show", "architecture", path, "-o", str(tmp_path / "a.svg")])
    assert "image 1 x 28 x 28" in result.stdout
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "pixels become channels" in drawn
    assert "and back" not in drawn


def test_a_long_and_thin_image_has_feature_maps(segmenter, tmp_path):
    segmenter.save(tmp_path / "m.safetensors")
    line = np.random.default_rng(0).integers(0, 255, (4, 2000)).astype(np.uint8)
    Image.fromarray(line).save(tmp_path / "line.png")
    plate = show.inside_plate("features", str(tmp_path / "m.safetensors"), tmp_path / "line.png")
    assert plate.picture.shape[1] > 100


def test_a_drawing_is_written_as_it_is_called(tmp_path):
    drawing = show.tiles_drawing(depth=1, tile_size=90)
    show.write_drawing(tmp_path / "new" / "a.svg", drawing)
    assert (tmp_path / "new" / "a.svg").read_text(encoding="utf-8").startswith("<svg")
    show.write_drawing(tmp_path / "a.PNG", drawing)
    assert read_image(tmp_path / "a.PNG").shape[2] == round(1.5 * drawing.width)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.PNG", "a.svg"]
    with pytest.raises(RecipeError, match=r"^expected a picture called .svg or .png, found a.pdf; rename it$"):
        show.write_drawing(show.Path("a.pdf"), drawing)


def test_the_commands(tmp_path, picture):
    path = tmp_path / "t.svg"
    arguments = [
        "show",
        "tiles",
        str(picture),
        "--depth",
        "2",
        "--size",
        "48",
        "--at",
        "60,80",
        "-o",
        str(path),
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["picture"] == str(path)
    assert "a U-Net of depth 2 without padding" in values["caption"]
    assert "<image" in path.read_text(encoding="utf-8")
    path = tmp_path / "a.png"
    arguments = ["show", "augmentation", "digits:train", "--set", "augmentation.elastic=0.5", "-o", str(path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "displacements of 0.5 px" in result.stdout
    assert path.is_file()
    result = CliRunner().invoke(
        app, ["show", "tiles", str(picture), "--depth", "2", "--size", "48", "-o", str(picture)]
    )
    assert result.exit_code == 1
    assert f"expected a picture that replaces no input, found {picture}" in " ".join(result.stderr.split())
    result = CliRunner().invoke(app, ["show", "tiles"])
    assert result.exit_code == 2
    assert "expected ushape show tiles ... -o PICTURE, found no -o" in result.output
