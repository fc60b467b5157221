"""The strokes of benchmarks/strokes.py: thin, of both classes, and where they should be."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ushape.data.phantom import phantom_image

PATH = Path(__file__).parent.parent / "benchmarks" / "strokes.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_strokes", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_strokes_are_few_pixels_and_hold_what_lies_there(script):
    inside = phantom_image(1, (512, 512))[1] > 0
    mask = script.strokes(inside, 3)
    assert set(np.unique(mask)) == {-1, 0, 1}
    assert 0.002 < (mask >= 0).mean() < 0.05
    assert (inside[mask == 1]).all()
    assert not (inside[mask == 0]).any()
    # Nothing of them is near a border: nobody draws them there.
    border = ndimage.binary_dilation(inside) ^ ndimage.binary_erosion(inside)
    assert not (border & (mask >= 0)).any()
    np.testing.assert_array_equal(script.strokes(inside, 3), mask)
