"""The embedded digits: against scikit-learn's own arrays, and what the parts share."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ushape.data.digits import open_digits
from ushape.errors import DataError


def test_parts_are_disjoint_whole_and_even():
    parts = {part: open_digits(part) for part in ("train", "test")}
    train, test = ({s.name for s in d.samples} for d in parts.values())
    assert not train & test
    assert train | test == {f"digit_{i:04d}" for i in range(1797)}
    for part, dataset in parts.items():
        assert (dataset.name, dataset.task, dataset.classes) == (
            f"digits:{part}",
            "classification",
            tuple("0123456789"),
        )
        counts = np.bincount([s.label for s in dataset.samples])
        share = {"train": 0.8, "test": 0.2}[part]
        np.testing.assert_allclose(counts / np.bincount(load_digits().target), share, atol=0.006)
    assert open_digits("test").fingerprint == parts["test"].fingerprint


def test_images_are_those_of_scikit_learn_over_the_whole_grey_range():
    bundle = load_digits()
    for sample in open_digits("test").samples:
        index, image = int(sample.name[-4:]), sample.read_image()
        assert (image.shape, image.dtype, sample.label) == ((1, 8, 8), np.uint8, bundle.target[index])
        np.testing.assert_array_equal(np.rint(image[0] * (16 / 255)), bundle.images[index])
        np.testing.assert_array_equal(image[0][bundle.images[index] == 16], 255)


def test_every_fifth_of_each_class_is_for_testing():
    """The first ten images are the digits 0 to 9, so that the fifth of each class comes later."""
    labels = load_digits().target
    fives = np.flatnonzero(labels == 5)
    held_out = [int(s.name[-4:]) for s in open_digits("test").samples if s.label == 5]
    assert held_out == [int(fives[i]) for i in range(4, len(fives), 5)]


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"digits: expected scikit-learn, .* install it with: pip install scikit-learn"):
        open_digits("train")
