"""A recipe is a value: everything about a training run but the data and the clock.

Recipes are written to and read from TOML; any field can be set by name (`network.channels=32`). Where they come from
is `ushape.training.rules`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ushape.errors import RecipeError
from ushape.geometry import Geometry
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet, check_settings
from ushape.prediction.rotations import check_rotations
from ushape.targets.maps import Encoding
from ushape.training.augment import Augmentation

__all__ = [
    "NetworkSettings",
    "OptimiserSettings",
    "Recipe",
    "read_recipe",
    "with_settings",
    "write_recipe",
]


@dataclass(frozen=True)
class NetworkSettings:
    """The network's numbers, as in `ushape.UNet`; channels of input and output follow from data and encoding.

    head  `pixels` answers for every pixel; `decoder` and `bottom` for the whole image, as in `ushape.Classifier`
    """

    channels: int = 32
    depth: int = 5
    padding: Literal["valid", "same"] = "same"
    norm: Literal["none", "batch", "instance", "group"] = "batch"
    dropout: float = 0.0
    scale: int = 1
    head: Literal["pixels", "decoder", "bottom"] = "pixels"

    def __post_init__(self) -> None:
        if self.head not in ("pixels", "decoder", "bottom"):
            raise RecipeError(
                f"expected network.head to be pixels, decoder or bottom, found {self.head!r}; choose one of them"
            )
        if self.head != "pixels" and self.padding != "same":
            raise RecipeError(f"expected a classifier with padding same, found {self.padding}; leave it out")
        # The channels of input and output and the dims follow from the data; any legal ones serve the check.
        check_settings(**self.for_unet(), in_channels=1, n_classes=1, dims=2)

    def for_unet(self) -> dict[str, Any]:
        """The settings that `UNet` takes."""
        return {name: value for name, value in asdict(self).items() if name != "head"}

    def build(self, in_channels: int, n_classes: int, dims: int) -> UNet | Classifier:
        """The network, its weights drawn from torch's generator."""
        if self.head == "pixels":
            return UNet(in_channels, n_classes, dims=dims, **self.for_unet())
        settings = {name: value for name, value in asdict(self).items() if name != "padding"}
        return Classifier(in_channels, n_classes, dims=dims, **settings)


RATES = {"adamw": 2e-3, "muon": 6e-3, "sgd": 1e-3}
"""The learning rate that belongs to a name, where a recipe's optimiser is changed and its rate is not."""


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights move.

    name           `adamw`, `muon` (see `ushape.training.muon`), or the paper's `sgd`
    learning_rate  at its highest; each name has its own (`RATES`), which comes with it when only the name is changed
    momentum       of sgd (P12: 0.99)
    weight_decay   of adamw and muon, decoupled
    warm_up        steps over which the rate rises
    decay          share of the run, at its end, over which the rate falls to zero
    average        decay per step of the moving average of weights that is validated and kept; 0 = none
    clip           the largest length of the gradient, over all weights; a longer one is shortened to it; 0 = as it is
    """

    name: Literal["adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = RATES["adamw"]
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warm_up: int = 20
    decay: float = 0.5
    average: float = 0.98
    clip: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in RATES:
            raise RecipeError(f"expected optimiser.name to be adamw, muon or sgd, found {self.name!r}; choose one")
        if not self.learning_rate > 0:
            raise RecipeError(
                f"expected optimiser.learning_rate to be more than 0, found {self.learning_rate}; raise it"
            )
        if not self.clip >= 0:
            raise RecipeError(f"expected optimiser.clip to be at least 0 (0 = as it is), found {self.clip}; change it")
        for name in ("decay", "average", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"expected optimiser.{name} to be from 0 to 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class Recipe:
    """How to train; see the parts for their fields.

    patch          size of a training patch in pixels of the image, (height, width) or (depth, height, width); for
                   classes of whole images the size that all images are brought to
    batch          patches or images in a step
    foreground     share of patches centred on an object, where there is one
    dice           weight of the Dice loss beside the cross entropy
    distance_weight  weight of the distance head's loss, for the encoding that has one
    smoothing      share of the truth that is spread over all classes, against overconfidence
    normalisation  `image` or `dataset`, see `ushape.model.Preparation`
    rotations      turned and mirrored copies of an image that the model averages over when it predicts
    members        networks that are trained one after another, each with a seed of its own and a share of the minutes
                   (or, where those are counted, all of the steps), and answer together
    validation     share of the images held out to choose the best weights and the thresholds
    refit          share of the steps, at the end, that learn from the held-out images too, once these have judged the
                   weights and chosen the thresholds; 0 = none
    reasons        why, one sentence for each decision
    """

    name: str
    network: NetworkSettings
    encoding: Encoding
    patch: tuple[int, ...]
    batch: int = 4
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)
    foreground: float = 0.33
    dice: float = 0.0
    distance_weight: float = 1.0
    smoothing: float = 0.0
    normalisation: Literal["image", "dataset"] = "image"
    rotations: int = 1
    members: int = 1
    validation: float = 0.2
    refit: float = 0.0
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        geometry = self.geometry
        for n in self.patch:
            if not isinstance(n, int):
                raise RecipeError(f"expected a patch of whole numbers like [256, 256], found {self.patch}; correct it")
            # A classifier pads its images itself: there is no border to be exact about.
            if self.network.head == "pixels" and not geometry.is_legal(n):
                near = geometry.legal_at_least(n)
                raise RecipeError(
                    f"expected a patch whose sides are legal for {geometry}, found {self.patch}; take {near} for {n}"
                )
        if self.batch < 1:
            raise RecipeError(f"expected a batch of at least 1 patch, found {self.batch}; raise it")
        if self.normalisation not in ("image", "dataset"):
            raise RecipeError(
                f"expected normalisation to be image or dataset, found {self.normalisation!r}; choose one"
            )
        if (self.network.head == "pixels") != (self.encoding.kind != "label"):
            raise RecipeError(
                f"expected network.head pixels for maps and another for the encoding label, found {self.network.head} "
                f"and {self.encoding.kind}; change one of the two"
            )
        if not 0 <= self.smoothing < 1:
            raise RecipeError(f"expected smoothing to be a share from 0 to below 1, found {self.smoothing}; change it")
        check_rotations(self.rotations)
        if self.rotations != 1 and self.network.head != "pixels":
            raise RecipeError(
                f"expected 1 rotation for classes of whole images, found {self.rotations}; a turned image may be of "
                "another class"
            )
        if self.members < 1:
            raise RecipeError(f"expected members to be at least 1 network, found {self.members}; raise it")
        if self.members > 1 and self.network.head != "pixels":
            raise RecipeError(
                f"expected one network for classes of whole images, found {self.members} members; leave them out"
            )
        if not 0 < self.validation < 1:
            raise RecipeError(f"expected validation to be a share between 0 and 1, found {self.validation}; change it")
        if not 0 <= self.refit < 1:
            raise RecipeError(f"expected refit to be a share from 0 to below 1, found {self.refit}; change it")

    @property
    def geometry(self) -> Geometry:
        """The geometry of the recipe's network."""
        return Geometry(self.network.depth, self.network.padding, self.network.scale)


