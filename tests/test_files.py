"""Files in, files out: no input and no earlier result is lost, and one bad file stops no other."""

import csv
import itertools
import weakref
from types import MethodType

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import disc_image
from test_model import noise, small_model
from ushape.data.dataset import Spacing
from ushape.data.folder import open_folder
from ushape.data.headers import read_layout
from ushape.data.spacing import read_spacing
from ushape.errors import DataError, RecipeError
from ushape.files import inputs, predict_files, score_files
from ushape.files.origin import NOTES
from ushape.targets.instances import Decision
from ushape.targets.maps import Encoding

EVERYTHING = ("labels", "probabilities", "overlay", "table")


@pytest.fixture
def model():
    return small_model("instances")


def write_png(path, array=None):
    """A picture file; discs where nothing else is said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(disc_image(0)[0][0] if array is None else array).save(path)
    return path


def write_stack(path, stack):
    """A TIFF of pages that says nothing about them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


def names_in(folder):
    return {path.name for path in folder.iterdir() if path.name not in NOTES} if folder.exists() else set()


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def seen_by(model):
    """The images (C, *space) that the model will be given."""
    images = []

    def maps(self, image, **options):
        images.append(image)
        return type(self).maps(self, image, **options)

    model.engine, model.maps = "torch", MethodType(maps, model)
    return images


def answering(model, answer):
    """The model with its network replaced by a function of the image (C, *space)."""
    model.engine = "torch"  # of a model whose engine is `auto` a copy would predict
    model.maps = MethodType(lambda self, image, **options: answer(image).astype(np.float32), model)
    return model


def objects_of_discs(model):
    """The model with its answer replaced by the outlines of the discs of seed 0."""
    mask = disc_image(0)[1]

    def answer(image):
        model.preparation(image)
        return np.stack([mask == 0, mask > 0, mask > 0])

    return answering(model, answer)


def objects_by_threshold(model):
    """The model with its answer replaced by all that is brighter than 128."""
    return answering(model, lambda image: np.stack([image[0] <= 128, image[0] > 128, image[0] > 128]))


def stopping_at(model, n):
    """The model, which is interrupted at its image number n, counted from 0."""
    answer, numbers = model.maps, itertools.count()

    def maps(self, image, **options):
        if next(numbers) == n:
            raise KeyboardInterrupt
        return answer(image)

    model.engine, model.maps = "torch", MethodType(maps, model)
    return model


# What is there stays.


def test_a_table_from_before_is_refused_before_anything_is_done(model, tmp_path):
    image, out = write_png(tmp_path / "cell.png"), tmp_path / "out"
    predict_files(model, [str(image)], out, save=("table",))
    before = (out / "objects.csv").read_bytes()
    with pytest.raises(DataError, match=r"^expected no result called .*objects.csv, found one .* with --overwrite"):
        predict_files(model, [str(image)], out, save=("labels", "table"))
    assert names_in(out) == {"objects.csv"}
    assert (out / "objects.csv").read_bytes() == before
    predict_files(model, [str(image)], out, save=("labels", "table"), overwrite=True)
    assert names_in(out) == {"objects.csv", "cell.tif"}


def test_no_table_is_written_when_nothing_was_done(model, tmp_path):
    written, problems, _ = predict_files(model, [str(tmp_path / "none.png")], tmp_path / "out", save=("table",))
    assert (written, len(problems), names_in(tmp_path / "out")) == ([], 1, set())


