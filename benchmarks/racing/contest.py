"""What every peer is given, what it gives back, and how it is scored: by `Model.evaluate`, as our own models are.

The clock counts wall-clock seconds from the moment the peer is called: the import of its packages, reading, encoding
and writing the images, planning, preprocessing, training and its own validation. What comes afterwards (choosing
thresholds for those that have none, prediction, scoring) is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ushape.data.dataset import Dataset, Task
from ushape.errors import RecipeError
from ushape.model import Model, Prediction
from ushape.preparation import Preparation
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding
from ushape.training.clock import Clock

__all__ = ["Finish", "Peer", "Rival", "Start", "need", "rival", "versions"]

Image = NDArray[Any]
Maps = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Start:
    """What a peer is given.

    training  what it may learn from; what it holds out of it is its own affair
    scored    what it will be scored on: only the images are its to see
    minutes   of the clock until its training is over
    folder    an empty one, for whatever it writes
    """

    training: Dataset
    scored: Dataset
    minutes: float
    seed: int
    folder: Path
    clock: Clock = field(default_factory=Clock)

    def left(self) -> float:
        """Seconds that are left of the minutes."""
        return 60 * self.minutes - self.clock.seconds()


@dataclass
class Rival(Model):
    """A peer in the place of a model, so that the very code that scores our models scores it.

    maps_of    image (C, H, W) as in the file -> maps (K, H, W): probabilities of the encoding's classes
    labels_of  maps -> labels (H, W) int32 in the peer's own way; None: in ours
    """

    maps_of: Callable[[Image], Maps] | None = None
    labels_of: Callable[[Maps], Labels] | None = None

    def check(self, symmetries: int | None = None) -> None:
        """Peers average over turned images in their own way, if at all."""
        assert symmetries in (None, 1)

    def maps(self, image: Image, **options: Any) -> Maps:
        """The peer's maps of an image."""
        assert self.maps_of is not None
        return self.maps_of(image)

    def decide(self, maps: Maps) -> Prediction:
        """Maps -> classes or objects."""
        if self.labels_of is None:
            return super().decide(maps)
        labels = self.labels_of(maps)
        return Prediction(labels, maps, labels if self.task == "instances" else None)


def rival(
    dataset: Dataset,
    encoding: Encoding,
    maps_of: Callable[[Image], Maps],
    *,
    labels_of: Callable[[Maps], Labels] | None = None,
    decision: Decision | None = None,
) -> Rival:
    """A peer that was trained on this dataset.

    decision  where our way of reading maps is used; without one nothing small is removed
    """
    task: Task = dataset.task
    return Rival(
        network=None,
        preparation=Preparation(),
        task=task,
        classes=dataset.classes,
        encoding=encoding,
        decision=decision or Decision(min_size=0),
        maps_of=maps_of,
        labels_of=labels_of,
    )


@dataclass(frozen=True, eq=False)
class Finish:
    """What a peer gives back.

    seconds           of the clock when its training was over
    seconds_an_image  what predicting an image took; None: to be measured
    trained           what was trained: parameters, patch, batch, epochs, and what else a reader should know
    chosen            scores that the peer chose its weights by
    """

    rival: Rival
    steps: int
    seconds: float
    trained: Mapping[str, Any]
    chosen: Mapping[str, float] = field(default_factory=dict)
    seconds_an_image: float | None = None


@dataclass(frozen=True)
class Peer:
    """Another way to train.

    title     as it stands in tables
    packages  distributions whose versions are told
    """

    name: str
    title: str
    packages: tuple[str, ...]
    run: Callable[[Start], Finish]


def need(module: str) -> None:
    """RecipeError where a peer's package is missing."""
    try:
        import_module(module)
    except ImportError as error:
        raise RecipeError(
            f"expected the package {module} for this peer, found none that can be imported ({error}); run "
            "`make .venv-peers`, then PYTHONPATH=src .venv-peers/bin/python benchmarks/race.py"
        ) from error


def versions(packages: tuple[str, ...]) -> str:
    """'monai 1.6.1, torch 2.13.0', without the build; packages that are not installed are left out."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
