"""Training and prediction on a GPU: how much of the card is used, and whether it waits for the program.

    PYTHONPATH=src python benchmarks/speed_gpu.py [--form quick] [--device cuda]

The real loop (`ushape.training.loop`), sampling and augmentation included, without reading a number back in between.
A run is many steps, timed from the first to the last one's end. How long the card computed in a step is the time of all
its kernels, by torch's profiler in a run of its own; the rest of a step it waited. The paper's experiment on membranes
took 30 000 steps of one tile; the same number of tiles in larger batches is less work for the program. A prediction is
array in, probabilities out. `--device cpu` tries the script where there is no GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from speed.interleave import Competitor, Prepared, interleave, timed
from speed.program import Sitting, measure, parser, tell
from speed.tables import Table
from speed_step import auto_recipe, cells, limits, our_network, our_records, paper_case
from ushape.errors import UshapeError
from ushape.model import Model, Preparation
from ushape.network.hardware import best_dtype, choose_device, describe_device, finish
from ushape.targets.instances import default_decision
from ushape.training.loop import Record
from ushape.training.recipe import Recipe

TITLE = "On a GPU"
COLUMNS = ("ms", "GFLOP", "GFLOP/s", "of the ceiling", "GPU waits", "30 000 tiles", "dtype", "image", "runs")
PREDICTED = ("s", "Mpx/s", "dtype", "runs")
PAPERS_TILES = 30_000
STEPS = {"tiny": 2, "quick": 50, "full": 200}
"""In one run."""
SHOWN = 12
"""Kernels in the profile that is printed."""


def seconds_a_step(records: Iterator[Record], n_steps: int, device: torch.device) -> float:
    """The mean over a run of steps."""
    finish(device)
    begun = time.perf_counter()
    for _ in range(n_steps):
        next(records)
    finish(device)
    return (time.perf_counter() - begun) / n_steps


def computing_seconds(records: Iterator[Record], n_steps: int, device: torch.device) -> float:
    """What the kernels of a step take, all together; the longest ones are printed."""
    here = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *here]) as watched:
        seconds_a_step(records, n_steps, device)
    print(watched.key_averages().table(sort_by="self_device_time_total", row_limit=SHOWN), file=sys.stderr)
    kernels = [event for event in watched.events() if event.device_type == DeviceType.CUDA]
    return sum(each.self_device_time_total for each in kernels if not each.is_user_annotation) / 1e6 / n_steps


def steps_of(recipe: Recipe, device: torch.device, n_steps: int) -> Prepared:
    """Steps of a recipe; one run before is left for choosing kernels."""
    records, facts = our_records(recipe, device)
    run = partial(seconds_a_step, records, n_steps, device)
    run()
    each = run()
    if device.type == "cuda":
        facts["GPU waits"] = f"{max(0.0, 1 - computing_seconds(records, n_steps, device) / each):.1%}"
    facts["30 000 tiles"] = f"{PAPERS_TILES / recipe.batch * each / 60:.1f} min"
    return Prepared(run, facts)


def step_tables(sitting: Sitting, device: torch.device) -> list[Table]:
    """The paper's network and recipe in several batches, then `auto`'s network."""
    paper, tiny = paper_case(sitting.form).recipe, sitting.form == "tiny"
    listed = [("the paper's, one tile", paper)]
    listed += [(f"the paper's, {n} tiles", replace(paper, batch=n)) for n in ((2,) if tiny else (4, 16))]
    sizes = [(8, 64, 2)] if tiny else [(64, 256, 2), (64, 256, 16), (32, 512, 8)]
    listed += [(f"auto, {channels} channels", auto_recipe(channels, side, batch)) for channels, side, batch in sizes]
    n_steps = STEPS[sitting.form]
    competitors = [Competitor(name, partial(steps_of, recipe, device, n_steps)) for name, recipe in listed]
    outcomes = interleave(competitors, limits(sitting.form, 30), told=lambda name: tell(f"  steps: {name}"))
    note = f"A run is {n_steps} steps. `auto`'s row for 30 000 tiles is of patches of its own size."
    return [Table("Training step", COLUMNS, outcomes, note)]


def prediction_of(side: int, sitting: Sitting, device: torch.device) -> Prepared:
    """The paper's network: an image in, probabilities out."""
    recipe = paper_case(sitting.form).recipe
    classes, decision = ("background", "object"), default_decision(recipe.encoding)
    network = our_network(recipe).eval()
    model = Model(network, Preparation(), "instances", classes, recipe.encoding, decision, device=str(device))
    facts = {"pixels": side**2, "dtype": str(best_dtype(device)).removeprefix("torch.")}
    return Prepared(timed(partial(model.maps, cells(side)[1].image)), facts)


def predict_tables(sitting: Sitting, device: torch.device) -> list[Table]:
    """The paper's network over one image."""
    sides = (128,) if sitting.form == "tiny" else (512, 4096)
    competitors = [Competitor(f"{n} x {n} pixels", partial(prediction_of, n, sitting, device)) for n in sides]
    outcomes = interleave(competitors, limits(sitting.form, 20), told=lambda name: tell(f"  prediction: {name}"))
    return [Table("Prediction, the paper's network", PREDICTED, outcomes)]


def main() -> None:
    """Measure, write, print."""
    options = parser(__doc__)
    options.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    asked = options.parse_args()
    try:
        device = choose_device(asked.device)
    except UshapeError as error:
        sys.exit(str(error))
    tell(describe_device(device))
    sitting = Sitting(asked.form, asked.output)
    about = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].strip()

    def tables(sitting: Sitting) -> list[Table]:
        return step_tables(sitting, device) + predict_tables(sitting, device)

    measure(sitting, "gpu", TITLE, about, tables, device)


if __name__ == "__main__":
    main()
