"""nnU-Net as its three commands have it: plan and preprocess, train the configuration 2d on fold 0, predict.

As its documentation says for 2-D images: a file for each channel, masks of consecutive classes, `dataset.json`, the
reader NaturalImage2DIO; its own planner, its own split of five, the final checkpoint, and prediction with mirroring.
Pixels that nobody labelled are its `ignore` label. It has no instances, so objects are told as core and border and read
again by `acvl_utils.instance_segmentation`, a package of the same authors, at its defaults. Numbers of worker processes
are those of the cores. Only the time is cut (`nnunet_trainer/race_trainer.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from racing.contest import Finish, Image, Labels, Maps, Start, need, rival
from racing.lesson import channels_of
from ushape.data.dataset import Dataset, Sample, Task
from ushape.errors import RecipeError
from ushape.targets.maps import Encoding
from ushape.training.examples import Example, read_examples, summarise

__all__ = [
    "commands",
    "description",
    "environment",
    "from_nnunet",
    "read_maps",
    "run_nnunet",
    "to_nnunet",
    "write_raw",
]

TRAINER = Path(__file__).parent / "nnunet_trainer" / "race_trainer.py"
DATASET = "Dataset001_race"
ENDING = ".tif"
CORE, BORDER = "core", "border"
INSTANCE_CLASSES = ("background", CORE, BORDER)


def cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_and_border(instances: Labels) -> NDArray[np.uint8]:
    """Instances (H, W) -> 0 background, 1 core, 2 border of two pixels."""
    from acvl_utils.instance_segmentation.instance_as_semantic_seg import convert_instanceseg_to_semantic_patched

    return convert_instanceseg_to_semantic_patched(instances.astype(np.uint32)[None])[0]


def cores_to_instances(labels: NDArray[np.uint8]) -> Labels:
    """The inverse of `core_and_border`: each core grows into the border around it."""
    from acvl_utils.instance_segmentation.instance_as_semantic_seg import convert_semantic_to_instanceseg

    # It changes what it is given.
    return convert_semantic_to_instanceseg(labels.astype(np.uint8)[None].copy())[0].astype(np.int32)


def to_nnunet(mask: Labels, task: Task, n_classes: int) -> NDArray[np.uint8]:
    """A mask (H, W) as nnU-Net learns it: classes, or core and border; pixels to ignore have the class `n_classes`."""
    known = np.maximum(mask, 0)
    labels = core_and_border(known) if task == "instances" else known.astype(np.uint8)
    return np.where(mask < 0, n_classes, labels).astype(np.uint8)


def from_nnunet(maps: Maps, task: Task) -> Labels:
    """nnU-Net's probabilities (K, H, W) -> classes or objects (H, W) int32."""
    labels = maps.argmax(axis=0)
    return cores_to_instances(labels.astype(np.uint8)) if task == "instances" else labels.astype(np.int32)


def description(classes: Sequence[str], channels: int, n_cases: int, ignored: bool) -> dict[str, Any]:
    """What stands in `dataset.json`; class 0 is always called background there.

    ignored  whether some pixels are to be ignored
    """
    labels = {"background": 0} | {name: number for number, name in enumerate(classes) if number}
    return {
        "channel_names": {str(number): f"channel {number}" for number in range(channels)},
        "labels": labels | ({"ignore": len(classes)} if ignored else {}),
        "numTraining": n_cases,
        "file_ending": ENDING,
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }


def case_name(number: int) -> str:
    """nnU-Net sorts cases by name."""
    return f"case_{number:04d}"


def write_image(folder: Path, number: int, image: Image) -> None:
    """A file for each channel of an image (C, H, W)."""
    for channel, values in enumerate(image):
        tifffile.imwrite(folder / f"{case_name(number)}_{channel:04d}{ENDING}", values)


def classes_of(dataset: Dataset) -> tuple[str, ...]:
    """What nnU-Net is to tell apart."""
    return INSTANCE_CLASSES if dataset.task == "instances" else dataset.classes


