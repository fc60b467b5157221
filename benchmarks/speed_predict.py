"""Prediction of one large image, side by side: the same network, the same weights, in processes of their own.

    PYTHONPATH=src python benchmarks/speed_predict.py [--form quick] [--engines torch,openvino,int8] [--tiles 1120,1600]

Ours is what `ushape predict` does, in the machine's best number format and in float32; MONAI's
`sliding_window_inference` at its defaults, with windows of the training patch, in the full form also with windows like
our tiles, one at a time as ours, overlapping as these and blended by a Gaussian; nnU-Net's predictor with these,
without mirrored copies. Sides and steps of such windows are rounded to what the network's poolings divide by. Each
repetition is a process of its own, taken in turns; memory is what prediction needs on top of the program, the network
and the image. Agreement is with the answer of one pass in float32 over a window with all its context, a central part
that sees no border of the image (there the methods differ on purpose): the largest difference of a probability, and the
share of pixels whose label changed. An int8 copy is quantised in this sitting with the images that the model was
trained on; how much Dice it loses is scored on simulated images that the model has not seen. Sides of our tiles may be
named: a larger one reads less in vain and takes more memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speed.engines import LOST, keep_int8_copy
from speed.interleave import Competitor, Limits, Prepared, interleave
from speed.predicting import Task, in_own_process, mosaic, whole_window
from speed.program import Sitting, measure, parser, tell
from speed.tables import Table
from ushape.data.dataset import Dataset
from ushape.data.phantom import phantom_dataset
from ushape.geometry import tiles
from ushape.model import Model, load
from ushape.run import train_run

TITLE = "Prediction of a large image"
COLUMNS = ("s", "x ours", "Mpx/s", "peak MB", "memory x ours", "largest difference", "labels changed", "runs")
SIDES = {"tiny": 320, "quick": 2048, "full": 4096}
TRAINED = {"tiny": (8, 2), "quick": (16, 60), "full": (32, 300)}
"""Channels and training steps of the model: enough that its answers are those of a network that has learnt."""
UNSEEN = {"tiny": 1, "quick": 8, "full": 16}
"""Simulated images that an int8 copy is scored on."""
PATCH = 256
"""What the model is trained on, and so what people give MONAI as its window."""


def training_data() -> Dataset:
    """What the model is trained on."""
    return phantom_dataset(6)


def trained_model(sitting: Sitting) -> Path:
    """A model of simulated cells; trained where there is none yet from an earlier sitting."""
    channels, steps = TRAINED[sitting.form]
    path = sitting.folder / f"model-{channels}-{steps}.safetensors"
    if not path.exists():
        tell(f"training {channels} channels for {steps} steps")
        settings = [f"network.channels={channels}"] + (["patch=[64,64]"] if sitting.form == "tiny" else [])
        done = train_run(training_data(), settings=settings, steps=steps, device="cpu", keep_folder=False)
        done.model.save(path)
    return path


def windows_like_ours(model: Model, side: int) -> tuple[int, float]:
    """(side of windows like our tiles of a square image, the share of it by which neighbours overlap).

    In multiples of the network's stride, up for the window and down for the step: elsewhere poolings would see other
    cells than in the whole image, and the others be blamed for it.
    """
    starts = [tile.read[0] for tile in tiles(model.tile_geometry, (side, side), model.largest_tile())]
    (first, stop), *rest = sorted(set(starts))
    padded = model.network.geometry
    window = padded.legal_at_least(stop - first)
    return window, 1 - (rest[0][0] - first) // padded.stride * padded.stride / window if rest else 0.0


def tasks(
    model: Model, path: Path, side: int, engines: Sequence[str], sides: Sequence[int] = (), *, thorough: bool
) -> dict[str, Task]:
    """Ours first, then the others, by the names that the table shows; thorough shows two lines more.

    sides  of our tiles, each with each engine, beside what the model chooses
    """
    window, overlap = windows_like_ours(model, side)
    base = partial(Task, model=str(path), side=side)
    listed = {f"ushape, {engine}": base("ushape", engine=engine) for engine in engines}
    for engine, ours in product(engines, sides):
        listed[f"ushape, {engine}, tile {ours}"] = base("ushape", engine=engine, our_tile=ours)
    listed["ushape, torch, float32"] = base("ushape", precision="float32")
    listed[f"MONAI, defaults, window {PATCH}"] = base("monai", tile=PATCH)
    if thorough:
        listed[f"MONAI, gaussian, window {PATCH}"] = base("monai", tile=PATCH, blend="gaussian")
        blended = base("monai", tile=window, overlap=overlap, blend="gaussian", windows=1)
        listed[f"MONAI, gaussian, window {window} like our tiles"] = blended
    name = f"nnU-Net, gaussian, window {window} like our tiles"
    listed[name] = base("nnunet", tile=window, overlap=overlap, blend="gaussian")
    return listed


def compare(facts: dict[str, Any], answer: Path, reference: NDArray[np.float32]) -> None:
    """Note how far an answer is from the whole image's; of several runs the worst counts."""
    estimate = np.load(answer)
    difference = float(np.abs(estimate - reference).max())
    changed = float((estimate.argmax(axis=0) != reference.argmax(axis=0)).mean())
    facts["difference"] = max(difference, facts.get("difference", 0.0))
    facts["changed"] = max(changed, facts.get("changed", 0.0))


