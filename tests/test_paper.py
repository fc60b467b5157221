"""Every fact of the paper has its code and its tests, or the row of a benchmark; and the recipe has all of them."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from ushape.data.phantom import phantom_image
from ushape.network.unet import UNet
from ushape.targets.borders import contacts, separate_touching
from ushape.targets.maps import encode
from ushape.training.augment import Warp, draw_warp, read_patch, vary_grey_values
from ushape.training.batches import Batches, draw_centre, to_training_image
from ushape.training.examples import DataSummary
from ushape.training.loop import make_optimiser, new_state, train_steps
from ushape.training.recipe import NetworkSettings
from ushape.training.rules import paper_recipe
from ushape.training.schedule import Plan

ROOT = Path(__file__).parent.parent
PROVED, MEASURED = range(1, 18), range(18, 22)
CELLS = DataSummary("cells", "instances", ("background", "object"), 10, 1, ((512, 512),) * 10, diameter=110.0)
MEMBRANES = replace(CELLS, task="semantic", classes=("membrane", "cell"), diameter=None, shares=(0.2, 0.8))
CPU = torch.device("cpu")


# What is written, and what stands behind it.


def rows_of(text: str) -> dict[str, str]:
    """Each fact's row of a table."""
    return dict(re.findall(r"^\| (P\d+) \|(.*)$", text, re.MULTILINE))


ROWS = rows_of((ROOT / "docs" / "paper.md").read_text(encoding="utf-8"))


HARMLESS_MARKS = ("pytest.mark.parametrize(", "pytest.mark.usefixtures(")
"""Marks that keep no test from running."""


def running_tests(source: str) -> set[str]:
    """The tests of a module that run wherever the suite runs: none that is skipped, expected to fail or chosen."""
    tree = ast.parse(source)
    marked = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(ast.unparse(target) == "pytestmark" for target in node.targets)
        and not ast.unparse(node.value).startswith(HARMLESS_MARKS)
    ]
    if marked:
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and always_runs(node)}


def always_runs(function: ast.FunctionDef) -> bool:
    """Whether a function is a test that no mark and no line of its own keeps from running."""
    marks = [ast.unparse(decorator) for decorator in function.decorator_list]
    if any(mark.startswith("pytest.mark.") and not mark.startswith(HARMLESS_MARKS) for mark in marks):
        return False
    calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
    stops = {"pytest.skip", "pytest.xfail", "pytest.importorskip"}
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(function))
    checks = asserts or any(".testing." in call or call == "pytest.raises" for call in calls)
    return function.name.startswith("test_") and checks and not stops & set(calls)


def lost_proofs(row: str, root: Path) -> list[str]:
    """What is missing behind a row of P1 to P17."""
    code, proofs = row.split("|")[1:3] if row.count("|") >= 3 else ("", "")
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", proofs)
    files = re.findall(r"`([\w/]+\.py)`", code)
    lost = [] if named else ["a test"]
    lost += [] if files else ["code"]
    lost += [name for name in files if not (root / "src" / "ushape" / name).is_file()]
    for path, name in named:
        here = root / path
        if not here.is_file() or name not in running_tests(here.read_text(encoding="utf-8")):
            lost.append(f"{path}::{name}")
    return lost


def test_every_fact_has_its_row():
    assert sorted(ROWS, key=lambda name: int(name[1:])) == [f"P{number}" for number in (*PROVED, *MEASURED)]


@pytest.mark.parametrize("number", PROVED)
def test_a_fact_has_its_code_and_its_tests(number):
    assert lost_proofs(ROWS[f"P{number}"], ROOT) == []


@pytest.mark.parametrize("number", MEASURED)
def test_a_result_names_the_row_of_a_benchmark_and_what_was_measured(number):
    _, row, measured = map(str.strip, ROWS[f"P{number}"].strip(" |").split("|"))
    assert re.fullmatch(r"`[a-z0-9-]+`", row)
    assert "](results.md" in measured
    # Rounded figures of seconds are told in words of their own; the scores stand in the tables as they are.
    section = results_of(measured)
    for figure in re.findall(r"\b0\.\d{3,}\b", measured):
        assert figure in section


