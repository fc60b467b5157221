"""The U-Net made whole: the paper's network and recipe, trained by the minute, exact on images of any size.

    import ushape
    network = ushape.UNet()                          # the network of the 2015 paper
    dataset = ushape.open_dataset("cells/")          # a folder, or a name from the catalog
    findings = ushape.examine(dataset)               # the data doctor: what is wrong or odd, a sentence each
    plan = ushape.make_plan(dataset, minutes=10)     # what would be trained, and why: plan.recipe.reasons
    model = ushape.train(dataset, minutes=10)
    prediction = model.predict(image)                # .labels, .probabilities, .instances
    scores = model.evaluate(ushape.open_dataset("test/")).scores
    model.save("cells.safetensors")
    model = ushape.load("cells.safetensors")

Names are found when they are first asked for, so that importing the package does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ushape.data.catalog import open_dataset as open_dataset
    from ushape.data.dataset import Dataset as Dataset
    from ushape.data.dataset import Sample as Sample
    from ushape.data.doctor import examine as examine
    from ushape.errors import UshapeError as UshapeError
    from ushape.model import Model as Model
    from ushape.model import Prediction as Prediction
    from ushape.model import load as load
    from ushape.network.classifier import Classifier as Classifier
    from ushape.network.unet import UNet as UNet
    from ushape.run import train as train
    from ushape.training.int8 import quantise as quantise
    from ushape.training.planning import make_plan as make_plan

__version__ = "0.1.0"

HOMES = {
    "Classifier": "ushape.network.classifier",
    "Dataset": "ushape.data.dataset",
    "Model": "ushape.model",
    "Prediction": "ushape.model",
    "Sample": "ushape.data.dataset",
    "UNet": "ushape.network.unet",
    "UshapeError": "ushape.errors",
    "examine": "ushape.data.doctor",
    "load": "ushape.model",
    "make_plan": "ushape.training.planning",
    "open_dataset": "ushape.data.catalog",
    "quantise": "ushape.training.int8",
    "train": "ushape.run",
}

__all__ = [
    "Classifier",
    "Dataset",
    "Model",
    "Prediction",
    "Sample",
    "UNet",
    "UshapeError",
    "examine",
    "load",
    "make_plan",
    "open_dataset",
    "quantise",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'ushape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
