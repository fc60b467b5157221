"""Files of sets: OME-TIFF with a file for each position or channel, and Micro-Manager's stacks.

The metadata are written here as the two specifications have them; each file holds numbers of its own.
"""

import json
import struct

import numpy as np
import pytest
import tifffile

from ushape.data.headers import read_layout
from ushape.data.images import read_image, read_mask
from ushape.data.spacing import read_frame_interval, read_spacing
from ushape.data.tiff_sets import own_part

OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{uuid}">{images}</OME>'
IMAGE = (
    '<Image ID="Image:{n}"><Pixels ID="Pixels:{n}" DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="20" '
    'SizeC="{c}" SizeZ="{z}" SizeT="1" PhysicalSizeX="0.{n}5" PhysicalSizeY="0.{n}5">{data}</Pixels></Image>'
)
DATA = (
    '<TiffData FirstC="{c}" FirstT="0" FirstZ="{z}" IFD="{ifd}" PlaneCount="1">'
    '<UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
)


def pixels(n, *shape):
    return np.full((*shape, 20, 30), n, np.uint16)


def positions(folder, n_positions, n_slices, compression="zlib"):
    """A file for each position, all of which say where every image lies."""
    names = [f"pos{n}.ome.tif" for n in range(n_positions)]
    images = "".join(
        IMAGE.format(
            n=n, c=1, z=n_slices, data="".join(DATA.format(c=0, z=z, ifd=z, name=name) for z in range(n_slices))
        )
        for n, name in enumerate(names)
    )
    for n, name in enumerate(names):
        xml = OME.format(uuid=name, images=images)
        plane = pixels(n + 1, n_slices)
        options = {"metadata": None, "ome": False, "photometric": "minisblack", "compression": compression}
        tifffile.imwrite(folder / name, plane, description=xml, **options)
    return [folder / name for name in names]


@pytest.mark.parametrize("compression", ["zlib", None])
@pytest.mark.parametrize("n_slices", [1, 3])
def test_a_file_of_a_set_of_positions_is_its_own_position(tmp_path, n_slices, compression):
    for n, path in enumerate(positions(tmp_path, 3, n_slices, compression)):
        image = read_image(path)
        assert image.shape == ((1, 3, 20, 30) if n_slices > 1 else (1, 20, 30))
        assert set(np.unique(image)) == {n + 1}
        assert set(np.unique(read_mask(path))) == {n + 1}
        assert read_spacing(path).values[-1] == pytest.approx(n / 10 + 0.05)  # of its own image


def test_a_renamed_file_of_a_set_is_still_its_own(tmp_path):
    second = positions(tmp_path, 2, 1)[1]
    assert np.all(read_image(second.rename(tmp_path / "other.tif")) == 2)


def test_a_file_with_the_name_of_another_one_is_its_own(tmp_path):
    (tmp_path / "alone").mkdir()
    first, second = positions(tmp_path, 2, 1)
    moved = second.rename(tmp_path / "alone" / first.name)
    assert np.all(read_image(moved) == 2)
    assert read_spacing(moved).values[-1] == pytest.approx(0.15)


def test_a_file_of_a_set_that_was_moved_away_from_it_needs_no_other(tmp_path):
    (tmp_path / "alone").mkdir()
    second = positions(tmp_path, 2, 1)[1]
    assert np.all(read_image(second.rename(tmp_path / "alone" / second.name)) == 2)


@pytest.mark.parametrize("n_slices", [1, 3])
def test_a_file_of_a_channel_is_that_channel_alone(tmp_path, n_slices):
    names = ["x_C0.ome.tif", "x_C1.ome.tif"]
    data = "".join(DATA.format(c=c, z=z, ifd=z, name=name) for c, name in enumerate(names) for z in range(n_slices))
    for c, name in enumerate(names):
        xml = OME.format(uuid=name, images=IMAGE.format(n=0, c=2, z=n_slices, data=data))
        tifffile.imwrite(
            tmp_path / name,
            pixels(c + 1, n_slices),
            description=xml,
            metadata=None,
            ome=False,
            photometric="minisblack",
        )
    for c, name in enumerate(names):
        assert read_layout(tmp_path / name).n_pages == n_slices
        assert np.all(read_image(tmp_path / name, page=n_slices - 1) == c + 1)
        assert read_frame_interval(tmp_path / name) is None


def test_one_file_that_names_itself_is_read_under_any_name(tmp_path):
    xml = OME.replace(' UUID="urn:uuid:{uuid}"', "").format(
        images=IMAGE.format(n=0, c=1, z=3, data="".join(DATA.format(c=0, z=z, ifd=z, name="a") for z in range(3)))
    )
    tifffile.imwrite(
        tmp_path / "b.tif", pixels(7, 3), description=xml, metadata=None, ome=False, photometric="minisblack"
    )
    assert read_layout(tmp_path / "b.tif").axes == "ZYX"
    assert np.all(read_image(tmp_path / "b.tif") == 7)


def stack(path, n, n_positions):
    """A file of Micro-Manager: one plane of one position, and what its head says of the whole set."""
    summary = {"MicroManagerVersion": "2.0", "Channels": 1, "Slices": 1, "Frames": 1, "Positions": n_positions}
    text = json.dumps({**summary, "Prefix": path.name.split("_MMStack")[0]}).encode()
    plane = pixels(n, 1)[0].astype("<u2").tobytes()
    page = 40 + len(text)
    index = page + 162 + len(plane)
    tags = [(256, 30), (257, 20), (258, 16), (259, 1), (262, 1), (273, page + 162), (277, 1), (278, 20)]
    entries = struct.pack("<7I", 3453623, 1, 0, 0, 0, n - 1, page)
    words = b'{"Frame": 0}\0'
    tags += [(279, len(plane)), (51123, index + len(entries))]
    head = struct.pack("<2sHI8I", b"II", 42, page, 54773648, index, 483765892, 0, 99384722, 0, 2355492, len(text))
    ifd = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, *((2, len(words)) if tag == 51123 else (4, 1)), value) for tag, value in tags
    )
    ifd += struct.pack("<I", 0)
    path.write_bytes(head + text + ifd.ljust(162, b"\0") + plane + entries + words)
    return path


def test_a_file_of_a_stack_of_several_positions_is_its_own_position(tmp_path):
    paths = [stack(tmp_path / f"cells_1_MMStack_Pos{n}.ome.tif", n + 1, 3) for n in range(3)]
    with tifffile.TiffFile(paths[1]) as tiff:  # else this would test no such file
        assert tiff.is_mmstack
        assert tiff.series[0].shape == (3, 20, 30)
    for n, path in enumerate(paths):
        image = read_image(path)
        assert image.shape == (1, 20, 30)
        assert np.all(image == n + 1)


def test_a_stack_that_is_no_part_of_a_set_is_read_by_its_own_word(tmp_path):
    path = stack(tmp_path / "cells_1_MMStack_Pos0.ome.tif", 1, 3)
    (tmp_path / "cells_1_MMStack_Pos0_metadata.txt").touch()
    with tifffile.TiffFile(path) as tiff:
        assert own_part(tiff, path) == {}  # it was stopped early, or is alone; its own index tells what there is
    assert np.all(read_image(path) == 1)
    stack(tmp_path / "cells_1_MMStack_Pos1.ome.tif", 2, 3)
    with tifffile.TiffFile(path) as tiff:
        assert own_part(tiff, path) == {"is_mmstack": False}