def write_raw(folder: Path, dataset: Dataset, examples: Sequence[Example], channels: int) -> None:
    """The training images in nnU-Net's layout: imagesTr, labelsTr and dataset.json."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    classes = classes_of(dataset)
    for number, example in enumerate(examples):
        write_image(folder / "imagesTr", number, channels_of(example.image, channels))
        labels = to_nnunet(example.mask, dataset.task, len(classes))
        tifffile.imwrite(folder / "labelsTr" / f"{case_name(number)}{ENDING}", labels)
    ignored = any((example.mask < 0).any() for example in examples)
    told = description(classes, channels, len(examples), ignored)
    (folder / "dataset.json").write_text(json.dumps(told, indent=1), "utf-8")


def commands(folder: Path) -> dict[str, list[str]]:
    """nnU-Net's commands by what they do, in their order."""
    programs, workers = Path(sys.executable).parent, str(cores())
    return {
        "plan": [
            str(programs / "nnUNetv2_plan_and_preprocess"),
            *("-d", "1", "-c", "2d", "-npfp", workers, "-np", workers, "--no_pbar"),
        ],
        "train": [sys.executable, str(TRAINER), str(folder / "preprocessed" / DATASET)],
        "predict": [
            str(programs / "nnUNetv2_predict"),
            *("-i", str(folder / "images"), "-o", str(folder / "predicted"), "-d", "1", "-c", "2d", "-f", "0"),
            *("-device", "cpu", "--save_probabilities", "-npp", "1", "-nps", "1", "--disable_progress_bar"),
        ],
    }


def environment(folder: Path, deadline: float, seed: int) -> dict[str, str]:
    """What nnU-Net and the trainer read from the environment.

    deadline  seconds since 1970
    """
    return {
        "nnUNet_raw": str(folder / "raw"),
        "nnUNet_preprocessed": str(folder / "preprocessed"),
        "nnUNet_results": str(folder / "results"),
        "nnUNet_n_proc_DA": str(cores()),
        "nnUNet_def_n_proc": str(cores()),
        "RACE_DEADLINE": repr(deadline),
        "RACE_SEED": str(seed),
        "RACE_FACTS": str(folder / "facts.json"),
    }


def perform(command: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
    """Run a command to its end, its words into a file; RecipeError where it fails."""
    with log.open("ab") as words:
        done = subprocess.run(command, env={**os.environ, **variables}, stdout=words, stderr=words, check=False)
    if done.returncode:
        raise RecipeError(
            f"{shlex.join(command)}: expected it to end well, found the exit status {done.returncode}; its words are "
            f"in {log}"
        )


def digest(image: Image) -> str:
    """By which an image is found again."""
    return hashlib.sha256(f"{image.shape}{image.dtype}".encode() + image.tobytes()).hexdigest()


def scored_images(dataset: Dataset) -> list[Image]:
    """Those that will be asked for."""

    def asked(sample: Sample) -> bool:
        return sample.mask is not None and sample.scored

    return [sample.read_image() for sample in dataset.samples if asked(sample)]


def read_maps(path: Path) -> Maps:
    """The probabilities (K, H, W) in a file of nnU-Net's, which has a third spatial axis of one."""
    with np.load(path) as file:
        return file["probabilities"][:, 0].astype(np.float32)


def predict(start: Start, channels: int, log: Path) -> tuple[dict[str, Path], float]:
    """(files of probabilities by their image's digest, seconds for an image)."""
    folder = start.folder / "images"
    folder.mkdir()
    images = scored_images(start.scored)
    for number, image in enumerate(images):
        write_image(folder, number, channels_of(image, channels))
    begun = time.perf_counter()
    perform(commands(start.folder)["predict"], environment(start.folder, 0.0, start.seed), log)
    seconds = time.perf_counter() - begun
    files = {
        digest(image): start.folder / "predicted" / f"{case_name(number)}.npz" for number, image in enumerate(images)
    }
    return files, seconds / len(images)


def run_nnunet(start: Start) -> Finish:
    """Plan and train for the minutes, then predict."""
    need("nnunetv2")
    log = start.folder / "log.txt"
    examples, _ = read_examples(start.training.samples)
    channels = summarise(start.training, examples).channels
    write_raw(start.folder / "raw" / DATASET, start.training, examples, channels)
    asked = commands(start.folder)
    for name in ("plan", "train"):
        variables = environment(start.folder, time.time() + start.left(), start.seed)
        perform(asked[name], variables, log)
    seconds = start.clock.seconds()
    facts = json.loads((start.folder / "facts.json").read_text("utf-8"))
    files, each = predict(start, channels, log)
    task = start.training.task
    steps, dice = facts.pop("steps"), facts.pop("pseudo dice")
    return Finish(
        rival(
            start.training,
            Encoding("semantic", n_classes=len(classes_of(start.training))),
            lambda image: read_maps(files[digest(image)]),
            labels_of=lambda maps: from_nnunet(maps, task),
        ),
        steps,
        seconds,
        facts | {"images": len(examples)},
        {"pseudo Dice, moving average": dice},
        round(each, 3),
    )
