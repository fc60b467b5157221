"""Scores of mask files: what the values are, which files belong together, and what cannot be scored."""

import csv
import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from ushape.errors import DataError
from ushape.files import evaluation_to_dict, score_files, write_rows
from ushape.scoring.objects import count_objects, object_scores
from ushape.tally import Evaluation

SQUARE = np.kron([[0, 1], [2, 0]], np.ones((8, 8), np.int32)).astype(np.int32)


def masks_in(folder, **masks):
    """A folder of TIFF masks by name."""
    folder.mkdir()
    for name, mask in masks.items():
        tifffile.imwrite(folder / f"{name}.tif", np.asarray(mask))
    return folder


def write_mask(path, mask):
    """A grey picture or a TIFF that says nothing of its pages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, mask, photometric="minisblack")
    else:
        Image.fromarray(mask.astype(np.uint8)).save(path)
    return path


def names_of(evaluation):
    return [row["name"] for row in evaluation.rows]


# Classes.


def test_an_estimate_without_a_class_is_named_and_the_others_are_scored(tmp_path):
    ignored = np.where(np.arange(16) < 2, -1, SQUARE)
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE, c=ignored)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE, b=ignored, c=np.where(ignored < 0, -1, SQUARE))
    found = score_files(reference, estimate, classes=True)
    assert names_of(found) == ["a", "c"]
    assert found.scores["pixel accuracy"] == 1
    assert found.scores["n_pixels"] == 2 * 256 - 2 * 16
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{estimate / 'b.tif'}: expected classes from 0 up in an estimate, found -1;")


def test_ids_are_not_taken_for_a_thousand_classes(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE * 500, b=SQUARE)
    found = score_files(reference, estimate, classes=True)
    assert names_of(found) == ["b"]
    assert found.problems == (
        f"{estimate / 'a.tif'}: expected classes from 0 to 999, found 1000; drop --classes if the values are ids of "
        "objects",
    )
    assert found.scores["Dice class 2"] == 1


def test_a_class_that_one_image_has_counts_in_all(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE > 0, c=SQUARE * 2)
    told = []
    found = score_files(reference, reference, classes=True, say=told.append)
    assert [name for name in found.scores if name.startswith("IoU")] == [f"IoU class {i}" for i in (0, 1, 2, 4)]
    assert found.confusion.shape == (5, 5)
    assert told == []


VOID = np.where(np.arange(16) == 5, 255, SQUARE).astype(np.int32)
"""With a band of 255 through an object."""


def test_255_is_ignored_among_classes_as_in_training(tmp_path):
    reference = masks_in(tmp_path / "reference", a=VOID, b=VOID, c=SQUARE)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE, b=SQUARE, c=SQUARE)
    told = []
    found = score_files(reference, estimate, classes=True, say=told.append)
    assert found.scores["mean IoU"] == 1
    assert found.scores["n_pixels"] == 3 * 256 - 2 * 16
    assert found.confusion.shape == (3, 3)
    assert told == ["Pixels of value 255 in the reference are ignored, as in training."]
    # With other values than 0, 1, 2, ... it is a class as any other.
    sparse = masks_in(tmp_path / "sparse", a=np.where(VOID == 2, 7, VOID))
    assert score_files(sparse, sparse, classes=True).scores["n_pixels"] == 256


def test_255_is_ignored_as_the_contour_of_objects_as_in_training(tmp_path):
    objects = np.kron(np.arange(16).reshape(4, 4), np.ones((8, 8), int)).astype(np.int32)
    inside = np.kron(np.ones((4, 4), int), np.pad(np.ones((6, 6), int), 1)).astype(bool)
    contours = np.where(inside | (objects == 0), objects, 255)
    names = "abcd"
    reference = masks_in(tmp_path / "reference", **dict.fromkeys(names, contours))
    estimate = masks_in(tmp_path / "estimate", **dict.fromkeys(names, np.where(inside, objects, 0)))
    told = []
    found = score_files(reference, estimate, say=told.append)
    assert (found.scores["AP@0.9"], found.scores["n_reference"]) == (1, 4 * 15)
    assert told == ["Pixels of value 255 in the reference are ignored, as in training."]


def test_the_255th_object_is_one(tmp_path):
    many = np.arange(256, dtype=np.int32).reshape(16, 16).repeat(3, 0).repeat(3, 1)
    folder = masks_in(tmp_path / "many", a=many, b=many)
    assert score_files(folder, folder).scores["n_reference"] == 2 * 255


# Two values.


@pytest.mark.parametrize("low, high", [(0, 1), (0, 255), (1, 2), (0, 7)])
def test_two_values_are_objects_by_their_connected_pieces(tmp_path, low, high):
    rng = np.random.default_rng(3)
    pairs = [[rng.random((40, 44)) > threshold for threshold in (0.6, 0.7)] for _ in range(3)]
    for index, (first, second) in enumerate(pairs):
        write_mask(tmp_path / "reference" / f"{index}.png", np.where(first, high, low))
        write_mask(tmp_path / "estimate" / f"{index}.png", second * 255)
    told = []
    found = score_files(tmp_path / "reference", tmp_path / "estimate", say=told.append)
    counts = [count_objects(*(ndimage.label(side)[0] for side in pair)) for pair in pairs]
    expected = object_scores(counts)
    assert {name: found.scores[name] for name in expected} == expected
    both = sum(int((first & second).sum()) for first, second in pairs)
    sides = sum(int(first.sum() + second.sum()) for first, second in pairs)
    assert found.scores["Dice object"] == pytest.approx(2 * both / sides)
    assert found.scores["IoU object"] == pytest.approx(both / (sides - both))
    assert told == [
        "Both sides hold two values: objects are their connected pieces, and pixels are scored beside them."
    ]


def test_ignored_pixels_of_two_values_stay_ignored(tmp_path):
    mask = (SQUARE > 0).astype(np.int32)
    reference = masks_in(tmp_path / "reference", a=np.where(np.arange(16) < 4, -1, mask))
    found = score_files(reference, masks_in(tmp_path / "estimate", a=np.where(np.arange(16) > 13, -1, mask)))
    assert found.scores["n_pixels"] == 16 * 12
    assert found.scores["n_reference"] == 2
    assert found.confusion.tolist() == [[96, 0], [16, 80]]


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("mask", [SQUARE, (SQUARE > 0) * np.int32(1)])
def test_images_without_a_pixel_to_score_are_in_no_mean_and_told(tmp_path, classes, mask):
    ignored = np.full_like(mask, -1)
    reference = masks_in(tmp_path / "reference", a=mask, b=ignored, c=ignored)
    found = score_files(reference, masks_in(tmp_path / "estimate", a=mask * 0, b=mask, c=mask), classes=classes)
    assert {value for name, value in found.scores.items() if name.endswith("per image")} <= {0}
    assert not [name for name in found.rows[1] if name != "name" and not name.startswith("n_")]
    assert found.warning == (
        "2 images have no pixel to score, because the reference ignores all of them; they are left out of the means "
        "over images: b, c"
    )
    assert evaluation_to_dict(found)["unscorable"] == ["b", "c"]


def test_one_file_with_more_values_makes_them_ids_everywhere(tmp_path):
    two = np.zeros((16, 16), np.int32)
    two[2:5, 2:5] = two[9:12, 9:12] = 1
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=two)
    told = []
    found = score_files(reference, reference, say=told.append)
    assert (found.scores["n_reference"], told) == (3, [])
    assert "Dice object" not in found.scores


def test_255_is_no_id_even_against_ids(tmp_path):
    reference = masks_in(tmp_path / "reference", a=(SQUARE > 0) * np.int32(255))
    told = []
    found = score_files(reference, masks_in(tmp_path / "estimate", a=SQUARE), say=told.append)
    assert found.scores["AP@0.9"] == 1
    assert found.scores["n_reference"] == 2
    assert told == ["The reference holds no ids but the values 0 and 255: its objects are connected pieces."]


def test_empty_masks_are_two_values(tmp_path):
    empty = np.zeros((8, 8), np.int32)
    found = score_files(masks_in(tmp_path / "reference", a=empty), masks_in(tmp_path / "estimate", a=empty))
    assert found.scores["pixel accuracy"] == 1
    assert found.scores["n_reference"] == 0


# Which files belong together.


def test_masks_are_paired_by_stem_and_else_without_the_word_for_masks(tmp_path):
    reference, estimate = tmp_path / "reference", tmp_path / "estimate"
    for name in ("a_mask.png", "b.png", "c_labels.png", "scan_seg.png"):
        write_mask(reference / name, SQUARE)
    for name in ("a.tif", "a_overlay.png", "b_masks.tif", "c_mask.tif", "scan_seg.tif", "scan.tif"):
        write_mask(estimate / name, SQUARE if name != "scan.tif" else SQUARE.T)
    found = score_files(reference, estimate)
    assert found.problems == ()
    assert names_of(found) == ["a_mask", "b", "c_labels", "scan_seg"]
    assert found.scores["AP@0.9"] == 1


def test_masks_are_paired_however_an_accent_is_written(tmp_path):
    reference, estimate = tmp_path / "reference", tmp_path / "estimate"
    for before, after in (("Zella\u0308.png", "Zell\u00e4.tif"), ("\u00e9_mask.png", "e\u0301.tif")):
        write_mask(reference / before, SQUARE)
        write_mask(estimate / after, SQUARE)
    found = score_files(reference, estimate)
    assert (len(found.rows), found.problems) == (2, ())


def test_an_estimate_is_scored_once_and_against_a_mask(tmp_path):
    """As with Cellpose, whose masks lie beside the images."""
    reference = masks_in(tmp_path / "reference", x=SQUARE * 9 + 1, x_masks=SQUARE, y=SQUARE, y2_mask=SQUARE)
    estimate = masks_in(tmp_path / "estimate", x=SQUARE, y=SQUARE)
    found = score_files(reference, estimate)
    assert names_of(found) == ["x_masks", "y"]
    assert found.scores["AP@0.9"] == 1
    assert found.problems == (
        f"{reference / 'x.tif'}: expected an estimate of its own in {estimate}, found x.tif, which is scored against "
        "x_masks.tif; predict the missing image, or remove what is no mask",
        f"{reference / 'y2_mask.tif'}: expected an estimate called y2_mask in {estimate}, found none; predict the "
        "missing image, or rename or remove what does not belong together",
    )


def test_two_estimates_of_a_name_are_told(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE, b=SQUARE)
    for name in "ab":
        write_mask(estimate / f"{name}.png", SQUARE.T)
    assert score_files(reference, estimate).problems == (
        f"{estimate / 'a.tif'}: expected one mask called a, found a.png as well, which is used; rename or remove one "
        "of the two",
    )


def test_what_is_missing_or_unclear_is_a_problem_and_the_others_are_scored(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE, c=SQUARE)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE, c_mask=SQUARE, c_seg=SQUARE, d=SQUARE)
    write_mask(reference / "a.png", SQUARE)
    found = score_files(reference, estimate)
    advice = "predict the missing image, or rename or remove what does not belong together"
    assert found.problems == (
        f"{reference / 'a.tif'}: expected one mask called a, found a.png as well, which is used; rename or remove one "
        "of the two",
        f"{reference / 'b.tif'}: expected an estimate called b in {estimate}, found none; {advice}",
        f"{reference / 'c.tif'}: expected an estimate called c in {estimate}, found c_mask.tif and c_seg.tif; {advice}",
    )
    assert names_of(found) == ["a"]


def test_without_any_pair_there_is_no_score(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE)
    estimate = masks_in(tmp_path / "estimate", c=SQUARE)
    empty = masks_in(tmp_path / "empty")
    with pytest.raises(
        DataError, match=r"estimate: expected an estimate with the name of a reference mask, found no a "
    ):
        score_files(reference, estimate)
    with pytest.raises(
        DataError, match=r"estimate: expected an estimate .*found no masks in .*empty; predict the imag"
    ):
        score_files(empty, estimate)


def test_without_any_good_pair_the_first_reason_is_told(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE[:9])
    with pytest.raises(DataError) as caught:
        score_files(reference, estimate)
    assert str(caught.value) == (
        f"{estimate}: expected masks that can be scored, found none ({estimate / 'a.tif'}: expected the reference's "
        "size (16, 16), found (9, 16); score each estimate against the mask of the same image)"
    )


def test_a_reference_that_cannot_be_read_is_named(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE, b=SQUARE)
    estimate = masks_in(tmp_path / "estimate", a=SQUARE, b=SQUARE)
    (reference / "b.tif").unlink()
    Image.fromarray(SQUARE.astype(np.uint8)).save(reference / "b.jpg")
    found = score_files(reference, estimate)
    assert names_of(found) == ["a"]
    assert len(found.problems) == 1
    assert found.problems[0].startswith(
        f"{reference / 'b.jpg'}: expected a mask in a format that keeps its values, fou"
    )


def test_a_file_and_a_folder_are_no_pair(tmp_path):
    folder = masks_in(tmp_path / "reference", a=SQUARE)
    with pytest.raises(DataError, match=r"expected two masks or two folders, found one of each; name two of a kind$"):
        score_files(folder, folder / "a.tif")
    with pytest.raises(
        DataError, match=r"nowhere: expected a mask or a folder of masks, found nothing; check the path$"
    ):
        score_files(folder, tmp_path / "nowhere")


# Pages.


def test_pages_are_scored_one_by_one(tmp_path):
    stack = np.stack([SQUARE, SQUARE[::-1], SQUARE * 0]).astype(np.uint8)
    reference = write_mask(tmp_path / "s-labels.tif", stack)
    estimate = tmp_path / "s.tif"
    estimates = np.stack([SQUARE] * 3).astype(np.uint8)
    tifffile.imwrite(estimate, estimates, photometric="minisblack", metadata={"axes": "TYX"})
    found = score_files(reference, estimate)
    assert names_of(found) == ["s-labels_0", "s-labels_1", "s-labels_2"]
    # The same id on another page is another object.
    assert found.scores["n_reference"] == 4
    assert [row.get("AP@0.5") for row in found.rows] == [1, 0, 0]


def test_slices_of_a_volume_are_scored_together(tmp_path):
    volume = np.stack([SQUARE] * 3).astype(np.uint8)
    estimate = tmp_path / "v.tif"
    tifffile.imwrite(estimate, volume, photometric="minisblack", metadata={"axes": "ZYX"})
    for name in ("unsaid.tif", "v.tif"):
        reference = estimate if name == "v.tif" else write_mask(tmp_path / name, volume)
        found = score_files(reference, estimate)
        assert (len(found.rows), found.scores["n_reference"]) == (1, 2)


def test_other_numbers_of_pages_are_a_problem(tmp_path):
    reference = masks_in(tmp_path / "reference", a=SQUARE)
    write_mask(reference / "s.tif", np.stack([SQUARE] * 5))
    estimate = masks_in(tmp_path / "estimate", a=SQUARE)
    write_mask(estimate / "s.tif", np.stack([SQUARE] * 6))
    found = score_files(reference, estimate)
    assert found.problems == (
        f"{estimate / 's.tif'}: expected 5 pages like the reference's, found 6; score each estimate against the mask "
        "of the same image",
    )


def test_bad_pages_are_named_and_the_others_are_scored(tmp_path):
    reference = write_mask(tmp_path / "r.tif", np.stack([SQUARE] * 8).astype(np.float32))
    stack = np.stack([SQUARE] * 8).astype(np.float32)
    stack[[2, 3], 0, 0] = 0.5
    found = score_files(reference, write_mask(tmp_path / "e.tif", stack))
    assert len(found.rows) == 6
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{tmp_path / 'e.tif'} (pages 2, 3): expected whole numbers in a mask")


# What is made of it.


@pytest.fixture
def evaluation(tmp_path):
    names = "abcd"
    shifted = {name: np.roll(SQUARE, index, axis=0) for index, name in enumerate(names)}
    return score_files(masks_in(tmp_path / "r", **dict.fromkeys(names, SQUARE)), masks_in(tmp_path / "e", **shifted))


def test_scores_of_three_images_and_more_have_intervals(evaluation):
    low, high = evaluation.intervals["SEG"]
    assert low < evaluation.scores["SEG"] < high


def test_an_evaluation_as_json(evaluation):
    values = json.loads(json.dumps(evaluation_to_dict(evaluation)))
    assert list(values) == ["scores", "intervals", "images", "problems"]
    assert values["scores"] == evaluation.scores
    assert values["intervals"]["SEG"] == list(evaluation.intervals["SEG"])
    assert [row["name"] for row in values["images"]] == list("abcd")
    numbers = Evaluation(
        {"a": np.float64(0.5)}, ({"name": "x", "n": np.int64(3)},), ("why",), confusions=(np.eye(2, dtype=int),)
    )
    assert json.loads(json.dumps(evaluation_to_dict(numbers))) == {
        "scores": {"a": 0.5},
        "intervals": {},
        "images": [{"name": "x", "n": 3}],
        "problems": ["why"],
        "confusion": [[1, 0], [0, 1]],
    }


def test_rows_as_csv(evaluation, tmp_path):
    path = tmp_path / "some" / "where" / "rows.csv"
    write_rows(path, evaluation)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list("abcd")
    assert [float(row["SEG"]) for row in rows] == [row["SEG"] for row in evaluation.rows]
    assert list(rows[0]) == list(evaluation.rows[0])
    write_rows(path, Evaluation({}, ({"name": "a"}, {"name": "b", "x": 1.5})))
    assert path.read_text().splitlines() == ["name,x", "a,", "b,1.5"]
    assert [p.name for p in path.parent.iterdir()] == ["rows.csv"]


def test_rows_are_not_written_over_a_folder(evaluation, tmp_path):
    with pytest.raises(DataError, match=r"expected a file for the rows, found a folder; name a file in it, such as"):
        write_rows(tmp_path, evaluation)
