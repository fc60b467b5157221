"""What the speed benchmarks compare is the same work, without peers: networks, windows, agreement, processes."""

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

import speed_all
import speed_gpu
import speed_predict
import speed_sampling
import speed_step
import ushape
from speed import engines, predicting, program
from speed.counting import count_operations, count_parameters
from speed.interleave import Outcome
from speed.machine import OLD_PROCESSOR
from speed.peers import PEERS, TextbookUNet
from speed.predicting import Task, in_own_process, mosaic, whole_window, window_of
from speed.program import Sitting
from speed.tables import Result, Table, draw, read_result, write_result
from ushape.data.dataset import Dataset, Sample
from ushape.data.phantom import phantom_dataset
from ushape.errors import RecipeError
from ushape.geometry import tiles
from ushape.model import Model, Preparation, load
from ushape.model_file import describe_model
from ushape.prediction.packages import is_there
from ushape.targets.instances import default_decision
from ushape.targets.maps import Encoding

BENCHMARKS = Path(speed_all.__file__).parent


def small_model(seed=0):
    torch.manual_seed(seed)
    encoding = Encoding("distance")
    network = ushape.UNet(1, encoding.n_channels, 8, 3, padding="same", norm="batch")
    classes, decision = ("background", "object"), default_decision(encoding)
    model = Model(network.eval(), Preparation(), "instances", classes, encoding, decision, device="cpu", tile_size=96)
    return replace(model, precision="float32")


# The networks.


def test_the_plain_network_is_the_papers():
    """As many weights, as many operations, and the same size of answer."""
    plain, paper = TextbookUNet(padded=False), ushape.UNet()
    shape = (1, 1, 572, 572)
    assert count_parameters(plain) == count_parameters(paper)
    assert count_operations(plain, shape, backward=True) == count_operations(paper, shape, backward=True)
    assert plain.to("meta")(torch.empty(shape, device="meta")).shape == (1, 2, 388, 388)


def test_the_padded_plain_network_is_autos():
    recipe = speed_step.auto_recipe(16, 64, 2)
    ours = recipe.network.build(1, recipe.encoding.n_channels, 2)
    plain = speed_step.plain_network(speed_step.Case("", recipe))
    shape = (2, 1, 64, 64)
    assert count_operations(plain, shape, backward=True) == count_operations(ours, shape, backward=True)
    assert plain(torch.zeros(shape)).shape == ours(torch.zeros(shape)).shape


def test_the_plain_step_learns():
    torch.manual_seed(0)
    network = TextbookUNet(channels=8, depth=3, padded=True)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(1, 1, 32, 32)
    losses = [speed_step.step_of(network, optimiser, images, fast=False) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_the_script_for_a_gpu_measures_the_loop_and_a_prediction(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--device", "cpu", "--form", "tiny", "--output", str(tmp_path)])
    speed_gpu.main()
    steps, predicted = read_result(tmp_path / "gpu.json").tables
    assert [len(each.seconds) for each in (*steps.outcomes, *predicted.outcomes)] == [2] * 4
    one, two = (each.facts["GFLOP"] for each in steps.outcomes[:2])
    assert two == 2 * one
    assert float(steps.outcomes[1].facts["30 000 tiles"].removesuffix(" min")) > 0
    records, _ = speed_step.our_records(speed_step.auto_recipe(8, 32, 2))
    assert speed_gpu.computing_seconds(records, 1, torch.device("cpu")) == 0
    assert "Self CPU" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit, match=r"^expected a device this machine has"):
        speed_gpu.main()


def test_our_step_is_the_loop_with_its_sampling():
    recipe = speed_step.auto_recipe(8, 32, 2)
    ready = speed_step.our_step(recipe)
    assert ready.run() > 0
    assert ready.facts["image"] == "2 x 32 x 32"
    network = recipe.network.build(1, recipe.encoding.n_channels, 2)
    assert ready.facts["GFLOP"] == count_operations(network, (2, 1, 32, 32), backward=True) / 1e9


def test_peers_are_given_what_the_papers_tile_answers():
    case = speed_step.paper_case("quick")
    assert (case.out, case.channels) == (388, 64)
    assert {peer.name: speed_step.side_of(case, peer) for peer in PEERS}["MONAI DynUNet"] == 400
    assert {speed_step.side_of(case, peer) % peer.stride for peer in PEERS} == {0}


def test_ours_is_the_first_and_all_are_there():
    case = speed_step.paper_case("quick")
    names = [each.name for each in speed_step.competitors(case, ["torch"], backward=True, thorough=False)]
    assert names == ["ushape", "plain PyTorch", *(peer.name for peer in PEERS)]
    more = [each.name for each in speed_step.competitors(case, ["torch", "x"], backward=False, thorough=True)]
    assert more[:4] == ["ushape, torch", "ushape, x", "plain PyTorch", "plain PyTorch, bfloat16 and channels last"]


def test_an_engine_that_this_version_lacks_is_a_row():
    recipe = speed_step.paper_case("tiny").recipe
    with pytest.raises(RecipeError, match=r"^expected an engine out of .*, found 'abacus'; choose one$"):
        speed_step.our_forward(recipe, "abacus")
    assert speed_step.our_forward(recipe, "torch").run() > 0


# Without AVX-512.


def test_an_old_processor_is_given_no_bfloat16():
    code = "import torch; from ushape.network.hardware import best_dtype; print(best_dtype(torch.device('cpu')))"
    environment = {**os.environ, **OLD_PROCESSOR}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch.float32"


def test_the_old_form_refuses_to_run_as_a_new_processor(monkeypatch):
    for name in OLD_PROCESSOR:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AssertionError):
        speed_step.old_tables(Sitting("tiny", Path()))


