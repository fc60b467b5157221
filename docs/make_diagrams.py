"""Make the diagrams of the documentation: the paper's network and its first skip connection, as SVG and PNG.

.venv/bin/python docs/make_diagrams.py
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ushape
from ushape.picture.diagram import architecture_png, architecture_svg
from ushape.picture.skip import skip_png, skip_svg

SIZE = 572
WIDTH = 2000


def write(path: Path, svg: str, png: np.ndarray) -> None:
    """Both pictures, the PNG with a palette, which is a third of the bytes and looks the same."""
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")
    Image.fromarray(png).quantize(128).save(path.with_suffix(".png"), optimize=True)
    print(path.with_suffix(".svg"), path.with_suffix(".png"))


if __name__ == "__main__":
    folder = Path(__file__).parent / "images"
    folder.mkdir(exist_ok=True)
    with torch.device("meta"):  # shapes without numbers: 31 million weights need not be drawn for a drawing
        network = ushape.UNet()
    write(folder / "architecture", architecture_svg(network, SIZE), architecture_png(network, SIZE, WIDTH))
    write(folder / "skip", skip_svg(network, SIZE, level=0), skip_png(network, SIZE, level=0, width=WIDTH))
