"""Make the pictures of the documentation: docs/images/demo.png from the run that `make demo` has left.

.venv/bin/python docs/make_images.py runs/demo
"""

import sys
from pathlib import Path

import numpy as np

import ushape
from ushape.data.images import write_image
from ushape.picture.overlay import error_map, overlay, to_display

GAP = 8
"""White pixels between two pictures."""


def demo_picture(run: str) -> np.ndarray:
    """Image, reference and errors of one fresh phantom side by side, (H, W, 3) uint8."""
    model = ushape.load(run)
    sample = ushape.open_dataset("phantom:test").samples[0]
    image, reference = sample.read_image(), sample.read_mask()
    estimate = model.predict(image, axes="CYX").instances
    panels = [to_display(image), overlay(image, reference), error_map(image, reference, estimate, instances=True)]
    white = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([panels[0], white, panels[1], white, panels[2]], axis=1)


if __name__ == "__main__":
    path = Path(__file__).parent / "images" / "demo.png"
    path.parent.mkdir(exist_ok=True)
    write_image(path, np.moveaxis(demo_picture(sys.argv[1]), -1, 0))
    print(path)