def to_value(text: str, like: Any, name: str) -> Any:
    """Text from the command line as the type of the field's present value; RecipeError when it is none."""
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    # What a text looks like is no matter where a text is wanted: a recipe may be called 2025-01-01.
    if isinstance(like, str) and not isinstance(value, str):
        value = text
    return check_type(value, like, name)


def check_type(value: Any, like: Any, name: str) -> Any:
    """`value` as the type of `like` (whole numbers pass as floats, lists as tuples); RecipeError otherwise."""
    if isinstance(like, bool) or isinstance(value, bool):
        fits = isinstance(like, bool) and isinstance(value, bool)
    elif isinstance(like, float):
        fits, value = isinstance(value, (int, float)), float(value) if isinstance(value, (int, float)) else value
    elif isinstance(like, tuple):
        fits, value = isinstance(value, (list, tuple)), tuple(value) if isinstance(value, (list, tuple)) else value
    else:
        fits = isinstance(value, type(like))
    if not fits:
        kind = "a list" if isinstance(like, tuple) else f"a {type(like).__name__}"
        raise RecipeError(f"expected {name} to be {kind} like {like!r}, found {value!r}; correct it")
    return value


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with the named fields replaced; another optimiser brings its own learning rate."""
    found: Recipe = replace_fields(recipe, values, "")
    given = values.get("optimiser", {})
    if found.optimiser.name != recipe.optimiser.name and "learning_rate" not in given:
        found = replace(found, optimiser=replace(found.optimiser, learning_rate=RATES[found.optimiser.name]))
    return found


def replace_fields(part: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """A copy of a dataclass with the named fields replaced; nested mappings replace fields of its parts."""
    known = {f.name for f in fields(part)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise RecipeError(
                f"expected a field of the recipe{f' under {prefix[:-1]}' if prefix else ''} "
                f"({', '.join(sorted(known))}), found {prefix + name!r}; correct the name"
            )
        old = getattr(part, name)
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise RecipeError(f"expected a table for {prefix + name!r}, found {value!r}; name one of its fields")
            changes[name] = replace_fields(old, value, f"{prefix}{name}.")
        else:
            changes[name] = (
                to_value(value, old, prefix + name) if isinstance(value, str) else check_type(value, old, prefix + name)
            )
    return replace(part, **changes)


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with `part.field=value` settings, applied together; RecipeError names the one that is wrong."""
    tree: dict[str, Any] = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(f"expected a setting like network.channels=32, found {setting!r}; write name=value")
        *parents, leaf = path.strip().split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise RecipeError(f"expected {parent} to be set once, found also {setting!r}; drop one of the settings")
        branch[leaf] = value.strip()
    if not tree:
        return recipe
    return replace(changed(recipe, tree), reasons=(*recipe.reasons, f"set by hand: {', '.join(settings)}"))


def toml_value(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return repr(value)


def write_recipe(recipe: Recipe) -> str:
    """The recipe as TOML: plain fields first, then a table for each part."""
    values = asdict(recipe)
    plain = [f"{k} = {toml_value(v)}" for k, v in values.items() if not isinstance(v, dict)]
    tables = [
        f"\n[{k}]\n" + "\n".join(f"{name} = {toml_value(v)}" for name, v in table.items())
        for k, table in values.items()
        if isinstance(table, dict)
    ]
    return "\n".join([*plain, *tables]) + "\n"


def read_recipe(path: Path, base: Recipe) -> Recipe:
    """The recipe in a TOML file; fields it does not name keep those of `base`."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"expected the recipe `auto`, `paper` or a TOML file, found no file {path}; check the name"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: expected a recipe in TOML, found a mistake: {error}; correct it") from error
    told = f"from {path.name}; where it says nothing, as `auto` would choose"
    return changed(replace(base, reasons=(told,)), values)
