"""Engines: which is chosen, that they agree with PyTorch, and that a conversion is made once."""

import copy
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from agreement import agreement
from ushape.errors import RecipeError, SizeError
from ushape.geometry import Geometry
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet
from ushape.prediction import choice, openvino_engine
from ushape.prediction.choice import Engines, check_engine, key_by, open_engine
from ushape.prediction.conversions import Conversion, Shelf, key_of
from ushape.prediction.engines import LabelEngine, TorchEngine
from ushape.prediction.openvino_engine import MOST_SIZES, OpenVinoRunner, convert_to_openvino, openvino_core
from ushape.prediction.packages import is_there
from ushape.prediction.tiled import predict_tiled, predict_whole

CPU = torch.device("cpu")
WITH_OPENVINO = pytest.mark.skipif(not is_there("openvino"), reason="openvino is not installed")
WITH_ONNX = pytest.mark.skipif(
    not (is_there("onnx") and is_there("onnxruntime")), reason="onnx and onnxruntime are not installed"
)
ENGINES = [pytest.param("openvino", marks=WITH_OPENVINO), pytest.param("onnxruntime", marks=WITH_ONNX)]

# name: (network, channels of classes, sizes of tiles)
SEGMENTERS = {
    "the paper's, smaller": ({"channels": 8, "depth": 3}, 2, [(44, 60), (52, 44)]),
    "padded, batch norm, a distance": (
        {"channels": 8, "depth": 4, "padding": "same", "norm": "batch", "n_classes": 4, "in_channels": 3},
        3,
        [(32, 48), (40, 40)],
    ),
    "working scale": ({"channels": 8, "depth": 3, "padding": "same", "norm": "batch", "scale": 2}, 2, [(32, 48)]),
    "working scale, valid": ({"channels": 4, "depth": 2, "scale": 2}, 2, [(40, 48)]),
    "group norm": ({"channels": 16, "depth": 2, "padding": "same", "norm": "group"}, 2, [(24, 16)]),
    "instance norm": ({"channels": 4, "depth": 2, "padding": "same", "norm": "instance"}, 2, [(24, 16), (16, 16)]),
    "volumes": ({"channels": 4, "depth": 2, "padding": "same", "norm": "batch", "dims": 3}, 2, [(8, 12, 10)]),
    "volumes, valid": ({"channels": 4, "depth": 2, "dims": 3}, 2, [(20, 20, 24)]),
}


def segmenter(name):
    settings, n_class_channels, sizes = SEGMENTERS[name]
    torch.manual_seed(0)
    network = UNet(**{"dropout": 0.0} | settings)
    # Statistics as after training, not those of a network that has seen nothing.
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return network.eval(), n_class_channels, sizes


def opened(engine, network, n, shelf=None, dtype=torch.float32):
    key = key_of(network.settings, network.state_dict(), n)
    return open_engine(engine, network, n, key, shelf or Shelf(), dtype)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Which engine.


def test_wrong_engines_are_told():
    with pytest.raises(
        RecipeError,
        match=r"^expected an engine out of auto, torch, openvino, int8, onnxruntime, found 'abacus'; choose one$",
    ):
        check_engine("abacus", "auto")
    with pytest.raises(
        RecipeError,
        match=r"^expected the device cpu for the engine openvino, found 'cuda:1'; leave the device at auto, or choose",
    ):
        check_engine("openvino", "cuda:1")
    check_engine("torch", "cuda")
    check_engine("int8", "auto")


@pytest.mark.parametrize(
    "engine, package, install",
    [("openvino", "openvino", "openvino"), ("onnxruntime", "onnx", r"'ushape\[export\]'")],
)
def test_a_missing_package_is_one_sentence(engine, package, install, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    sentence = (
        rf"^expected the package {package} for --engine {engine}.*, found none; "
        rf"install it with: pip install {install}$"
    )
    network, n, _ = segmenter("volumes")
    with pytest.raises(RecipeError, match=sentence):
        opened(engine, network, n)


@WITH_ONNX
def test_the_package_that_converts_is_wanted_only_where_something_is_converted(monkeypatch):
    network, n, _ = segmenter("volumes")
    engines = Engines()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(RecipeError, match=r"^expected the package onnx for --engine onnxruntime, found none"):
        engines.check("onnxruntime", network, n, torch.float32)
    key = key_of(network.settings, network.state_dict(), n)
    engines.shelf.write("onnxruntime", Conversion(key_by("onnxruntime", key), {}))
    engines.check("onnxruntime", network, n, torch.float32)
    engines.shelf.write("onnxruntime", Conversion(key_by("onnxruntime", "another"), {}))
    with pytest.raises(RecipeError, match=r"^expected the package onnx for --engine onnxruntime, found none"):
        engines.check("onnxruntime", network, n, torch.float32)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RecipeError, match=r"^expected the package onnxruntime for --engine onnxruntime, found none"):
        engines.check("onnxruntime", network, n, torch.float32)


