"""Pages, volumes, channels and axes, in files of the usual writers."""

import numpy as np
import pytest
import tifffile

import ushape.data.planes
from ushape.data.folder import open_folder
from written_files import BINARY, IMAGE, save

STACK = np.random.default_rng(3).integers(0, 255, (9, 24, 32), dtype=np.uint8)
LABELS = np.stack([np.roll(BINARY, i, axis=1) for i in range(9)])


def save_ome(path, array, axes):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack", ome=True, metadata={"axes": axes})


def save_imagej(path, array, axes):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": axes})


def test_a_file_that_names_its_z_axis_is_a_volume_and_its_mask_follows(tmp_path):
    save_ome(tmp_path / "images" / "a.ome.tif", STACK, "ZYX")
    save_imagej(tmp_path / "images" / "b.tif", STACK, "ZYX")
    save_ome(tmp_path / "masks" / "a.ome.tif", LABELS, "ZYX")
    save(tmp_path / "masks" / "b_mask.tif", LABELS)  # pages without a word
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["a", "b"]
    for sample in dataset.samples:
        np.testing.assert_array_equal(sample.read_image(), STACK[None])
        np.testing.assert_array_equal(sample.read_mask(), LABELS // 255)
    assert "2 files with a Z axis, 9 slices deep: read as volumes." in dataset.findings
    assert dataset.problems == ()


def test_nifti_files_are_volumes_in_the_order_depth_height_width(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.nii.gz", STACK)
        save(tmp_path / "masks" / f"{name}.nii.gz", LABELS)
    sample = open_folder(tmp_path).samples[0]
    assert sample.name == "a"
    np.testing.assert_array_equal(sample.read_image(), STACK[None])
    np.testing.assert_array_equal(sample.read_mask(), LABELS // 255)


def test_volumes_with_channels(tmp_path):
    save_ome(tmp_path / "a.ome.tif", np.stack([STACK, 255 - STACK], axis=1), "ZCYX")
    save_ome(tmp_path / "a_mask.ome.tif", LABELS, "ZYX")
    sample = open_folder(tmp_path).samples[0]
    np.testing.assert_array_equal(sample.read_image(), np.stack([STACK, 255 - STACK]))
    assert sample.read_mask().shape == (9, 24, 32)


def test_a_shallow_z_axis_is_slices(tmp_path):
    save_ome(tmp_path / "images" / "a.ome.tif", STACK[:7], "ZYX")
    save_ome(tmp_path / "masks" / "a.ome.tif", LABELS[:7], "ZYX")
    dataset = open_folder(tmp_path)
    assert [(s.name, s.group, s.position) for s in dataset.samples] == [(f"a_{i}", "a", i) for i in range(7)]
    np.testing.assert_array_equal(dataset.samples[5].read_mask(), LABELS[5] // 255)
    assert any("A Z axis of 7 slices is too shallow for a volume" in f for f in dataset.findings)


def test_depth_is_judged_over_the_whole_folder(tmp_path):
    for name, depth in (("a", 5), ("b", 9), ("c", 9)):
        save_ome(tmp_path / f"{name}.ome.tif", STACK[:depth], "ZYX")
    dataset = open_folder(tmp_path)
    assert [s.read_image().shape[1] for s in dataset.samples] == [5, 9, 9]
    assert "3 files with a Z axis, 5 to 9 slices deep: read as volumes." in dataset.findings
    save_ome(tmp_path / "b.ome.tif", STACK[:5], "ZYX")
    assert len(open_folder(tmp_path)) == 5 + 5 + 9


def test_pages_without_a_word_are_slices_unless_dataset_toml_says_more(tmp_path):
    save(tmp_path / "images" / "a.tif", STACK)
    save(tmp_path / "masks" / "a.tif", LABELS)
    dataset = open_folder(tmp_path)
    assert len(dataset) == 9
    assert "a.tif has 9 pages: each is read as one image." in dataset.findings
    (tmp_path / "dataset.toml").write_text('axes = "ZYX"\n')
    dataset = open_folder(tmp_path)
    assert len(dataset) == 1
    np.testing.assert_array_equal(dataset.samples[0].read_image(), STACK[None])
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), LABELS // 255)
    assert "dataset.toml says axes ZYX: 1 volume, 9 slices deep." in dataset.findings


def test_two_channels_behind_the_others_are_one_image(tmp_path):
    save(tmp_path / "images" / "a.tif", np.dstack([IMAGE, 255 - IMAGE]))
    save(tmp_path / "masks" / "a.tif", BINARY)
    dataset = open_folder(tmp_path)
    assert (len(dataset.annotated), dataset.problems) == (1, ())
    np.testing.assert_array_equal(dataset.samples[0].read_image(), [IMAGE, 255 - IMAGE])


def test_axes_with_channels_fit_masks_without(tmp_path):
    save(tmp_path / "images" / "a.npy", np.stack([STACK[:5], 255 - STACK[:5]], axis=-1))
    save(tmp_path / "masks" / "a.npy", LABELS[:5])
    (tmp_path / "dataset.toml").write_text('axes = "ZYXC"\n')
    dataset = open_folder(tmp_path)
    np.testing.assert_array_equal(dataset.samples[0].read_image()[1], 255 - STACK[:5])
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), LABELS[:5] // 255)


def test_axes_that_do_not_fit_a_file_are_its_problem(tmp_path):
    save(tmp_path / "a.tif", STACK)
    save(tmp_path / "b.tif", IMAGE)
    (tmp_path / "dataset.toml").write_text('axes = "ZYX"\n')
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == ["a"]
    assert "b.tif: expected axes with one letter for each of the sizes (24, 32)" in dataset.problems[0]


def test_a_volume_needs_a_mask_as_deep(tmp_path):
    save_ome(tmp_path / "images" / "a.ome.tif", STACK, "ZYX")
    save_ome(tmp_path / "masks" / "a.ome.tif", LABELS[:8], "ZYX")
    dataset = open_folder(tmp_path)
    assert (len(dataset), len(dataset.annotated)) == (1, 0)
    assert "expected 9 pages like the image's, found 8; export the mask again" in dataset.problems[0]


# Two objects, the second partly behind the first, and a page without any.
OBJECT_PAGES = np.zeros((3, 24, 32), np.uint8)
OBJECT_PAGES[0, 2:10, 2:9] = 255
OBJECT_PAGES[2, 4:20, 8:30] = 255


@pytest.mark.parametrize("axes", [None, "ZYX", "TYX", "TZYX", "ZTYX"])
def test_a_mask_with_a_page_for_each_object_is_read_as_objects(tmp_path, axes):
    for name in "abc":
        save(tmp_path / "images" / f"{name}.tif")
        if axes is None:
            save(tmp_path / "masks" / f"{name}.tif", OBJECT_PAGES)
        else:
            shape = (*(1,) * (len(axes) - 3), *OBJECT_PAGES.shape)
            save_ome(tmp_path / "masks" / f"{name}.tif", OBJECT_PAGES.reshape(shape), axes)
    dataset = open_folder(tmp_path)
    assert (len(dataset), len(dataset.annotated), dataset.task, dataset.problems) == (3, 3, "instances", ())
    expected = np.where(OBJECT_PAGES[0] > 0, 1, 2 * (OBJECT_PAGES[2] > 0))
    np.testing.assert_array_equal(dataset.samples[1].read_mask(), expected)
    assert dataset.findings[-1] == (
        "3 masks (a.tif, b.tif, c.tif) have several pages for an image of one: each page is read as one object."
    )


def test_pages_that_are_no_objects_are_a_problem(tmp_path):
    slices = np.zeros((4, 24, 32), np.uint8)
    for i, page in enumerate(slices):
        page[2 + i : 20 - i, 3:20] = 255
    numbers = OBJECT_PAGES.copy()
    numbers[0, 15:, 20:] = 7
    others = {"slices": slices, "numbers": numbers, "pieces": LABELS}
    for name, mask in others.items():
        save(tmp_path / "images" / f"{name}.tif")
        save(tmp_path / "masks" / f"{name}.tif", mask)
    dataset = open_folder(tmp_path)
    assert (len(dataset), len(dataset.annotated), len(dataset.problems)) == (3, 0, 3)
    assert (
        "numbers.tif: expected one page like the image's, or one object on each page, found 3 pages of something else; "
        "number the objects 1, 2, 3, ... in one page (the image is kept without it)"
    ) in dataset.problems[0] + dataset.problems[1]


def test_one_mask_for_a_stack_is_a_problem_that_says_what_to_do(tmp_path):
    save(tmp_path / "images" / "a.tif", STACK)
    save(tmp_path / "masks" / "a.tif", BINARY)
    (problem,) = open_folder(tmp_path).problems
    assert (
        "expected 9 pages like the image's, found 1; project the image's pages to one, as the mask was drawn on, or "
        "draw a mask for each page (the image is kept without it)"
    ) in problem


@pytest.mark.parametrize("axes", ["ZCYX", "TYXS"])
def test_a_few_pages_with_channels_are_no_channels_where_there_is_one_mask(tmp_path, axes):
    images = tmp_path / "images"
    if axes == "ZCYX":
        save_imagej(images / "a.tif", STACK[:6].reshape(3, 2, 24, 32), axes)
    else:
        save(images / "a.tif", np.stack([STACK[:3]] * 3, axis=-1), photometric="rgb")
    save(tmp_path / "masks" / "a.tif", BINARY)
    dataset = open_folder(tmp_path)
    assert not any("read as channels" in finding for finding in dataset.findings)
    assert "expected 3 pages like the image's, found 1; project the image's pages to one" in dataset.problems[0]
    assert [sample.read_image().shape for sample in dataset.samples] == [(2 if axes == "ZCYX" else 3, 24, 32)] * 3


def test_images_in_which_0_is_white_are_said(tmp_path):
    save(tmp_path / "images" / "a.tif", 255 - IMAGE, photometric="miniswhite")
    save(tmp_path / "images" / "b.tif")
    save(tmp_path / "masks" / "a.tif", BINARY, photometric="miniswhite")
    dataset = open_folder(tmp_path)
    np.testing.assert_array_equal(dataset.samples[0].read_image()[0], IMAGE)
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), BINARY // 255)
    assert dataset.findings[-1] == "a.tif says that 0 means white: read with 0 as black, like all others."


def test_several_files_with_pages_are_one_sentence(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.tif", STACK[:6])
    findings = open_folder(tmp_path).findings
    assert "3 files have several pages (a.tif, b.tif, c.tif): each is read as one image." in findings


def test_files_with_pages_are_not_compared_with_each_other(tmp_path, monkeypatch):
    """Each with each, thousands of files would take minutes."""
    for name in "abcd":
        save(tmp_path / f"{name}.tif", STACK[:3])
    save(tmp_path / "a_mask.tif", BINARY)
    monkeypatch.setattr(ushape.data.planes._Opened, "__eq__", None)
    findings = open_folder(tmp_path).findings
    assert "a.tif has 3 pages and one mask: read as channels." in findings
    assert "3 files have several pages (b.tif, c.tif, d.tif): each is read as one image." in findings


def test_time_points_of_volumes_are_read_plane_by_plane(tmp_path):
    save_ome(tmp_path / "a.ome.tif", np.stack([STACK] * 2), "TZYX")
    dataset = open_folder(tmp_path)
    assert len(dataset) == 18
    np.testing.assert_array_equal(dataset.samples[10].read_image(), STACK[1][None])


def test_of_many_pictures_without_masks_a_share_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(ushape.data.planes, "MAX_PICTURES_CHECKED", 3)
    for i in range(8):
        save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "0.png").write_bytes(b"x")
    (tmp_path / "images" / "1.png").write_bytes(b"x")
    dataset = open_folder(tmp_path)
    assert [s.name for s in dataset.samples] == list("1234567")
    assert "3 of 8 images were looked at, spread evenly." in dataset.findings
    assert len(dataset.problems) == 1
    save(tmp_path / "masks" / "1.png", BINARY)
    assert len(open_folder(tmp_path).samples) == 6  # an image with a mask is always looked at
