"""Masks of organs lie alike, those of cells do not, and neighbours of a sequence are not asked."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import disc_dataset
from ushape.data.catalog import open_dataset
from ushape.training.orientation import FEWEST, ask_orientation
from ushape.training.planning import make_plan


def organs(n: int, shape: tuple[int, ...] = (40, 48), seed: int = 0) -> list[np.ndarray]:
    """Masks with a large piece of class 1 at the first end of the first axis and a small one of class 2 at the last."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        mask = np.zeros(shape, np.int32)
        a, b = rng.integers(0, 4, 2)
        mask[2 + a : 16 + a, 4 + b : -6 + b] = 1
        mask[-9 - a : -5 - a, 10 + b : -14 + b] = 2
        made.append(mask)
    return made


def names(n: int) -> list[str]:
    return [f"image{i}" for i in range(n)]


@pytest.mark.parametrize("shape", [(40, 48), (30, 33, 20)])
def test_masks_that_lie_alike_agree_and_less_so_mirrored_and_turned(shape):
    found = ask_orientation(organs(10, shape), names(10), classes=3)
    assert found is not None
    assert found.plain > 0.6
    assert found.mirrored < found.plain - 0.3
    assert found.turned < found.plain - 0.1


def test_symmetric_organs_may_be_mirrored():
    masks = [mask + mask[:, ::-1] + mask[::-1] + mask[::-1, ::-1] for mask in organs(8, (48, 48))]
    found = ask_orientation([(m > 0).astype(np.int32) for m in masks], names(8), classes=2)
    assert found is not None
    assert found.mirrored > found.plain - 0.1


def test_scattered_objects_agree_with_nothing():
    rng = np.random.default_rng(0)
    masks = [(rng.random((64, 64)) > 0.9).astype(np.int32) * (1 + np.arange(64)) for _ in range(12)]
    found = ask_orientation(masks, names(12), classes=0)
    assert found is not None
    assert max(map(abs, found)) < 0.1


def test_images_of_one_group_and_too_few_are_not_asked():
    masks = organs(10)
    assert ask_orientation(masks, ["movie"] * 10, classes=3) is None
    assert ask_orientation(masks[: FEWEST - 1], names(FEWEST - 1), classes=3) is None
    assert ask_orientation([np.zeros((9, 9), np.int32)] * 9, names(9), classes=3) is None
    # Only pairs across groups count: here each group lies as it likes, and agrees with itself alone.
    rng = np.random.default_rng(0)
    scattered = [(rng.random((64, 64)) > 0.9).astype(np.int32) for _ in range(8)]
    found = ask_orientation(scattered * 4, [f"g{i}" for i in range(8)] * 4, classes=0)
    assert found is not None
    assert abs(found.plain) < 0.1


def test_where_people_annotated_says_nothing():
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(12):
        mask = np.full((64, 64), -1, np.int32)
        mask[:32, :32] = rng.random((32, 32)) > 0.8
        masks.append(mask)
    assert ask_orientation(masks, names(12), classes=0) is None


def test_chance_makes_hardly_any_masks_agree():
    rng, found = np.random.default_rng(0), 0
    y, x = np.mgrid[:64, :64]
    for _ in range(200):
        places = rng.integers(8, 56, (FEWEST, 2))
        masks = [((y - r) ** 2 + (x - c) ** 2 < 64).astype(np.int32) for r, c in places]
        asked = ask_orientation(masks, names(FEWEST), classes=0)
        assert asked is not None
        found += asked.plain > 0.3
    assert found <= 4


def test_of_many_classes_the_large_ones_are_asked():
    masks = []
    for mask in organs(10):
        many = mask * 10
        many[20, :30] = np.arange(30) + 40
        masks.append(many)
    found = ask_orientation(masks, names(10), classes=80)
    assert found is not None
    assert found.plain > 0.6 > found.mirrored


def test_a_plan_asks_the_masks():
    recipe = make_plan(disc_dataset(12)).recipe
    assert any("mirrored and turned by any angle, since" in reason for reason in recipe.reasons)
    data = disc_dataset(12)
    alike = data.subset([replace(s, mask=lambda: organs(1, (64, 64))[0]) for s in data.samples])
    assert not make_plan(alike).recipe.augmentation.mirror


@pytest.mark.parametrize(("name", "mirror"), [("hippocampus:train", False), ("dsb2018:fluorescence", True)])
def test_real_organs_lie_alike_and_nuclei_do_not(real_data, name, mirror):
    samples = open_dataset(name).annotated.samples[:30]
    found = ask_orientation([s.read_mask() for s in samples], [s.group or s.name for s in samples], classes=0)
    assert found is not None
    assert (found.plain - found.mirrored < 0.2) == mirror
