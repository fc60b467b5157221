"""Parts of data sets: what is taken, what is kept apart, and that no field of view is on two sides."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from bench.fields import fields_of, seams
from bench.splits import (
    Part,
    Split,
    chosen_by,
    common,
    fifth_of,
    open_part,
    open_stage,
    part_called,
    read_splits,
    too_near,
)
from ushape.data.catalog import dataset_path
from ushape.data.dataset import Dataset, Sample
from ushape.errors import DataError


def frames(positions, group="stack"):
    samples = tuple(Sample(f"{group}_{p}", lambda: np.zeros((1, 4, 4)), group=group, position=p) for p in positions)
    return Dataset("frames", samples, "semantic", ("a", "b"))


def sample_of(name, image):
    return Sample(name, lambda: image)


def smooth_field(seed, height, width):
    """(1, H, W) uint8: slow waves and a little noise, as neighbouring crops are cut from."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = sum(np.sin(rng.uniform(0.02, 0.15) * x + rng.uniform(0.02, 0.15) * y + rng.uniform(0, 6)) for _ in range(6))
    return (120 + 25 * waves + rng.normal(0, 2, waves.shape)).clip(0, 255).astype(np.uint8)[None]


# What is taken.


def test_a_part_takes_the_positions_that_it_names_first_and_last_included():
    part = Part("x", positions=((0, 2), (5, 6)))
    assert [s.position for s in frames(range(9)).samples if part.takes(s)] == [0, 1, 2, 5, 6]


def test_a_part_takes_fields_by_the_fifth_of_their_name():
    fields = [f"field{i}" for i in range(200)]
    counts = np.bincount([fifth_of(f) for f in fields])
    assert len(counts) == 5
    assert counts.min() > 20
    for field in fields[:20]:
        sample = replace(frames([0]).samples[0], group=field)
        takes = [Part("x", fifths=(k,)).takes(sample) for k in range(5)]
        assert takes.count(True) == 1
        assert takes[fifth_of(field)]


def test_parts_are_called_by_what_they_take():
    assert str(Part("isbi2012", ((0, 7), (22, 29)))) == "isbi2012 0-7, 22-29"
    assert str(Part("dsb2018", fifths=(2, 3))) == "dsb2018 fifths 2, 3"


def test_what_a_part_is_called_tells_the_part():
    made = [
        Part("a folder/x", ((0, 7), (22, 29))),
        Part("dsb2018:fluorescence", fifths=(0, 3)),
        Part("y", ((1, 2),), (4,)),
    ]
    parts = [part for split in read_splits().values() for part in (split.train, split.test, split.learn, split.tune)]
    for part in [*made, *filter(None, parts)]:
        assert part_called(str(part)) == part


def test_a_part_without_a_name_is_told():
    with pytest.raises(DataError, match="expected what a part is called, such as 'isbi2012 0-7, 22-29', found ''"):
        part_called("")


SHARED = [
    ("isbi2012 24-29", "isbi2012 20-29", "isbi2012 24-29"),
    ("isbi2012 10-19", "isbi2012 16-21", "isbi2012 16-19"),
    ("isbi2012 0-7, 22-29", "isbi2012 5-24", "isbi2012 5-7, 22-24"),
    ("isbi2012 0-9", "isbi2012 9-9", "isbi2012 9-9"),
    ("isbi2012 0-9", "isbi2012 10-19", None),
    ("isbi2012 0-9", "phantom 0-9", None),
    ("dic-hela:02", "dic-hela:02 34-83", "dic-hela:02 34-83"),
    ("dic-hela:01", "dic-hela:02", None),
    ("dic-hela:01", "dic-hela:01-gold", "dic-hela:01-gold"),
    ("dic-hela:01", "dic-hela:02-gold", None),
    ("dsb2018 fifths 0", "dsb2018:fluorescence fifths 0", "dsb2018:fluorescence fifths 0"),
    ("dsb2018 fifths 0, 1", "dsb2018 fifths 1, 2", "dsb2018 fifths 1"),
    ("dsb2018 fifths 0", "dsb2018:fluorescence fifths 1", None),
    ("dsb2018", "dsb2018:fluorescence fifths 1", "dsb2018:fluorescence fifths 1"),
    ("phantom:val", "phantom:test", None),
]