def test_no_result_replaces_any_of_the_images(model, tmp_path):
    write_png(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", disc_image(1)[0][0])
    before = (tmp_path / "a.tif").read_bytes()
    written, problems, _ = predict_files(model, [str(tmp_path)], tmp_path, overwrite=True)
    assert written == []
    assert problems[0].startswith(f"{tmp_path / 'a.png'}: expected a result that replaces no image, found one that")
    assert (tmp_path / "a.tif").read_bytes() == before


def test_results_of_different_images_with_one_name_are_refused(model, tmp_path):
    images, out = [write_png(tmp_path / folder / "a.png") for folder in ("one", "two")], tmp_path / "out"
    images.append(write_png(tmp_path / "a_probabilities.png"))
    written, problems, _ = predict_files(model, list(map(str, images)), out, save=("labels", "probabilities"))
    assert written == [out / "a_probabilities.tif", out / "a.tif"]
    assert [str(problem).split(": expected")[0] for problem in problems] == [str(images[1]), str(images[2])]
    assert f"expected images with different names, found {images[0]} too" in problems[1]


def test_images_with_one_name_are_no_two_in_a_table(tmp_path):
    images = [
        write_png(tmp_path / folder / f"{name}.png") for folder, name in (("one", "a"), ("one", "b"), ("two", "a"))
    ]
    model, out = objects_of_discs(small_model("instances")), tmp_path / "out"
    _, problems, _ = predict_files(model, list(map(str, images)), out, save=("table",))
    assert problems == [
        f"{images[2]}: expected images with different names, found {images[0]} too; predict them into another folder"
    ]
    assert [row["image"] for row in rows_of(out / "objects.csv")] == ["a"] * 4 + ["b"] * 4


def test_an_image_that_is_named_twice_is_done_once(model, tmp_path):
    image = write_png(tmp_path / "in" / "a.png")
    written, problems, _ = predict_files(model, [str(image), str(image.parent)], tmp_path / "out")
    assert (written, problems) == ([tmp_path / "out" / "a.tif"], [])


# One bad file, page or folder stops no other.


def test_missing_paths_and_empty_folders_are_problems_and_the_others_are_done(model, tmp_path):
    (tmp_path / "empty").mkdir()
    names = [tmp_path / "empty", tmp_path / "none.png", tmp_path / "nowhere", write_png(tmp_path / "good.png")]
    written, problems, _ = predict_files(model, list(map(str, names)), tmp_path / "out")
    assert written == [tmp_path / "out" / "good.tif"]
    assert [problem.split(": expected")[0] for problem in problems] == list(map(str, names[:3]))


def test_nan_pixels_are_a_problem_and_no_empty_result(model, tmp_path):
    image = disc_image(0)[0][0].astype(np.float32)
    image[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", image)
    written, problems, _ = predict_files(model, [str(tmp_path / "nan.tif")], tmp_path / "out")
    assert written == []
    assert len(problems) == 1
    assert f"{tmp_path / 'nan.tif'}: expected finite pixel values, found 1 NaN or infinite one" in problems[0]


def test_a_bad_page_stops_no_other_page(tmp_path):
    model = objects_of_discs(small_model("instances"))
    pages = np.stack([disc_image(i)[0][0] for i in range(12)]).astype(np.float32)
    pages[[1, 10], 0, 0] = np.nan
    path = write_stack(tmp_path / "s.tif", pages)
    written, problems, _ = predict_files(model, [str(path)], tmp_path / "out", save=("labels", "table"))
    assert written == [tmp_path / "out" / "s.tif", tmp_path / "out" / "objects.csv"]
    labels = tifffile.imread(written[0])
    assert [int(page.max()) for page in labels] == [4, 0, 4, 4, 4, 4, 4, 4, 4, 4, 0, 4]
    assert [row["page"] for row in rows_of(written[1])[::4]] == [str(page) for page in range(12) if page not in (1, 10)]
    assert len(problems) == 1
    assert problems[0].startswith(f"{path} (pages 1, 10): expected finite pixel values")
    assert problems[0].endswith("or leave the image out (such pages are 0 in the labels)")


def test_a_stack_without_a_good_page_gives_no_file(model, tmp_path):
    path = write_stack(tmp_path / "s.tif", np.full((5, 20, 24), np.nan, np.float32))
    written, problems, _ = predict_files(model, [str(path)], tmp_path / "out", save=("labels", "table"))
    assert (written, names_in(tmp_path / "out")) == ([], set())
    assert problems == [
        f"{path} (pages 0, 1, 2, 3, 4): expected finite pixel values, found 480 NaN or infinite ones; replace them "
        "(for example with numpy.nan_to_num) or leave the image out"
    ]


def test_a_result_that_cannot_be_written_is_a_problem_and_the_others_are_done(model, tmp_path):
    images = [write_png(tmp_path / f"{name}.png") for name in "ab"]
    (tmp_path / "out" / "a.tif").mkdir(parents=True)
    written, problems, _ = predict_files(model, list(map(str, images)), tmp_path / "out", overwrite=True)
    assert written == [tmp_path / "out" / "b.tif"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{images[0]}: ")
    assert "Is a directory; check" in problems[0]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError("Unable to allocate 9 GiB"),
    ],
)
def test_an_image_too_large_for_the_memory_is_a_problem_and_the_others_are_done(model, tmp_path, error):
    small = write_png(tmp_path / "small.png")
    large = write_png(tmp_path / "large.png", np.zeros((90, 90), np.uint8))

    def maps(self, image, **options):
        if image.shape[-1] == 90:
            raise error
        return type(self).maps(self, image, **options)

    model.engine, model.maps = "torch", MethodType(maps, model)
    written, problems, _ = predict_files(model, [str(large), str(small)], tmp_path / "out")
    assert written == [tmp_path / "out" / "small.tif"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{large}: expected enough memory, found too little (")


def test_a_mistake_of_the_program_is_not_hidden(model, tmp_path):
    def maps(self, image, **options):
        raise RuntimeError("shapes do not fit")

    model.engine, model.maps = "torch", MethodType(maps, model)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        predict_files(model, [str(write_png(tmp_path / "a.png"))], tmp_path / "out")


# Mistakes that concern every image are told once, before the first.


def test_a_wrong_number_of_rotations_is_one_error(model, tmp_path):
    with pytest.raises(RecipeError, match=r"^expected 1, 2, 4, 7 or 8 rotations, found 3; choose one of these$"):
        predict_files(model, [str(tmp_path / "none.png")], tmp_path / "out", symmetries=3)
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_one_error(model, tmp_path):
    model.device = "abacus"
    with pytest.raises(RecipeError, match=r"^expected a device this machine has .*found 'abacus'"):
        predict_files(model, [str(tmp_path / "none.png")], tmp_path / "out")


def test_products_that_do_not_exist_are_refused(model, tmp_path):
    for save in ((), ("labels", "masks")):
        with pytest.raises(RecipeError, match=r"^expected --save to name any of labels, probabilities, overlay, table"):
            predict_files(model, ["a.png"], tmp_path / "out", save=save)


def test_a_file_is_no_folder_for_results(model, tmp_path):
    (tmp_path / "out").write_text("notes")
    with pytest.raises(RecipeError, match=r"^expected a folder for the results, found the file .*out; name another"):
        predict_files(model, ["a.png"], tmp_path / "out")


# Images of every kind.


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 40)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_images_of_any_size_and_number_of_channels(tmp_path, size, channels):
    image = noise(channels, *size)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", metadata={"axes": "CYX"})
    model, out = small_model("instances", channels=channels), tmp_path / "some" / "where"
    written, problems, _ = predict_files(model, [str(tmp_path / "a.tif")], out, save=EVERYTHING)
    assert problems == []
    assert [path.name for path in written] == ["a_probabilities.tif", "a_overlay.png", "a.tif", "objects.csv"]
    assert tifffile.imread(out / "a.tif").shape == size


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_as_many_pages_as_the_model_has_channels_are_one_image_as_in_training(tmp_path, channels):
    stack = noise(channels, 40, 44)
    path = write_stack(tmp_path / "data" / "images" / "a.tif", stack)
    write_png(tmp_path / "data" / "masks" / "a.png", (noise(40, 44) > 99).astype(np.uint8))
    model, told = small_model(channels=channels), []
    images = seen_by(model)
    written, problems, _ = predict_files(model, [str(path)], tmp_path / "out", say=told.append)
    assert (written, problems) == ([tmp_path / "out" / "a.tif"], [])
    np.testing.assert_array_equal(images[0], open_folder(tmp_path / "data").samples[0].read_image())
    assert f"a.tif: its {channels} pages are read as channels" in told[0]


def test_other_numbers_of_pages_and_pages_of_colours_are_images_in_one_file(tmp_path):
    five = write_stack(tmp_path / "five.tif", noise(5, 40, 44))
    colours = tmp_path / "colours.tif"
    tifffile.imwrite(colours, noise(3, 40, 44, 3), photometric="rgb")
    told, out = [], tmp_path / "out"
    written, problems, _ = predict_files(small_model(channels=3), [str(five), str(colours)], out, say=told.append)
    assert problems == []
    assert written == [out / "five.tif", out / "colours.tif"]
    assert [tifffile.imread(path).shape for path in written] == [(5, 40, 44), (3, 40, 44)]
    assert told[0] == "five.tif: its 5 pages are predicted one by one; their labels are the pages of one file"
    assert [line.split(":")[0] for line in told[1:6]] == [f"five_{page}" for page in range(5)]


def test_the_labels_of_a_stack_are_those_of_its_pages(tmp_path):
    model = objects_by_threshold(small_model("instances"))
    # So many objects on one page that their ids need more than eight bits, and none on another.
    stack = np.zeros((3, 80, 80), np.uint8)
    stack[0, 10:20, 10:20] = stack[1, ::4, ::4] = 255
    model.decision = Decision(min_size=1)
    path = write_stack(tmp_path / "s.tif", stack)
    out, everything = tmp_path / "out", ("labels", "probabilities", "overlay", "table")
    written, problems, _ = predict_files(model, [str(path)], out, save=everything)
    assert problems == []
    each = {f"s_{page}_{what}" for page in range(3) for what in ("probabilities.tif", "overlay.png")}
    assert names_in(out) == {"s.tif", "objects.csv"} | each
    assert {path.name for path in written} == names_in(out)
    labels = tifffile.imread(out / "s.tif")
    assert (labels.dtype, labels.shape) == (np.uint16, (3, 80, 80))
    for page in range(3):
        image = stack[page]
        np.testing.assert_array_equal(labels[page], model.predict(image).labels)
    assert [int(page.max()) for page in labels] == [1, 400, 0]
    # Whoever reads the file again takes them for images, not for slices of a volume.
    assert read_layout(out / "s.tif").axes == "PYX"
    assert {row["page"] for row in rows_of(out / "objects.csv")} == {"0", "1"}


def test_a_model_of_volumes_reads_pages_as_a_volume(tmp_path):
    stack = noise(6, 20, 24)
    unlabelled = write_stack(tmp_path / "plain.tif", stack)
    tifffile.imwrite(tmp_path / "named.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    model = small_model("instances", dims=3)
    images = seen_by(model)
    written, problems, _ = predict_files(
        model, [str(unlabelled), str(tmp_path / "named.tif")], tmp_path / "out", save=EVERYTHING
    )
    assert problems == []
    assert len(written) == 7
    for image in images:
        np.testing.assert_array_equal(image, stack[None])
    assert tifffile.imread(tmp_path / "out" / "plain.tif").shape == stack.shape


def test_volumes_over_time_are_a_problem(tmp_path):
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, noise(2, 6, 20, 24), photometric="minisblack", metadata={"axes": "TZYX"})
    written, problems, _ = predict_files(small_model("instances", dims=3), [str(path)], tmp_path / "out")
    assert written == []
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: expected one image, found 12 pages;")


def test_a_volume_of_one_slice_is_an_image_for_a_model_of_images(model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", disc_image(0)[0], photometric="minisblack", metadata={"axes": "ZYX"})
    assert predict_files(model, [str(tmp_path / "a.tif")], tmp_path / "out")[:2] == ([tmp_path / "out" / "a.tif"], [])


def test_labels_are_written_as_asked_for(tmp_path):
    model, out = objects_of_discs(small_model("instances")), tmp_path / "out"
    path = write_png(tmp_path / "a.png")
    written, problems, _ = predict_files(model, [str(path)], out, format="png")
    assert (written, problems) == ([out / "a.png"], [])
    np.testing.assert_array_equal(np.array(Image.open(out / "a.png")) > 0, disc_image(0)[1] > 0)
    with pytest.raises(RecipeError, match=r"^expected --format tif, png, nii.gz, found 'jpg'; choose one of these$"):
        predict_files(model, [str(path)], out, format="jpg")


def test_stacks_and_volumes_fit_into_no_png(tmp_path):
    path = write_stack(tmp_path / "s.tif", noise(5, 20, 24))
    for model, found in ((small_model(), "5 of them"), (small_model("instances", dims=3), "a volume")):
        written, problems, _ = predict_files(model, [str(path)], tmp_path / "out", format="png")
        assert written == []
        assert problems == [f"{path}: expected one image for labels as PNG, found {found}; choose --format tif"]


def test_the_size_of_a_pixel_is_kept(tmp_path):
    spacing = {"resolution": (4, 4), "resolutionunit": "NONE"}
    model, out = objects_of_discs(small_model("instances")), tmp_path / "out"
    metadata = {"axes": "YX", "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", disc_image(0)[0][0], imagej=True, metadata=metadata, **spacing)
    stack = np.stack([disc_image(i)[0][0] for i in range(5)])
    tifffile.imwrite(tmp_path / "t.tif", stack, imagej=True, metadata=metadata | {"axes": "TYX"}, **spacing)
    _, problems, _ = predict_files(model, [str(tmp_path)], out, save=EVERYTHING)
    assert problems == []
    for name in ("a.tif", "t.tif", "a_probabilities.tif", "t_3_probabilities.tif"):
        assert read_spacing(out / name) == Spacing((0.25, 0.25), "um"), name
    rows = rows_of(out / "objects.csv")
    assert len(rows) == 4 + 5 * 4
    for row in rows:
        assert float(row["area_um2"]) == pytest.approx(int(row["area"]) / 16)


def test_a_volume_keeps_the_distance_of_its_slices(tmp_path):
    model = answering(small_model("instances", dims=3), lambda image: np.stack([image[0] < 9, *[image[0] > 9] * 2]))
    volume = np.zeros((6, 20, 24), np.uint8)
    volume[1:4, 3:9, 4:14] = 200
    spacing = {"resolution": (4, 2), "resolutionunit": "NONE"}
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "v.tif", volume, imagej=True, metadata=metadata, **spacing)
    _, problems, _ = predict_files(model, [str(tmp_path / "v.tif")], tmp_path / "out", save=("labels", "table"))
    assert problems == []
    assert read_spacing(tmp_path / "out" / "v.tif") == Spacing((2.0, 0.5, 0.25), "um")
    [row] = rows_of(tmp_path / "out" / "objects.csv")
    assert (row["volume"], row["volume_um3"]) == ("180", "45.0")
    assert (row["centroid_z_um"], row["centroid_x_um"]) == ("4.0", "2.125")


def test_the_size_of_a_pixel_is_looked_up_once_for_all_pages(tmp_path, monkeypatch):
    """In a file of thousands of pages each look takes a while."""
    asked, real = [], inputs.spacing_of
    monkeypatch.setattr(inputs, "spacing_of", lambda path, dims: asked.append(path) or real(path, dims))
    path = write_stack(tmp_path / "s.tif", np.zeros((4, 20, 24), np.uint8))
    model = objects_by_threshold(small_model("instances"))
    products = ("labels", "probabilities", "overlay")
    assert predict_files(model, [str(path)], tmp_path / "out", save=products)[1] == []
    assert len(asked) == 1


def test_a_volume_without_a_depth_of_its_voxels_keeps_their_height_and_width(tmp_path):
    """ImageJ leaves out a depth of 1."""
    model = answering(small_model("instances", dims=3), lambda image: np.stack([image[0] < 9, *[image[0] > 9] * 2]))
    volume = np.full((6, 20, 24), 200, np.uint8)
    volume[:, :9] = 0
    metadata, spacing = {"axes": "ZYX", "unit": "um"}, {"resolution": (4, 2), "resolutionunit": "NONE"}
    tifffile.imwrite(tmp_path / "v.tif", volume, imagej=True, metadata=metadata, **spacing)
    products = ("labels", "probabilities", "overlay", "table")
    _, problems, _ = predict_files(model, [str(tmp_path / "v.tif")], tmp_path / "out", save=products)
    assert problems == []
    for name in ("v.tif", "v_probabilities.tif", "v_overlay.png"):
        assert read_spacing(tmp_path / "out" / name) == Spacing((0.5, 0.25), "um"), name
    [row] = rows_of(tmp_path / "out" / "objects.csv")
    assert not any("_um" in column for column in row)
    predict_files(model, [str(tmp_path / "v.tif")], tmp_path / "nifti", save=("labels",), format="nii.gz")
    assert read_spacing(tmp_path / "nifti" / "v.nii.gz") is None  # it would tell a depth that nobody knows


def stack_of(n):
    """Images of 40 x 44 with a square for the first page, two for the second and so on, along these axes."""
    pages = np.zeros((int(np.prod(n)), 40, 44), np.uint8)
    for page, image in enumerate(pages):
        for square in range(page + 1):
            image[10 * (square // 4) + 2 :, 10 * (square % 4) + 2 :][:5, :5] = 200
    return pages.reshape(*n, 40, 44)


def written_as_imagej(path, array, axes):
    tifffile.imwrite(
        path,
        array,
        imagej=True,
        resolution=(4, 4),
        resolutionunit="NONE",
        metadata={"axes": axes, "unit": "um", "spacing": 2.0, "finterval": 0.5, "tunit": "min"},
    )


def written_as_ome(path, array, axes):
    size = {f"PhysicalSize{axis}": value for axis, value in zip("XYZ", (0.25, 0.25, 2.0), strict=True)}
    tifffile.imwrite(
        path,
        array,
        ome=True,
        photometric="minisblack",
        metadata={"axes": axes, "TimeIncrement": 0.5, "TimeIncrementUnit": "min", **size},
    )


@pytest.mark.parametrize("write", [written_as_imagej, written_as_ome])
@pytest.mark.parametrize(("axes", "n"), [("TZYX", (3, 2)), ("ZYX", (5,)), ("TYX", (5,))])
def test_labels_of_pages_lie_along_the_frames_and_slices_of_their_file(tmp_path, write, axes, n):
    stack, out, path = stack_of(n), tmp_path / "out", tmp_path / "s.ome.tif"
    write(path, stack, axes)
    model = objects_by_threshold(small_model("instances"))
    assert predict_files(model, [str(path)], out, save=("labels", "table"))[1] == []
    with tifffile.TiffFile(out / "s.tif") as tiff:
        assert (tiff.series[0].axes, tiff.series[0].shape) == (axes, stack.shape)
        labels, about = tiff.asarray(), tiff.imagej_metadata
    assert np.array_equal(labels > 0, stack > 0)
    assert about.get("spacing") == (2.0 if "Z" in axes else None)
    assert about.get("finterval") == (30.0 if "T" in axes else None)
    # Ids begin anew in each slice, so that slices are images and no volume to whoever reads the labels.
    assert [int(page.max()) for page in labels.reshape(-1, 40, 44)] == list(range(1, 1 + np.prod(n)))
    assert read_layout(out / "s.tif").n_pages == np.prod(n)
    assert "Z" not in read_layout(out / "s.tif").axes
    assert len(score_files(out / "s.tif", out / "s.tif").rows) == np.prod(n)
    rows = rows_of(out / "objects.csv")
    assert list(rows[0])[: 2 + len(n)] == ["image", "page", *(axis.lower() for axis in axes[:-2])]
    for row in rows:
        place = tuple(int(row[axis.lower()]) for axis in axes[:-2])
        assert int(row["page"]) == np.ravel_multi_index(place, n)


def test_slices_before_frames_come_as_imagej_has_them(tmp_path):
    stack = stack_of((2, 3))
    written_as_ome(tmp_path / "s.ome.tif", stack, "ZTYX")
    model = objects_by_threshold(small_model("instances"))
    predict_files(model, [str(tmp_path / "s.ome.tif")], tmp_path / "out", save=("labels", "table"))
    labels = tifffile.imread(tmp_path / "out" / "s.tif")
    assert np.array_equal(labels > 0, np.swapaxes(stack, 0, 1) > 0)
    last = rows_of(tmp_path / "out" / "objects.csv")[-1]
    assert (last["page"], last["t"], last["z"]) == ("5", "2", "1")


def test_slices_of_channels_lie_along_the_same_axes(tmp_path):
    stack = np.repeat(stack_of((3, 2))[:, :, None], 2, axis=2)
    written_as_imagej(tmp_path / "s.tif", stack, "TZCYX")
    model = objects_by_threshold(small_model("instances", channels=2))
    assert predict_files(model, [str(tmp_path / "s.tif")], tmp_path / "out")[1] == []
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "s.tif") > 0, stack[:, :, 0] > 0)


def test_labels_of_slices_as_nifti_are_a_volume_with_ids_of_their_own_in_each_slice(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    written_as_imagej(tmp_path / "s.tif", stack_of((5,)), "ZYX")
    model, out, save = objects_by_threshold(small_model("instances")), tmp_path / "out", ("labels", "table")
    assert predict_files(model, [str(tmp_path / "s.tif")], out, save=save, format="nii.gz")[1] == []
    labels = np.asarray(nibabel.load(out / "s.nii.gz").dataobj)
    assert labels.shape == (44, 40, 5)
    # 1, 2, 3, 4 and 5 objects, of which no two are one.
    assert [np.unique(labels[..., z])[1:].tolist() for z in range(5)] == [
        [1], [2, 3], [4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14, 15]
    ]  # fmt: skip
    assert [int(row["object"]) for row in rows_of(out / "objects.csv")] == list(range(1, 16))


def test_what_does_not_fit_into_nifti_is_refused_before_it_is_computed(tmp_path):
    pytest.importorskip("nibabel")
    model = small_model("instances")
    seen = seen_by(model)
    written_as_imagej(tmp_path / "film.tif", stack_of((3, 2)), "TZYX")
    tifffile.imwrite(tmp_path / "long.tif", np.zeros((4, 40_000), np.uint8), photometric="minisblack")
    names = [str(tmp_path / name) for name in ("film.tif", "long.tif")]
    written, problems, _ = predict_files(model, names, tmp_path / "out", format="nii.gz")
    assert (written, seen) == ([], [])
    assert problems == [
        f"{names[0]}: expected one volume for labels as NIfTI, found volumes over time; choose --format tif",
        f"{names[1]}: expected at most 32767 pixels along each axis for labels as NIfTI, found 40000; choose --format "
        "tif",
    ]


def test_labels_are_kept_where_another_product_cannot_be_made(tmp_path, monkeypatch):
    def too_much(*_):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("ushape.files.results.draw_overlay", too_much)
    path, model = write_png(tmp_path / "a.png"), objects_of_discs(small_model("instances"))
    written, problems, _ = predict_files(model, [str(path)], tmp_path / "out", save=("labels", "overlay"))
    assert written == [tmp_path / "out" / "a.tif"]
    assert len(problems) == 1
    assert "(such pages are 0" not in problems[0]
    # It is not done, and is tried again.
    monkeypatch.undo()
    predict_files(model, [str(path)], tmp_path / "out", save=("labels", "overlay"), resume=True)
    assert (tmp_path / "out" / "a_overlay.png").exists()


def test_labels_of_a_nifti_image_keep_its_place_in_space(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1.0]])
    volume = np.zeros((24, 20, 6), np.uint8)
    volume[4:14, 3:9, 1:4] = 200
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "case.nii.gz")
    model = answering(small_model("instances", dims=3), lambda image: np.stack([image[0] < 9, *[image[0] > 9] * 2]))
    out = tmp_path / "out"
    written, problems, _ = predict_files(model, [str(tmp_path / "case.nii.gz")], out, format="nii.gz")
    assert (written, problems) == ([out / "case.nii.gz"], [])
    found = nibabel.load(out / "case.nii.gz")
    np.testing.assert_allclose(found.affine, affine)
    np.testing.assert_array_equal(np.asarray(found.dataobj), volume // 200)


def test_classes_are_drawn_in_their_colours(tmp_path):
    model = small_model(colours=((0, 0, 0), (250, 10, 20)))
    answering(model, lambda image: np.stack([image[0] <= 128, image[0] > 128]))
    path = write_png(tmp_path / "a.png", np.kron(np.eye(2, dtype=np.uint8) * 255, np.ones((20, 20), np.uint8)))
    predict_files(model, [str(path)], tmp_path / "out", save=("overlay",))
    picture = np.array(Image.open(tmp_path / "out" / "a_overlay.png"))
    assert tuple(picture[0, 19]) == (250, 10, 20)
    # Ids of objects are no classes.
    model = objects_by_threshold(small_model("instances", colours=((0, 0, 0), (250, 10, 20))))
    predict_files(model, [str(path)], tmp_path / "out", save=("overlay",), overwrite=True)
    assert tuple(np.array(Image.open(tmp_path / "out" / "a_overlay.png"))[0, 19]) != (250, 10, 20)


# The table.


def test_grey_and_colour_images_share_a_table(tmp_path):
    model = objects_of_discs(small_model("instances", channels=3))
    image, mask = disc_image(0)
    write_png(tmp_path / "in" / "a_grey.png")
    write_png(tmp_path / "in" / "b_colour.png", np.stack([image[0], image[0] // 2, image[0] // 3], axis=-1))
    _, problems, _ = predict_files(model, [str(tmp_path / "in")], tmp_path / "out", save=("table",))
    assert problems == []
    rows = rows_of(tmp_path / "out" / "objects.csv")
    assert [row["image"] for row in rows] == ["a_grey"] * 4 + ["b_colour"] * 4
    assert [row["mean_intensity_2"] == "" for row in rows] == [True] * 4 + [False] * 4
    assert sorted(int(row["area"]) for row in rows[:4]) == sorted(np.bincount(mask.ravel())[1:].tolist())
    assert "page" not in rows[0]


def test_pieces_of_classes_have_their_names(tmp_path):
    model = small_model(classes=("background", "cell", "dirt"), encoding=Encoding("semantic", n_classes=3))
    answering(model, lambda image: np.stack([image[0] == value for value in (0, 100, 200)]))
    mask = np.zeros((30, 30), np.uint8)
    mask[2:6, 2:6], mask[2:6, 20:26], mask[20:22, 5:9], mask[22:24, 5:9] = 100, 200, 100, 200
    told = []
    path = write_png(tmp_path / "a.png", mask)
    predict_files(model, [str(path)], tmp_path / "out", save=("labels", "table"), say=told.append)
    rows = rows_of(tmp_path / "out" / "objects.csv")
    assert [(row["object"], row["class"], row["area"]) for row in rows] == [
        ("1", "cell", "16"),
        ("2", "dirt", "24"),
        ("3", "cell", "8"),
        ("4", "dirt", "8"),
    ]
    assert told == ["values in the label files: 0 background, 1 cell, 2 dirt", "a: background 94%, cell 3%, dirt 4%"]


def three_classes(**changes):
    """A model that tells three classes by their values 0, 128 and 255 in the image."""
    classes = ("background", "class 128", "class 255")
    model = small_model(classes=classes, encoding=Encoding("semantic", n_classes=3), **changes)

    def answer(image):
        model.preparation(image)
        return np.stack([image[0] == value for value in (0, 128, 255)])

    return answering(model, answer)


def test_label_files_hold_the_values_of_the_masks(tmp_path):
    mask = np.array([0, 128, 255], np.uint8)[np.add.outer(np.arange(30), np.arange(30)) // 9 % 3]
    write_png(tmp_path / "in" / "a.png", mask)
    write_stack(tmp_path / "in" / "s.tif", np.stack([mask, mask[::-1], mask * 0, mask, mask]))
    out, told = tmp_path / "out", []
    save = ("labels", "table", "overlay")
    predict_files(three_classes(values=(0, 128, 255)), [str(tmp_path / "in")], out, save=save, say=told.append)
    assert told[0] == "values in the label files: 0 background, 128 class 128, 255 class 255"
    np.testing.assert_array_equal(tifffile.imread(out / "a.tif"), mask)
    words = []
    found = score_files(tmp_path / "in", out, classes=True, say=words.append)
    assert (found.scores["pixel accuracy"], found.problems, words) == (1, (), [])
    assert {row["class"] for row in rows_of(out / "objects.csv")} == {"class 128", "class 255"}
    predict_files(three_classes(), [str(tmp_path / "in")], out, overwrite=True, say=told.append)
    assert np.unique(tifffile.imread(out / "a.tif")).tolist() == [0, 1, 2]
    score_files(tmp_path / "in", out, classes=True, say=words.append)
    assert words == [
        "warning: the estimates hold the values 1 and 2, which no reference has (there: 0, 128 and 255); if they "
        "number the same classes differently, bring them to the same numbers, or leave out --classes where both sides "
        "have two values"
    ]


def test_a_bad_page_is_background_by_its_value(tmp_path):
    pages = np.zeros((5, 20, 24), np.float32)
    pages[3, 0, 0] = np.nan
    path = write_stack(tmp_path / "s.tif", pages)
    _, problems, _ = predict_files(three_classes(values=(7, 128, 255)), [str(path)], tmp_path / "out")
    assert np.unique(tifffile.imread(tmp_path / "out" / "s.tif")).tolist() == [7]
    assert problems[0].endswith("(such pages are 7 in the labels)")


def test_two_classes_and_objects_have_no_values(tmp_path):
    path, told = write_png(tmp_path / "a.png"), []
    for task in ("semantic", "instances"):
        predict_files(objects_of_discs(small_model(task)), [str(path)], tmp_path / task, say=told.append)
    assert not [line for line in told if "values" in line]


# A classifier.


@pytest.fixture
def classifier():
    """Says how bright the image is: dark, grey or bright."""
    model = small_model("classification", classes=("dark", "grey", "bright"))
    return answering(model, lambda image: np.roll([0.75, 0.125, 0.125], int(image.mean() // 90)))


def test_a_classifier_gives_one_table(classifier, tmp_path):
    write_png(tmp_path / "in" / "a.png", np.full((20, 24), 200, np.uint8))
    write_stack(
        tmp_path / "in" / "s.tif", np.repeat(np.array([10, 100, 200, 100, 10], np.uint8), 480).reshape(5, 20, 24)
    )
    (tmp_path / "in" / "b.png").write_bytes(b"")
    told, out = [], tmp_path / "out"
    written, problems, _ = predict_files(classifier, [str(tmp_path / "in")], out, say=told.append)
    assert (written, len(problems)) == ([out / "labels.csv"], 1)
    rows = rows_of(out / "labels.csv")
    first, stack = tmp_path / "in" / "a.png", next((tmp_path / "in").glob("s.*"))
    assert [(row["image"], row["page"], row["class"]) for row in rows] == [
        (str(first), "", "bright"),
        *((str(stack), str(page), name) for page, name in enumerate(["dark", "grey", "bright", "grey", "dark"])),
    ]
    assert {row["confidence"] for row in rows} == {"0.75"}
    assert told[0] == f"{first}: bright (75% sure)"
    assert names_in(out) == {"labels.csv"}


def test_a_classifier_gives_the_probability_of_each_class(classifier, tmp_path):
    path = write_png(tmp_path / "a.png", np.full((20, 24), 100, np.uint8))
    predict_files(classifier, [str(path)], tmp_path / "out", save=("probabilities",), format="png")
    [row] = rows_of(tmp_path / "out" / "labels.csv")
    assert row == {
        "image": str(path),
        "class": "grey",
        "confidence": "0.75",
        "probability dark": "0.125",
        "probability grey": "0.75",
        "probability bright": "0.125",
    }
    with pytest.raises(
        RecipeError, match=r"^expected --save labels, probabilities or table for a classifier, found ove"
    ):
        predict_files(classifier, [str(path)], tmp_path / "out", save=("overlay",))


def test_a_classifier_that_was_interrupted_is_continued(classifier, tmp_path):
    for index in range(4):
        write_png(tmp_path / "in" / f"{index}.png", np.full((20, 24), 60 * index, np.uint8))
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopping_at(classifier, 3), [str(tmp_path / "in")], tmp_path / "out")
    del classifier.maps
    answering(classifier, lambda image: np.array([0.5, 0.25, 0.25]))
    _, problems, _ = predict_files(classifier, [str(tmp_path / "in")], tmp_path / "out", resume=True)
    assert problems == []
    assert [row["confidence"] for row in rows_of(tmp_path / "out" / "labels.csv")] == ["0.75", "0.75", "0.5", "0.5"]


# Interrupted and continued.


@pytest.fixture
def five(tmp_path):
    """A folder of five images."""
    for index in range(5):
        write_png(tmp_path / "in" / f"{index}.png", disc_image(index)[0][0])
    return tmp_path / "in"


def test_an_interrupted_prediction_is_continued(five, tmp_path):
    whole, parts, save = tmp_path / "whole", tmp_path / "parts", ("labels", "overlay", "table")
    predict_files(objects_by_threshold(small_model("instances")), [str(five)], whole, save=save)
    stopped = stopping_at(objects_by_threshold(small_model("instances")), 3)
    with pytest.raises(KeyboardInterrupt):
        predict_files(stopped, [str(five)], parts, save=save)
    assert {path.name for path in parts.glob("*.tif")} == {"0.tif", "1.tif", "2.tif"}
    # What was measured can be used at once.
    assert rows_of(parts / "objects.csv.part") == [row for row in rows_of(whole / "objects.csv") if row["image"] < "3"]
    with pytest.raises(
        DataError, match=r"^expected no table of an interrupted prediction, found .*objects.csv.part; co"
    ):
        predict_files(small_model("instances"), [str(five)], parts, save=save)

    model, told = objects_by_threshold(small_model("instances")), []
    written, problems, _ = predict_files(model, [str(five)], parts, save=save, resume=True, say=told.append)
    assert problems == []
    # The last image of the table may have been cut short: it is done again.
    assert told[:2] == ["0: done before", "1: done before"]
    assert {path.name for path in written} >= {"3.tif", "4.tif", "4_overlay.png", "objects.csv"}
    assert names_in(parts) == names_in(whole)
    for name in names_in(whole):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_images_that_failed_are_done_when_the_rest_is_skipped(five, tmp_path):
    model, out = objects_by_threshold(small_model("instances")), tmp_path / "out"
    good = (five / "2.png").read_bytes()
    (five / "2.png").write_bytes(good[:50])
    _, problems, _ = predict_files(model, [str(five)], out, save=("labels", "table"))
    assert len(problems) == 1
    (five / "2.png").write_bytes(good)
    told = []
    written, problems, _ = predict_files(
        model, [str(five)], out, save=("labels", "table"), resume=True, say=told.append
    )
    assert (written, problems) == ([out / "2.tif", out / "objects.csv"], [])
    assert told[0] == "0: done before"
    assert sorted({row["image"] for row in rows_of(out / "objects.csv")}) == list("01234")
    assert len(rows_of(out / "objects.csv")) == len(
        {(row["image"], row["object"]) for row in rows_of(out / "objects.csv")}
    )


def test_all_done_before_is_no_work_and_no_change(five, tmp_path):
    model, out = objects_by_threshold(small_model("instances")), tmp_path / "out"
    predict_files(model, [str(five)], out, save=EVERYTHING)
    before = {name: (out / name).read_bytes() for name in names_in(out)}
    assert predict_files(stopping_at(model, 0), [str(five)], out, save=EVERYTHING, resume=True)[:2] == ([], [])
    assert {name: (out / name).read_bytes() for name in names_in(out)} == before


def test_results_that_lack_something_asked_for_are_done_again(five, tmp_path):
    model, out = objects_by_threshold(small_model("instances")), tmp_path / "out"
    predict_files(model, [str(five / "0.png")], out)
    told = []
    predict_files(model, [str(five)], out, save=("labels", "overlay"), resume=True, say=told.append)
    assert not any("done before" in line for line in told)
    predict_files(model, [str(five)], out, save=("labels", "table"), resume=True, say=told.append)
    assert not any("done before" in line for line in told)
    assert {row["image"] for row in rows_of(out / "objects.csv")} == set("01234")


def test_to_replace_one_image_keeps_the_rows_of_the_others(five, tmp_path):
    out, options = tmp_path / "out", {"save": ("table",), "overwrite": True}
    predict_files(objects_by_threshold(small_model("instances")), [str(five)], out, **options)
    before = rows_of(out / "objects.csv")
    (five / "3.png").write_bytes(b"no picture")
    model = answering(small_model("instances"), lambda image: np.stack([image[0] < 0, *[image[0] >= 0] * 2]))
    _, problems, _ = predict_files(model, [str(five / "1.png"), str(five / "3.png")], out, **options)
    assert len(problems) == 1
    rows = rows_of(out / "objects.csv")
    assert [(row["image"], row["area"]) for row in rows if row["image"] == "1"] == [("1", str(disc_image(0)[1].size))]
    assert [row for row in rows if row["image"] != "1"] == [row for row in before if row["image"] != "1"]


def test_to_replace_and_to_continue_exclude_each_other(model, tmp_path):
    with pytest.raises(
        RecipeError, match=r"^expected --overwrite or --resume, found both; resume keeps what is done, ov"
    ):
        predict_files(model, ["a.png"], tmp_path / "out", overwrite=True, resume=True)


def test_a_stack_does_not_keep_its_maps(tmp_path):
    """A thousand pages must not need a thousand maps."""
    model = objects_by_threshold(small_model("instances"))
    answer, given, alive = model.maps, [], []

    def maps(self, image, **options):
        found = answer(image)
        given.append(weakref.ref(found))
        alive.append(sum(ref() is not None for ref in given))
        return found

    model.engine, model.maps = "torch", MethodType(maps, model)
    path = write_stack(tmp_path / "s.tif", noise(9, 20, 24))
    predict_files(model, [str(path)], tmp_path / "out", save=EVERYTHING)
    assert len(alive) == 9
    assert max(alive) <= 2


def test_no_folder_is_left_when_nothing_was_done(model, tmp_path):
    for names in ([str(tmp_path / "nowhere")], [str(write_png(tmp_path / "bad.png"))]):
        (tmp_path / "bad.png").write_bytes(b"no picture")
        assert len(predict_files(model, names, tmp_path / "out", save=("labels", "table"))[1]) == 1
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    predict_files(model, [str(tmp_path / "nowhere")], tmp_path / "out")
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize(("size", "told"), [(0.5, False), (0.6, False), (1.0, True), (0.2, True)])
def test_pixels_of_quite_another_size_than_in_training_are_told(model, tmp_path, size, told):
    tifffile.imwrite(
        tmp_path / "a.ome.tif", disc_image(0)[0][0], metadata={"PhysicalSizeX": size, "PhysicalSizeY": size}
    )
    model.facts["spacing"] = {"values": [0.5, 0.5], "unit": "um"}
    words = []
    predict_files(model, [str(tmp_path / "a.ome.tif")], tmp_path / "out", say=words.append)
    sentence = f"a.ome.tif: its pixels are {size:g} x {size:g} um, those the model was trained on 0.5 x 0.5 um; objects"
    assert any(word.startswith(sentence) for word in words) == told
