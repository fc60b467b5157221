"""NIfTI: written by nibabel, read by ours, and the other way round; places and sizes known by hand."""

import gzip
import sys

import numpy as np
import pytest

from ushape.data.dataset import Spacing
from ushape.data.headers import is_image_file, n_pages, read_layout
from ushape.data.images import read_image, read_mask, read_spacing, write_image, write_labels
from ushape.errors import DataError

nibabel = pytest.importorskip("nibabel", reason="the extra `medical` is not installed")

# (x, y, z) as nibabel counts: 6 wide, 5 high, 4 deep.
STORED = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
VOLUME = STORED.transpose(2, 1, 0)
AFFINE = np.array([[0.5, 0, 0, -10], [0, 0.75, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])


def save(path, array, affine=AFFINE, kind=nibabel.Nifti1Image, **header):
    image = kind(array, affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_a_header_tells_the_bytes_of_the_array(tmp_path, name, scaled, dtype):
    image = nibabel.Nifti1Image(STORED.astype(dtype), AFFINE)
    image.header.set_slope_inter(*((2, -1) if scaled else (1, 0)))
    nibabel.save(image, tmp_path / name)
    assert read_layout(tmp_path / name).nbytes == read_image(tmp_path / name).nbytes


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "int32", "float32", "float64"])
def test_a_volume_is_depth_height_width(tmp_path, name, kind, dtype):
    path = tmp_path / name
    path.write_bytes(save(tmp_path / f"b{name[1:].lower()}", STORED.astype(dtype), kind=kind).read_bytes())
    assert (read_layout(path).shape, read_layout(path).axes, n_pages(path)) == ((4, 5, 6), "ZYX", 4)
    image = read_image(path)
    assert image.shape == (1, 4, 5, 6)
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image[0], VOLUME)
    assert image[0, 3, 1, 5] == STORED[5, 1, 3]
    np.testing.assert_array_equal(read_mask(path), VOLUME)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_plane_of_a_volume_is_a_page(tmp_path, name):
    path = save(tmp_path / name, STORED)
    np.testing.assert_array_equal(read_image(path, page=2), VOLUME[2][None])
    np.testing.assert_array_equal(read_mask(path, page=3), VOLUME[3])
    with pytest.raises(DataError, match="expected a page from 0 to 3, found 4"):
        read_image(path, page=4)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 1, 1)])
def test_one_plane_is_two_dimensional(tmp_path, shape):
    path = save(tmp_path / "a.nii", STORED[:, :, 0].reshape(shape))
    np.testing.assert_array_equal(read_image(path), STORED[:, :, 0].T[None])
    np.testing.assert_array_equal(read_mask(path), STORED[:, :, 0].T)
    assert read_spacing(path) == Spacing((0.75, 0.5), "mm")


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 5, 4, 1, 3)])
def test_a_fourth_dimension_is_channels(tmp_path, shape):
    array = np.arange(6 * 5 * 4 * 3, dtype=np.float32).reshape(shape)
    image = read_image(save(tmp_path / "a.nii.gz", array))
    assert image.shape == (3, 4, 5, 6)
    for channel in range(3):
        np.testing.assert_array_equal(image[channel], array[..., channel].reshape(6, 5, 4).T)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz", page=1), image[:, 1])


def test_many_time_points_are_pages_unless_they_are_called_channels(tmp_path):
    array = np.arange(6 * 5 * 4 * 9, dtype=np.int16).reshape(6, 5, 4, 9)
    path = save(tmp_path / "a.nii", array)
    assert (read_layout(path).axes, n_pages(path)) == ("PZYX", 36)
    np.testing.assert_array_equal(read_image(path, page=8 * 4 + 3), array[..., 3, 8].T[None])
    with pytest.raises(DataError, match=r"found 36 pages; name one .* say what they are with axes='CZYX' \(channels\)"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, axes="CZYX"), array.transpose(3, 2, 1, 0))


def test_colours_stored_as_one_value_are_channels(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
    packed = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    path = save(tmp_path / "a.nii", packed)
    assert read_layout(path).axes == "ZYXC"
    assert read_layout(path).nbytes == colours.nbytes
    np.testing.assert_array_equal(read_image(path), colours.transpose(3, 2, 1, 0))
    np.testing.assert_array_equal(read_image(path, page=1), colours[:, :, 1].transpose(2, 1, 0))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_files_scaling_is_applied(tmp_path, name):
    image = nibabel.Nifti1Image(STORED, AFFINE)
    image.header.set_slope_inter(2, -1)  # noted in the header; the integers are stored as they are
    nibabel.save(image, tmp_path / name)
    found = read_image(tmp_path / name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], 2 * VOLUME - 1)
    page = read_image(tmp_path / name, page=1)
    assert page.dtype == np.float32
    np.testing.assert_array_equal(page[0], 2 * VOLUME[1] - 1)
    np.testing.assert_array_equal(read_mask(tmp_path / name), 2 * VOLUME - 1)
    np.testing.assert_array_equal(read_mask(tmp_path / name, page=3), 2 * VOLUME[3] - 1)


