"""The Cell Tracking Challenge's rules on a small set drawn by hand, and on the real sets."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from ushape.data.ctc import ctc_sequences, is_partial, open_ctc
from ushape.data.folder import find_parts, open_folder
from ushape.errors import DataError

SIZE = (20, 24)
MARGIN = 4


def disc(y: int, x: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


A, B = disc(8, 8, 3), disc(11, 17, 3)  # two cells inside the field
OUTSIDE = disc(1, 22, 1)  # a cell that lies only within the margin


def painted(**cells: np.ndarray) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint16)
    for name, cell in cells.items():
        mask[cell] = int(name[1:])
    return mask


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, photometric="minisblack")


@pytest.fixture
def small(tmp_path):
    """Frame 0 complete gold, 1 silver only, 2 partial gold with silver, 3 partial gold alone, 4 nothing."""
    markers = painted(_5=disc(8, 8, 1), _6=disc(11, 17, 1), _7=OUTSIDE)
    for t in range(5):
        save(tmp_path / "01" / f"t{t:03d}.tif", np.full(SIZE, t, np.uint8))
        save(tmp_path / "01_GT" / "TRA" / f"man_track{t:03d}.tif", markers)
    save(tmp_path / "01_GT" / "SEG" / "man_seg000.tif", painted(_1=A, _2=B))
    save(tmp_path / "01_ST" / "SEG" / "man_seg001.tif", painted(_3=A, _4=B))
    save(tmp_path / "01_GT" / "SEG" / "man_seg002.tif", painted(_1=A))
    save(tmp_path / "01_ST" / "SEG" / "man_seg002.tif", painted(_3=A, _4=B))
    save(tmp_path / "01_GT" / "SEG" / "man_seg003.tif", painted(_1=A))
    save(tmp_path / "02" / "t000.tif", np.zeros(SIZE, np.uint8))
    save(tmp_path / "02_GT" / "SEG" / "man_seg000.tif", painted(_1=A, _2=B))
    return tmp_path


def with_ignored_margin(mask: np.ndarray) -> np.ndarray:
    expected = mask.astype(np.int32)
    edge = np.ones(SIZE, bool)
    edge[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    expected[edge & (mask == 0)] = -1
    return expected


def frames(small, **options):
    return {s.name: s for s in open_ctc(small, margin=MARGIN, **options).samples}


def test_names_groups_and_positions(small):
    dataset = open_ctc(small, margin=MARGIN)
    assert [s.name for s in dataset.samples] == ["01_t000", "01_t001", "01_t002", "01_t003", "01_t004", "02_t000"]
    assert [(s.group, s.position) for s in dataset.samples][2:] == [("01", 2), ("01", 3), ("01", 4), ("02", 0)]
    assert (dataset.task, dataset.classes) == ("instances", ("background", "object"))
    np.testing.assert_array_equal(dataset.samples[3].read_image(), np.full((1, *SIZE), 3))
    assert dataset.findings[0] == (
        "Sequence 01: 5 frames, 3 with gold truth (2 of them partial, unlabelled pixels ignored), "
        "1 with silver truth only (for training, not scored)."
    )


def test_a_complete_gold_frame_is_background_around_its_cells(small):
    sample = frames(small)["01_t000"]
    expected = with_ignored_margin(painted(_1=A, _2=B))
    np.testing.assert_array_equal(sample.read_mask(), expected)
    np.testing.assert_array_equal(sample.read_reference(), expected)
    assert (sample.scored, sample.complete, sample.emphasis) == (True, True, 3.0)


def test_a_silver_frame_trains_but_is_not_scored(small):
    sample = frames(small)["01_t001"]
    np.testing.assert_array_equal(sample.read_mask(), with_ignored_margin(painted(_3=A, _4=B)))
    assert (sample.scored, sample.complete, sample.emphasis, sample.reference) == (False, True, 1.0, None)


def test_a_partial_frame_is_background_only_where_silver_says_so(small):
    sample = frames(small)["01_t002"]
    expected = with_ignored_margin(painted(_1=A))
    reference = expected.copy()
    expected[B] = -1
    np.testing.assert_array_equal(sample.read_mask(), expected)
    np.testing.assert_array_equal(sample.read_reference(), reference)
    assert (sample.scored, sample.complete, sample.emphasis) == (True, False, 3.0)


def test_a_partial_frame_without_silver_has_no_background(small):
    mask = frames(small)["01_t003"].read_mask()
    np.testing.assert_array_equal(mask, np.where(A, 1, -1))


def test_a_frame_without_truth_is_for_prediction(small):
    assert frames(small)["01_t004"].mask is None


def test_gold_alone_looks_at_no_silver(small):
    chosen = frames(small, truth="gold")
    assert list(chosen) == ["01_t000", "01_t002", "01_t003", "02_t000"]
    np.testing.assert_array_equal(chosen["01_t002"].read_mask(), np.where(A, 1, -1))


def test_without_markers_a_gold_frame_is_complete(small):
    assert frames(small)["02_t000"].complete


def test_a_marker_within_the_margin_does_not_make_a_frame_partial():
    gold, markers = painted(_1=A), painted(_5=disc(8, 8, 1), _7=OUTSIDE)
    assert not is_partial(gold, markers, MARGIN)
    assert is_partial(gold, markers, 0)
    assert is_partial(gold, painted(_5=disc(8, 8, 1), _6=disc(11, 17, 1)), MARGIN)


def test_a_frame_that_cannot_be_used_is_a_problem(small):
    save(small / "01_GT" / "SEG" / "man_seg000.tif", painted(_1=A)[:-1])
    (small / "01" / "t001.tif").write_bytes(b"x")
    dataset = open_ctc(small, margin=MARGIN)
    assert [s.name for s in dataset.samples][:2] == ["01_t002", "01_t003"]
    assert "man_seg000.tif: expected a mask of the frame's size (20, 24), found (19, 24)" in dataset.problems[0]
    assert "t001.tif: expected a readable .tif file" in dataset.problems[1]


def test_sequences_are_parts_of_the_folder(small):
    assert ctc_sequences(small) == ("01", "02")
    assert find_parts(small) == ("01", "01-gold", "02", "02-gold")
    assert [len(open_folder(small, split=s)) for s in (None, "01", "01-gold", "02")] == [6, 5, 3, 1]
    with pytest.raises(DataError, match="expected sequence 03 of the Cell Tracking Challenge, found 01, 02"):
        open_ctc(small, sequences=["03"])


def test_no_gold_at_all_is_told(small):
    for path in (small / "01_GT" / "SEG").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"expected frames that can be used, found none in 01 \(no frame has gold"):
        open_ctc(small, sequences=["01"], truth="gold")


@pytest.fixture
def deep(tmp_path):
    """Volumes of 3 slices: frame 0 partial gold, 1 complete gold, 2 silver only."""
    markers = np.stack([painted(), painted(_5=disc(8, 8, 1), _6=disc(11, 17, 1)), painted(_7=OUTSIDE)])
    for t in range(3):
        stack = np.full((3, *SIZE), t, np.uint8)
        stack[2] = 9
        save(tmp_path / "01" / f"t{t:03d}.tif", stack)
        save(tmp_path / "01_GT" / "TRA" / f"man_track{t:03d}.tif", markers)
    save(tmp_path / "01_GT" / "SEG" / "man_seg000.tif", np.stack([painted(_1=A), painted(_1=A), painted()]))
    save(tmp_path / "01_GT" / "SEG" / "man_seg001.tif", np.stack([painted(), painted(_1=A, _2=B), painted()]))
    save(tmp_path / "01_ST" / "SEG" / "man_seg002.tif", np.stack([painted(_3=A), painted(), painted(_4=B)]))
    return tmp_path


def test_frames_of_several_pages_are_volumes_where_axes_say_so(deep):
    volumes = frames(deep, axes="ZYX")
    np.testing.assert_array_equal(volumes["01_t001"].read_image()[0, :, 0, 0], [1, 1, 9])
    slices = [painted(), painted(_1=A, _2=B), painted()]
    # Whatever lies in the first and the last slice is inside the field: the border is that of the slices.
    np.testing.assert_array_equal(volumes["01_t001"].read_mask(), [with_ignored_margin(each) for each in slices])
    np.testing.assert_array_equal(volumes["01_t001"].read_reference(), volumes["01_t001"].read_mask())
    assert [volumes[name].complete for name in ("01_t000", "01_t001")] == [False, True]
    assert set(np.unique(volumes["01_t000"].read_mask())) == {-1, 1}
    silver = [painted(_3=A), painted(), painted(_4=B)]
    np.testing.assert_array_equal(volumes["01_t002"].read_mask(), [with_ignored_margin(each) for each in silver])


def test_dataset_toml_tells_the_axes_of_frames(deep):
    (deep / "dataset.toml").write_text('axes = "ZYX"\n')
    dataset = open_folder(deep)
    assert (len(dataset), dataset.problems) == (3, ())
    assert dataset.samples[0].read_image().shape == (1, 3, *SIZE)
    assert dataset.samples[0].read_mask().shape == (3, *SIZE)
    save(deep / "01_GT" / "SEG" / "man_seg000.tif", np.stack([painted(_1=A)] * 2))
    assert (
        "man_seg000.tif: expected a mask of the frame's size (3, 20, 24), found (2, 20, 24)"
        in open_folder(deep).problems[0]
    )


def test_frames_with_channels_have_masks_without(small):
    save(small / "02" / "t000.tif", np.zeros((2, *SIZE), np.uint8))
    sample = frames(small, sequences=["02"], axes="CYX")["02_t000"]
    assert (sample.read_image().shape, sample.read_mask().shape) == ((2, *SIZE), SIZE)


def test_frames_of_several_pages_need_axes(deep):
    with pytest.raises(
        DataError,
        match=r"found none in 01 \(.*t000\.tif: expected frames of one page, found 3 pages; write axes = \"ZYX\" into "
        r"dataset\.toml to read them as volumes\)",
    ):
        open_folder(deep)


# The partial frames as counted by hand: fewer gold objects than cells inside the field.
REAL_PARTIAL = {
    "DIC-C2DH-HeLa": ["01_t034", "01_t039", "01_t067", "02_t007", "02_t014", "02_t042", "02_t061", "02_t067"],
    "PhC-C2DH-U373": ["02_t026", "02_t051", "02_t085", "02_t106"],
}


@pytest.mark.parametrize("name, n_frames, n_gold", [("DIC-C2DH-HeLa", 67, 18), ("PhC-C2DH-U373", 104, 34)])
def test_real_sequences(real_data, name, n_frames, n_gold):
    dataset = open_ctc(real_data / "ctc" / name)
    assert [s.name for s in dataset.samples if not s.complete] == REAL_PARTIAL[name]
    assert (len(dataset), sum(s.scored for s in dataset.samples), dataset.problems) == (n_frames, n_gold, ())
    for sample in dataset.samples[::10]:
        mask, reference = sample.read_mask(), sample.read_reference()
        assert mask.shape == reference.shape == sample.read_image().shape[1:]
        assert (mask[50:-50, 50:-50] == 0).any()
        assert not (mask[:50] == 0).any()
        assert not (reference[:, -50:] == 0).any()