@pytest.mark.parametrize("first, second, shared", SHARED)
def test_what_two_parts_share(first, second, shared):
    expected = None if shared is None else part_called(shared)
    assert common(part_called(first), part_called(second)) == expected
    assert common(part_called(second), part_called(first)) == expected


def test_parts_share_samples_where_their_names_say_so_on_real_data(real_data):
    splits = [needed(name) for name in read_splits() if name.startswith(("isbi2012", "dic-hela", "phc-u373"))]
    parts = {part for split in splits for part in (split.train, split.test, split.tune) if part is not None}
    taken = {part: {(s.files[0], s.position) for s in open_part(part).samples} for part in parts}
    assert len(parts) > 20
    for first, second in combinations(parts, 2):
        shared = common(first, second)
        assert bool(taken[first] & taken[second]) == (shared is not None), (str(first), str(second))


def test_test_parts_that_other_splits_choose_by_are_found():
    splits = read_splits()
    found = {name: {k: str(v) for k, v in chosen_by(s.test, splits.values()).items()} for name, s in splits.items()}
    assert found["dic-hela-01"] == found["dic-hela-01-gold"] == {"dic-hela-02": "dic-hela:02 34-83"}
    assert found["isbi2012-fold1"] == {"isbi2012-early": "isbi2012 0-3"}
    assert found["isbi2012-fold2"] == {"isbi2012": "isbi2012 16-19", "isbi2012-late": "isbi2012 18-19"}
    assert not found["isbi2012"]
    assert not found["dsb2018"] | found["dsb2018-fluorescence"] | found["phantom"]
    # Nobody is scored on what he himself chose by.
    assert not [name for name in splits if name in found[name]]


def test_an_empty_part_is_told():
    with pytest.raises(DataError, match=r"phantom:val 7-8: expected images in this part, found none"):
        open_part(Part("phantom:val", ((7, 8),)))


def test_a_split_without_tune_says_so():
    split = Split("folds", Part("a"), Part("b"), ("SEG",))
    assert split.parts("test") == (Part("a"), Part("b"))
    with pytest.raises(DataError, match="folds: expected the parts learn and tune, found none"):
        split.parts("tune")


# What is kept apart.


def test_positions_nearer_than_the_gap_are_found():
    first, second = frames([0, 1, 2]), frames([4, 5])
    assert too_near(first, second, 1) == []
    assert too_near(first, second, 2) == [("stack_2", "stack_4")]
    assert too_near(first, frames([4], group="other"), 9) == []


def test_samples_of_one_field_are_too_near_whatever_the_gap():
    first, second = frames([0], group="field"), frames([0], group="field")
    assert len(too_near(first, second, 0)) == 1


def test_samples_without_a_group_are_known_by_their_names():
    lone = frames([0], group="")
    assert too_near(lone, lone) == [("_0", "_0")]


def test_a_split_whose_parts_touch_is_refused():
    touching = Split("bad", Part("phantom:val"), Part("phantom"), ("SEG",))
    with pytest.raises(DataError, match="bad: expected a gap of 0 between what is trained on and what is scored"):
        open_stage(touching, "test")


# Fields of view.


def test_crops_of_one_field_are_found_and_others_are_not():
    whole = smooth_field(0, 128, 192)
    crops = {f"crop{r}{c}": whole[:, 64 * r : 64 * r + 64, 64 * c : 64 * c + 64] for r in range(2) for c in range(3)}
    others = {f"other{seed}": smooth_field(seed, 64, 64) for seed in range(1, 6)}
    samples = [sample_of(name, image) for name, image in (others | crops).items()]
    found = dict(zip([s.name for s in samples], fields_of(samples), strict=True))
    assert {found[name] for name in crops} == {"crop00"}
    assert all(found[name] == name for name in others)


