"""Samples and datasets: reading, choosing, splitting, fingerprints."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ushape.data.dataset import Dataset, Sample, split_validation
from ushape.errors import DataError


def array(value, dtype=np.uint8):
    return np.full((1, 4, 5), value, dtype)


def mask(value):
    return np.full((4, 5), value, np.int32)


def sample(name, group="", position=0, **options):
    options.setdefault("mask", partial(mask, 1))
    return Sample(name, partial(array, 3), group=group, position=position, **options)


def dataset(*samples):
    return Dataset("cells", tuple(samples), "instances", ("background", "object"))


def stack(n, group="a"):
    return [sample(f"{group}{i:02d}", group, i) for i in range(n)]


def names(part):
    return [s.name for s in part.samples]


def test_a_sample_reads_when_asked():
    calls = []
    one = Sample("x", lambda: calls.append("image") or array(1), lambda: calls.append("mask") or mask(2))
    assert calls == []
    np.testing.assert_array_equal(one.read_image(), array(1))
    np.testing.assert_array_equal(one.read_mask(), mask(2))
    assert calls == ["image", "mask"]


def test_the_reference_is_the_mask_unless_there_is_another():
    np.testing.assert_array_equal(sample("x").read_reference(), mask(1))
    np.testing.assert_array_equal(sample("x", reference=partial(mask, 7)).read_reference(), mask(7))


def test_nan_pixels_are_refused_with_their_number(tmp_path):
    bad = array(0, np.float32)
    bad[0, 0, :2] = np.nan, np.inf
    one = Sample("x", lambda: bad, files=(tmp_path / "x.tif",))
    with pytest.raises(DataError, match=r"x\.tif: expected finite pixel values, found 2 NaN or infinite ones"):
        one.read_image()


def test_a_missing_mask_is_refused_with_the_name():
    with pytest.raises(DataError, match="x: expected a mask to train on or to score against, found none; add one"):
        sample("x", mask=None).read_mask()


def test_annotated_are_those_with_a_mask():
    assert names(dataset(sample("a"), sample("b", mask=None), sample("c")).annotated) == ["a", "c"]


def test_a_stack_is_split_at_its_end_behind_a_gap():
    training, validation = split_validation(dataset(*stack(20)))
    assert names(training) == [f"a{i:02d}" for i in range(14)]
    assert names(validation) == [f"a{i:02d}" for i in range(16, 20)]


def test_the_split_ignores_the_order_in_which_samples_come():
    shuffled = [stack(20)[i] for i in np.random.default_rng(0).permutation(20)]
    straight = split_validation(dataset(*stack(20)))
    assert [names(p) for p in split_validation(dataset(*shuffled))] == [names(p) for p in straight]


def test_each_of_a_few_groups_is_split():
    training, validation = split_validation(dataset(*stack(10, "a"), *stack(10, "b")))
    assert {s.group for s in training.samples} == {s.group for s in validation.samples} == {"a", "b"}


def test_frames_without_positions_are_in_the_order_of_their_numbers():
    """As text, img10 comes before img2, and what is held out would lie beside what is learnt from."""
    training, validation = split_validation(dataset(*[sample(f"img{i}", "a") for i in range(1, 31)]))
    assert names(training) == [f"img{i}" for i in range(1, 23)]
    assert names(validation) == [f"img{i}" for i in range(25, 31)]


def test_a_few_groups_without_positions_are_held_out_whole():
    """Four patients with four images each: no patient is on both sides."""
    samples = [sample(f"p{p}_{i}", f"p{p}") for p in range(4) for i in range(4)]
    training, validation = split_validation(dataset(*samples))
    assert {s.group for s in validation.samples} == {"p3"}
    assert len(training.samples) == 12
    # The group whose share is nearest to what was asked for.
    uneven = [sample(f"{group}{i}", group) for group, n in (("a", 2), ("b", 3), ("c", 9)) for i in range(n)]
    assert {s.group for s in split_validation(dataset(*uneven))[1].samples} == {"b"}


def test_a_large_group_among_small_ones_is_learnt_from():
    samples = [sample("a"), sample("b"), *stack(100, "m"), sample("x"), sample("y")]
    training, validation = split_validation(dataset(*samples))
    assert names(validation) == ["a"]
    assert len(training.samples) == 103


def test_many_groups_are_held_out_whole():
    samples = [s for group in "abcdefghij" for s in stack(3, group)]
    training, validation = split_validation(dataset(*samples))
    assert {s.group for s in validation.samples} == {"c", "h"}
    assert not {s.group for s in training.samples} & {s.group for s in validation.samples}


def test_samples_without_a_group_are_independent():
    training, validation = split_validation(dataset(*[sample(f"x{i}") for i in range(10)]))
    assert (len(training), len(validation)) == (8, 2)


@pytest.mark.parametrize("n", range(2, 12))
def test_no_sample_is_in_both_parts_and_none_is_empty(n):
    for samples in (stack(n), [sample(f"x{i}") for i in range(n)]):
        training, validation = split_validation(dataset(*samples))
        assert len(training) > 0
        assert len(validation) > 0
        assert not set(names(training)) & set(names(validation))


def test_unannotated_samples_are_in_neither_part():
    training, validation = split_validation(dataset(*stack(10), sample("z", mask=None)))
    assert "z" not in names(training) + names(validation)


def test_one_annotated_image_cannot_be_split():
    with pytest.raises(DataError, match=r"cells: expected at least 2 annotated images .*found 1; annotate more"):
        split_validation(dataset(sample("a"), sample("b", mask=None)))


def test_the_fingerprint_takes_names_in_no_encoding(tmp_path):
    path = tmp_path / "10\udcb5m.tif"
    path.write_bytes(b"123")
    assert dataset(sample("10\udcb5m", files=(path,))).fingerprint != dataset(sample("10m")).fingerprint


def test_the_fingerprint_sees_names_annotation_and_file_sizes(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"123")
    one = dataset(sample("a", files=(path,)))
    first = one.fingerprint
    assert first == dataset(sample("a", files=(path,))).fingerprint
    assert first != dataset(sample("b", files=(path,))).fingerprint
    assert first != replace(one, samples=(replace(one.samples[0], mask=None),)).fingerprint
    path.write_bytes(b"1234")
    assert first != one.fingerprint


def test_classes_are_renumbered_by_their_names():
    mask = np.array([[0, 1, 2, -1]], np.int32)
    one = sample("a", mask=lambda: mask, reference=lambda: mask[:, ::-1])
    data = replace(dataset(one), task="semantic", classes=("background", "nerve", "cell"))
    wide = data.with_classes(("background", "axon", "cell", "nerve"))
    assert wide.classes == ("background", "axon", "cell", "nerve")
    assert wide.samples[0].read_mask().tolist() == [[0, 3, 2, -1]]
    assert wide.samples[0].read_reference().tolist() == [[-1, 2, 3, 0]]
    assert data.with_classes(data.classes) is data


def test_two_classes_need_no_names_but_three_do():
    data = replace(dataset(sample("a")), task="semantic", classes=("background", "foreground"))
    assert data.with_classes(("membrane", "cell")).samples == data.samples
    three = replace(data, classes=("background", "nerve", "cell"))
    with pytest.raises(
        DataError, match=r"^cells: expected only the classes background, cell, found nerve; name the cl"
    ):
        three.with_classes(("background", "cell"))


def test_labels_of_images_are_renumbered_too():
    data = replace(dataset(sample("a", mask=None, label=1)), task="classification", classes=("cat", "dog"))
    assert data.with_classes(("dog", "horse", "cat")).samples[0].label == 0
    assert data.annotated.samples == data.samples


@pytest.mark.parametrize("classes", [("background", "cell"), ("background", "nucleus"), ("soil", "cell")])
def test_two_classes_the_other_way_round_are_renumbered(classes):
    mask = np.array([[0, 1, -1]], np.int32)
    data = replace(dataset(sample("a", mask=lambda: mask)), task="semantic", classes=("cell", "background"))
    turned = data.with_classes(classes)
    assert turned.classes == classes
    assert turned.samples[0].read_mask().tolist() == [[1, 0, -1]]


def test_the_fingerprint_sees_other_pixels_in_files_of_the_same_size(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"header" + bytes(100))
    one = dataset(sample("a", files=(path,)))
    first = one.fingerprint
    path.write_bytes(b"header" + bytes(99) + b"1")
    assert first != one.fingerprint


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("n", [5, 7, 12])
def test_one_image_at_least_is_held_out_and_one_learnt_from(n, share):
    training, validation = split_validation(dataset(*(sample(f"image{i}") for i in range(n))), share)
    assert len(training.samples) + len(validation.samples) == n
    assert 1 <= len(validation.samples) <= (n + 1) // 2