# Large images.


def test_a_mosaic_has_the_size_and_differs_from_place_to_place():
    image = mosaic(600)
    assert (image.shape, image.dtype) == ((1, 600, 600), np.uint8)
    assert (image[0, :256, :256] != image[0, :256, 256:512]).any()
    assert (mosaic(100) == image[:, :100, :100]).all()


@pytest.mark.parametrize("side", [160, 161, 300])
def test_the_central_window_is_the_whole_images_answer(side):
    """Against our own tiles, which share nothing with it but the network, and against a pass over everything."""
    model, image = small_model(), mosaic(side)
    start, stop, margin = window_of(model, side)
    stride = model.network.geometry.stride
    assert start % stride == 0
    assert start - margin >= 0
    assert stop + margin <= side
    window = whole_window(model, image)
    assert window.shape == (2, stop - start, stop - start)
    assert np.abs(model.maps(image)[:2, start:stop, start:stop] - window).max() < 1e-5
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(model.preparation(image))[None])
    plain = Task("monai", "", side)
    assert np.abs(predicting.central(model, plain, logits[0]) - window).max() < 1e-5


def test_the_window_is_limited_and_too_small_an_image_refused():
    model = small_model()
    start, stop, _ = window_of(model, 4096)
    assert (stop - start, start) == (1024, 1536)
    with pytest.raises(ValueError, match=r"^expected an image of at least \d+ pixels, found 30; enlarge$"):
        window_of(model, 30)


def test_the_answer_of_nnunet_has_one_axis_more():
    model = small_model()
    logits = torch.randn(3, 160, 160)
    one, other = (predicting.central(model, Task("nnunet", "", 160), each) for each in (logits, logits[:, None].half()))
    assert np.abs(one - other).max() < 1e-2


def test_agreement_is_that_of_the_worst_run(tmp_path):
    reference = np.array([[[0.9, 0.6]], [[0.1, 0.4]]], np.float32)
    facts = {}
    for estimate in (reference + np.array([[[0, -0.2]], [[0, 0.2]]]), reference):
        np.save(tmp_path / "a.npy", estimate)
        speed_predict.compare(facts, tmp_path / "a.npy", reference)
    assert facts == {"difference": pytest.approx(0.2), "changed": 0.5}


def test_others_get_windows_like_our_tiles():
    model = small_model()
    window, overlap = speed_predict.windows_like_ours(model, 600)
    quick = speed_predict.tasks(model, Path("m"), 600, ["torch"], thorough=False)
    assert sum("MONAI" in name for name in quick) == 1
    made = speed_predict.tasks(model, Path("m"), 600, ["torch"], thorough=True)
    assert sum("MONAI" in name for name in made) == 3
    first, *rest = made.values()
    assert (first.way, first.engine, first.precision, window) == ("ushape", "torch", "auto", 96)
    steps = {read.read[0][0] for read in tiles(model.tile_geometry, (600, 600), window)}
    assert round(window * (1 - overlap)) == np.diff(sorted(steps))[0]
    like = [(each.tile, each.overlap) for each in rest if "like our tiles" in name_of(made, each)]
    assert like == [(window, overlap)] * 2
    defaults = next(each for each in rest if "defaults" in name_of(made, each))
    assert (defaults.tile, defaults.overlap, defaults.blend) == (256, 0.25, "constant")


