"""Files in, files out: no input and no earlier result is lost, and one bad file stops no other."""

import csv
from types import MethodType

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import disc_image
from test_model import noise, small_model
from ushape.data.folder import open_folder
from ushape.errors import DataError, RecipeError
from ushape.files import predict_files, score_files

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
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def seen_by(model):
    """The images (C, *space) that the model will be given."""
    images = []

    def maps(self, image, **options):
        images.append(image)
        return type(self).maps(self, image, **options)

    model.maps = MethodType(maps, model)
    return images


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
    written, problems = predict_files(model, [str(tmp_path / "none.png")], tmp_path / "out", save=("table",))
    assert (written, len(problems), names_in(tmp_path / "out")) == ([], 1, set())


def test_no_result_replaces_any_of_the_images(model, tmp_path):
    write_png(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", disc_image(1)[0][0])
    before = (tmp_path / "a.tif").read_bytes()
    written, problems = predict_files(model, [str(tmp_path)], tmp_path, overwrite=True)
    assert written == []
    assert problems[0].startswith(f"{tmp_path / 'a.png'}: expected a result that replaces no image, found one that")
    assert (tmp_path / "a.tif").read_bytes() == before


def test_results_of_different_images_with_one_name_are_refused(model, tmp_path):
    images, out = [write_png(tmp_path / folder / "a.png") for folder in ("one", "two")], tmp_path / "out"
    images.append(write_png(tmp_path / "a_probabilities.png"))
    written, problems = predict_files(model, list(map(str, images)), out, save=("labels", "probabilities"))
    assert written == [out / "a.tif", out / "a_probabilities.tif"]
    assert [str(problem).split(": expected")[0] for problem in problems] == [str(images[1]), str(images[2])]
    assert f"expected images with different names, found {images[0]} too" in problems[1]


def test_an_image_that_is_named_twice_is_done_once(model, tmp_path):
    image = write_png(tmp_path / "in" / "a.png")
    written, problems = predict_files(model, [str(image), str(image.parent)], tmp_path / "out")
    assert (written, problems) == ([tmp_path / "out" / "a.tif"], [])


# One bad file, page or folder stops no other.


def test_missing_paths_and_empty_folders_are_problems_and_the_others_are_done(model, tmp_path):
    (tmp_path / "empty").mkdir()
    names = [tmp_path / "empty", tmp_path / "none.png", tmp_path / "nowhere", write_png(tmp_path / "good.png")]
    written, problems = predict_files(model, list(map(str, names)), tmp_path / "out")
    assert written == [tmp_path / "out" / "good.tif"]
    assert [problem.split(": expected")[0] for problem in problems] == list(map(str, names[:3]))


def test_nan_pixels_are_a_problem_and_no_empty_result(model, tmp_path):
    image = disc_image(0)[0][0].astype(np.float32)
    image[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", image)
    written, problems = predict_files(model, [str(tmp_path / "nan.tif")], tmp_path / "out")
    assert written == []
    assert len(problems) == 1
    assert f"{tmp_path / 'nan.tif'}: expected finite pixel values, found 1 NaN or infinite one" in problems[0]


def test_a_bad_page_stops_no_other_page(model, tmp_path):
    pages = np.stack([disc_image(i)[0][0] for i in range(12)]).astype(np.float32)
    pages[[1, 10], 0, 0] = np.nan
    written, problems = predict_files(model, [str(write_stack(tmp_path / "s.tif", pages))], tmp_path / "out")
    assert {path.stem for path in written} == {f"s_{page:02d}" for page in range(12)} - {"s_01", "s_10"}
    assert len(problems) == 1
    assert problems[0].startswith(f"{tmp_path / 's.tif'} (pages 1, 10): expected finite pixel values")


def test_a_result_that_cannot_be_written_is_a_problem_and_the_others_are_done(model, tmp_path):
    images = [write_png(tmp_path / f"{name}.png") for name in "ab"]
    (tmp_path / "out" / "a.tif").mkdir(parents=True)
    written, problems = predict_files(model, list(map(str, images)), tmp_path / "out", overwrite=True)
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

    model.maps = MethodType(maps, model)
    written, problems = predict_files(model, [str(large), str(small)], tmp_path / "out")
    assert written == [tmp_path / "out" / "small.tif"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{large}: expected enough memory, found too little (")


def test_a_mistake_of_the_program_is_not_hidden(model, tmp_path):
    def maps(self, image, **options):
        raise RuntimeError("shapes do not fit")

    model.maps = MethodType(maps, model)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        predict_files(model, [str(write_png(tmp_path / "a.png"))], tmp_path / "out")


# Mistakes that concern every image are told once, before the first.


def test_a_wrong_number_of_rotations_is_one_error(model, tmp_path):
    with pytest.raises(RecipeError, match=r"^expected 1, 2, 4 or 8 rotations, found 3; choose one of these$"):
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
    written, problems = predict_files(model, [str(tmp_path / "a.tif")], out, save=EVERYTHING)
    assert problems == []
    assert [path.name for path in written] == ["a.tif", "a_probabilities.tif", "a_overlay.png", "objects.csv"]
    assert tifffile.imread(out / "a.tif").shape == size


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_as_many_pages_as_the_model_has_channels_are_one_image_as_in_training(tmp_path, channels):
    stack = noise(channels, 40, 44)
    path = write_stack(tmp_path / "data" / "images" / "a.tif", stack)
    write_png(tmp_path / "data" / "masks" / "a.png", (noise(40, 44) > 99).astype(np.uint8))
    model, told = small_model(channels=channels), []
    images = seen_by(model)
    written, problems = predict_files(model, [str(path)], tmp_path / "out", say=told.append)
    assert (written, problems) == ([tmp_path / "out" / "a.tif"], [])
    np.testing.assert_array_equal(images[0], open_folder(tmp_path / "data").samples[0].read_image())
    assert f"a.tif: its {channels} pages are read as channels" in told[0]


def test_other_numbers_of_pages_and_pages_of_colours_are_images(tmp_path):
    five = write_stack(tmp_path / "five.tif", noise(5, 40, 44))
    colours = tmp_path / "colours.tif"
    tifffile.imwrite(colours, noise(3, 40, 44, 3), photometric="rgb")
    written, problems = predict_files(small_model(channels=3), [str(five), str(colours)], tmp_path / "out")
    assert problems == []
    assert {path.stem for path in written} == {f"five_{i}" for i in range(5)} | {f"colours_{i}" for i in range(3)}


def test_a_model_of_volumes_reads_pages_as_a_volume(tmp_path):
    stack = noise(6, 20, 24)
    unlabelled = write_stack(tmp_path / "plain.tif", stack)
    tifffile.imwrite(tmp_path / "named.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    model = small_model("instances", dims=3)
    images = seen_by(model)
    written, problems = predict_files(
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
    written, problems = predict_files(small_model("instances", dims=3), [str(path)], tmp_path / "out")
    assert written == []
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: expected one image, found 12 pages;")


def test_a_volume_of_one_slice_is_an_image_for_a_model_of_images(model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", disc_image(0)[0], photometric="minisblack", metadata={"axes": "ZYX"})
    assert predict_files(model, [str(tmp_path / "a.tif")], tmp_path / "out") == ([tmp_path / "out" / "a.tif"], [])


# The table.


def objects_of_discs(model):
    """The model with its answer replaced by the outlines of the discs of seed 0."""
    mask = disc_image(0)[1]
    model.maps = MethodType(
        lambda self, image, **options: np.stack([mask == 0, mask > 0, mask > 0]).astype(np.float32), model
    )
    return model


def test_grey_and_colour_images_share_a_table(tmp_path):
    model = objects_of_discs(small_model("instances", channels=3))
    image, mask = disc_image(0)
    write_png(tmp_path / "in" / "a_grey.png")
    write_png(tmp_path / "in" / "b_colour.png", np.stack([image[0], image[0] // 2, image[0] // 3], axis=-1))
    _, problems = predict_files(model, [str(tmp_path / "in")], tmp_path / "out", save=("table",))
    assert problems == []
    rows = rows_of(tmp_path / "out" / "objects.csv")
    assert [row["image"] for row in rows] == ["a_grey"] * 4 + ["b_colour"] * 4
    assert [row["mean_intensity_2"] == "" for row in rows] == [True] * 4 + [False] * 4
    assert sorted(int(row["area"]) for row in rows[:4]) == sorted(np.bincount(mask.ravel())[1:].tolist())


def test_the_table_measures_discs(tmp_path):
    model = objects_of_discs(small_model("instances"))
    predict_files(model, [str(write_png(tmp_path / "a.png"))], tmp_path / "out", save=("table",))
    for row in rows_of(tmp_path / "out" / "objects.csv"):
        diameter = 2 * (int(row["area"]) / np.pi) ** 0.5
        for name in ("equivalent_diameter", "axis_major_length", "axis_minor_length"):
            assert float(row[name]) == pytest.approx(diameter, rel=0.03), name


# Scores of masks.


def masks_in(folder, **masks):
    """A folder of TIFF masks by name."""
    folder.mkdir()
    for name, mask in masks.items():
        tifffile.imwrite(folder / f"{name}.tif", np.asarray(mask))
    return folder


SQUARE = np.kron([[0, 1], [2, 0]], np.ones((8, 8), np.int32)).astype(np.int32)


def test_an_estimate_without_a_class_is_named_and_the_others_are_scored(tmp_path):
    ignored = np.where(np.arange(16) < 2, -1, SQUARE)
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE, c=ignored)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE, b=ignored, c=np.where(ignored < 0, -1, SQUARE))
    found = score_files(reference, estimate, classes=True)
    assert [row["name"] for row in found.rows] == ["a", "c"]
    assert found.scores["pixel accuracy"] == 1
    assert found.scores["n_pixels"] == 2 * 256 - 2 * 16
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{estimate / 'b.tif'}: expected classes from 0 up in an estimate, found -1;")


def test_ids_are_not_taken_for_a_thousand_classes(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE * 500, b=SQUARE)
    found = score_files(reference, estimate, classes=True)
    assert [row["name"] for row in found.rows] == ["b"]
    assert found.problems == (
        f"{estimate / 'a.tif'}: expected classes from 0 to 999, found 1000; drop --classes if the values are ids of "
        "objects",
    )
    assert found.scores["Dice class 2"] == 1
