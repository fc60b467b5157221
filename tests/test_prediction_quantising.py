"""What is shown to the quantiser, what its result is worth, and that 8 bits stay near."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from agreement import agreement
from test_prediction_choice import CPU, noise, segmenter
from ushape.errors import RecipeError
from ushape.geometry import Geometry, tiles
from ushape.prediction.choice import open_engine
from ushape.prediction.conversions import Shelf, key_of
from ushape.prediction.engines import TorchEngine
from ushape.prediction.openvino_engine import convert_to_openvino
from ushape.prediction.packages import is_there
from ushape.prediction.quantising import Quantised, need_quantiser, quantise_graph, spread_tiles
from ushape.prediction.tiled import read_tile

RESULT = Quantised("mean Dice", 0.91, 0.907, 0.005, 40, 5, 1)


def test_the_verdict_by_the_bound():
    assert RESULT.drop == pytest.approx(0.003)
    assert RESULT.accepted
    assert not replace(RESULT, bound=0.001).accepted
    assert not replace(RESULT, after=float("nan")).accepted
    assert replace(RESULT, after=0.95, bound=0.001).accepted


def test_the_verdict_in_words():
    assert str(RESULT) == (
        "calibrated with 40 tiles of 5 images, judged on 1 image; mean Dice 0.9100 in float, 0.9070 in int8: falls by "
        "0.0030, less than the bound of 0.005"
    )
    assert str(replace(RESULT, bound=0.001)).endswith(
        "falls by 0.0030, not less than the bound of 0.001; not kept; raise --bound, or go on in float"
    )


def test_tiles_are_those_of_prediction_spread_over_the_image():
    geometry = Geometry(3, "same")
    image = noise(1, 200, 90)
    cut = [read_tile(image, tile) for tile in tiles(geometry, (200, 90), 64)]
    assert len(cut) > 6
    chosen = list(spread_tiles(image, geometry, 64, 3))
    for tile, place in zip(chosen, (0, round((len(cut) - 1) / 2), len(cut) - 1), strict=True):
        np.testing.assert_array_equal(tile, cut[place])
    assert len(list(spread_tiles(image, geometry, 64, 1000))) == len(cut)


def test_a_missing_quantiser_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", object())
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(
        RecipeError,
        match=r"^expected the package nncf to quantise to int8, found none; install it with: pip install 'ushape\[exp",
    ):
        need_quantiser()


@pytest.mark.skipif(
    not (is_there("nncf") and is_there("openvino")), reason="nncf is not installed: pip install 'ushape[export]'"
)
def test_eight_bits_stay_near(capfd):
    network, n, _ = segmenter("padded, batch norm, a distance")
    shown = [noise(3, 64, 64, seed=seed) for seed in range(8)]
    key = key_of(network.settings, network.state_dict(), n)
    converted = convert_to_openvino(network, n, key)
    shelf = Shelf()
    capfd.readouterr()
    shelf.write("int8", quantise_graph(converted, shown, key))
    assert capfd.readouterr().out == ""
    found = shelf.read("int8")
    assert b"FakeQuantize" in found.parts["xml"]
    # Weights of 8 bits instead of 32.
    assert len(found.parts["bin"]) < 0.5 * len(converted.parts["bin"])
    assert found.facts["nncf"]
    run = open_engine("int8", network, n, key, shelf, torch.float32)
    near = agreement(TorchEngine(network, n, CPU, torch.float32), run, [noise(1, 3, 64, 64, seed=50)], n)
    assert 0 < near.largest < 0.25
    assert near.changed < 0.1


@pytest.mark.skipif(
    not (is_there("nncf") and is_there("openvino")), reason="nncf is not installed: pip install 'ushape[export]'"
)
def test_nncf_reports_its_use_to_nobody():
    """In a process of its own: among tests it would be silent by itself."""
    code = (
        "import sys\nfrom ushape.prediction.quantising import need_quantiser\nneed_quantiser()\n"
        "from nncf.telemetry import wrapper\n"
        "print('pytest' in sys.modules, sys.modules['openvino_telemetry'], type(wrapper.telemetry).__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "False None MagicMock"
