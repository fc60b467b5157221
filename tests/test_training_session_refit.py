"""In the end the held-out images are learnt from too: when, which, what is told, and what is kept."""

import json
import signal
from dataclasses import replace

import pytest
import torch

from conftest import disc_dataset
from test_training_classifying import SETTINGS as LABEL_SETTINGS
from test_training_classifying import striped
from test_training_session import TINY, assert_equal_tensors, tensors_of
from ushape.errors import RecipeError
from ushape.run import train_run
from ushape.training.clock import Clock, Pace
from ushape.training.planning import make_plan
from ushape.training.recipe import with_settings
from ushape.training.session import Listener, Session

HALF = [*TINY, "refit=0.5"]


def run(folder=None, data=None, **options):
    options = {"steps": 12, "seed": 3, "settings": HALF, "keep_folder": folder is not None} | options
    return train_run(data or disc_dataset(6), output=folder, device="cpu", **options)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Stop(Listener):
    """Ctrl-C at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def progress(self, step, stop, loss, validation, seconds_left):
        if step == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def learnt(monkeypatch):
    """The names of the images of each set of batches that a session has made."""
    seen, real = [], Session.make_batches

    def make(session, examples):
        seen.append(sorted(example.sample.name for example in examples))
        return real(session, examples)

    monkeypatch.setattr(Session, "make_batches", make)
    return seen


def test_the_last_half_of_the_steps_learns_from_all_images(tmp_path, learnt):
    finished = run(tmp_path / "run")
    names = [f"disc{i}" for i in range(6)]
    held = [row["name"] for row in finished.evaluation.rows]
    assert held
    assert learnt == [sorted(set(names) - set(held)), names]
    (event,) = [e for e in lines(tmp_path / "run" / "events.jsonl") if e["event"] == "refit"]
    assert (event["step"], event["images"]) == (6, 6)
    assert finished.refit_from == finished.model.facts["refit from step"] == 6
    # Held-out images are asked before they are learnt from, and not any more afterwards.
    asked = [row["step"] for row in lines(tmp_path / "run" / "history.jsonl") if "validation" in row]
    assert max(asked) == 6


def test_the_scores_are_of_weights_that_had_not_seen_the_images():
    """A run that ends where the other one begins to learn from all images has the same weights, scores and decision."""
    settings = [*HALF, "optimiser.decay=0"]
    whole, half = run(settings=settings), run(settings=[*TINY, "refit=0", "optimiser.decay=0"], steps=6)
    assert whole.evaluation.rows == half.evaluation.rows
    assert whole.model.decision == half.model.decision
    assert not torch.equal(tensors_of(whole)["head.weight"], tensors_of(half)["head.weight"])
    assert half.refit_from is half.model.facts["refit from step"] is None


@pytest.mark.parametrize("stopped_at", [4, 6, 9])
def test_a_run_that_was_stopped_resumes_to_the_same_tensors(tmp_path, stopped_at):
    stopped = run(tmp_path / "run", listener=Stop(stopped_at))
    assert (stopped.interrupted, stopped.steps) == (True, stopped_at)
    resumed = run(tmp_path / "run", settings=(), steps=None, resume=True)
    assert resumed.refit_from == 6
    whole = run()
    assert_equal_tensors(tensors_of(resumed), tensors_of(whole))
    assert resumed.evaluation.rows == whole.evaluation.rows
    assert sum("learn from the held-out images" in reason for reason in lines_of_recipe(tmp_path / "run")) == 1


def lines_of_recipe(folder):
    return (folder / "recipe.toml").read_text().split('", "')


def test_what_was_named_to_validate_on_is_never_learnt_from(learnt):
    finished = run(validation=disc_dataset(2, seed=50))
    assert learnt == [[f"disc{i}" for i in range(6)]]
    assert finished.refit_from is None
    planned = make_plan(disc_dataset(6), validation=disc_dataset(2, seed=50))
    assert (planned.recipe.refit, planned.whole) == (0.0, ())
    assert not any("held-out images" in reason for reason in planned.recipe.reasons)


def test_of_a_single_image_the_quarter_and_the_gap_are_learnt_in_the_end():
    planned = make_plan(disc_dataset(1), settings=HALF)
    (whole,), (part,) = planned.whole, planned.training
    assert (part.mask == -1).any()
    assert not (whole.mask == -1).any()
    assert part.mask.shape[0] < whole.mask.shape[0] or part.mask.shape[1] < whole.mask.shape[1]


def test_images_in_the_gap_of_a_stack_are_learnt_in_the_end():
    data = disc_dataset(15)
    stack = data.subset([replace(s, group="stack", position=i) for i, s in enumerate(data.samples)])
    planned = make_plan(stack, settings=HALF)
    assert (len(planned.training), len(planned.validation), len(planned.whole)) == (10, 3, 15)


def test_auto_does_so_for_masks_and_the_paper_does_not():
    assert make_plan(disc_dataset(6)).recipe.refit == 0.5
    assert any("learn from the held-out images too" in reason for reason in make_plan(disc_dataset(6)).recipe.reasons)
    paper = make_plan(disc_dataset(6), recipe="paper")
    assert (paper.recipe.refit, paper.whole) == (0.0, ())


def test_weights_that_are_worse_on_what_they_have_learnt_are_not_kept(tmp_path, monkeypatch):
    scores, real = iter([0.2, 0.3, 0.4, 0.6, 0.5]), Session.watch
    monkeypatch.setattr(Session, "watch", lambda session, model: (real(session, model), next(scores, 0.1))[1])
    finished = run(tmp_path / "run", settings=[*HALF, "optimiser.decay=0"])
    assert lines(tmp_path / "run" / "events.jsonl")[-2]["event"] == "refit dropped"
    assert finished.refit_from is finished.model.facts["refit from step"] is None
    assert "is not kept" in (tmp_path / "run" / "log.txt").read_text()
    best = run(settings=[*TINY, "refit=0", "optimiser.decay=0"], steps=5)
    assert_equal_tensors(tensors_of(finished), tensors_of(best))


def test_a_clock_that_cuts_the_run_short_begins_at_once(tmp_path):
    """The number of steps is revised below the point where the held-out images were to join."""
    finished = run(tmp_path / "run", steps=None, minutes=0.25, clock=Clock(earlier=3600))
    assert finished.steps < 10
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_images_learnt_from_are_not_counted_as_looked_at():
    pace = Pace(Clock(earlier=0.0), minutes=10.0, step_seconds=1.0, image_seconds=1.0)
    whole, half = (pace.stop(0, 100, 2, 0.0, validated) for validated in (1.0, 0.5))
    # Nine validations of two images of a second each are ahead, or four.
    assert (half - whole) == pytest.approx(10, abs=1)
    assert pace.stop(90, 100, 2, 0.0, 0.5) == pytest.approx(690, abs=1)


def test_the_page_says_which_weights_its_scores_are_of(tmp_path):
    run(tmp_path / "run")
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "held out to judge it, and learnt from too in the end." in html
    assert "are of the weights of before step 6, which had not seen them." in html
    assert "all 6 to train on from step 6 on" in html


def test_classifiers_can_too():
    finished = run(data=striped(40), settings=[*LABEL_SETTINGS, "refit=0.5"], steps=8)
    assert finished.refit_from == 4
    assert len(finished.evaluation.rows) == 8


@pytest.mark.parametrize("share", ["1", "-0.1"])
def test_a_wrong_share_is_refused(share):
    with pytest.raises(RecipeError, match=r"^expected refit to be a share from 0 to below 1, found -?[01]\.\d; change"):
        with_settings(make_plan(disc_dataset(2)).recipe, [f"refit={share}"])
