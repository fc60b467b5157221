"""A model: a network together with all that is needed to use it on images as they come.

The network knows tensors; the model knows images: which channels it wants, how grey values are normalised, how maps
become classes or objects, and with which thresholds. All of it lies in one safetensors file: the tensors, and a JSON
text under the metadata key `ushape`. Nothing that is loaded can run code.

Conventions: images are (C, *space), or (H, W), (H, W, 3 or 4), or anything with `axes`; probabilities (K, *space)
float32; labels (*space) int32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ushape.data.dataset import Colour, Dataset, Sample, Task
from ushape.data.images import is_grey, pixel_digest
from ushape.data.known import values_by_names
from ushape.errors import DataError, RecipeError, UshapeError
from ushape.geometry import Geometry
from ushape.model_file import model_path, read_settings, read_tensors, shelf_of, whole_file, write_model
from ushape.network.as_built import geometry_without_padding, is_altered, without_padding
from ushape.network.classifier import Classifier
from ushape.network.ensemble import Ensemble
from ushape.network.hardware import best_dtype, choose_device, in_best_format
from ushape.network.unet import UNet
from ushape.prediction.choice import (
    CPU_ENGINES,
    Engine,
    Engines,
    WithWayBack,
    check_engine,
    converting_pays,
    runs_openvino,
)
from ushape.prediction.conversions import key_of
from ushape.prediction.engines import LabelEngine, TorchEngine
from ushape.prediction.features import features
from ushape.prediction.rotations import check_rotations, predict_averaged
from ushape.prediction.tiled import Progress, Runner
from ushape.preparation import Preparation, has_colours_last, shrunk, to_channels_first
from ushape.tally import Evaluation, LabelTally, Tally, score_masks
from ushape.targets.instances import Decision, maps_to_instances, without_specks
from ushape.targets.maps import Encoding

__all__ = [
    "Evaluation",
    "Model",
    "Prediction",
    "Preparation",
    "load",
    "score_masks",
    "to_channels_first",
]

WORKING_TILE = {2: 800, 3: 132}
"""Side of a tile on the working grid, by number of axes: large, because what a tile reads beyond what it writes is
computed in vain, and small enough for a few hundred megabytes at 32 channels."""
IMAGES_AT_ONCE = 256
"""Images that a classifier is shown together."""
DECIDING = ("network", "preparation", "task", "classes", "encoding", "decision", "values")
"""Settings without which the same weights would predict something else; what is chosen for each prediction is none."""
Image = NDArray[Any]
Labels = NDArray[np.int32]
Precision = Literal["auto", "float32"]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    labels         (*space) int32: the class of each pixel, or for instances the object's id; of a classifier () int32
    probabilities  (K, *space) float32: the network's maps; of a classifier (K,)
    instances      (*space) int32: objects 1..n; for two classes the connected pieces of the second one, else None
    """

    labels: Labels
    probabilities: NDArray[np.float32]
    instances: Labels | None


