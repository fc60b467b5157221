"""Formats that are not read are named, with what to do."""

import pytest

from ushape.data.folder import open_folder
from ushape.errors import DataError
from written_files import BINARY, save, touch


@pytest.mark.parametrize(
    "name, words",
    [
        ("a.czi", r"only \.czi \(Zeiss microscope files\); open them in Fiji \(Bio-Formats\) and save .* OME-TIFF"),
        ("a.ND2", r"only \.nd2 \(Nikon microscope files\); open them in Fiji"),
        ("a.lif", r"only \.lif \(Leica microscope files\); open them in Fiji"),
        ("a.svs", r"only \.svs \(whole-slide images\); export the regions of interest from QuPath as OME-TIFF"),
        ("a.dcm", r"only \.dcm \(DICOM files\); convert each series to NIfTI with dcm2niix"),
        ("a.zip", r"only \.zip \(packed archives\); unpack them first and name the folder that comes out"),
        ("a.tar.gz", r"only \.gz \(packed archives\); unpack them first"),
        ("a.json", r"only \.json \(outlines or boxes as text\); export the masks as PNG or TIFF"),
        ("a.zarr/0/.zarray", r"only \.zarr \(containers of arrays\); save each image as TIFF or \.npy"),
        ("a.pkl", r"only \.pkl \(Python pickles\); save the arrays as TIFF or \.npy"),
    ],
)
def test_a_folder_of_a_foreign_format_names_it(tmp_path, name, words):
    touch(tmp_path / name)
    touch(tmp_path / "README")
    with pytest.raises(DataError, match=rf"expected images as TIFF, PNG, JPEG, BMP, \.npy or NIfTI, found {words}"):
        open_folder(tmp_path)


def test_images_are_named_before_texts(tmp_path):
    for name in ("a.txt", "b.txt", "c.czi"):
        touch(tmp_path / name)
    with pytest.raises(DataError, match=r"found only \.czi"):
        open_folder(tmp_path)


@pytest.mark.parametrize("folder", ["images", "."])
def test_foreign_files_beside_images_are_left_out_and_said(tmp_path, folder):
    save(tmp_path / folder / "a.png")
    save(tmp_path / ("masks" if folder == "images" else ".") / "a_mask.png", BINARY)
    for name in ("b.nd2", "c.nd2", "notes.txt"):
        touch(tmp_path / folder / name)
    dataset = open_folder(tmp_path)
    assert len(dataset) == 1
    assert len(dataset.problems) == 1
    assert (
        "expected image files, found 2 .nd2 files (Nikon microscope files) as well; open them in Fiji"
        in dataset.problems[0]
    )