@pytest.mark.parametrize("largest, dtype", [(2, np.uint8), (7, np.uint8), (1000, np.int16), (100, np.uint8)])
def test_labels_that_were_scaled_to_fill_a_type_are_whole_again(tmp_path, largest, dtype):
    """nibabel stores float64 in an integer header with a slope: 0, 1, 2 become 0, 128, 255 of 2/255 each."""
    labels = (np.arange(6 * 5 * 4) % (largest + 1)).reshape(6, 5, 4).astype(float)
    labels[0, 0, 0] = largest
    image = nibabel.Nifti1Image(labels, AFFINE)
    image.header.set_data_dtype(dtype)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert nibabel.load(tmp_path / "a.nii.gz").dataobj.slope != 1
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii.gz"), labels.T)


@pytest.mark.parametrize("largest", [1.0, 1.5, 1000.5])
def test_probabilities_are_no_labels_however_they_are_scaled(tmp_path, largest):
    image = nibabel.Nifti1Image(np.linspace(0, largest, 6 * 5 * 4).reshape(6, 5, 4), AFFINE)
    image.header.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match=r"a\.nii\.gz: expected whole numbers in a mask, found values between them"):
        read_mask(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.95])
def test_a_file_cut_short_is_one_sentence_already_in_its_header(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 1000, (40, 30, 20)).astype(np.int16)
    whole = save(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    for read in (read_layout, read_image, read_mask):
        with pytest.raises(DataError, match=rf"{name}: expected a readable \.nii.* damaged or cut short .*save it ag"):
            read(tmp_path / name)
    assert read_spacing(tmp_path / name) is None or share > 0


def test_a_damaged_byte_is_one_sentence(tmp_path):
    noise = np.random.default_rng(0).integers(0, 1000, (40, 30, 20)).astype(np.int16)
    content = bytearray(save(tmp_path / "a.nii.gz", noise).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nii\.gz: expected a readable \.nii\.gz file, found one that is damaged"):
        read_image(tmp_path / "a.nii.gz")


def test_compressed_or_not_is_told_by_the_content(tmp_path):
    plain, packed = save(tmp_path / "b.nii", STORED), save(tmp_path / "b.nii.gz", STORED)
    (tmp_path / "a.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "a.nii").write_bytes(packed.read_bytes())
    for name in ("a.nii", "a.nii.gz"):
        np.testing.assert_array_equal(read_image(tmp_path / name)[0], VOLUME)


def test_a_gzip_file_of_several_members_is_whole(tmp_path):
    """bgzip writes blocks and an empty last one, so that the length at the end says nothing."""
    content = save(tmp_path / "b.nii", STORED).read_bytes()
    blocks = [gzip.compress(content[:400]), gzip.compress(content[400:]), gzip.compress(b"")]
    (tmp_path / "a.nii.gz").write_bytes(b"".join(blocks))
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz")[0], VOLUME)
    (tmp_path / "a.nii.gz").write_bytes(b"".join(blocks[::2]))
    with pytest.raises(DataError, match="the file ends too early"):
        read_layout(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("header", [0, 8, 200])
def test_what_is_no_nifti_is_one_sentence(tmp_path, header):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"x" * header))
    with pytest.raises(DataError, match=r"a\.nii\.gz: expected a readable \.nii\.gz file, found one that is damaged"):
        read_layout(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("read", [read_layout, read_image, read_mask])
def test_without_nibabel_a_sentence_says_what_to_install(tmp_path, monkeypatch, read):
    path = save(tmp_path / "a.nii.gz", STORED)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(DataError, match=r'a\.nii\.gz: expected the package nibabel.*pip install "ushape\[medical\]"$'):
        read(path)
    with pytest.raises(DataError, match=r'b\.nii: expected the package nibabel.*pip install "ushape\[medical\]"$'):
        write_labels(tmp_path / "b.nii", np.zeros((2, 3), int))
    assert read_spacing(path) is None


@pytest.mark.parametrize(
    "unit, zooms, expected",
    [
        ("mm", (0.7, 0.8, 2.5), Spacing((2.5, 0.8, 0.7), "mm")),
        ("micron", (0.7, 0.8, 2.5), Spacing((2.5, 0.8, 0.7), "um")),
        ("meter", (0.0007, 0.0008, 0.0025), Spacing((2.5, 0.8, 0.7), "mm")),
        ("unknown", (0.7, 0.8, 2.5), Spacing((2.5, 0.8, 0.7), "mm")),
        ("mm", (1, 1, 1), Spacing((1, 1, 1), "mm")),
        ("unknown", (1, 1, 1), None),
        ("mm", (np.nan, 1, 1), None),
    ],
)
def test_zooms_are_the_spacing(tmp_path, unit, zooms, expected):
    image = nibabel.Nifti1Image(STORED, np.eye(4))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[80:92] = np.array(zooms, "<f4").tobytes()  # past nibabel, which takes sound numbers only
    (tmp_path / "a.nii").write_bytes(content)
    assert read_spacing(tmp_path / "a.nii") == expected


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("largest, dtype", [(3, "uint8"), (300, "uint16"), (70000, "uint32")])
def test_labels_take_the_place_of_their_image(tmp_path, name, kind, largest, dtype):
    turned = AFFINE @ np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    source = save(tmp_path / "source.nii.gz", STORED.astype(np.float32), turned, kind)
    labels = np.zeros((4, 5, 6), int)
    labels[3, 1, 5] = largest
    write_labels(tmp_path / name, labels, like=source)
    written = nibabel.load(tmp_path / name)
    np.testing.assert_allclose(written.affine, turned)
    assert written.get_data_dtype() == dtype
    assert np.asarray(written.dataobj)[5, 1, 3] == largest
    np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
    assert read_spacing(tmp_path / name) == read_spacing(source)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1)])