def columns(engines: Sequence[str]) -> tuple[str, ...]:
    """What the table tells; what 8 bits cost only where they are in it."""
    return (*COLUMNS, LOST) if "int8" in engines else COLUMNS


def prepared(task: Task, after: Callable[[dict[str, Any]], None], sitting: Sitting) -> Prepared:
    """A task to be timed; for int8 with a new copy beside the model, and what it loses among the facts."""
    ready = in_own_process(task, after)
    # Once in a sitting: rows with other tiles have the same copy.
    if task.engine == "int8" and not task.our_tile:
        tell("  predict: quantising")
        unseen = phantom_dataset(UNSEEN[sitting.form], seed=1, name="unseen")
        ready.facts.update(keep_int8_copy(load(task.model, device="cpu"), training_data(), unseen))
    return ready


def tables(sitting: Sitting, engines: Sequence[str], sides: Sequence[int] = ()) -> list[Table]:
    """One table."""
    path, side = trained_model(sitting), SIDES[sitting.form]
    model = load(path, device="cpu")
    reference = whole_window(model, mosaic(side))
    thorough = sitting.form != "quick"
    with tempfile.TemporaryDirectory() as name:
        competitors = []
        for index, (told, task) in enumerate(tasks(model, path, side, engines, sides, thorough=thorough).items()):
            answer = Path(name) / f"{index}.npy"
            after = partial(compare, answer=answer, reference=reference)
            given = Task(**{**vars(task), "answer": str(answer)})
            competitors.append(Competitor(told, partial(prepared, given, after, sitting)))
        limits = {"tiny": Limits(2, 2, 0), "quick": Limits(2, 5, 60), "full": Limits(5, 5, 0)}[sitting.form]
        outcomes = interleave(competitors, limits, told=lambda each: tell(f"  predict: {each}"))
    channels, steps = TRAINED[sitting.form]
    caption = f"{side} x {side} pixels, `auto`'s network of {channels} channels after {steps} steps on simulated cells"
    return [Table(caption, columns(engines), outcomes)]


def main() -> None:
    """Measure, write, print."""
    options = parser(__doc__)
    options.add_argument("--engines", default="torch", help="engines of ours, with commas between")
    options.add_argument("--tiles", default="", help="sides of our tiles in pixels, with commas between")
    asked = options.parse_args()
    sides = [int(side) for side in asked.tiles.split(",") if side]
    about = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].strip()
    sitting = Sitting(asked.form, asked.output)
    measure(sitting, "predict", TITLE, about, partial(tables, engines=asked.engines.split(","), sides=sides))


if __name__ == "__main__":
    main()
