"""What names say."""

import pytest

from ushape.data.naming import MASK_WORDS, folder_rank, image_key, images_in, role_of, subfolders, without_word
from written_files import save


@pytest.mark.parametrize(
    "name, role",
    [
        ("images", ("images", None)),
        ("IMG", ("images", None)),
        ("Ground-Truth", ("masks", None)),
        ("ground truth", ("masks", None)),
        ("train_images", ("images", "train")),
        ("masks_validation", ("masks", "val")),
        ("testing-labels", ("masks", "test")),
        ("my_images", ("", None)),
        ("cells", ("", None)),
        ("train", ("", None)),
        ("no_mask", ("", None)),
    ],
)
def test_the_name_of_a_folder_tells_its_role(name, role):
    assert role_of(name) == role


@pytest.mark.parametrize(
    "stem, left",
    [
        ("a_mask", "a"),
        ("a-Masks", "a"),
        ("a.seg", "a"),
        ("a_cp_masks", "a"),
        ("a_b_gt", "a_b"),
        ("mask_a", "a"),
        ("label a", "a"),
        ("mask", ""),
        ("amask", None),
        ("a_mask_b", None),
        ("a", None),
    ],
)
def test_one_word_is_taken_off_a_stem(stem, left):
    assert without_word(stem, MASK_WORDS) == left


def test_images_and_their_folders_are_named_in_many_ways(tmp_path):
    assert [image_key(s) for s in ("A_img", "image_A", "A_0000", "A", "image")] == ["a", "a", "a", "a", ""]
    assert folder_rank(tmp_path / "masks") < folder_rank(tmp_path / "gt") < folder_rank(tmp_path / "cells")


def test_what_programs_leave_behind_is_not_listed(tmp_path):
    for folder in ("a", ".git", "__MACOSX"):
        (tmp_path / folder).mkdir()
    for name in ("b.PNG", "._b.png", "b.txt"):
        save(tmp_path / "x.png").rename(tmp_path / name)
    assert [p.name for p in subfolders(tmp_path)] == ["a"]
    assert [p.name for p in images_in(tmp_path)] == ["b.PNG"]
