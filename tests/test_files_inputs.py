"""Which images a name stands for, and what a file holds for a model."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ushape.data.dataset import Spacing
from ushape.files.inputs import find_images, input_of
from ushape.preparation import Preparation


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Images at several depths, results from before among them, and what is no image; names are relative to it."""
    for name in (
        "a.tif",
        "b.PNG",
        "notes.txt",
        ".hidden.png",
        "x/a.tif",
        "x/y/c.jpg",
        "out/a.tif",
        "odd[1].png",
        "e/n.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found_by(*names, output="out"):
    found, problems = find_images(names, Path(output))
    return [path.as_posix() for path in found.values()], problems


@pytest.mark.parametrize(
    "names, images",
    [
        (["a.tif"], ["a.tif"]),
        (["."], ["a.tif", "b.PNG", "odd[1].png"]),
        (["*.tif"], ["a.tif"]),
        (["?.*"], ["a.tif", "b.PNG"]),
        (["[ab].*"], ["a.tif", "b.PNG"]),
        (["odd[1].png"], ["odd[1].png"]),
        (["x/*"], ["x/a.tif", "x/y/c.jpg"]),
        (["**/*.tif"], ["a.tif", "x/a.tif"]),
        (["**"], ["a.tif", "b.PNG", "odd[1].png", "x/a.tif", "x/y/c.jpg"]),
        (["x/**/*"], ["x/a.tif", "x/y/c.jpg"]),
        (["out/**"], ["out/a.tif"]),
        (["x", "x/a.tif", "./x/*.tif", "a.tif"], ["x/a.tif", "a.tif"]),
    ],
)
def test_what_a_name_stands_for(tree, names, images):
    assert found_by(*names) == (images, [])


def test_an_image_by_two_paths_is_one_image(tree):
    os.symlink("x", "link")
    assert found_by("link/a.tif", "x/a.tif") == (["link/a.tif"], [])


@pytest.mark.parametrize(
    "name, problem",
    [
        ("e", "e: expected images in the folder, found none; name the folder that holds them"),
        ("none.png", "none.png: expected an image or a folder of images, found nothing; check the path"),
        ("*.bmp", "*.bmp: expected image files that match, found none; check the pattern"),
        ("e/*", "e/*: expected image files that match, found none; check the pattern"),
        ("n" * 300, "n" * 300 + ": File name too long; check the path, the permissions and the space left"),
    ],
)
def test_what_stands_for_nothing_is_a_problem_and_the_others_are_found(tree, name, problem):
    assert found_by(name, "a.tif") == (["a.tif"], [problem])


# What a file holds.


def write(path, shape, **options):
    tifffile.imwrite(path, np.zeros(shape, np.uint8), photometric="minisblack", **options)
    return path


def test_pages_are_images_channels_or_slices(tmp_path):
    path = write(tmp_path / "s.ome.tif", (12, 20, 24), metadata={"axes": "TYX"})
    images = input_of(path, Preparation())
    assert (images.name, images.pages, images.is_stack, images.axes) == ("s", tuple(range(12)), True, None)
    assert [images.page_name(page) for page in (0, 11)] == ["s_00", "s_11"]
    channels = input_of(path, Preparation(channels=12))
    assert (channels.pages, channels.axes, channels.page_name(None)) == ((None,), "CYX", "s")
    volume = input_of(path, Preparation(dims=3))
    assert (volume.pages, volume.axes) == ((None,), "ZYX")
    single = input_of(write(tmp_path / "a.tif", (20, 24)), Preparation())
    assert (single.pages, single.is_stack, single.page_name(0), single.finding) == ((0,), False, "a", "")


def test_channels_behind_the_other_axes_are_no_pages(tmp_path):
    item = input_of(write(tmp_path / "a.tif", (64, 80, 2)), Preparation(channels=2))
    assert (item.pages, item.is_stack, item.layout.axes) == ((0,), False, "YXC")


def test_results_are_called_like_the_file_with_its_own_characters(tmp_path):
    path = tmp_path / "Zella\u0308.tif"
    write(path, (64, 64))
    assert input_of(path, Preparation(channels=1)).name == "Zella\u0308"


def test_the_spacing_is_that_of_what_is_predicted(tmp_path):
    options = {"imagej": True, "resolution": (4, 2), "resolutionunit": "NONE"}
    volume = write(tmp_path / "v.tif", (6, 20, 24), metadata={"axes": "ZYX", "unit": "um", "spacing": 2.0}, **options)
    assert input_of(volume, Preparation(dims=3)).spacing == Spacing((2.0, 0.5, 0.25))
    assert input_of(volume, Preparation()).spacing == Spacing((0.5, 0.25))
    # Nothing is said of the distance of the slices: then a volume has no physical size.
    pages = write(tmp_path / "p.tif", (6, 20, 24), metadata={"axes": "ZYX", "unit": "um"}, **options)
    assert input_of(pages, Preparation(dims=3)).spacing is None
    assert input_of(pages, Preparation()).spacing == Spacing((0.5, 0.25))


@pytest.mark.parametrize(
    "shape, preparation",
    [
        ((20, 24), Preparation()),
        ((4, 20, 24), Preparation()),
        ((2, 20, 24), Preparation(channels=2)),
        ((4, 20, 24), Preparation(dims=3)),
    ],
)
def test_what_the_header_says_comes_along(tmp_path, shape, preparation):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint16), photometric="minisblack")
    layout = input_of(tmp_path / "a.tif", preparation).layout
    assert (layout.shape, layout.nbytes) == (shape, 2 * np.prod(shape))