@dataclass
class Model:
    """A trained network and how to use it; see the module's docstring.

    facts    what is worth remembering: recipe, scores, data fingerprint, software versions, precision, tile
    rotations  turned copies of an image that prediction averages over where nobody asks for another number
    others   further networks of the same settings, whose answers are averaged with those of `network`
    engine   what runs the network: auto, torch, openvino, int8 or onnxruntime
    colours  to show the classes in, by their index; empty where nobody chose any
    values   what stood for the classes in the masks, by their index, which label files hold; empty: the index
    engines  those that are no part of PyTorch, and where conversions for them are kept
    way_back  whether PyTorch runs the network where the engine cannot: nobody asked for the engine by name
    """

    network: UNet | Classifier
    preparation: Preparation
    task: Task
    classes: tuple[str, ...]
    encoding: Encoding
    decision: Decision
    facts: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: Precision = "auto"
    tile_size: int | None = None
    colours: tuple[Colour, ...] = ()
    values: tuple[int, ...] = ()
    engine: Engine = "auto"
    engines: Engines = field(default_factory=Engines, repr=False, compare=False)
    rotations: int = 1
    others: tuple[UNet, ...] = ()
    way_back: bool = False

    @property
    def whole_network(self) -> UNet | Classifier | Ensemble:
        """What answers: the network, or together with the others their mean."""
        if not self.others:
            return self.network
        assert isinstance(self.network, UNet), "a classifier answers alone"
        return Ensemble([self.network, *self.others])

    @property
    def fingerprint(self) -> str:
        """A short hash of the weights and of all else that decides what is predicted: equal ones predict alike."""
        about = {name: self.settings[name] for name in DECIDING}
        return key_of(about, self.whole_network.state_dict(), self.n_class_channels)[:16]

    @property
    def settings(self) -> dict[str, Any]:
        """What a model file holds beside the tensors."""
        return {
            "network": self.whole_network.settings,
            "preparation": asdict(self.preparation),
            "task": self.task,
            "classes": list(self.classes),
            "encoding": self.encoding.to_dict(),
            "decision": self.decision.to_dict(),
            "precision": self.precision,
            "tile_size": self.tile_size,
            "colours": self.colours,
            "values": self.values,
            "rotations": self.rotations,
            "facts": self.facts,
        }

    def check(self, symmetries: int | None = None) -> None:
        """RecipeError for a device or an engine that is not there or a number of symmetries that is not offered."""
        check_engine(self.engine, self.device)
        choose_device(self.device)
        symmetries = self.rotations if symmetries is None else symmetries
        if symmetries != 1 and self.task == "classification":
            raise RecipeError(
                f"expected 1 rotation for a classifier, found {symmetries}; a turned image may be of another class"
            )
        check_rotations(symmetries)
        if self.engine in CPU_ENGINES:
            # A package or an int8 copy that is missing is told once, before any image. To convert takes seconds: that
            # waits for the first image that can be used.
            self.engines.check(self.engine, self.tile_network, self.n_class_channels, self.hardware()[1])

    def hardware(self) -> tuple[torch.device, torch.dtype]:
        """Where the network runs, and in which precision."""
        device = choose_device("cpu" if self.device == "auto" and self.engine in CPU_ENGINES else self.device)
        return device, best_dtype(device) if self.precision == "auto" else torch.float32

    @property
    def n_class_channels(self) -> int:
        """Channels of the network's output that are class probabilities."""
        return self.network.n_classes if self.task == "classification" else self.encoding.n_class_channels

    def computing(self) -> dict[str, str | float]:
        """Engine and number format of prediction, and the seconds that converting and compiling took so far."""
        engine, precision = self.engine_meant(), str(self.hardware()[1])
        converting, compiling = self.engines.seconds() if engine in CPU_ENGINES else (0.0, 0.0)
        own = {"int8": "int8", "onnxruntime": "float32"}
        return {
            "engine": engine,
            "precision": own.get(engine, precision.removeprefix("torch.")),
            "converting_seconds": round(converting, 3),
            "compiling_seconds": round(compiling, 3),
        }

    @property
    def tile_network(self) -> UNet | Classifier | Ensemble:
        """What runs on tiles: without padding, where that gives the same answers for less work."""
        return without_padding(self.whole_network)

    @property
    def tile_geometry(self) -> Geometry:
        """That of `tile_network`, by which images are cut into tiles."""
        return geometry_without_padding(self.whole_network)

    def runner(self) -> Runner:
        """What runs `tile_network`, on the model's device, by its engine and in its precision."""
        check_engine(self.engine, self.device)
        (device, dtype), engine = self.hardware(), self.engine_meant()
        # The tensors that are shared are brought there once and not for each call.
        in_best_format(self.whole_network, device)
        network = self.tile_network
        by_torch = partial(TorchEngine, network, self.n_class_channels, device, dtype)
        if engine == "torch":
            return by_torch()
        opening = partial(self.engines, engine, network, self.n_class_channels, dtype)
        by_name = self.engine != "auto" and not self.way_back
        return opening() if by_name else WithWayBack(self.engines, opening, by_torch)

    def may_choose_openvino(self) -> bool:
        """Whether `auto` may be OpenVINO: for pixels, on a CPU, by the network as it was trained.

        A classifier's images come in batches of any length.
        """
        may = self.engine == "auto" and self.task != "classification" and self.hardware()[0].type == "cpu"
        return may and not self.engines.failure and not is_altered(self.whole_network)

    def engine_meant(self) -> Engine:
        """The engine, `auto` resolved: OpenVINO where a conversion of these weights, as they are, is there already."""
        if self.way_back and self.engines.failure:
            return "torch"
        if self.engine != "auto":
            return self.engine
        # Asked first, because it takes no time: for most models nothing lies there.
        may = self.engines.shelf.has("openvino") and self.may_choose_openvino()
        ready = may and self.engines.is_ready(self.tile_network, self.n_class_channels)
        return "openvino" if ready else "torch"

    def settled(self) -> Model:
        """The model with `auto` resolved once, so that all images are predicted alike whatever is converted meanwhile.

        An engine that was chosen so has a way back to PyTorch.
        """
        return replace(self, engine=self.engine_meant(), way_back=True) if self.engine == "auto" else self

    def for_pixels(self, n_pixels: float) -> Model:
        """The model to predict so many pixels with, in all: by OpenVINO where `auto` may and converting first pays."""
        if self.may_choose_openvino() and converting_pays(self.whole_network, n_pixels) and runs_openvino():
            return replace(self, engine="openvino", way_back=True)
        return self

    def classify(self, images: Sequence[Image], *, once: bool = False) -> NDArray[np.float32]:
        """Probabilities (N, K) of the classes of whole images, each (C, *space).

        once  look at each in one way only, faster and a little worse, where the preparation has several
        """
        assert isinstance(self.network, Classifier), "a segmenter classifies pixels"
        views = [self.preparation.views(self.preparation(image))[: 1 if once else None] for image in images]
        engine = LabelEngine(self.runner(), self.network.n_classes)
        found = [engine(way) for way in zip(*views, strict=True)] or [engine([])]
        return np.asarray(np.mean(found, axis=0), np.float32)

    def maps(
        self, image: Image, *, symmetries: int | None = None, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """The network's maps (K, *space) float32 of an image (C, *space): class probabilities, then the distance.

        Of a classifier (K,).
        """
        if self.task == "classification":
            probabilities: NDArray[np.float32] = self.classify([image])[0]
            return probabilities
        return self.maps_of_prepared(self.preparation(image), symmetries=symmetries, progress=progress)

    def maps_of_prepared(
        self, prepared: NDArray[np.float32], *, symmetries: int | None = None, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """`maps` of what the preparation made of an image, or of a part of that."""
        geometry = self.tile_geometry
        tile_size = self.largest_tile()
        rotations = self.rotations if symmetries is None else symmetries
        maps = predict_averaged(self.runner(), prepared, geometry, tile_size, rotations=rotations, progress=progress)
        return maps.astype(np.float32, copy=False)

    def decide(self, maps: NDArray[np.float32]) -> Prediction:
        """Maps (K, *space) -> classes and objects."""
        if self.task == "classification":
            return Prediction(np.asarray(maps.argmax(), np.int32), maps, None)
        if self.task == "instances":
            instances = maps_to_instances(maps, self.encoding, self.decision)
            return Prediction(instances, maps, instances)
        if len(self.classes) != 2:
            labels = maps[: self.encoding.n_class_channels].argmax(axis=0).astype(np.int32)
            return Prediction(labels, maps, None)
        pieces = ndimage.label(maps[1] > self.decision.mask_threshold)[0].astype(np.int32)
        found = without_specks(pieces, self.decision.min_size)
        return Prediction(np.minimum(found, 1), maps, found)

    def predict(
        self, image: Image, *, axes: str | None = None, symmetries: int | None = None, progress: Progress | None = None
    ) -> Prediction:
        """Segment one image of any size.

        image       (H, W), (H, W, 3 or 4), (C, H, W), or any order with `axes`; any integer or floating type
        symmetries  1, 2, 4 or 8: average over so many flips and quarter turns of the image (slower, a little better);
                    7: over seven angles, as in the paper; None: as the model was trained for (`rotations`)
        progress    called with (tiles done, tiles in all)
        """
        image = self.channels_first(image, axes)
        return self.decide(self.maps(image, symmetries=symmetries, progress=progress))

    def channels_first(self, image: Image, axes: str | None = None) -> Image:
        """An image as people have it -> (C, *space), as `predict` reads it."""
        image = np.asarray(image)
        with_alpha = axes is None and has_colours_last(image) and image.shape[-1] == 4
        image = to_channels_first(image, axes)
        # Alpha is dropped where the colours are what the model wants; otherwise the message tells what was given.
        if with_alpha and (self.preparation.channels == 3 or (self.preparation.channels == 1 and is_grey(image[:3]))):
            image = image[:3]
        return image

    def features(
        self, image: Image, level: int = 0, side: Literal["down", "up"] = "up", *, axes: str | None = None
    ) -> NDArray[np.float32]:
        """Feature maps of one level for one image of any size, (C, *cells) float32, never negative.

        image, axes  as in `predict`
        level  0 for the full resolution, whose maps the head reads, to depth - 1 for the bottom; each level below has
               half the resolution: ceil(n / (scale * 2^level)) values for an axis of n pixels; of a model of several
               networks those of the first
        side   `up`: what the way up ends with; `down`: what the skip of that level carries
        """
        prepared = self.preparation(self.channels_first(image, axes))
        device, dtype = self.hardware()
        network = without_padding(self.network)
        assert not isinstance(network, Ensemble), "of several networks the first is shown"
        return features(network, prepared, level, side, tile_size=self.largest_tile(), device=device, dtype=dtype)

    def largest_tile(self) -> int:
        """Side of the tiles that a segmenter is run on."""
        geometry = self.tile_geometry
        return self.tile_size or max(WORKING_TILE[self.preparation.dims] * geometry.scale, geometry.smallest_tile)

    def matching(self, dataset: Dataset) -> Dataset:
        """The dataset with its classes numbered as the model's; DataError where it asks for something else."""
        if dataset.task != self.task:
            raise DataError(
                f"{dataset.name}: expected data for {self.task}, as the model was trained for, found {dataset.task}; "
                "evaluate on data of the same kind"
            )
        return dataset.with_classes(self.classes)

    def has_seen(self, dataset: Dataset) -> str:
        """A sentence where these are the data that the model was trained on; empty otherwise."""
        if dataset.fingerprint != self.facts.get("data fingerprint"):
            return ""
        return (
            f"{dataset.name}: the model was trained on these images, or they helped to choose it, so the scores say "
            "how well it remembers; score images that it has not seen"
        )

    def has_seen_some(self, dataset: Dataset, found: Evaluation) -> str:
        """A sentence where some of the images that were scored are those of the training; empty otherwise.

        Told by their pixels, whatever their files are called.
        """
        if not found.seen:
            return ""
        shown = ", ".join(found.seen[:3]) + (", ..." if len(found.seen) > 3 else "")
        n = len(found.seen)
        return (
            f"{dataset.name}: the model was trained on {n} of these {len(found.rows)} images, or they helped to choose "
            f"it ({shown}), so the scores are too good; leave them out"
        )

    def has_learnt_all(self, dataset: Dataset) -> bool:
        """Whether the end of the training learnt from all of these images, those held out included."""
        return self.facts.get("refit from step") is not None and bool(self.has_seen(dataset))

    def evaluate(
        self,
        dataset: Dataset,
        *,
        symmetries: int | None = None,
        on_image: Callable[[Sample, Prediction], None] | None = None,
    ) -> Evaluation:
        """Predict and score every image with a reference; one that cannot be scored is reported, the others are done.

        on_image  called after each image with its sample and prediction
        """
        self.check(symmetries)
        dataset = self.matching(dataset)
        if self.task == "classification":
            return self.evaluate_labels(dataset, on_image)
        tally = Tally(self.task, self.classes)
        problems, seen = list(dataset.problems), []
        known = set(self.facts.get("image digests", ()))
        for sample in dataset.samples:
            if sample.mask is None or not sample.scored:
                continue
            try:
                reference = sample.read_reference()
                image = sample.read_image()
                prediction = self.decide(self.maps(image, symmetries=symmetries))
                tally.add(sample.name, reference, prediction.labels, sample.complete)
            except UshapeError as error:
                problems.append(str(error) if sample.where in str(error) else f"{sample.where}: {error}")
                continue
            if known and pixel_digest(image) in known:
                seen.append(sample.name)
            if on_image is not None:
                on_image(sample, prediction)
        if not tally.counts:
            raise DataError(
                f"{dataset.name}: expected images with a mask to score against, found none that could be used"
                + (f" ({problems[0]})" if problems else "; add masks")
            )
        return replace(tally.evaluation(problems), seen=tuple(seen))

    def evaluate_labels(self, dataset: Dataset, on_image: Callable[[Sample, Prediction], None] | None) -> Evaluation:
        """`evaluate` for classes of whole images."""
        tally, problems = LabelTally(self.classes), list(dataset.problems)
        labelled = [sample for sample in dataset.samples if sample.label is not None and sample.scored]
        for start in range(0, len(labelled), IMAGES_AT_ONCE):
            samples, images = [], []
            for sample in labelled[start : start + IMAGES_AT_ONCE]:
                try:
                    image = sample.read_image()
                    self.preparation.with_channels(image)
                except UshapeError as error:
                    problems.append(str(error) if sample.where in str(error) else f"{sample.where}: {error}")
                    continue
                samples.append(sample)
                images.append(shrunk(image, 2 * max(self.preparation.size or image.shape[1:])))
            for sample, probabilities in zip(samples, self.classify(images), strict=True):
                assert sample.label is not None
                tally.add(sample.name, sample.label, probabilities)
                if on_image is not None:
                    on_image(sample, self.decide(probabilities))
        if not tally.names:
            raise DataError(
                f"{dataset.name}: expected images with a class to score against, found none that could be used"
                + (f" ({problems[0]})" if problems else "; put them into a folder for each class")
            )
        return tally.evaluation(problems)

    def save(self, path: Path | str) -> Path:
        """Write the model file, complete or not at all; returns its path.

        RecipeError for a network made by `ushape.network.as_built.without_padding`, whose settings do not tell all.
        """
        path = Path(path)
        if self.network.geometry.shift:
            raise RecipeError(
                "expected the network that was trained, found it without its padding, as it runs on tiles; save the "
                "model of the former"
            )
        write_model(path, self.settings, self.whole_network.state_dict())
        return path


def mask_values(settings: dict[str, Any]) -> tuple[int, ...]:
    """What stood for the classes in the masks, by what a model file holds; ValueError where that cannot be."""
    classes = settings["classes"]
    if "values" not in settings:
        return values_by_names(classes) if settings["task"] == "semantic" else ()
    values = tuple(int(value) for value in settings["values"])
    if values and (len(set(values)) < len(classes) or len(values) != len(classes) or min(values) < 0):
        raise ValueError(f"{len(classes)} classes with the mask values {values}")
    return values


def read_networks(
    settings: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[UNet | Classifier, tuple[UNet, ...]]:
    """(network, others) of a model file, to be used."""
    numbers = dict(settings["network"])
    members = numbers.pop("members", 1)
    if settings["task"] == "classification":
        classifier = Classifier(**numbers)
        classifier.load_state_dict(tensors)
        return classifier.eval(), ()
    networks = [UNet(**numbers).eval() for _ in range(members)]
    (networks[0] if members == 1 else Ensemble(networks)).load_state_dict(tensors)
    return networks[0], tuple(networks[1:])


def load(path: Path | str, *, device: str = "auto", engine: Engine = "auto") -> Model:
    """The model in a file or a run folder; ModelFileError when it cannot be used."""
    path = model_path(path)
    settings = read_settings(path)
    tensors = read_tensors(path)
    with whole_file(path):
        network, others = read_networks(settings, tensors)
        preparation = settings["preparation"]
        model = Model(
            network=network,
            others=others,
            preparation=Preparation(
                **preparation | {k: tuple(v) for k, v in preparation.items() if isinstance(v, list)}
            ),
            task=settings["task"],
            classes=tuple(settings["classes"]),
            encoding=Encoding.from_dict(settings["encoding"]),
            decision=Decision.from_dict(settings["decision"]),
            facts=settings["facts"],
            precision=settings["precision"],
            tile_size=settings["tile_size"],
            # Models of the first release have none.
            colours=tuple((r, g, b) for r, g, b in settings.get("colours", ())),
            values=mask_values(settings),
            rotations=settings.get("rotations", 1),
        )
    return replace(model, device=device, engine=engine, engines=Engines(shelf_of(path)))
