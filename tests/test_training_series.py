"""Neighbours of a stack or a sequence are told from images that are only numbered; a block of them is held out."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from conftest import disc_dataset
from ushape.data.catalog import open_dataset
from ushape.data.dataset import Dataset, Sample
from ushape.errors import RecipeError
from ushape.run import train_run
from ushape.training.examples import read_examples
from ushape.training.holdout import hold_out
from ushape.training.planning import make_plan
from ushape.training.series import are_neighbours, find_series, numbered


def slices(n: int, seed: int = 0) -> list[np.ndarray]:
    """Slices (1, 64, 72) of a smooth volume under one uneven light, with noise: each is like the next."""
    rng = np.random.default_rng(seed)
    volume = ndimage.gaussian_filter(rng.normal(size=(n, 64, 72)), (1.5, 3, 3))
    light = np.linspace(0, 20, 72)
    return list((50 * volume / volume.std() + light + rng.normal(size=volume.shape))[:, None])


def as_dataset(images: list[np.ndarray], names: list[str], group: str = "") -> Dataset:
    def mask():
        drawn = np.zeros((64, 72), np.int32)
        drawn[10:30, 10:40] = 1
        return drawn

    samples = [
        Sample(name, (lambda each: lambda: each)(image), mask, group=group)
        for name, image in zip(names, images, strict=True)
    ]
    return Dataset("flat", tuple(samples), "instances", ("background", "object"))


def test_neighbours_are_told_from_images_in_any_order():
    images = slices(12)
    assert are_neighbours(images)
    rng = np.random.default_rng(1)
    assert not any(are_neighbours([images[i] for i in rng.permutation(12)]) for _ in range(10))
    # What all share makes no neighbours, nor do sizes that differ, constant images and too few to tell.
    alone = [slices(1, seed)[0] for seed in range(12)]
    assert not are_neighbours(alone)
    assert not are_neighbours([np.zeros((1, 9, 9))] * 12)
    assert not are_neighbours([*images[:-1], images[-1][:, 1:]])
    assert not are_neighbours(images[:7])


def test_chance_makes_hardly_any_neighbours():
    rng = np.random.default_rng(0)
    found = [
        are_neighbours(list(ndimage.gaussian_filter(rng.normal(size=(9, 1, 40, 40)), (0, 0, 8, 8)))) for _ in range(60)
    ]
    assert sum(found) <= 2


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a_007", ("a_#", 7)), ("s12_t003_dic", ("s12_t#_dic", 3)), ("42", ("#", 42)), ("image", None), ("", None)],
)
def test_the_last_number_of_a_name_counts(name, parts):
    assert numbered(name) == parts


def test_a_block_of_a_series_is_held_out_behind_a_gap():
    names = [f"slice_{number}" for number in range(20)]
    # In the order of names 10 comes before 2.
    dataset = as_dataset(slices(20), names)
    shuffled = dataset.subset([dataset.samples[i] for i in np.argsort(names)])
    planned = make_plan(shuffled)
    assert [e.sample.name for e in planned.validation] == [f"slice_{n}" for n in (16, 17, 18, 19)]
    assert sorted(int(e.sample.name[6:]) for e in planned.training) == list(range(14))
    assert any(
        "The 20 images from slice_0 on are numbered and like their neighbours" in finding
        for finding in planned.findings
    )


def test_images_that_are_only_numbered_are_held_out_here_and_there():
    planned = make_plan(disc_dataset(10))
    assert [e.sample.name for e in planned.validation] == ["disc2", "disc7"]
    assert not any("like their neighbours" in finding for finding in planned.findings)


def test_groups_that_are_known_stay_and_two_series_are_two():
    first, second = slices(14), slices(14, seed=1)
    names = [f"{which}{n}" for n in range(14) for which in "ab"]
    images = [image for pair in zip(first, second, strict=True) for image in pair]
    found = find_series(read_examples(as_dataset(images, names).samples)[0])
    assert [[e.sample.name for e in members] for members in found] == [[f"{w}{n}" for n in range(14)] for w in "ab"]
    assert find_series(read_examples(as_dataset(images, names, group="dish").samples)[0]) == []
    planned = make_plan(as_dataset(images, names))
    assert sorted(e.sample.name for e in planned.validation) == ["a11", "a12", "a13", "b11", "b12", "b13"]
    assert sum("the last 3 are held out" in finding for finding in planned.findings) == 1


def test_images_beside_a_series_are_held_out_as_ever():
    single = [f"other_{c}" for c in "abcdefghij"]
    others = [slices(1, seed)[0] for seed in range(100, 110)]
    planned = make_plan(as_dataset(slices(20) + others, [f"slice_{n:02}" for n in range(20)] + single))
    held = [e.sample.name for e in planned.validation]
    assert [name for name in held if name.startswith("slice")] == [f"slice_{n}" for n in (16, 17, 18, 19)]
    assert len([name for name in held if name.startswith("other")]) == 2
    assert len(planned.training) == 14 + 8


def test_a_block_has_something_to_find_though_the_ends_are_empty():
    """An organ in the middle of a stack."""
    dataset = as_dataset(slices(30), [f"slice_{n:02}" for n in range(30)])
    empty = np.zeros((64, 72), np.int32)
    samples = [s if 5 <= n <= 21 else replace(s, mask=lambda: empty) for n, s in enumerate(dataset.samples)]
    planned = make_plan(dataset.subset(samples))
    assert [e.sample.name for e in planned.validation] == [f"slice_{n}" for n in range(19, 30)]
    assert [e.sample.name for e in planned.training] == [f"slice_{n:02}" for n in range(17)]


def test_images_taken_in_two_ways_are_no_series():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :72]
    field = (y - 32) ** 2 + (x - 36) ** 2 < 900
    images = [each * (field if n < 30 else 1) for n, each in enumerate(rng.normal(5, 1, (45, 1, 64, 72)))]
    assert not are_neighbours(images)


def test_a_run_that_had_other_images_held_out_is_not_resumed(tmp_path, monkeypatch):
    dataset = as_dataset(slices(20), [f"slice_{n:02}" for n in range(20)])
    given = {"output": tmp_path / "run", "device": "cpu", "steps": 4}
    settings = ["network.channels=4", "network.depth=3", "patch=[32, 32]", "batch=2"]
    with monkeypatch.context() as before:
        before.setattr("ushape.training.holdout.find_series", lambda _: [])
        train_run(dataset, settings=settings, **given)
    with pytest.raises(RecipeError, match="expected the images that this run had held out, found that others would"):
        train_run(dataset, resume=True, **(given | {"steps": 8}))


def test_flat_copies_of_real_stacks_and_sequences(real_data):
    for name, expected in (("isbi2012:train", True), ("dic-hela:01", True), ("phc-u373:02", True), ("dsb2018", False)):
        dataset = open_dataset(name)
        flat = [replace(s, group="", name=f"{n:03}") for n, s in enumerate(dataset.annotated.samples[:24])]
        examples = read_examples(flat)[0]
        assert bool(find_series(examples)) == expected, name
        held = hold_out(dataset, examples, 0.2, 60)[1]
        numbers = [int(e.sample.name) for e in held]
        assert (np.diff(numbers) == 1).all() == expected