def results_of(measured: str) -> str:
    """The section of docs/results.md that a row links to."""
    (anchor,) = set(re.findall(r"results\.md#([a-z0-9-]+)", measured))
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    (section,) = [
        part
        for part in re.split(r"^## ", text, flags=re.MULTILINE)
        if re.sub(r"[^a-z0-9 ]", "", part.split("\n")[0].lower()).replace(" ", "-") == anchor
    ]
    return section


def test_every_test_that_is_named_anywhere_exists():
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    for path in set(re.findall(r"`(tests/\w+\.py)", text)):
        assert (ROOT / path).is_file()


def test_a_lost_proof_is_found(tmp_path):
    """The checks can fail: a test that is gone, skipped, empty, only for some machines; code that is gone."""
    module = """
import pytest
def test_good(): assert True
@pytest.mark.parametrize("n", [1])
def test_many(n): assert n
@pytest.mark.skip
def test_skipped(): assert True
@pytest.mark.skipif(True, reason="")
def test_skipped_here(): assert True
@pytest.mark.xfail
def test_failing(): assert True
@pytest.mark.gpu
def test_for_gpus(): assert True
def test_stops(): pytest.skip("now"); assert True
def test_empty(): pass
def helper(): assert True
"""
    for folder in ("tests", "src/ushape/network"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tests" / "test_a.py").write_text(module)
    (tmp_path / "src" / "ushape" / "network" / "unet.py").write_text("")
    assert running_tests(module) == {"test_good", "test_many"}
    assert running_tests("pytestmark = pytest.mark.skip\n" + module) == set()
    assert running_tests("pytestmark = pytest.mark.usefixtures('a')\n" + module) == {"test_good", "test_many"}

    def lost(code: str, *names: str) -> list[str]:
        return lost_proofs(f" words | `{code}` | {', '.join(f'`tests/test_a.py::{n}`' for n in names)} |", tmp_path)

    assert lost("network/unet.py", "test_good", "test_many") == []
    assert lost("network/unet.py", "test_good", "test_gone") == ["tests/test_a.py::test_gone"]
    assert lost("network/unet.py", "test_skipped", "test_for_gpus", "helper", "test_empty") == [
        f"tests/test_a.py::{name}" for name in ("test_skipped", "test_for_gpus", "helper", "test_empty")
    ]
    assert lost("network/net.py", "test_good") == ["network/net.py"]
    assert lost("network/unet.py") == ["a test"]
    assert lost_proofs(" words only |", tmp_path) == ["a test", "code"]
    assert rows_of("| P1 | a |\n| P12 | b |\n|P3| c |\n") == {"P1": " a |", "P12": " b |"}


# The recipe as a whole: nothing that the paper states is lost between its parts.


def test_the_recipe_builds_the_network_of_the_paper():
    """P1 to P9, by what the recipe builds for grey images of cells."""
    recipe = paper_recipe(CELLS)
    with torch.device("meta"):
        built, paper = recipe.network.build(1, recipe.encoding.n_channels, 2), UNet()
    assert built.settings == paper.settings
    assert str(built) == str(paper)
    assert paper.settings == {
        "in_channels": 1,
        "n_classes": 2,
        "channels": 64,
        "depth": 5,
        "padding": "valid",
        "norm": "none",
        "dropout": 0.5,
        "dims": 2,
        "scale": 1,
    }


def small_network() -> UNet:
    torch.manual_seed(0)
    network = NetworkSettings(channels=2, depth=2, padding="valid", norm="none", dropout=0.0).build(1, 2, 2)
    assert isinstance(network, UNet)
    return network


def test_the_recipe_learns_by_sgd_with_momentum():
    """P12: v = 0.99 v + gradient, w = w - rate v, and nothing else moves a weight."""
    settings = paper_recipe(CELLS).optimiser
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    holder = torch.nn.ParameterList([weight])
    optimiser = make_optimiser(holder, replace(settings, learning_rate=0.1))
    expected, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        weight.grad = torch.tensor([gradient])
        optimiser.step()
        velocity = 0.99 * velocity + gradient
        expected -= 0.1 * velocity
        assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_what_the_paper_leaves_open_is_told_to_be_a_choice():
    """Numbers that the paper does not give stand, as they are in the recipe, in one sentence of it and on the page."""
    recipe = paper_recipe(CELLS)
    [told] = [reason for reason in recipe.reasons if reason.startswith("choices, since the paper is silent")]
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    chosen = recipe.optimiser
    page = " ".join(page.split())
    for words in (
        f"learning rate {chosen.learning_rate:g}",
        f"rise over {chosen.warm_up} steps",
        f"last {chosen.decay:.0%}".replace("%", " %"),
        f"ridge {recipe.encoding.ridge_width} px",
        f"rate {recipe.network.dropout:g}",
    ):
        assert words in told
        assert words.removeprefix("learning rate ").replace("ridge 1", "1") in page
    for words in ("mirrors", "brightness, contrast, gamma and noise", "a fifth of the images"):
        assert words in told
        assert words in page
    assert recipe.validation == 0.2
    assert f"no longer than {chosen.clip:g}" in told
    assert f"longer than {chosen.clip:g}, over all weights" in " ".join(page.split())


def training_image(recipe, size=(96, 100)):
    """A phantom as training holds it, and its mask."""
    image, mask = phantom_image(0, size)
    image = image.astype(np.float32)
    maps = encode(mask, recipe.encoding)
    return to_training_image((image - image.mean()) / image.std(), maps, 1.0, CPU), mask


def test_a_batch_of_the_recipe_is_one_tile():
    """P12 and P4: a single image of 572x572, and maps of 388x388 behind its centre."""
    recipe = paper_recipe(CELLS)
    image, _ = training_image(recipe)
    batches = Batches([image], recipe.geometry, recipe.patch, recipe.batch, recipe.augmentation, 0, recipe.foreground)
    batch = batches(0)
    assert batch.images.shape == (1, 1, 572, 572)
    assert batch.classes.shape == batch.weights.shape == (1, 388, 388)
    assert batch.distance is None


def test_a_batch_is_what_was_drawn_read_and_varied():
    """P16 and P17 reach the network: a tile of training, put together by hand from its parts."""
    recipe = replace(paper_recipe(CELLS), patch=(220, 220))
    image, _ = training_image(recipe)
    batches = Batches([image], recipe.geometry, recipe.patch, 1, recipe.augmentation, 5, recipe.foreground)

    def by_hand(k: int, *, warped: bool = True, varied: bool = True) -> torch.Tensor:
        rng = np.random.default_rng((5, k, 0))
        rng.choice(1, p=[1.0]), rng.random()  # the only image, and no object aimed at
        centre = draw_centre((96, 100), recipe.patch, (36, 36), None, rng)
        warp = draw_warp(recipe.augmentation, centre, rng)
        assert warp.displacement is not None
        warp = warp if warped else Warp(centre, np.eye(2), None)
        planes = read_patch(image.planes, 2, warp, recipe.patch)
        return vary_grey_values(planes[:1], recipe.augmentation, rng) if varied else planes[:1]

    for k in range(3):
        given = batches(k).images[0]
        assert torch.equal(given, by_hand(k))
        assert (given - by_hand(k, warped=False)).abs().mean() > 0.1
        assert (given - by_hand(k, varied=False)).abs().mean() > 0.01


def test_predictions_of_membranes_are_averages_over_seven_rotations():
    """P18's is an experiment of two classes; the paper tells of none for cells."""
    assert [paper_recipe(summary).rotations for summary in (CELLS, MEMBRANES)] == [1, 7]


def test_the_loss_of_the_recipe_is_weighted_cross_entropy_and_nothing_else():
    """P13, through the loop that trains: the loss of the first step, from the network's own logits."""
    recipe = paper_recipe(CELLS)
    image, _ = training_image(recipe)
    network = small_network()
    batches = Batches([image], network.geometry, (60, 60), 1, recipe.augmentation, 0)
    batch = batches(0)
    assert batch.weights.std() > 0.1
    with torch.no_grad():
        logits = network(batch.images)
    powers = np.exp(logits.double().numpy())
    shares = powers / powers.sum(axis=1, keepdims=True)
    classes, weights = batch.classes.numpy(), batch.weights.double().numpy()
    given = np.take_along_axis(shares, classes[:, None], axis=1)[:, 0]
    state = new_state(network, recipe, CPU)
    state.plans = [Plan(0, 1, 1)]
    (record,) = train_steps(state, batches, recipe, 0, CPU, torch.float32)
    assert record.loss.item() == pytest.approx(-(weights * np.log(given)).sum() / classes.size, rel=1e-4)


def border_term(mask: np.ndarray) -> np.ndarray:
    """10 exp(-(d1 + d2)^2 / 50) on background, a distance transform of the whole image for each cell."""
    distances = np.sort([ndimage.distance_transform_edt(mask != cell) for cell in np.unique(mask[mask > 0])], axis=0)
    return np.where(mask == 0, 10 * np.exp(-((distances[0] + distances[1]) ** 2) / 50), 0)


def test_the_recipe_weighs_cells_as_the_formula_says():
    """P14 and P15: touching cells are separated by a ridge of one pixel; then the formula, classes balanced."""
    recipe = paper_recipe(CELLS)
    _, mask = training_image(recipe)
    assert contacts(mask).any()
    maps = encode(mask, recipe.encoding)
    separate = separate_touching(mask, 1)
    np.testing.assert_array_equal(maps.classes, separate > 0)
    # One pixel: of each pair that touches, one is still what it was.
    assert not contacts(separate).any()
    assert 0 < (separate != mask).sum() < contacts(mask).sum()
    assert not ((separate != mask) & ~contacts(mask)).any()
    counts = np.bincount(maps.classes.ravel())
    expected = (mask.size / (2 * counts))[maps.classes] + border_term(separate)
    assert expected.max() > 5
    np.testing.assert_allclose(maps.weights, expected, atol=1e-3)


def test_the_recipe_weighs_membranes_as_the_formula_says():
    """P14 where masks hold two classes: the connected pieces of the second one are the cells."""
    _, objects = training_image(paper_recipe(CELLS))
    objects = np.where(contacts(objects), 0, objects)
    mask = (objects > 0).astype(np.int32)
    shares = tuple(np.bincount(mask.ravel()) / mask.size)
    maps = encode(mask, paper_recipe(replace(MEMBRANES, shares=shares)).encoding)
    pieces = ndimage.label(mask)[0]
    expected = (0.5 / np.array(shares))[mask] + border_term(pieces)
    np.testing.assert_allclose(maps.weights, expected, atol=1e-3)
    np.testing.assert_array_equal(maps.classes, mask)


def test_all_that_the_paper_varies_varies_in_the_recipe():
    """P16 and P17: places, angles, 3x3 displacements of 10 px and grey values, for every tile."""
    augmentation, rng = paper_recipe(CELLS).augmentation, np.random.default_rng(0)
    warps = [draw_warp(augmentation, (0.0, 0.0), rng) for _ in range(300)]
    displacements = np.array([warp.displacement for warp in warps])
    assert displacements.shape == (300, 2, 3, 3)
    assert displacements.std() == pytest.approx(10, rel=0.05)
    assert abs(displacements.mean()) < 0.6
    # A Gaussian: 4.55 % lie beyond two deviations, and of a uniform draw none would.
    assert (np.abs(displacements) > 20).mean() == pytest.approx(0.0455, abs=0.011)
    angles = np.degrees([np.arctan2(warp.matrix[1, 0], warp.matrix[0, 0]) for warp in warps])
    assert (np.histogram(angles, 12, (-180, 180))[0] > 5).all()
    # The paper does not zoom.
    assert np.abs([np.linalg.det(warp.matrix) for warp in warps]) == pytest.approx(1)
    assert augmentation.brightness > 0
    assert min(augmentation.contrast, augmentation.gamma) > 1
