"""Make the pictures of the documentation from the run that `make demo` has left.

.venv/bin/python docs/make_images.py runs/demo

docs/images/demo.png    image, reference and errors of one fresh phantom
docs/images/report.png  the first screen of the run's report.html, as a browser shows it; needs Chromium or Chrome
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import ushape
from ushape.data.images import write_image
from ushape.picture.overlay import error_map, overlay, to_display

IMAGES = Path(__file__).parent / "images"

GAP = 8
"""White pixels between two pictures."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZE = (1280, 1180)
"""Width and height of the browser's window, in pixels."""
WIDTH, COLOURS = 960, 256
"""Width of the picture in pixels, and how many colours it has: few enough for a README."""


def demo_picture(run: str) -> np.ndarray:
    """Image, reference and errors of one fresh phantom side by side, (H, W, 3) uint8."""
    model = ushape.load(run)
    sample = ushape.open_dataset("phantom:test").samples[0]
    image, reference = sample.read_image(), sample.read_mask()
    estimate = model.predict(image, axes="CYX").instances
    panels = [to_display(image), overlay(image, reference), error_map(image, reference, estimate, instances=True)]
    white = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([panels[0], white, panels[1], white, panels[2]], axis=1)


def photograph(page: Path, picture: Path) -> None:
    """Write what a browser without a screen shows of a page, (WIDTH, ...) in few colours; SystemExit without one."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"expected a browser to show {page} in, found none; install Chromium, and make images again")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        window = [f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={shot}"]
        subprocess.run([browser, *options, *window, page.resolve().as_uri()], check=True, capture_output=True)
        with Image.open(shot) as taken:
            small = taken.convert("RGB").resize((WIDTH, WIDTH * taken.height // taken.width), Image.Resampling.LANCZOS)
    small.quantize(COLOURS, kmeans=3).save(picture, optimize=True)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    write_image(IMAGES / "demo.png", np.moveaxis(demo_picture(sys.argv[1]), -1, 0))
    print(IMAGES / "demo.png")
    photograph(Path(sys.argv[1]) / "report.html", IMAGES / "report.png")
    print(IMAGES / "report.png")
