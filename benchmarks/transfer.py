"""What features that were learnt on something else are worth, where images with a class are few.

    python benchmarks/transfer.py [--draws 3] [--control] [--output runs/transfer] [--choose]

MNIST and Fashion-MNIST, 10 and 100 labelled images of each class. One network throughout (a padded U-Net of 3 levels
and 16 channels), with weights of three origins: random; trained to segment nuclei of fluorescence microscopy; trained
to segment images of the same kind, whose masks are Otsu's threshold, so that no label is needed. With `--control` also
trained to classify the other one of the two sets with all its labels: what a close source is worth. Compared are

- linear probes: the network stays as it is, and a logistic regression reads averages of its features; its strength of
  regularisation is chosen by cross-validation within the labelled images;
- training: the recipe `auto` of a classifier, for the same number of steps from each of the origins (from random
  weights that is training from scratch), without any choice between weights: the moving average at the end counts.

Everything comes from the sets' training part; the test part is never opened. 5000 of its images are held out to
evaluate on, 2000 others for `--choose`, which tries numbers of steps on them with a draw of its own; labelled images
and those to pre-train on come from the rest. A draw is a seed: of the labelled images, of random weights and of the
order of the batches. Budgets are steps, so that a busy machine changes no result.

Every figure is a line in `rows.jsonl` of the output folder, written when it is there; a command that is started again
goes on with what is missing. The table is printed at the end, also when it is interrupted. A draw takes about 7
minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ushape.data.catalog import open_dataset
from ushape.data.dataset import Dataset, Sample
from ushape.model import Model, load
from ushape.network.classifier import Classifier
from ushape.network.hardware import best_dtype
from ushape.network.unet import UNet
from ushape.prediction.features import levels_of
from ushape.preparation import Preparation
from ushape.run import train_run
from ushape.targets.instances import Decision
from ushape.training.checkpoint import write_lines
from ushape.training.classifying import ask_neighbours, plan_classifier, to_label_tensors
from ushape.training.examples import make_preparation, read_examples, summarise
from ushape.training.label_batches import LabelBatches
from ushape.training.loop import new_state, train_steps
from ushape.training.schedule import Plan
from ushape.training.transfer import take_weights

DATA = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
LABELS = (10, 100)
N_EVALUATION, N_CHOOSING = 5000, 2000
N_NUCLEI, N_MASKS = 150, 2000
"""Images to pre-train on."""
CHANNELS, DEPTH, SIDE = 16, 3, 28
STEPS = 600
"""Of each training; chosen with `--choose`."""
TRIED_STEPS, CHOOSING_DRAW = (150, 300, 600), 100
PRE_TRAINING_STEPS = {"nuclei": 1500, "masks": 600, "classes": 600}
CPU = torch.device("cpu")
AT_ONCE = 250
STRENGTHS = (0.001, 0.01, 0.1, 1.0)

ORIGINS = {
    "pixels": "none",
    "random": "random",
    "nuclei": "segmenter of nuclei",
    "masks": "segmenter of the same kind of images",
    "classes": "classifier of the other set (control)",
}
TRAINED = "trained"
PROBES = {
    "top": "probe of the head's level (16 values)",
    "all": "probe of every level (160 values)",
    "grid": "probe of every level on a 4 x 4 grid (2560 values)",
}
PIXELS = "probe"

Indices = NDArray[np.int64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One figure of the benchmark.

    data    a name of the catalog
    draw    see the module's docstring
    origin  of the weights, a key of ORIGINS; `pixels` is for the probe without any network
    kind    `trained`, or a key of PROBES, or `probe` for pixels
    labels  images of each class
    steps   of training; 0 for probes
    """

    data: str
    draw: int
    origin: str
    kind: str
    labels: int
    steps: int


