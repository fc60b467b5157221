"""A recipe is a value: written, read and changed by name, wrong values refused in a sentence."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import disc_dataset
from ushape.data.dataset import Dataset, Sample
from ushape.errors import RecipeError
from ushape.training.augment import draw_warp, warp_coordinates
from ushape.training.examples import DataSummary, Example, central, summarise, with_structures
from ushape.training.orientation import Orientation
from ushape.training.planning import make_plan
from ushape.training.recipe import read_recipe, with_settings, write_recipe
from ushape.training.rules import Speed, choose_width, class_weights, paper_recipe, plan_recipe, working_scale

CELLS = DataSummary("cells", "instances", ("background", "object"), 10, 1, ((512, 512),) * 10, diameter=110.0)


def test_a_recipe_written_and_read_is_the_same(tmp_path):
    recipe = with_settings(plan_recipe(CELLS), ["network.channels=24", "augmentation.elastic=0.0", 'name="own"'])
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(recipe))
    assert read_recipe(path, plan_recipe(replace(CELLS, diameter=20.0))) == recipe
    # A recipe is called as its file, whatever that looks like.
    for name in ("2024", "2025-01-01", "true", "mine"):
        path.write_text(write_recipe(replace(recipe, name=name)))
        assert read_recipe(path, recipe).name == name


def test_settings_are_applied_together_and_named_among_the_reasons():
    # Neither depth 6 with the old patch nor the new patch at depth 5 would do alone.
    recipe = with_settings(plan_recipe(CELLS), ["network.depth=6", "patch=[192, 192]", "network.scale=1"])
    assert (recipe.network.depth, recipe.patch) == (6, (192, 192))
    assert recipe.reasons[-1] == "set by hand: network.depth=6, patch=[192, 192], network.scale=1"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("network.width=3", r"found 'network.width'; correct the name$"),
        ("network.channels", r"^expected a setting like network.channels=32, found 'network.channels'"),
        ("network.channels=wide", r"^expected network.channels to be a int like 32, found 'wide'"),
        ("network=3", r"^expected a table for 'network', found '3'"),
        ("batch=0", r"^expected a batch of at least 1 patch, found 0"),
        ("patch=[100, 100]", r"^expected a patch whose sides are legal .* take 128 for 100$"),
        ("optimiser.clip=-1", r"^expected optimiser.clip to be at least 0 .0 = as it is., found -1.0; change it$"),
        ("optimiser.name=adam", r"^expected optimiser.name to be adamw, muon or sgd, found 'adam'"),
        ('patch=["a", "b"]', r"^expected a patch of whole numbers like \[256, 256\], found \('a', 'b'\)"),
        ("normalisation=foo", r"^expected normalisation to be image or dataset, found 'foo'; choose one$"),
        ("augmentation.elastic=-1", r"^expected augmentation.elastic to be 0 \(off\) or more, found -1.0"),
        ("rotations=3", r"^expected 1, 2, 4, 7 or 8 rotations, found 3; choose one of these$"),
        ("network.channels=0", r"^expected channels to be a whole number of at least 1, found 0; change it$"),
        ("augmentation.mirror=1", r"^expected augmentation.mirror to be a bool like True, found 1"),
    ],
)
def test_a_wrong_setting_is_refused(setting, message):
    with pytest.raises(RecipeError, match=message):
        with_settings(plan_recipe(CELLS), [setting])


def test_predictions_are_averaged_where_one_of_two_classes_keeps_pieces_apart():
    membranes = replace(CELLS, task="semantic", classes=("membrane", "cell"), diameter=None, shares=(0.2, 0.8))
    recipe = plan_recipe(membranes)
    assert recipe.rotations == 8
    assert any("--rotations 1 predicts 8 times faster" in reason for reason in recipe.reasons)
    volumes = replace(membranes, sizes=((40, 64, 64),))
    three = replace(membranes, classes=("a", "b", "c"), shares=(0.2, 0.2, 0.6))
    assert [plan_recipe(each).rotations for each in (CELLS, volumes, three)] == [1, 1, 1]


def test_a_missing_and_a_broken_recipe_file_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"^expected the recipe `auto`, `paper` or a TOML file, found no file "):
        read_recipe(tmp_path / "none.toml", plan_recipe(CELLS))
    (tmp_path / "broken.toml").write_text("batch = = 3")
    with pytest.raises(RecipeError, match=r"broken.toml: expected a recipe in TOML, found a mistake"):
        read_recipe(tmp_path / "broken.toml", plan_recipe(CELLS))


def test_large_objects_are_seen_on_a_coarser_grid():
    assert [working_scale(d) for d in (None, 10, 56, 57, 159, 160, 319, 320, 640, 9e9)] == [
        1,
        1,
        1,
        2,
        2,
        4,
        4,
        8,
        16,
        16,
    ]


@pytest.mark.parametrize("diameter", [60.0, 150.0, 170.0, 330.0, 600.0, 1200.0])
def test_a_patch_holds_a_whole_object(diameter):
    recipe = plan_recipe(replace(CELLS, diameter=diameter, sizes=((6000, 6000),) * 10))
    assert min(recipe.patch) > 1.5 * diameter


def test_the_deformation_of_small_patches_folds_nothing():
    for size in ((512, 512), (64, 64), (32, 32), (40, 56, 40), (16, 64, 64)):
        recipe = plan_recipe(replace(CELLS, diameter=20.0, sizes=(size,) * 10))
        augmentation, rng = replace(recipe.augmentation, zoom=1.0, rotation=0.0, mirror=False), np.random.default_rng(0)
        folded = []
        for _ in range(20):
            warp = draw_warp(augmentation, tuple((n - 1) / 2 for n in recipe.patch), rng)
            places = warp_coordinates(warp, recipe.patch, torch.device("cpu")).numpy()
            slopes = np.stack([np.stack(np.gradient(axis)) for axis in places])
            folded.append((np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1))) <= 0).mean())
        assert np.mean(folded) < 0.001
        assert recipe.augmentation.elastic == (10.0 if min(recipe.patch) >= 256 else round(min(recipe.patch) / 25.6, 1))
        assert any(f"deformed by about {recipe.augmentation.elastic:g} px" in reason for reason in recipe.reasons)


@pytest.mark.parametrize(
    ("asked", "mirror", "rotation", "words"),
    [
        (None, True, 180.0, "mirrored and turned by any angle (there are too few whole masks"),
        (Orientation(0.0, 0.0, 0.0), True, 180.0, "mirrored and turned by any angle, since masks are then as"),
        (
            Orientation(0.71, 0.07, 0.12),
            False,
            15.0,
            "not mirrored, and turned by up to 15 degrees, since masks of",
        ),
        (Orientation(0.71, 0.68, 0.12), True, 15.0, "is mirrored, and turned by up to 15 degrees, since masks of"),
        (
            Orientation(0.71, 0.07, 0.68),
            False,
            180.0,
            "is not mirrored, and turned by any angle, since masks of",
        ),
        (Orientation(0.71, 0.68, 0.68), True, 180.0, "mirrored and turned by any angle, since masks are then as"),
    ],
)
def test_images_that_lie_alike_are_not_shown_the_other_way_round(asked, mirror, rotation, words):
    two = replace(MEMBRANES, orientation=asked)
    for summary in (replace(CELLS, orientation=asked), two):
        recipe = plan_recipe(summary)
        assert (recipe.augmentation.mirror, recipe.augmentation.rotation) == (mirror, rotation)
        assert any(words in reason for reason in recipe.reasons)
    # Nor are predictions averages over copies that are.
    assert plan_recipe(two).rotations == (8 if (mirror, rotation) == (True, 180.0) else 1)


def test_stray_pixels_of_a_class_do_not_weigh_without_limit():
    rare, rarest = (class_weights((1 - share, share), 0.5)[1] for share in (0.01, 1e-6))
    assert rare < rarest < 1.2 * rare


def test_what_a_pixel_sees_is_claimed_where_it_is_so():
    def told(size):
        [reason] = [
            r for r in plan_recipe(replace(CELLS, diameter=20.0, sizes=(size,) * 10)).reasons if "patches of" in r
        ]
        return "enough for the whole context" in reason

    assert [told(size) for size in ((512, 512), (64, 64), (40, 56, 40))] == [True, False, False]


def test_a_recipe_from_a_file_does_not_give_reasons_that_are_not_its_own(tmp_path):
    (tmp_path / "mine.toml").write_text("batch = 3\n[network]\nchannels = 48\n")
    recipe = make_plan(disc_dataset(3), recipe=str(tmp_path / "mine.toml"), minutes=1).recipe
    assert recipe.network.channels == 48
    assert recipe.reasons[0] == "from mine.toml; where it says nothing, as `auto` would choose"
    assert not any("channels" in reason or "Muon" in reason for reason in recipe.reasons)


@pytest.mark.parametrize(
    ("diameter", "scale", "side"), [(30.0, 1, 256), (59.0, 2, 256), (110.0, 2, 256), (170.0, 4, 512)]
)
def test_a_step_has_two_patches_and_on_a_coarser_grid_a_quarter_of_the_pixels(diameter, scale, side):
    recipe = plan_recipe(replace(CELLS, diameter=diameter))
    assert (recipe.network.scale, recipe.patch, recipe.batch) == (scale, (side, side), 2)


def test_volumes_keep_their_patches_on_a_coarser_grid():
    volumes = replace(CELLS, sizes=((200, 200, 200),) * 10)
    full, coarse = plan_recipe(replace(volumes, diameter=30.0)), plan_recipe(volumes)
    assert (full.patch, coarse.patch) == ((64,) * 3, (128,) * 3)
    assert (full.batch, coarse.batch) == (2, 2)


MEMBRANES = DataSummary("m", "semantic", ("a", "b"), 9, 1, ((512, 512),) * 9, pieces=68.0, thickness=8.0)


def test_of_two_classes_large_pieces_are_seen_on_a_coarser_grid():
    recipe = plan_recipe(MEMBRANES)
    assert (recipe.network.scale, recipe.patch, recipe.batch) == (2, (256, 256), 2)
    assert "pieces of 68 px, and the rarer class 8 px across, are still seen well at half" in recipe.reasons[0]
    huge = replace(MEMBRANES, pieces=900.0, thickness=300.0)
    assert plan_recipe(huge).network.scale == 2


@pytest.mark.parametrize("changed", [{"pieces": 56.0}, {"thickness": 5.9}, {"pieces": None, "thickness": None}])
def test_what_a_coarser_grid_would_lose_is_seen_in_full(changed):
    recipe = plan_recipe(replace(MEMBRANES, **changed))
    assert recipe.network.scale == 1
    assert recipe.reasons[0].startswith("working scale 1: ")


def test_small_steps_are_wanted_in_larger_numbers():
    speed, full, coarse = Speed(1e-9), replace(MEMBRANES, pieces=20.0), MEMBRANES
    for summary, pixels, wanted in ((full, 2 * 256**2, 1000), (coarse, 2 * 128**2, 3000)):
        enough = wanted * speed.step_seconds(32, pixels)
        widths = [plan_recipe(summary, seconds=share * enough, speed=speed).network.channels for share in (0.99, 1.01)]
        assert widths == [24, 32]
    assert any("3000" in reason for reason in plan_recipe(coarse, seconds=60, speed=speed).reasons)


def test_structures_of_two_classes_are_measured_and_of_others_not():
    rows = (np.arange(200) + 40) % 80 >= 10
    mask = (rows[:, None] & rows).astype(np.int32)
    example = Example(Sample("m", lambda: mask, lambda: mask), mask[None].astype(np.float32), mask)
    dataset = Dataset("m", (example.sample,), "semantic", ("membrane", "cell"))
    summary = with_structures(summarise(dataset, [example]), [example])
    assert summary.pieces == pytest.approx(70 / np.sqrt(np.pi / 4), rel=0.2)
    assert summary.thickness == pytest.approx(11, abs=2)
    three = summarise(replace(dataset, classes=("a", "b", "c")), [example])
    objects = summarise(replace(dataset, task="instances"), [example])
    volume = np.stack([mask, mask])
    deep = Example(Sample("v", lambda: volume, lambda: volume), volume[None].astype(np.float32), volume)
    others = [with_structures(s, [example]) for s in (three, objects)]
    others.append(with_structures(summarise(replace(dataset, samples=(deep.sample,)), [deep]), [deep]))
    assert {(s.pieces, s.thickness) for s in others} == {(None, None)}
    assert plan_recipe(others[-1]).network.scale == 1


def test_structures_of_large_masks_are_those_of_the_middle():
    mask = np.zeros((3000, 2200), np.int32)
    mask[1000:2000, 600:1600:100] = 1
    example = Example(Sample("m", lambda: mask, lambda: mask), mask[None].astype(np.float32), mask)
    assert central(mask, 1024).shape == (1024, 1024)
    assert central(mask, 1024).sum() == 1000 * 10
    assert central(mask[:7, :2], 1024).shape == (7, 2)
    summary = with_structures(summarise(Dataset("m", (example.sample,), "semantic", ("a", "b")), [example]), [example])
    assert summary.thickness == pytest.approx(2, abs=0.1)


def test_a_larger_budget_never_gives_a_narrower_network():
    speed = Speed(1e-9)
    widths = [choose_width(speed, seconds, 4 * 256**2)[0] for seconds in (10, 60, 180, 600, 1800, 7200, 100_000)]
    assert widths == sorted(widths)
    assert widths[0] == 16
    assert widths[-1] == 64


def test_small_objects_are_told_by_their_depth_and_large_ones_by_their_rim():
    small, large = (plan_recipe(replace(CELLS, diameter=d)).encoding for d in (20.0, 110.0))
    assert (small.kind, small.distance_cap) == ("distance", 5.0)
    assert (large.kind, large.border_width) == ("border", 4)
    assert plan_recipe(replace(CELLS, task="semantic", diameter=None)).encoding.kind == "semantic"


def test_the_papers_recipe_is_the_papers():
    recipe = paper_recipe(CELLS)
    assert (recipe.network.channels, recipe.network.depth, recipe.network.padding) == (64, 5, "valid")  # P1
    assert (recipe.network.norm, recipe.network.dropout) == ("none", 0.5)  # P8, P9
    assert (recipe.optimiser.name, recipe.optimiser.momentum, recipe.batch) == ("sgd", 0.99, 1)  # P12
    assert (recipe.encoding.w0, recipe.encoding.sigma) == (10.0, 5.0)  # P14
    assert (recipe.augmentation.elastic, recipe.augmentation.elastic_nodes) == (10.0, 3)  # P17
    assert "weight map" in " ".join(recipe.reasons)
    assert "weight map" not in " ".join(paper_recipe(replace(CELLS, task="semantic", diameter=None)).reasons)


def test_small_images_get_small_patches_and_more_of_them():
    small = plan_recipe(replace(CELLS, sizes=((100, 80),), diameter=20.0))
    assert small.patch == (112, 80)
    assert small.batch > 4


def test_every_rule_gives_its_reason():
    reasons = " ".join(plan_recipe(CELLS, seconds=600, speed=Speed(1e-9)).reasons)
    for word in ("working scale", "a rim of 4 px", "batches of", "channels", "batch normalisation"):
        assert word in reasons


def test_settings_that_contradict_each_other_or_the_data_are_refused():
    recipe = make_plan(disc_dataset(2)).recipe
    with pytest.raises(
        RecipeError, match=r"^expected network to be set once, found also 'network.depth=3'; drop one of"
    ):
        with_settings(recipe, ["network=3", "network.depth=3"])
    with pytest.raises(
        RecipeError, match=r"^expected the encoding's class_weights to be numbers, found \['a', 'b'\]; co"
    ):
        with_settings(recipe, ['encoding.class_weights=["a", "b"]'])
    samples = tuple(replace(s, mask=lambda: np.tri(64, dtype=np.int32)) for s in disc_dataset(2).samples)
    data = replace(disc_dataset(2), samples=samples, task="semantic")
    with pytest.raises(
        RecipeError, match=r"^expected encoding.n_classes to be 2 as in the data, found 7; leave it out$"
    ):
        make_plan(data, settings=["encoding.n_classes=7"])


@pytest.mark.parametrize(("size", "batch"), [((256, 256), 2), ((64, 64), 32), ((35, 50, 35), 2), ((16, 16, 16), 31)])
def test_small_steps_of_two_patches_at_least(size, batch):
    summary = DataSummary("d", "semantic", ("a", "b"), 10, 1, (size,) * 10)
    assert plan_recipe(summary).batch == batch


def test_the_width_says_what_the_next_one_would_need():
    speed, pixels = Speed(1e-9), 2 * 256**2
    step = {channels: speed.step_seconds(channels, pixels) for channels in (16, 24, 32, 64)}
    assert step[32] == pytest.approx(1e-9 * pixels * 32 * 56)
    channels, told = choose_width(speed, 1001.5 * step[24], pixels)
    assert channels == 24
    minutes = math.ceil(1000 * step[32] / 0.85 / 60)
    assert told.endswith(f"of 32 channels, would see fewer than the 1000 wanted, which take it about {minutes} minutes")
    assert "holds about 1001 steps;" in told
    channels, told = choose_width(speed, 100 * step[16], pixels)
    assert channels == 16
    assert "about 100 steps only; the 1000 that a network should see would take about" in told
    channels, told = choose_width(speed, 1001.5 * step[64], pixels)
    assert channels == 64
    assert told.endswith("the budget holds about 1001 steps of it")


@pytest.mark.parametrize(("name", "rate"), [("adamw", 0.002), ("muon", 0.006), ("sgd", 0.001)])
def test_another_optimiser_brings_its_own_learning_rate(tmp_path, name, rate):
    recipe = plan_recipe(CELLS)
    assert (recipe.optimiser.name, recipe.optimiser.learning_rate) == ("muon", 0.006)
    named, file = with_settings(recipe, [f"optimiser.name={name}"]), tmp_path / "recipe.toml"
    file.write_text(f'[optimiser]\nname = "{name}"\n')
    for found in (named, read_recipe(file, recipe)):
        assert (found.optimiser.name, found.optimiser.learning_rate) == (name, rate)
    both = with_settings(recipe, [f"optimiser.name={name}", "optimiser.learning_rate=0.5"])
    assert both.optimiser.learning_rate == 0.5
    # A rate that was chosen stays while the name does.
    assert with_settings(both, [f"optimiser.name={name}", "batch=3"]).optimiser.learning_rate == 0.5
