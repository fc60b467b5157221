"""What masks mean over all parts, and what dataset.toml says; samples of several files."""

import json

import numpy as np
import pytest

from ushape.data.assembly import read_channels
from ushape.data.folder import open_folder
from ushape.errors import DataError
from written_files import BINARY, IMAGE, blobs, save


def write_parts(root, train, test):
    for part, values in (("train", train), ("test", test)):
        for i, mask in enumerate(values):
            save(root / part / "images" / f"{i}.png")
            save(root / part / "masks" / f"{i}.png", mask)


def test_classes_have_one_number_in_all_parts(tmp_path):
    """A test part without class 2 must not give its number to class 3."""
    everything = [blobs(1, 2, 3) + np.roll(blobs(1, 2, 3), 12, axis=0) for _ in range(4)]
    lacking = [blobs(1, 3) + np.roll(blobs(1, 3), 12, axis=0) for _ in range(4)]
    write_parts(tmp_path, everything, lacking)
    train, test = open_folder(tmp_path), open_folder(tmp_path, split="test")
    assert train.classes == test.classes == ("background", "class 1", "class 2", "class 3")
    np.testing.assert_array_equal(test.samples[0].read_mask(), lacking[0])


def test_damage_in_another_part_does_not_matter(tmp_path):
    write_parts(tmp_path, [BINARY], [BINARY])
    (tmp_path / "test" / "masks" / "0.png").write_bytes(b"x")
    dataset = open_folder(tmp_path)
    assert (len(dataset.annotated), dataset.problems) == (1, ())


def test_images_of_a_part_without_masks_take_the_classes_of_the_others(tmp_path):
    mask = blobs(1, 2) + np.roll(blobs(1, 2), 12, axis=0)
    write_parts(tmp_path, [mask] * 3, [])
    save(tmp_path / "test" / "images" / "a.png")
    dataset = open_folder(tmp_path, split="test")
    assert (dataset.classes, len(dataset.annotated)) == (("background", "class 1", "class 2"), 0)
    assert dataset.findings[0] == "No masks: 1 image for prediction."


def test_masks_in_colours_have_colours_and_names(tmp_path):
    for i in range(3):
        mask = np.zeros((24, 32, 3), np.uint8)
        mask[2 + i : 8, 3:9], mask[12:20, 5:12], mask[2:8, 20:28] = (255, 0, 0), (0, 255, 0), (255, 0, 0)
        save(tmp_path / "images" / f"{i}.png")
        save(tmp_path / "masks" / f"{i}.png", mask)
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("semantic", ("background", "red", "green"))
    assert dataset.colours == ((0, 0, 0), (255, 0, 0), (0, 255, 0))
    assert dataset.samples[0].read_mask()[13, 6] == 2


def test_dataset_toml_names_classes_groups_and_spacing(tmp_path):
    for name in ("a_1", "a_2", "b_1"):
        save(tmp_path / "images" / f"{name}.png")
        save(tmp_path / "masks" / f"{name}.png", blobs(1, 7, 255))
    (tmp_path / "dataset.toml").write_text(
        'task = "semantic"\nignore = 255\ngroups = "^([a-z]+)_"\nspacing = 0.5\nunit = "nm"\n'
        '[[classes]]\nname = "nothing"\nvalue = 0\n[[classes]]\nname = "cell"\nvalues = [1, 7]\n'
    )
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("semantic", ("nothing", "cell"))
    assert [s.group for s in dataset.samples] == ["a", "a", "b"]
    assert str(dataset.samples[0].spacing) == "0.5 x 0.5 x 0.5 nm"  # one number holds for volumes too
    assert np.unique(dataset.samples[0].read_mask()).tolist() == [-1, 0, 1]
    assert open_folder(tmp_path, task="instances").task == "instances"