def jobs_of(draws: Iterable[int], origins: Iterable[str]) -> list[Job]:
    """The figures of the table, those that share features one after the other."""
    found = []
    for draw in draws:
        for data in DATA:
            for origin in origins:
                kinds = [PIXELS] if origin == "pixels" else PROBES
                found += [Job(data, draw, origin, kind, labels, 0) for kind in kinds for labels in LABELS]
                if origin != "pixels":
                    found += [Job(data, draw, origin, TRAINED, labels, STEPS) for labels in LABELS]
    return found


def jobs_to_choose() -> list[Job]:
    """What the number of steps is chosen by."""
    return [
        Job(data, CHOOSING_DRAW, origin, TRAINED, min(LABELS), steps)
        for data in DATA
        for origin in ("random", "nuclei")
        for steps in TRIED_STEPS
    ]


def job_of(row: Row) -> Job:
    """What a row is the figure of."""
    return Job(**{name: value for name, value in row.items() if name != "accuracy"})


def missing(jobs: Sequence[Job], rows: Sequence[Row]) -> list[Job]:
    """The jobs without a row."""
    done = {job_of(row) for row in rows}
    return [job for job in jobs if job not in done]


# The data.


def split_indices(n: int, n_evaluation: int = N_EVALUATION, n_choosing: int = N_CHOOSING) -> tuple[Indices, ...]:
    """(to evaluate on, to choose by, the rest) of n images; always the same ones."""
    order = np.random.default_rng(0).permutation(n)
    first, second, third = np.split(order, [n_evaluation, n_evaluation + n_choosing])
    return first, second, third


def draw_labelled(labels: NDArray[np.int64], rest: Indices, per_class: int, draw: int) -> Indices:
    """`per_class` of the `rest` for each class; a draw's smaller sets are part of its larger ones."""
    order = np.random.default_rng((1, draw)).permutation(rest)
    return np.concatenate([order[labels[order] == label][:per_class] for label in np.unique(labels)])


@lru_cache
def training_part(data: str) -> tuple[Dataset, NDArray[np.int64]]:
    """(dataset, labels): the part that everything is drawn from."""
    dataset = open_dataset(f"{data}:train")
    return dataset, np.array([sample.label for sample in dataset.samples], np.int64)


def chosen(dataset: Dataset, indices: Indices) -> Dataset:
    """These samples of it."""
    return dataset.subset([dataset.samples[index] for index in indices])


def labelled_and_held_out(data: str, labels_per_class: int, draw: int) -> tuple[Dataset, Dataset]:
    """(to learn from, to evaluate on)."""
    dataset, labels = training_part(data)
    evaluation, choosing, rest = split_indices(len(dataset))
    held_out = choosing if draw == CHOOSING_DRAW else evaluation
    return chosen(dataset, draw_labelled(labels, rest, labels_per_class, draw)), chosen(dataset, held_out)


# Pre-training: one model for each origin, kept as a file.


def otsu_mask(sample: Sample) -> NDArray[np.int32]:
    """(H, W) int32: 1 where a grey image is brighter than Otsu's threshold."""
    from skimage.filters import threshold_otsu

    image = sample.read_image()[0]
    return (image > threshold_otsu(image)).astype(np.int32)


def masks_of(data: str) -> Dataset:
    """Images of the rest with masks instead of labels."""
    dataset, _ = training_part(data)
    unlabelled = chosen(dataset, split_indices(len(dataset))[2][:N_MASKS]).samples
    samples = tuple(replace(sample, label=None, mask=partial(otsu_mask, sample)) for sample in unlabelled)
    return Dataset(f"{data} by threshold", samples, "semantic", ("background", "object"))


def segmenter(dataset: Dataset, steps: int, side: int, batch: int) -> Model:
    """A segmenter by the package's own training, with the benchmark's network and small patches."""
    settings = {
        "network.channels": CHANNELS,
        "network.depth": DEPTH,
        "network.scale": 1,
        "patch": [side, side],
        "batch": batch,
        # The grid of displacements is as small as the patch, so they are small as well.
        "augmentation.elastic": side / 20,
    }
    told = [f"{name}={value}" for name, value in settings.items()]
    return train_run(dataset, steps=steps, settings=told, keep_folder=False, device="cpu").model