def test_int8_wants_a_network_that_was_quantised(tmp_path):
    from test_prediction_conversions import CONVERSION

    network, n, _ = segmenter("volumes")
    shelf = Shelf(tmp_path)
    end = r"; make it with: ushape quantise MODEL DATA$"
    with pytest.raises(RecipeError, match="^expected a network quantised to int8 beside the model, found none" + end):
        opened("int8", network, n, shelf)
    path = shelf.write("int8", CONVERSION)
    with pytest.raises(RecipeError, match="found one of other weights or by an older version" + end):
        opened("int8", network, n, shelf)
    path.write_bytes(b"")
    with pytest.raises(RecipeError, match="found a damaged one" + end):
        opened("int8", network, n, shelf)


# Agreement with PyTorch.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SEGMENTERS)
def test_an_engine_agrees_with_torch_in_float32(engine, name):
    network, n, sizes = segmenter(name)
    tiles = [noise(batch, network.in_channels, *size) for size in sizes for batch in (1, 3)]
    found = agreement(TorchEngine(network, n, CPU, torch.float32), opened(engine, network, n), tiles, n)
    assert found.largest < 1e-5
    assert found.changed < 1e-3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "settings",
    [
        {"head": "bottom"},
        {"head": "decoder", "scale": 2},
        {"head": "bottom", "dims": 3, "norm": "none"},
    ],
)
def test_an_engine_agrees_with_torch_on_whole_images_of_several_sizes(engine, settings):
    torch.manual_seed(0)
    network = Classifier(**{"in_channels": 2, "n_classes": 5, "channels": 4, "depth": 3} | settings).eval()
    # 17 is no legal size: what is missing is padded with zeros, which the average over the image counts.
    sizes = [(16, 24), (17, 24), (16, 24), (8, 8)]
    images = [noise(2, *(size[0],) * (network.dims - 2), *size, seed=i) for i, size in enumerate(sizes)]
    exact = LabelEngine(TorchEngine(network, 5, CPU, torch.float32), 5)(images)
    np.testing.assert_allclose(LabelEngine(opened(engine, network, 5), 5)(images), exact, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_padded_network_takes_any_size(engine):
    network, n, _ = segmenter("padded, batch norm, a distance")
    tiles = noise(2, 3, 19, 33)
    exact = TorchEngine(network, n, CPU, torch.float32)(tiles)
    np.testing.assert_allclose(opened(engine, network, n)(tiles), exact, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_cannot_take_is_told(engine):
    network, n, _ = segmenter("the paper's, smaller")
    run = opened(engine, network, n)
    with pytest.raises(RecipeError, match=r"^expected float32 images for this engine, found float64; convert them, or"):
        run(noise(1, 1, 44, 44).astype(np.float64))
    with pytest.raises(SizeError, match=r"^expected a size of 44, 48, 52, .* found 45; take 44 or 48"):
        run(noise(1, 1, 44, 45))
    with pytest.raises(SizeError, match=r"^expected a tensor \(B, C, H, W\) with C = 1, found shape \(1, 2, 44, 44\)"):
        run(noise(1, 2, 44, 44))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["the paper's, smaller", "padded, batch norm, a distance", "working scale"])
def test_tiled_equals_whole_under_another_engine(engine, name):
    network, n, _ = segmenter(name)
    image, geometry = noise(network.in_channels, 90, 71), network.geometry
    assert isinstance(geometry, Geometry)
    run = opened(engine, network, n)
    whole = predict_whole(run, image, geometry)
    tiled = predict_tiled(run, image, geometry, geometry.smallest_tile + geometry.stride, batch_size=2)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    exact = predict_whole(TorchEngine(network, n, CPU, torch.float32), image, geometry)
    np.testing.assert_allclose(tiled, exact, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_turned_view_is_taken_as_it_is(engine):
    network, n, _ = segmenter("the paper's, smaller")
    run, tiles = opened(engine, network, n), noise(1, 1, 44, 60)
    np.testing.assert_array_equal(run(np.rot90(tiles, axes=(2, 3))), run(np.rot90(tiles, axes=(2, 3)).copy()))


@WITH_OPENVINO
def test_more_sizes_than_are_compiled_for_are_right_too():
    network, n, _ = segmenter("padded, batch norm, a distance")
    run, exact = opened("openvino", network, n), TorchEngine(network, n, CPU, torch.float32)
    for extra in range(MOST_SIZES + 3):
        tiles = noise(1, 3, 16 + 8 * extra, 24)
        np.testing.assert_allclose(run(tiles), exact(tiles), atol=1e-5)
    assert len(run.run.requests) == MOST_SIZES + 1
    assert () in run.run.requests


@WITH_OPENVINO
def test_an_answer_is_not_overwritten_by_the_next():
    network, n, _ = segmenter("the paper's, smaller")
    run = opened("openvino", network, n)
    first = run(noise(1, 1, 44, 44))
    before = first.copy()
    run(noise(1, 1, 44, 44, seed=1))
    np.testing.assert_array_equal(first, before)


@WITH_OPENVINO
@pytest.mark.parametrize("dtype, hint", [(torch.float32, "f32"), (torch.bfloat16, "bf16")])
def test_precision_and_threads_are_said_to_openvino(dtype, hint):
    network, n, _ = segmenter("the paper's, smaller")
    runner = OpenVinoRunner(convert_to_openvino(network, n, "").parts, dtype, threads=1)
    compiled = runner.request((1, 1, 44, 44)).get_compiled_model()
    # Where the processor has no bfloat16, OpenVINO takes float32 whatever it is told.
    has = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == (hint if has else "f32")
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("NUM_STREAMS") == 1


@WITH_OPENVINO
def test_half_the_mantissa_changes_few_labels():
    network, n, _ = segmenter("padded, batch norm, a distance")
    tiles = [noise(1, 3, 64, 64, seed=seed) for seed in range(3)]
    fast = opened("openvino", network, n, dtype=torch.bfloat16)
    found = agreement(TorchEngine(network, n, CPU, torch.float32), fast, tiles, n)
    assert found.largest < 0.05
    assert found.changed < 0.02
    # Probabilities are computed in float32 from logits in bfloat16, as by PyTorch.
    np.testing.assert_allclose(fast(tiles[0])[:, :n].sum(axis=1), 1, atol=1e-3)


# What is converted once.


@pytest.mark.parametrize("engine", ENGINES)
def test_a_conversion_is_made_once_for_the_same_weights(engine, tmp_path, monkeypatch):
    made = []
    for name in ("convert_to_openvino", "convert_to_onnx"):
        convert = getattr(choice, name)
        monkeypatch.setattr(choice, name, lambda *given, convert=convert: made.append(1) or convert(*given))
    network, n, sizes = segmenter("the paper's, smaller")
    tiles, shelf = noise(1, 1, *sizes[0]), Shelf(tmp_path)
    first = opened(engine, network, n, shelf)(tiles)
    np.testing.assert_array_equal(opened(engine, network, n, Shelf(tmp_path))(tiles), first)
    assert len(made) == 1
    # A damaged one is made again, and so is one of other weights.
    path = shelf.path(engine)
    path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(opened(engine, network, n, shelf)(tiles), first)
    assert len(made) == 2
    with torch.no_grad():
        network.head.bias.add_(torch.tensor([1.0, 0.0]))
    assert (opened(engine, network, n, shelf)(tiles)[:, 0] > first[:, 0]).all()
    assert len(made) == 3
    assert [path.name for path in tmp_path.iterdir()] == [f"{engine}.safetensors"]


@pytest.mark.parametrize("engine", ENGINES)
def test_another_version_of_the_engine_makes_another_conversion(engine, tmp_path, monkeypatch):
    network, n, _ = segmenter("the paper's, smaller")
    opened(engine, network, n, Shelf(tmp_path))
    before = Shelf(tmp_path).facts(engine)[0]
    monkeypatch.setattr(choice, "version_of", lambda package: "1.0")
    monkeypatch.setattr(torch, "__version__", "1.0")
    opened(engine, network, n, Shelf(tmp_path))
    after = Shelf(tmp_path).facts(engine)[0]
    assert before.split()[0] == after.split()[0]
    assert after.endswith(" 1.0")
    assert before != after


# What it costs.


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_conversion_costs_is_told_once(engine, tmp_path):
    network, n, sizes = segmenter("the paper's, smaller")
    images, shelf = noise(1, 1, *sizes[0]), Shelf(tmp_path / "m.engines")
    engines = Engines(shelf)
    assert (engines.seconds(), engines.news()) == ((0, 0), "")
    engines(engine, network, n, torch.float32)(images)
    converting, compiling = engines.seconds()
    assert converting > 0
    assert compiling > 0
    name = {"openvino": "OpenVINO", "onnxruntime": "ONNX"}[engine]
    assert engines.news() == (
        f"converted to {name} in {converting:.1f} s, compiled in {compiling:.1f} s; "
        f"kept beside the model (m.engines/{engine}.safetensors)"
    )
    assert engines.news() == ""
    # Of a conversion that was kept there is nothing to tell.
    again = Engines(shelf)
    again(engine, network, n, torch.float32)(images)
    assert (again.seconds()[0], again.news()) == (0, "")
    assert again.seconds()[1] > 0
    # One without a file, and another one after it.
    without = Engines()
    for change in (0, 1):
        with torch.no_grad():
            network.head.bias.add_(change)
        without(engine, network, n, torch.float32)(images)
        assert without.news().endswith("; kept in memory only")


@WITH_OPENVINO
def test_the_cost_is_told_when_compiling_is_part_of_it():
    network, n, sizes = segmenter("the paper's, smaller")
    engines = Engines()
    run = engines("openvino", network, n, torch.float32)
    assert engines.seconds()[1] == 0
    assert engines.news() == ""
    run(noise(1, 1, *sizes[0]))
    one = engines.seconds()[1]
    assert engines.news() != ""
    run(noise(1, 1, *sizes[1]))
    assert engines.seconds()[1] > one


# Nothing is sent anywhere.


@WITH_OPENVINO
def test_openvino_reports_its_use_to_nobody(tmp_path):
    """In a process of its own, with a consent given before, every connection fails the test."""
    (tmp_path / "intel").mkdir()
    (tmp_path / "intel" / "openvino_telemetry").write_text("1\n")
    code = (
        "import socket, sys, threading, time\n"
        "def connect(*a, **k): print('CONNECTED', a)\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = connect\n"
        "import test_prediction_choice as t\n"
        "network, n, sizes = t.segmenter('volumes')\n"
        "t.opened('openvino', network, n)\n"
        "time.sleep(1)\n"
        "print('reporter', sys.modules['openvino_telemetry'], threading.active_count())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={"HOME": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "CONNECTED" not in result.stdout
    assert "reporter None 1" in result.stdout


@WITH_OPENVINO
def test_threads_share_one_core(monkeypatch):
    made = []

    class Slow:
        def Core(self):  # noqa: N802
            made.append(time.sleep(0.2))
            return object()

    monkeypatch.setattr(openvino_engine, "CORE", [])
    monkeypatch.setattr(openvino_engine, "need_openvino", Slow)
    with ThreadPoolExecutor(4) as pool:
        cores = list(pool.map(lambda _: openvino_core(), range(4)))
    assert len(made) == len(set(map(id, cores))) == 1


@WITH_OPENVINO
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_closed_engines_leave_a_ctrl_c_alone():
    """In a process of its own, which a signal would end if its stack had gone."""
    code = (
        "import os, signal\n"
        "import test_prediction_choice as t\n"
        "network, n, sizes = t.segmenter('volumes')\n"
        "images = t.noise(1, 1, *sizes[0])\n"
        "first, second = (t.opened('openvino', network, n) for _ in range(2))\n"
        "first(images), second(images)\n"
        "del first\n"
        "del second\n"
        "signal.signal(signal.SIGINT, lambda *_: print('heard'))\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('alive')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.split()) == (0, ["heard", "alive"]), result.stderr


def test_threads_that_share_an_engine_get_their_own_answers():
    torch.manual_seed(0)
    network, engines = UNet(channels=4, depth=2, padding="same").eval(), Engines()
    images = [np.random.default_rng(i).normal(size=(1, 1, 64, 64)).astype(np.float32) for i in range(16)]

    def answer(image):
        return engines("openvino", network, 2, torch.float32)(image)

    expected = [answer(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(answer, images * 8), expected * 8, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_is_open_follows_the_classes_and_is_closed_by_a_new_conversion():
    network, engines = UNet(n_classes=3, channels=4, depth=2).eval(), Engines()
    image = np.zeros((1, 1, *[network.geometry.smallest_legal] * 2), np.float32)
    first = engines("openvino", network, 3, torch.float32)
    assert engines("openvino", network, 3, torch.float32) is first
    np.testing.assert_allclose(first(image).sum(axis=1), 1, atol=1e-5)
    # Two class channels, and a third one that is a distance.
    np.testing.assert_allclose(engines("openvino", network, 2, torch.float32)(image)[:, :2].sum(axis=1), 1, atol=1e-5)
    again = engines("openvino", network, 3, torch.float32)
    engines.keep("int8", Conversion("key", {}))
    assert engines("openvino", network, 3, torch.float32) is not again


def test_open_engines_do_not_travel_with_a_copy(tmp_path):
    network, engines = UNet(channels=4, depth=2).eval(), Engines(Shelf(tmp_path))
    engines("openvino", network, 2, torch.float32)
    for copied in (copy.deepcopy(engines), pickle.loads(pickle.dumps(engines))):
        assert copied.open is None
        assert copied.shelf.folder == tmp_path
