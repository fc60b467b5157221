"""What a run refuses to begin with."""

import pytest

from conftest import disc_dataset
from test_training_session import tiny_run
from ushape.errors import RecipeError
from ushape.run import train_run


def test_resuming_nothing_or_with_other_data_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"^expected an interrupted run in .* to resume, found none"):
        tiny_run(tmp_path / "none", settings=(), resume=True)
    tiny_run(tmp_path / "run")
    with pytest.raises(RecipeError, match=r"was trained and validated on, found other data"):
        train_run(disc_dataset(3), output=tmp_path / "run", resume=True)
    # The same training data, but validated on a part of them.
    with pytest.raises(RecipeError, match=r"was trained and validated on, found other data"):
        train_run(disc_dataset(6), output=tmp_path / "run", resume=True)
    with pytest.raises(RecipeError, match=r"^expected the recipe of the run that is resumed, found another"):
        tiny_run(tmp_path / "run", resume=True)
    with pytest.raises(RecipeError, match=r"^expected the folder of the run to resume, found none; name it with -o"):
        tiny_run(settings=(), resume=True)


def test_a_resumed_run_takes_no_other_model_to_start_from(tmp_path):
    with pytest.raises(RecipeError, match="expected no model to start from, since the run that is resumed has kept"):
        train_run(disc_dataset(4), output=tmp_path / "run", resume=True, start=tmp_path / "other.safetensors")


def test_minutes_and_steps_together_are_refused():
    with pytest.raises(RecipeError, match=r"^expected either minutes or steps, found 1 minutes and 5 steps; drop one$"):
        tiny_run(minutes=1, steps=5)
    with pytest.raises(RecipeError, match=r"^expected at least 1 step, found 0"):
        tiny_run(steps=0)
    with pytest.raises(RecipeError, match=r"^expected a number of minutes, found inf; say how many"):
        tiny_run(minutes=float("inf"), steps=None)
