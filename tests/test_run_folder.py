"""A run's folder: what it holds, and that no other run writes to it."""

import json

import pytest

from test_training_session import tiny_run
from ushape.errors import RecipeError
from ushape.training.listening import Listener

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_run_folder_holds_what_is_promised(tmp_path):
    tiny_run(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "model.safetensors",
        "recipe.toml",
        "run.json",
        "events.jsonl",
        "history.jsonl",
        "report.html",
        "log.txt",
        "checkpoint",
    }
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history] == list(range(1, 13))
    assert "validation" in history[-1]


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    """Neither a second new run nor one that resumes beside the first, from wherever this is tried."""
    told = []

    class Intruder(Listener):
        def progress(self, step, stop, loss, validation, seconds_left):
            if step == 3:
                for options in ({}, {"settings": (), "steps": None, "resume": True}):
                    with pytest.raises(RecipeError) as caught:
                        tiny_run(tmp_path / "run", **options)
                    told.append(str(caught.value))

    finished = tiny_run(tmp_path / "run", listener=Intruder())
    assert finished.steps == 12
    assert len(told) == 2
    for text in told:
        assert text.startswith("expected a folder that no other run is writing to, found one at work in ")
    assert tiny_run(tmp_path / "run", settings=(), steps=14, resume=True).steps == 14


def test_an_earlier_run_is_not_overwritten(tmp_path):
    tiny_run(tmp_path / "run")
    with pytest.raises(RecipeError, match=r"^expected a new folder for the run, found an earlier run in .*--resume"):
        tiny_run(tmp_path / "run")