def test_windows_of_others_fit_the_poolings():
    network = ushape.UNet(1, Encoding("distance").n_channels, 2, 5, padding="same", norm="batch")
    model, side = replace(small_model(), network=network.eval(), tile_size=800), 2048
    ours = {tile.read[0] for tile in tiles(model.tile_geometry, (side, side), model.largest_tile())}
    window, overlap = speed_predict.windows_like_ours(model, side)
    stride = model.network.geometry.stride
    read = {stop - start for start, stop in ours}
    # Without rounding it would not fit.
    assert read.pop() % stride != 0
    assert window % stride == 0
    assert round(window * (1 - overlap)) % stride == 0


def test_ours_has_a_row_for_each_side_of_tiles_that_is_named():
    model = small_model()
    made = speed_predict.tasks(model, Path("m"), 600, ["torch", "int8"], [64, 128], thorough=False)
    assert list(made)[:7] == [
        "ushape, torch",
        "ushape, int8",
        "ushape, torch, tile 64",
        "ushape, torch, tile 128",
        "ushape, int8, tile 64",
        "ushape, int8, tile 128",
        "ushape, torch, float32",
    ]
    sizes = [predicting.ours(model, made[name]).__self__.tile_size for name in list(made)[:7]]
    assert sizes == [96, 96, 64, 128, 64, 128, 96]


def name_of(made, task):
    return next(name for name, each in made.items() if each is task)


def test_a_prediction_in_a_process_of_its_own(tmp_path):
    model = small_model()
    model.save(tmp_path / "m.safetensors")
    answer = tmp_path / "a.npy"
    task = Task("ushape", str(tmp_path / "m.safetensors"), 512, precision="float32", answer=str(answer))
    noted = []
    ready = in_own_process(task, noted.append)
    assert ready.warm
    assert ready.run() > 0
    assert (len(ready.facts["peak"]), ready.facts["pixels"], noted) == (1, 512**2, [ready.facts])
    assert ready.facts["peak"][0] > 0
    again = load(tmp_path / "m.safetensors", device="cpu")
    assert np.abs(np.load(answer) - whole_window(again, mosaic(512))).max() < 1e-5


def test_a_process_that_fails_says_why(tmp_path):
    small_model().save(tmp_path / "m.safetensors")
    task = Task("ushape", str(tmp_path / "m.safetensors"), 64, engine="abacus")
    with pytest.raises(RuntimeError, match=r"expected an engine out of .*, found 'abacus'"):
        in_own_process(task).run()
    with pytest.raises(RuntimeError, match="expected a model file or a run folder"):
        in_own_process(replace(task, model=str(tmp_path / "none"))).run()


# The int8 copy.

WITH_NNCF = pytest.mark.skipif(
    not (is_there("nncf") and is_there("openvino")), reason="nncf is not installed: pip install 'ushape[export]'"
)


def test_dice_is_of_all_that_is_an_object_in_all_images():
    masks = [np.array([[0, 3, 3, 7]]), np.array([[1, 0, 0, 0]])]
    said = iter([np.array([[5, 5, 0, 0]]), np.array([[1, 1, 0, 0]])])
    samples = [Sample(str(i), lambda: np.zeros((1, 1, 4)), lambda mask=mask: mask) for i, mask in enumerate(masks)]
    model = SimpleNamespace(predict=lambda image, axes: SimpleNamespace(labels=next(said)))
    data = Dataset("two", tuple(samples), "instances", ("background", "object"))
    # Two pixels are right, four were said, four are there.
    assert engines.foreground_dice(model, data) == pytest.approx(2 * 2 / (4 + 4))


