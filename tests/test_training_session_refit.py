"""In the end the held-out images are learnt from too: when, which, what is told, and what is kept."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import disc_dataset, disc_image
from test_training_classifying import SETTINGS as LABEL_SETTINGS
from test_training_classifying import striped
from test_training_session import TINY, assert_equal_tensors, tensors_of
from ushape.cli import main
from ushape.errors import RecipeError
from ushape.model_file import describe_model
from ushape.run import train_run
from ushape.training.batches import Batches
from ushape.training.clock import Clock, Pace
from ushape.training.listening import Listener
from ushape.training.planning import make_plan
from ushape.training.recipe import with_settings
from ushape.training.session import Session
from ushape.training.validating import Validation

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


def test_nothing_is_in_memory_twice_when_all_images_are_learnt_from(monkeypatch):
    """A single image was cut for training: what was made of that part is given up before the whole image is read."""
    real, held = Session.make_batches, []

    def make_batches(session, examples):
        before = getattr(session, "batches", None)
        held.append(([*session.encoded], before is None or not isinstance(before, Batches)))
        return real(session, examples)

    monkeypatch.setattr(Session, "make_batches", make_batches)
    run(data=disc_dataset(1), settings=HALF)
    assert held == [([], True), ([], True)]


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
    finished = run(validation=disc_dataset(2, seed=50), settings=TINY)
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
    # Where there are many a fifth of them is not missed.
    assert [make_plan(disc_dataset(n)).recipe.refit for n in (50, 51)] == [0.5, 0.0]
    paper = make_plan(disc_dataset(6), recipe="paper")
    assert (paper.recipe.refit, paper.whole) == (0.0, ())


def test_weights_that_are_worse_on_what_they_have_learnt_are_not_kept(tmp_path, monkeypatch):
    scores, watch = iter([0.2, 0.3, 0.4, 0.6, 0.5]), Validation.watch
    monkeypatch.setattr(Validation, "watch", lambda held, model: (watch(held, model), next(scores, 0.5))[1])
    asked, judge, again = [], Validation.score_watched, iter([0.6, 0.58])

    def score_watched(held, model):
        asked.append(model.decision)
        return (judge(held, model), next(again))[1]

    monkeypatch.setattr(Validation, "score_watched", score_watched)
    finished = run(tmp_path / "run", settings=[*HALF, "optimiser.decay=0"])
    assert lines(tmp_path / "run" / "events.jsonl")[-2]["event"] == "refit dropped"
    assert finished.refit_from is finished.model.facts["refit from step"] is None
    # Both are asked with what was decided, as the model would be used.
    assert asked == [finished.model.decision] * 2
    assert "is not kept" in (tmp_path / "run" / "log.txt").read_text()
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "What was learnt from all images after step 6 was worse, and was not kept." in html
    best = run(settings=[*TINY, "refit=0", "optimiser.decay=0"], steps=5)
    assert_equal_tensors(tensors_of(finished), tensors_of(best))


@pytest.mark.parametrize("short", [{"steps": 1}, {"steps": None, "minutes": 0.25, "clock": Clock(earlier=3600)}])
def test_where_no_step_follows_nothing_more_is_learnt_from(tmp_path, short, learnt):
    """One step only, or a clock that ends the run before the point where the held-out images were to join."""
    finished = run(tmp_path / "run", **short)
    assert (finished.refit_from, len(learnt)) == (None, 1)
    assert "refit" not in {event["event"] for event in lines(tmp_path / "run" / "events.jsonl")}
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("more", [{"steps": 20}, {"steps": None, "minutes": 0.25, "clock": Clock(earlier=3600)}])
def test_a_run_that_goes_on_says_that_nothing_judges_the_new_steps(tmp_path, more):
    run(tmp_path / "run")
    longer = run(tmp_path / "run", settings=(), resume=True, **more)
    assert longer.refit_from == 6
    assert longer.steps == 20 if more["steps"] else longer.steps > 12
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "learnt from after step 6, so they choose no weights and thresholds any more; to have more steps" in log


class StoppedClock(Clock):
    """No time passes."""

    def seconds(self) -> float:
        return 0.0


def test_images_learnt_from_are_not_counted_as_looked_at():
    pace = Pace(StoppedClock(), minutes=10.0, step_seconds=1.0, image_seconds=1.0)
    whole, half = (pace.stop(0, 100, 2, 0.0, validated) for validated in (1.0, 0.5))
    # Nine validations of two images of a second each are ahead (the tenth is counted with the end), or five.
    assert half - whole == 8
    assert pace.stop(90, 100, 2, 0.0, 0.5) == 690


def test_the_page_says_which_weights_its_scores_are_of(tmp_path):
    run(tmp_path / "run")
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "held out to judge it, and learnt from too in the end." in html
    assert "are of the best weights up to step 6, when none of these images had been learnt from in this run." in html
    assert "held out; trained on all 6 after step 6" in html


@pytest.mark.parametrize("refit", [0, 0.5])
def test_the_command_says_which_weights_its_scores_are_of(tmp_path, refit, capsys, monkeypatch):
    data = tmp_path / "data"
    for index in range(4):
        image, mask = disc_image(index)
        for name, array in (("images", image[0]), ("masks", mask.astype(np.uint8))):
            (data / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(data / name / f"disc{index}.png")
    settings = [part for setting in [*TINY, f"refit={refit}"] for part in ("--set", setting)]
    command = ["ushape", "train", str(data), "--steps", "4", *settings, "--device", "cpu"]
    for as_json, folder in ((True, "a"), (False, "b")):
        monkeypatch.setattr("sys.argv", [*command, "-o", str(tmp_path / folder), *(["--json"] if as_json else [])])
        with pytest.raises(SystemExit) as done:
            main()
        assert not done.value.code
        out = capsys.readouterr().out
        if as_json:
            assert json.loads(out)["refit_from"] == (2 if refit else None)
        else:
            told = "also used for choosing; of weights up to step 2, before these were learnt from)"
            assert (told in out) == bool(refit)
            assert "validation scores (also used for choosing" in out


def test_what_is_in_the_file_says_so_too(tmp_path):
    run(tmp_path / "run")
    text = describe_model(tmp_path / "run")[1]
    assert "by weights up to step 6; after it the held-out images were learnt from too" in text
    run(tmp_path / "other", settings=[*TINY, "refit=0"])
    assert "learnt from too" not in describe_model(tmp_path / "other")[1]


def test_the_log_goes_on_after_the_last_validation(tmp_path):
    run(tmp_path / "run", steps=40)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "after step 20 the held-out images are learnt from too" in log
    assert "step 20 of 40: loss " in log
    assert [step for step in range(21, 41) if f" step {step} of 40: loss" in log] == [24, 28, 32, 36, 40]


def test_a_recipe_that_was_written_down_does_not_keep_the_sentence(tmp_path):
    run(tmp_path / "run", data=disc_dataset(5))
    file, other = str(tmp_path / "run" / "recipe.toml"), disc_dataset(2, seed=50)

    def told(**options):
        planned = make_plan(disc_dataset(5), recipe=file, **options)
        return [reason for reason in planned.recipe.reasons if "learn from the held-out images too" in reason]

    assert told()[0].startswith("the last 50 % of the steps")
    assert len(told()) == 1
    assert told(settings=["refit=0"]) == told(validation=other) == []
    assert told(settings=["refit=0.255"])[0].startswith("the last 25.5 % of the steps")
    with pytest.raises(RecipeError, match=r"^expected no refit where data are named to validate on, .* drop one$"):
        make_plan(disc_dataset(5), validation=other, settings=["refit=0.5"])


def test_starting_from_a_model_that_has_learnt_from_all_images_is_told():
    data, told = disc_dataset(6), "has learnt from all of these images"
    start = run().model
    assert any(told in reason for reason in make_plan(data, start=start).recipe.reasons)
    assert not any(told in reason for reason in make_plan(disc_dataset(5), start=start).recipe.reasons)
    without = run(settings=[*TINY, "refit=0"]).model
    assert not any(told in reason for reason in make_plan(data, start=without).recipe.reasons)
    other = make_plan(data, validation=disc_dataset(2, seed=50), start=start)
    assert not any(told in reason for reason in other.recipe.reasons)


def test_starting_from_a_model_that_knows_some_of_the_held_out_images_is_told():
    """More images come, and with them others are held out than before."""
    start, more = run().model, disc_dataset(12)
    reasons = make_plan(more, start=start).recipe.reasons
    assert [r for r in reasons if "has learnt from 1 of the 2 held-out images or was chosen by them" in r]
    assert not any(
        "model to start from has" in r for r in make_plan(disc_dataset(6, seed=50), start=start).recipe.reasons
    )


def test_classifiers_can_too():
    finished = run(data=striped(40), settings=[*LABEL_SETTINGS, "refit=0.5"], steps=8)
    assert finished.refit_from == 4
    assert len(finished.evaluation.rows) == 8


@pytest.mark.parametrize("share", ["1", "-0.1"])
def test_a_wrong_share_is_refused(share):
    with pytest.raises(RecipeError, match=r"^expected refit to be a share from 0 to below 1, found -?[01]\.\d; change"):
        with_settings(make_plan(disc_dataset(2)).recipe, [f"refit={share}"])