@pytest.mark.parametrize("inside", [True, False])
def test_dataset_toml_above_a_part_holds_for_it_unless_it_has_its_own(tmp_path, inside):
    write_parts(tmp_path, [blobs(1, 2)], [blobs(1, 2)])
    text = '[[classes]]\nname = "x"\n[[classes]]\nname = "{}"\n[[classes]]\nname = "z"\n'
    (tmp_path / "dataset.toml").write_text('task = "semantic"\n' + text.format("above"))
    if inside:
        (tmp_path / "train" / "dataset.toml").write_text('task = "semantic"\n' + text.format("inside"))
    assert open_folder(tmp_path).classes == ("x", "inside" if inside else "above", "z")


def test_a_mistake_in_dataset_toml_is_told(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "dataset.toml").write_text("task = semantic\n")
    with pytest.raises(DataError, match=r"dataset\.toml: expected a TOML file, found a mistake"):
        open_folder(tmp_path)


def test_channels_from_several_files_keep_the_wider_type(tmp_path):
    paths = save(tmp_path / "a.tif", IMAGE), save(tmp_path / "b.tif", IMAGE.astype(np.uint16) * 100)
    image = read_channels(paths)
    assert (image.shape, image.dtype) == ((2, 24, 32), np.uint16)
    np.testing.assert_array_equal(image[1], IMAGE.astype(np.uint16) * 100)


def test_only_fifty_masks_are_read_to_open_a_folder(tmp_path, monkeypatch):
    import ushape.data.assembly as assembly

    read = []
    facts_of = assembly.read_facts
    monkeypatch.setattr(
        assembly, "read_facts", lambda path, **options: read.append(path.name) or facts_of(path, **options)
    )
    for i in range(60):
        save(tmp_path / "images" / f"{i:02d}.png")
        save(tmp_path / "masks" / f"{i:02d}.png", BINARY)
    assert len(open_folder(tmp_path).annotated) == 60
    assert (len(read), read[0], read[-1]) == (50, "00.png", "59.png")


def test_other_folders_say_nothing_of_a_json_file(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps({"exposure": 0.1}))
    assert open_folder(tmp_path).problems == ()


def test_a_mask_of_another_kind_is_left_out_and_said(tmp_path):
    for name in "abc":
        save(tmp_path / "images" / f"{name}.png", IMAGE)
        save(tmp_path / "masks" / f"{name}.png", BINARY)
    save(tmp_path / "masks" / "b.png", np.arange(BINARY.size).reshape(BINARY.shape).astype(np.uint8) % 5)
    dataset = open_folder(tmp_path)
    assert [sample.annotated for sample in dataset.samples] == [True, False, True]
    assert dataset.classes == ("background", "foreground")
    [problem] = dataset.problems
    assert problem == (
        f"{tmp_path / 'masks' / 'b.png'}: expected a mask like most others, which hold 0 and 255, "
        "found 0, 1, 2, 3 and 4; export it as the others were (the image is kept without it)"
    )
    assert open_folder(tmp_path, task="instances").problems == ()


def write_many(root, masks):
    for i, mask in enumerate(masks):
        save(root / "images" / f"{i:03d}.png")
        save(root / "masks" / f"{i:03d}.png", mask)


def in_pieces(*values):
    return blobs(*values) + np.roll(blobs(*values), 12, axis=0)


@pytest.mark.parametrize("usual", [(1, 2), (1,), ()])
def test_a_class_in_a_single_mask_is_known(tmp_path, usual):
    masks = [in_pieces(*usual)] * 120
    masks[1] = in_pieces(*usual, 3)
    write_many(tmp_path, masks)
    dataset = open_folder(tmp_path, task="semantic")
    if usual:
        assert dataset.classes == ("background", *(f"class {v}" for v in (*usual, 3)))
    assert all(len(np.unique(sample.read_mask())) == len(usual) + 1 for sample in dataset.samples[2:5])
    assert len(np.unique(dataset.samples[1].read_mask())) == len(usual) + 2


def test_a_third_value_beside_0_and_255_is_told_and_no_class(tmp_path):
    write_many(tmp_path, [in_pieces(255)] * 80)
    save(tmp_path / "masks" / "001.png", in_pieces(255, 7))
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("background", "foreground")
    with pytest.raises(DataError, match=r"001\.png: expected only the mask values 0 and 255, found also 7"):
        dataset.samples[1].read_mask()