@WITH_NNCF
def test_a_copy_that_is_kept_says_what_it_loses(tmp_path, monkeypatch):
    path = small_model().save(tmp_path / "m.safetensors")
    model, data, unseen = load(path, device="cpu"), *(phantom_dataset(1, seed, (64, 64)) for seed in (0, 1))
    scored = []

    def foreground_dice(model, dataset):
        assert model.predict(dataset.samples[0].read_image(), axes="CYX").labels.shape == (64, 64)
        scored.append(dataset.name)
        return {"torch": 0.9, "int8": 0.8}[model.engine]

    monkeypatch.setattr(engines, "foreground_dice", foreground_dice)
    facts = engines.keep_int8_copy(model, data, replace(unseen, name="unseen"))
    assert facts == {"Dice": 0.9, "Dice of int8": 0.8, "Dice lost": "0.1000"}
    assert scored == ["unseen"] * 2
    assert (tmp_path / "m.safetensors.engines" / "int8.safetensors").is_file()
    assert describe_model(path)[0]["engines"]["int8"]["calibrated"] == 1


def test_int8_is_quantised_for_its_own_row_only(monkeypatch):
    asked = []

    def keep_int8_copy(model, data, unseen):
        asked.append((model, len(data), len(unseen)))
        return {"Dice lost": "0.0010"}

    monkeypatch.setattr(speed_predict, "keep_int8_copy", keep_int8_copy)
    monkeypatch.setattr(speed_predict, "load", lambda path, device: path)
    sitting = Sitting("quick", Path())
    for engine in ("torch", "int8"):
        ready = speed_predict.prepared(Task("ushape", "m", 600, engine=engine), lambda facts: None, sitting)
        assert ready.facts.get("Dice lost") == ("0.0010" if engine == "int8" else None)
    assert asked == [("m", 6, 8)]
    # Rows with other tiles take the copy that is there.
    speed_predict.prepared(Task("ushape", "m", 600, engine="int8", our_tile=64), lambda facts: None, sitting)
    assert len(asked) == 1
    names = {s.name for s in speed_predict.training_data().samples}
    assert not names & {s.name for s in phantom_dataset(8, seed=1).samples}


def test_what_8_bits_cost_is_a_column_where_they_are_in_the_table():
    assert speed_predict.columns(["torch", "int8"]) == (*speed_predict.COLUMNS, "Dice lost")
    assert speed_predict.columns(["torch"]) == speed_predict.COLUMNS
    outcomes = [Outcome("a", [1.0], {"Dice lost": "0.0010"}), Outcome("b", [1.0])]
    drawn = draw(Table("", ("runs", "Dice lost"), outcomes), {}).splitlines()
    assert drawn[-2:] == ["| a | 1 | 0.0010 |", "| b | 1 | - |"]


@WITH_NNCF
def test_a_forward_pass_in_int8_is_that_of_the_copy(monkeypatch):
    made = []
    real = speed_step.quantised_for_time
    monkeypatch.setattr(speed_step, "quantised_for_time", lambda *given: made.append(real(*given)) or made[-1])
    recipe = speed_step.paper_case("tiny").recipe
    assert speed_step.our_forward(recipe, "openvino").facts["dtype"] != "int8"
    assert made == []
    ready = speed_step.our_forward(recipe, "int8")
    assert ready.run() > 0
    assert ready.facts["dtype"] == "int8"
    (model,) = made
    assert b"FakeQuantize" in model.engines.shelf.read("int8").parts["xml"]
    assert model.runner().run.compiling > 0


# Sampling.


def test_our_sampler_draws_new_batches_of_the_size():
    sampler = speed_sampling.ushape_sampler(128, 32, speed_sampling.SAME_WORK)
    one, other = sampler(), sampler()
    assert one.images.shape == (2, 1, 32, 32)
    assert not torch.equal(one.images, other.images)


def test_the_sampling_that_is_timed_is_that_of_the_step(monkeypatch):
    drawn = []
    ours = speed_sampling.our_batches

    def noted(recipe, side):
        made = ours(recipe, side)
        return lambda k: drawn.append(k) or made(k)

    monkeypatch.setattr(speed_sampling, "our_batches", noted)
    recipe = speed_sampling.first_recipe(32)
    recipe = replace(recipe, network=replace(recipe.network, channels=8, depth=3))
    step, sampling = (each.prepare() for each in speed_sampling.stepping(recipe, 128))
    assert step.run() + step.run() > 0
    assert drawn == [0, 1]
    assert sampling.run() > 0
    assert drawn == [0, 1, 0]