def pre_trained(origin: str, data: str) -> Model:
    """The model from which weights for these data are taken."""
    steps = PRE_TRAINING_STEPS[origin]
    if origin == "nuclei":
        nuclei = open_dataset("dsb2018:fluorescence-train")
        return segmenter(nuclei.subset(nuclei.samples[:N_NUCLEI]), steps, side=64, batch=8)
    if origin == "masks":
        return segmenter(masks_of(data), steps, side=SIDE, batch=32)
    (other,) = set(DATA) - {data}
    return train_classifier(training_part(other)[0], None, 0, steps)


def pre_trained_file(origin: str, data: str, folder: Path) -> Path:
    """The model's file; trained where there is none."""
    of = "" if origin == "nuclei" else f"-for-{data}"
    path = folder / f"{origin}{of}-{PRE_TRAINING_STEPS[origin]}.safetensors"
    if not path.exists():
        model = pre_trained(origin, data)
        model.save(path)
        print(f"{path.name}: {model.facts.get('validation scores, used for choosing', '')}", file=sys.stderr)
    return path


# Training.


def train_classifier(dataset: Dataset, start: Path | None, seed: int, steps: int) -> Model:
    """A classifier by the recipe `auto`, its body's weights from another model where one is named."""
    examples, _ = read_examples(dataset.samples)
    summary = replace(summarise(dataset, examples), neighbours=ask_neighbours(examples))
    recipe = plan_classifier(summary, CHANNELS, math.inf, "the benchmark's width")
    # On the working grid of a segmenter that keeps every pixel.
    recipe = replace(recipe, network=replace(recipe.network, depth=DEPTH, scale=1))
    preparation = make_preparation(recipe, summary, examples)
    images, labels = to_label_tensors(examples, preparation, CPU)
    batches = LabelBatches(images, labels, torch.ones(len(dataset.classes)), recipe.batch, recipe.augmentation, seed)
    torch.manual_seed(seed)
    network = recipe.network.build(summary.channels, len(dataset.classes), summary.dims)
    if start is not None:
        take_weights(network, load(start, device="cpu").network, same_answers=False)
    state = new_state(network, recipe, CPU)
    state.plans = [Plan(0, round(steps * (1 - recipe.optimiser.decay)), steps)]
    for _ in train_steps(state, batches, recipe, seed, CPU, best_dtype(CPU)):
        pass
    network.load_state_dict(state.average)
    return Model(
        network.eval(), preparation, "classification", dataset.classes, recipe.encoding, Decision(), device="cpu"
    )


# Probing.


def all_averages(network: UNet | Classifier, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The values (B, n) that each probe reads, of prepared images (B, 1, H, W)."""
    maps = [level for _, _, level in levels_of(network, images)]
    every = torch.cat([level.mean(dim=(2, 3)) for level in maps], dim=1)
    grid = torch.cat([F.adaptive_avg_pool2d(level, 4).flatten(1) for level in maps], dim=1)
    return {"pixels": images.flatten(1), "top": maps[-1].mean(dim=(2, 3)), "all": every, "grid": grid}


@torch.inference_mode()
def values_of(network: UNet | Classifier, dataset: Dataset) -> dict[str, NDArray[np.float32]]:
    """The values (n_images, n) that each probe reads; each image is normalised by itself, as in training."""
    network.eval()
    preparation, found = Preparation(), []
    for start in range(0, len(dataset), AT_ONCE):
        images = [preparation(sample.read_image()) for sample in dataset.samples[start : start + AT_ONCE]]
        found.append(all_averages(network, torch.from_numpy(np.stack(images))))
    return {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}


@lru_cache(maxsize=1)
def values_of_draw(data: str, draw: int, start: Path | None) -> tuple[dict[str, NDArray[np.float32]], ...]:
    """(of the largest labelled set, of the images to evaluate on) of one network."""
    torch.manual_seed(draw)
    network = load(start, device="cpu").network if start is not None else Classifier(1, 10, CHANNELS, DEPTH)
    return tuple(values_of(network, dataset) for dataset in labelled_and_held_out(data, max(LABELS), draw))


def probe(values: NDArray[np.float32], labels: Sequence[int], seed: int) -> Any:
    """A logistic regression on standardised values; 5-fold cross-validation chooses the strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, tol=1e-3))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return GridSearchCV(pipeline, {"logisticregression__C": STRENGTHS}, cv=folds).fit(values, labels)


