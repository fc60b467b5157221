"""Pictures on request: which network, image and data they are of, and the files that are written."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ushape.cli import app
from ushape.data.images import read_image, write_image
from ushape.data.phantom import phantom_dataset, phantom_image
from ushape.errors import RecipeError
from ushape.model import Model, Preparation
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.picture import show
from ushape.picture.canvas import Bitmap, Text
from ushape.picture.plate import colour_map
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
    # The whole answer of the tile is 24 px; some of its middle lies where the model predicts the same.
    k = answer.shape[0] // 24
    inner = answer[::k, ::k][10:14, 10:14]
    found = [
        np.array_equal(expected[row : row + 4, column : column + 4], inner) for row in range(66) for column in range(86)
    ]
    assert any(found)
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
    result = CliRunner().invoke(app, ["show", "tiles"])
    assert result.exit_code == 2
    assert "expected ushape show tiles ... -o PICTURE, found no -o" in result.output