def test_images_of_other_sizes_or_colours_are_other_fields():
    whole = smooth_field(0, 64, 128) // 2 + 40
    right = whole[:, :, 64:]
    # Coloured, and as grey the very image that would go on.
    colour = np.concatenate([right - 20, right, right + 20])
    left = np.concatenate([whole[:, :, :64]] * 3)
    samples = [sample_of("a", left), sample_of("b", colour), sample_of("c", right[:, :, :50])]
    assert fields_of(samples) == ["a", "b", "c"]


def test_seams_have_a_direction():
    whole = smooth_field(0, 64, 128)[0].astype(float)
    images = np.stack([whole[:, :64], whole[:, 64:]])
    assert seams(images, 1).tolist() == [[False, True], [False, False]]
    assert not seams(images, 0).any()


def test_black_borders_join_nothing():
    images = np.zeros((3, 8, 8))
    images[:, 4, 4] = 9
    assert not seams(images, 0).any()


# The file itself.


def test_every_split_names_scores_and_its_tune_is_one_block_apart_from_learn():
    for split in read_splits().values():
        assert split.scores
        assert (split.learn is None) == (split.tune is None)
        if split.tune is not None and split.tune.positions:
            [(first, last)] = split.tune.positions
            for begin, end in split.learn.positions:
                assert end + split.gap < first or last + split.gap < begin


def test_an_unknown_field_is_told(tmp_path):
    path = tmp_path / "splits.toml"
    path.write_text('[a]\ntrain = {data = "x"}\ntest = {data = "y"}\nscores = []\ngaps = 1\n')
    with pytest.raises(DataError, match=r"expected only known fields in \[a\], found gaps"):
        read_splits(path)


def needed(name):
    """The data of a split, or a skip that says what is missing."""
    for part in (read_splits()[name].train, read_splits()[name].test):
        data = part.data.partition(":")[0]
        if data != "phantom":
            try:
                dataset_path(data, download=False)
            except DataError as error:
                pytest.skip(str(error))
    return read_splits()[name]


@pytest.mark.parametrize("name", [name for name in read_splits() if not name.startswith("dsb2018")])
def test_parts_are_disjoint_and_gaps_hold_on_real_data(name, real_data):
    split = needed(name)
    for stage in ("test", "tune") if split.tune else ("test",):
        training, scored = (open_part(part) for part in split.parts(stage))
        assert any(s.scored and s.mask is not None for s in scored.samples)
        assert not {s.name for s in training.samples} & {s.name for s in scored.samples}
        for a in training.samples:
            for b in scored.samples:
                assert not a.group or a.group != b.group or abs(a.position - b.position) > split.gap


def test_tune_lies_inside_train_on_real_data(real_data):
    for name, split in read_splits().items():
        if split.tune is not None and name not in ("phantom", "dsb2018", "dsb2018-fluorescence"):
            needed(name)
            train = {s.name for s in open_part(split.train).samples}
            for part in (split.learn, split.tune):
                assert {s.name for s in open_part(part).samples} <= train


def test_no_field_of_nuclei_is_in_two_parts(real_data):
    split = needed("dsb2018")
    parts = [open_part(part).samples for part in (split.learn, split.tune, split.test)]
    assert {s.name for s in open_part(split.train).samples} == {s.name for part in parts[:2] for s in part}
    for first, second in combinations(parts, 2):
        assert not {s.group for s in first} & {s.group for s in second}
        assert not {s.files for s in first} & {s.files for s in second}
    # Two crops next to each other are never in two parts: seams between parts, looked for afresh.
    images = [[s.read_image().mean(axis=0, dtype=float) for s in part] for part in parts]
    for size in {image.shape for part in images for image in part}:
        of_part = [k for k, part in enumerate(images) for image in part if image.shape == size]
        stack = np.stack([image for part in images for image in part if image.shape == size])
        for axis in (0, 1):
            assert all(of_part[i] == of_part[j] for i, j in np.argwhere(seams(stack, axis)))
    assert len({s.group for part in parts for s in part}) < sum(map(len, parts)) - 20