def probed(job: Job, start: Path | None) -> float:
    """The accuracy of a probe."""
    largest, held_out = labelled_and_held_out(job.data, max(LABELS), job.draw)
    wanted = {sample.name for sample in labelled_and_held_out(job.data, job.labels, job.draw)[0].samples}
    learnt = [index for index, sample in enumerate(largest.samples) if sample.name in wanted]
    values, values_held_out = values_of_draw(job.data, job.draw, start)
    name = "pixels" if job.origin == "pixels" else job.kind
    model = probe(values[name][learnt], [largest.samples[index].label for index in learnt], job.draw)
    return float(model.score(values_held_out[name], [sample.label for sample in held_out.samples]))


def accuracy(job: Job, folder: Path) -> float:
    """Do the job."""
    start = pre_trained_file(job.origin, job.data, folder) if job.origin in PRE_TRAINING_STEPS else None
    if job.kind != TRAINED:
        return probed(job, start)
    learnt, held_out = labelled_and_held_out(job.data, job.labels, job.draw)
    return train_classifier(learnt, start, job.draw, job.steps).evaluate(held_out).scores["accuracy"]


# Rows and the table.


def read_rows(path: Path) -> list[Row]:
    """What was finished before."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def finish(jobs: Sequence[Job], path: Path, do: Callable[[Job], float]) -> None:
    """Do what has no row yet; the file is renewed after each."""
    rows = read_rows(path)
    for job in missing(jobs, rows):
        rows.append(asdict(job) | {"accuracy": do(job)})
        write_lines(path, rows)
        print(rows[-1], file=sys.stderr, flush=True)


def cell(rows: Sequence[Row]) -> str:
    """'mean (lowest to highest)' in percent; of a single draw its figure, of none a dash."""
    values = [100 * row["accuracy"] for row in rows]
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}" if values else "-"


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each origin and kind (and number of steps, where several were tried), a column for each
    set and number of labels.
    """
    columns = [(data, labels) for data in DATA for labels in LABELS]
    head = ["weights", "what is done", *(f"{DATA[data]}, {labels} a class" for data, labels in columns)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    kinds = {PIXELS: "probe of the pixels (784 values)", **PROBES, TRAINED: "trained"}
    for origin, kind in itertools.product(ORIGINS, kinds):
        own = [row for row in rows if (row["origin"], row["kind"]) == (origin, kind)]
        for steps in sorted({row["steps"] for row in own}):
            of = [[r for r in own if (r["data"], r["labels"], r["steps"]) == (*column, steps)] for column in columns]
            told = f"{kinds[kind]}, {steps} steps" if steps else kinds[kind]
            lines.append(f"| {ORIGINS[origin]} | {told} | {' | '.join(map(cell, of))} |")
    return "\n".join(lines)


def main() -> None:
    """Do what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--control", action="store_true", help="weights of a classifier of the other set too")
    parser.add_argument("--output", type=Path, default=Path("runs/transfer"), help="folder of rows and models")
    parser.add_argument("--choose", action="store_true", help="try numbers of steps instead, on other images")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    origins = [origin for origin in ORIGINS if origin != "classes" or asked.control]
    jobs = jobs_to_choose() if asked.choose else jobs_of(range(asked.draws), origins)
    path = asked.output / "rows.jsonl"
    try:
        finish(jobs, path, partial(accuracy, folder=asked.output))
    finally:
        print(table([row for row in read_rows(path) if job_of(row) in jobs]))


if __name__ == "__main__":
    main()
