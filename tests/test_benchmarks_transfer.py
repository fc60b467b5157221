"""The parts of benchmarks/transfer.py that need no data: who is drawn, what is done again, what the table says."""

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parent.parent / "benchmarks" / "transfer.py"


@pytest.fixture(scope="module")
def transfer():
    """The script as a module; dataclasses look their module up by its name."""
    spec = importlib.util.spec_from_file_location("benchmark_transfer", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def some_labels(n=2000):
    return np.random.default_rng(7).integers(0, 10, n)


def test_no_image_is_in_two_parts(transfer):
    parts = transfer.split_indices(2000, 500, 300)
    assert [len(part) for part in parts] == [500, 300, 1200]
    assert sorted(np.concatenate(parts)) == list(range(2000))


def test_labelled_images_are_none_to_evaluate_on_and_as_many_of_each_class(transfer):
    labels = some_labels()
    evaluation, choosing, rest = transfer.split_indices(len(labels), 500, 300)
    for draw in range(3):
        drawn = transfer.draw_labelled(labels, rest, 20, draw)
        assert len(set(drawn)) == 200
        assert not set(drawn) & (set(evaluation) | set(choosing))
        assert np.bincount(labels[drawn]).tolist() == [20] * 10


def test_a_draw_is_repeatable_unlike_the_others_and_its_smaller_set_lies_in_its_larger_one(transfer):
    labels, rest = some_labels(), np.arange(2000)
    first, again, other = (set(transfer.draw_labelled(labels, rest, 20, draw)) for draw in (0, 0, 1))
    assert first == again
    assert len(first & other) < 100
    assert set(transfer.draw_labelled(labels, rest, 5, 0)) < first


def test_images_to_choose_by_are_others_than_those_of_the_table(transfer, real_data):
    learnt, held_out = transfer.labelled_and_held_out("mnist", 10, 0)
    learnt_to_choose, choosing = transfer.labelled_and_held_out("mnist", 10, transfer.CHOOSING_DRAW)
    names = [{sample.name for sample in part.samples} for part in (learnt, held_out, choosing)]
    assert [len(part) for part in names] == [100, 5000, 2000]
    assert not any(names[i] & names[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    assert not names[1] & {sample.name for sample in learnt_to_choose.samples}
    assert all(name.startswith("train_") for part in names for name in part)


def test_what_has_a_row_is_not_done_again(transfer, tmp_path):
    jobs = transfer.jobs_of([0], ["random"])[:4]
    path, done = tmp_path / "rows.jsonl", []

    def interrupted(job):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job)
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        transfer.finish(jobs, path, interrupted)
    assert done == jobs[:3]

    transfer.finish(jobs, path, lambda job: done.append(job) or 0.25)
    assert done == jobs
    rows = transfer.read_rows(path)
    assert [transfer.job_of(row) for row in rows] == jobs
    assert [row["accuracy"] for row in rows] == [0.5, 0.5, 0.5, 0.25]


def test_another_number_of_steps_is_another_job(transfer):
    job = transfer.Job("mnist", 0, "random", "trained", 10, 300)
    longer = transfer.Job("mnist", 0, "random", "trained", 10, 600)
    assert transfer.missing([job, longer], [asdict(job) | {"accuracy": 0.9}]) == [longer]


def test_the_table_tells_mean_and_range_of_several_draws_and_the_figure_of_one(transfer):
    def row(data, draw, origin, kind, labels, steps, accuracy):
        return asdict(transfer.Job(data, draw, origin, kind, labels, steps)) | {"accuracy": accuracy}

    rows = [
        row("mnist", 0, "nuclei", "trained", 10, 600, 0.8),
        row("mnist", 1, "nuclei", "trained", 10, 600, 0.9),
        row("mnist", 2, "nuclei", "trained", 10, 600, 0.76),
        row("mnist", 0, "nuclei", "trained", 10, 150, 0.5),
        row("fashion-mnist", 0, "pixels", "probe", 100, 0, 0.7),
    ]
    assert transfer.table(rows).splitlines() == [
        "| weights | what is done | MNIST, 10 a class | MNIST, 100 a class | Fashion-MNIST, 10 a class | "
        "Fashion-MNIST, 100 a class |",
        "|---|---|---|---|---|---|",
        "| none | probe of the pixels (784 values) | - | - | - | 70.0 |",
        "| segmenter of nuclei | trained, 150 steps | 50.0 | - | - | - |",
        "| segmenter of nuclei | trained, 600 steps | 82.0 (76.0 to 90.0) | - | - | - |",
    ]


def test_probes_read_as_many_values_as_the_table_says(transfer):
    import torch

    network = transfer.Classifier(1, 10, transfer.CHANNELS, transfer.DEPTH).eval()
    with torch.inference_mode():
        values = transfer.all_averages(network, torch.randn(2, 1, transfer.SIDE, transfer.SIDE))
        pooled = network.pooled
        images = torch.randn(2, 1, transfer.SIDE, transfer.SIDE)
        assert torch.allclose(transfer.all_averages(network, images)["top"], pooled(images), atol=1e-5)
    told = transfer.PROBES | {"pixels": "(784 values)"}
    assert {name: f"{value.shape[1]} values" in told[name] for name, value in values.items()} == dict.fromkeys(
        values, True
    )
    assert values["grid"].reshape(2, 160, 16).mean(-1)[0, :16] == pytest.approx(values["all"][0, :16], abs=1e-4)