def test_labels_of_one_plane_take_the_shape_of_their_image(tmp_path, shape):
    source = save(tmp_path / "source.nii", STORED[:, :, 0].reshape(shape))
    labels = np.arange(30).reshape(5, 6)
    write_labels(tmp_path / "a.nii.gz", labels, like=source)
    assert nibabel.load(tmp_path / "a.nii.gz").shape == shape
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii.gz"), labels)


def test_labels_of_images_with_channels_have_none(tmp_path):
    source = save(tmp_path / "source.nii", np.zeros((6, 5, 4, 2), np.float32))
    labels = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    write_labels(tmp_path / "a.nii.gz", labels, like=source)
    assert nibabel.load(tmp_path / "a.nii.gz").shape == (6, 5, 4)


@pytest.mark.parametrize("shape", [(4, 6, 5), (3, 5, 6), (5, 6)])
def test_labels_of_another_size_than_their_image_are_refused(tmp_path, shape):
    source = save(tmp_path / "source.nii", STORED)
    with pytest.raises(DataError, match=r"a\.nii: expected labels of the size of .*source\.nii, \(4, 5, 6\), found \("):
        write_labels(tmp_path / "a.nii", np.zeros(shape, int), like=source)
    assert not (tmp_path / "a.nii").exists()


@pytest.mark.parametrize(
    "spacing", [None, Spacing((3.0, 0.75, 0.5), "mm"), Spacing((3.0, 0.75, 0.5)), Spacing((300, 75, 50), "nm")]
)
def test_labels_keep_a_spacing_without_an_image(tmp_path, spacing):
    write_labels(tmp_path / "a.nii.gz", VOLUME.astype(int), spacing=spacing)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii.gz"), VOLUME)
    found = read_spacing(tmp_path / "a.nii.gz")
    if spacing is not None and spacing.unit == "nm":
        assert found == Spacing((3e-4, 7.5e-5, 5e-5), "mm")
    else:
        assert found == spacing


def test_the_same_labels_give_the_same_file(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, VOLUME.astype(int))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == bytes(4)  # the time of packing


def test_images_are_not_written_as_nifti(tmp_path):
    with pytest.raises(DataError, match=r"a\.nii: expected a name that ends in \.tif, \.tiff or \.png for an image"):
        write_image(tmp_path / "a.nii", np.zeros((1, 2, 3), np.float32))


def test_real_volumes_of_the_brain(real_data):
    """The hippocampus set of the Medical Segmentation Decathlon: 35 by 51 by 35 voxels or so, of one millimetre."""
    folder = real_data / "hippocampus"
    if not folder.is_dir():
        pytest.skip("no hippocampus data here")
    paths = sorted(path for path in (folder / "labelsTr").iterdir() if is_image_file(path))[:5]
    assert paths
    for path in paths:
        image = read_image(folder / "imagesTr" / path.name)
        mask = read_mask(path)
        assert image.shape == (1, *mask.shape)
        assert set(np.unique(mask)) == {0, 1, 2}
        assert read_spacing(path) == Spacing((1, 1, 1), "mm")


def test_odd_headers_are_not_told_on_standard_error(tmp_path, caplog):
    path = save(tmp_path / "a.nii", STORED)
    header = bytearray(path.read_bytes())
    header[76 + 4 : 76 + 16] = bytes(12)  # pixdim 1 to 3: the size of a pixel is 0
    path.write_bytes(header)
    assert read_image(path).shape == (1, 4, 5, 6)
    assert not caplog.records