PHOTOGRAPH = np.arange(BINARY.size).reshape(BINARY.shape).astype(np.uint8) % 97
RESIZED = np.repeat(np.clip(20 * np.arange(-4, 28) // 3, 0, 100).astype(np.uint8)[None], 24, axis=0)


@pytest.mark.parametrize("odd", [PHOTOGRAPH, RESIZED])
def test_a_single_mask_does_not_turn_all_of_them_into_something_else(tmp_path, odd):
    write_many(tmp_path, [in_pieces(50, 100)] * 80)
    save(tmp_path / "masks" / "001.png", odd)
    save(tmp_path / "masks" / "005.png", in_pieces(50, 20))
    (tmp_path / "masks" / "003.png").write_bytes(b"x")
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("background", "class 20", "class 50", "class 100")
    with pytest.raises(DataError, match=r"001\.png: expected only the mask values 0, 20, 50 and 100, found also"):
        dataset.samples[1].read_mask()


def test_masks_that_cannot_be_used_are_read_once_and_not_too_many(tmp_path, monkeypatch):
    import ushape.data.assembly as assembly

    read = []
    facts_of = assembly.read_facts
    monkeypatch.setattr(
        assembly, "read_facts", lambda path, **options: read.append(path.name) or facts_of(path, **options)
    )
    monkeypatch.setattr(assembly, "MAX_MASKS_READ", 4)
    # The masks 0, 4, 9 and 13 are read first; 4 holds probabilities.
    write_many(tmp_path, [in_pieces(1, 2) if i in (0, 4, 9, 13) else PHOTOGRAPH for i in range(14)])
    (tmp_path / "masks" / "004.png").unlink()
    save(tmp_path / "masks" / "004.npy", np.linspace(0, 1, BINARY.size).reshape(BINARY.shape))
    dataset = open_folder(tmp_path)
    assert dataset.classes == ("background", "class 1", "class 2")
    assert [int(name[:3]) for name in read] == [0, 4, 9, 13, 1, 2, 3, 5]


def test_objects_in_a_single_mask_do_not_make_all_of_them_objects(tmp_path):
    write_many(tmp_path, [blobs(1)] * 120)
    save(tmp_path / "masks" / "001.png", blobs(1, 2, 3, 4))
    dataset = open_folder(tmp_path)
    assert (dataset.task, dataset.classes) == ("semantic", ("background", "foreground"))
    with pytest.raises(DataError, match=r"001\.png: expected only the mask values 0 and 1, found also 2, 3 and 4"):
        dataset.samples[1].read_mask()


def test_values_are_listed_of_no_more_masks_than_needed(tmp_path, monkeypatch):
    import ushape.data.assembly as assembly

    listed = []
    values_of = assembly._values_of
    monkeypatch.setattr(assembly, "_values_of", lambda pair: listed.append(pair.name) or values_of(pair))
    monkeypatch.setattr(assembly, "MAX_MASKS_LISTED", 60)
    write_many(tmp_path, [in_pieces(1, 2)] * 80)
    open_folder(tmp_path)
    assert 0 < len(listed) < 30
    listed.clear()
    open_folder(tmp_path, task="instances")
    assert listed == []
    (tmp_path / "dataset.toml").write_text(
        '[[classes]]\nname = "a"\nvalue = 0\n[[classes]]\nname = "b"\nvalues = [1, 2]\n'
    )
    open_folder(tmp_path)
    assert listed == []


def test_a_mask_that_was_left_out_says_nothing_of_the_others(tmp_path):
    write_many(tmp_path, [in_pieces(1, 2), in_pieces(255), in_pieces(1, 2)])
    dataset = open_folder(tmp_path)
    assert [sample.annotated for sample in dataset.samples] == [True, False, True]
    assert dataset.findings[0] == "The masks hold the same 3 values (0, 1 and 2): read as classes."
