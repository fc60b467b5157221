"""A plan in words says what there is, why each thing was decided, and gives the recipe to keep."""

from dataclasses import replace

import pytest

from conftest import disc_dataset
from ushape.training.advice import describe_plan
from ushape.training.planning import make_plan
from ushape.training.recipe import read_recipe

SETTINGS = ["network.channels=4", "network.depth=3", "patch=[32, 32]"]


@pytest.fixture(scope="module")
def planned():
    return make_plan(disc_dataset(12), settings=SETTINGS, minutes=None, device="cpu")


def test_the_data_and_every_reason_are_told_once(planned):
    text = describe_plan(planned)
    n, held = len(planned.training), len(planned.validation)
    assert f"- {n} grey images of 64 x 64 px to train on, {held} held out to choose by" in text
    assert [text.count(reason) for reason in planned.recipe.reasons] == [1] * len(planned.recipe.reasons)
    assert f"\n{len(planned.recipe.reasons)}. " in text
    assert f"sees {planned.recipe.geometry.reach} px to each side of a pixel" in text


def test_small_networks_have_a_number_of_weights(planned):
    network = planned.recipe.network.build(1, planned.recipe.encoding.n_channels, 2)
    n = sum(parameter.numel() for parameter in network.parameters())
    assert 1000 < n < 1e5
    assert f"the network has {n // 1000} {n % 1000:03} weights ({-(-n // 250)} kB on disk)" in describe_plan(planned)
    wide = replace(planned.recipe, network=replace(planned.recipe.network, channels=32))
    assert "the network has 0.5 million weights (2 MB on disk)" in describe_plan(replace(planned, recipe=wide))


def test_its_recipe_can_be_kept_and_read(planned, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("name =" + describe_plan(planned).partition("name =")[2])
    read = read_recipe(path, planned.recipe)
    assert replace(read, reasons=()) == replace(planned.recipe, reasons=())


def test_few_images_are_told(planned):
    few = replace(planned, training=planned.training[:3], validation=planned.validation[:1])
    assert "the scores of 1 held-out image say little" in describe_plan(few)
    assert "each further annotated one is worth more" in describe_plan(few)
    assert "annotate more, or name others with --val" in describe_plan(few)
    one = replace(few, training=planned.training[:1], validated_on="others")
    assert "- 1 grey image of 64 x 64 px to train on" in describe_plan(one)
    assert "the scores of 1 validation image say little: annotate more of them" in describe_plan(one)
    assert "--val" not in describe_plan(one)
    many = replace(planned, training=planned.training * 3, validation=planned.training[:4])
    assert "say little" not in describe_plan(many)
    assert "each further annotated one" not in describe_plan(many)