def test_the_share_of_a_step():
    step, sampling = Outcome("a", [2.0, 4.0]), Outcome("b", [0.3])
    assert speed_sampling.with_share([step, sampling])[1].facts == {"share of the step": "10.0%"}
    gone = Outcome("a", failed="gone")
    assert speed_sampling.with_share([gone, Outcome("b", [0.3])])[1].facts == {}


def test_large_cells_are_sampled_large_and_seen_small():
    small, large = speed_sampling.first_recipe(256), speed_sampling.first_recipe(512, 80.0)
    assert (small.patch, small.network.scale, small.batch) == ((256, 256), 1, 2)
    assert (large.patch, large.network.scale, large.batch) == ((512, 512), 2, 2)


# All of them.


def test_a_script_that_fails_is_told_and_the_others_run(tmp_path, monkeypatch):
    ran = []

    def run(command, check):
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, "speed_sizes" in command[1])

    monkeypatch.setattr(speed_all.subprocess, "run", run)
    assert speed_all.run_all("quick", tmp_path) == ["speed_sizes.py"]
    assert len(ran) == len(speed_all.SCRIPTS)
    assert ran[1] == [str(BENCHMARKS / "speed_step.py"), "--old", "--form", "quick", "--output", str(tmp_path)]


def test_every_script_is_run_and_has_a_place_in_the_page():
    scripts = {path.name for path in BENCHMARKS.glob("speed_*.py")} - {"speed_all.py"}
    # Of a GPU there is a script of its own.
    assert {name for name, *_ in speed_all.SCRIPTS} == scripts - {"speed_gpu.py"}
    text = "".join((BENCHMARKS / name).read_text("utf-8") for name in scripts)
    assert [name for name in speed_all.ORDER if f'"{name}"' not in text] == []


def test_tables_go_into_a_page(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["x", "--tables", "--output", str(tmp_path), "--page", str(page)])
    speed_all.main()
    assert "nothing: no quick or full results" in capsys.readouterr().out
    assert not page.exists()


def result_of(name, form="quick"):
    table = Table("Steps", ["s"], [Outcome("ushape", [1.0])])
    machine = {"processor": "P", "flags": [], "cores": 2, "memory": 0.0, "torch": "2", "threads": 2, "environment": {}}
    return Result(name, name.title(), "About.", form, machine, {}, [table])


@pytest.mark.parametrize("foreign", ['{"tables": []}', '{"name": "step"}', "[1]", "7", "{", '{"tables": [1]}'])
def test_another_json_in_the_folder_is_told_and_the_results_are_shown(tmp_path, monkeypatch, capsys, foreign):
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    for name in ("sampling", "mine", "step"):
        write_result(tmp_path, result_of(name))
    (tmp_path / "foreign.json").write_text(foreign)
    monkeypatch.setattr(sys, "argv", ["x", "--tables", "--output", str(tmp_path), "--page", str(page)])
    speed_all.main()
    out, words = capsys.readouterr()
    assert out == f"{page}: step, sampling\n"
    told = [line.split(" ", 1)[1] for line in words.splitlines()]
    assert told == [
        f"{tmp_path}/foreign.json: expected a result of these scripts, found another JSON; skipped",
        f"{tmp_path}: expected results called {', '.join(speed_all.ORDER)}, found mine; skipped",
    ]
    assert page.read_text().index("## Step") < page.read_text().index("## Sampling")


# The peers' environment.


def pins(path):
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines), lines


def test_the_peers_lock_names_every_peer_and_agrees_with_ours():
    theirs, lines = pins(BENCHMARKS / "peers.lock")
    ours, _ = pins(BENCHMARKS.parent / "requirements.lock")
    assert list(theirs) == sorted(set(theirs))
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines)
    assert [name for name in (*program.PEERS, "torch") if name not in theirs] == []
    assert {name: version for name, version in theirs.items() if ours.get(name, version) != version} == {}


def test_all_that_ushape_needs_is_in_the_peers_lock():
    """It is not installed there, so that nothing else brings it."""
    project = tomllib.loads((BENCHMARKS.parent / "pyproject.toml").read_text("utf-8"))["project"]
    theirs, _ = pins(BENCHMARKS / "peers.lock")
    for requirement in map(Requirement, project["dependencies"]):
        assert theirs[requirement.name] in requirement.specifier
