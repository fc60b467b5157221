"""The table of decisions: a run's own is what `evaluate` says, and runs are found by their names."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import reading
from bench.splits import open_part, read_splits
from ushape.model import Model
from ushape.network.unet import UNet
from ushape.preparation import Preparation
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding


def write_run(folder, kind):
    torch.manual_seed(0)
    encoding = Encoding(kind)
    network = UNet(n_classes=encoding.n_channels, channels=4, depth=2, padding="same", norm="batch").eval()
    decision = Decision(0.34, 0.3)
    model = Model(network, Preparation(channels=1), "instances", ("background", "object"), encoding, decision)
    run = folder / f"phantom-learn-auto-1minutes-seed0-{kind}"
    run.mkdir()
    model.save(run / "model.safetensors")
    return model


@pytest.fixture(params=["border", "distance"])
def folder(request, tmp_path):
    return tmp_path, write_run(tmp_path, request.param)


def test_a_runs_own_decision_scores_as_evaluate_does(folder):
    path, model = folder
    scores = reading.scores_of(next(path.iterdir()))
    expected = model.evaluate(open_part(read_splits()["phantom"].tune)).scores
    assert scores["the run's own"] == [expected[key] for key in reading.SCORES]
    assert len(scores) == {"border": 16, "distance": 17}[model.encoding.kind]
    others = [name for name in scores if name.startswith(("merging", "seeds"))]
    assert any(scores[name] != scores["default"] for name in others)


def test_a_runs_own_decision_is_read_at_other_thresholds_of_the_mask(folder):
    path, _ = folder
    run = next(path.iterdir())
    scores = reading.scores_of(run, by_threshold=True)
    assert list(scores)[:3] == ["the run's own", "mask above 0.3", "mask above 0.4"]
    assert scores["mask above 0.3"] == scores["the run's own"] != scores["mask above 0.8"]


def test_gold_truth_alone_is_what_evaluate_scores_against(folder, monkeypatch):
    path, model = folder
    part = open_part(read_splits()["phantom"].tune)
    # Silver truth, a reference that differs from what is learnt, a reference that is not complete, and gold truth.
    silver, partial, cut, *rest = part.samples
    silver = replace(silver, scored=False)
    partial = replace(partial, reference=lambda: np.full_like(partial.read_mask(), 1))
    cut = replace(cut, complete=False)
    part = replace(part, samples=(silver, partial, cut, *rest))
    monkeypatch.setattr(reading, "open_part", lambda _: part)
    expected = model.evaluate(part).scores
    gold, every = (reading.scores_of(next(path.iterdir()), gold=gold)["the run's own"] for gold in (True, False))
    assert gold == [expected[key] for key in reading.SCORES] != every


def test_the_table_has_each_run_and_the_mean(folder, capsys):
    path, model = folder
    assert reading.main(["--folder", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"phantom-learn-auto-1minutes-seed0-{model.encoding.kind}\n    the run's own ")
    head = "| decision | SEG | F1@0.5 | AP@0.5:0.95 | AP@0.5 | AP@0.9 |\n|---|---|---|---|---|---|\n"
    assert f"mean of 1 runs\n\n{head}| the run's own | " in printed


def test_without_runs_it_says_so(tmp_path, capsys):
    assert reading.main(["--folder", str(tmp_path)]) == 1
    assert "expected finished runs on `learn`, found none" in capsys.readouterr().err


def test_runs_of_two_kinds_have_a_table_each(tmp_path, capsys):
    for kind in ("border", "distance"):
        write_run(tmp_path, kind)
    assert reading.main(["--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("mean of 1 runs") == 2
    assert "| merging 0.5 |" in printed
    assert "| merging 0.6 |" in printed
