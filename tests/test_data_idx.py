"""IDX files: types and shapes against numpy, damage, pairs of images and labels, and the real sets."""

import gzip
import struct
import threading
import time

import numpy as np
import pytest

from ushape.data import idx
from ushape.data.idx import idx_parts, is_idx_folder, open_idx, read_idx
from ushape.errors import DataError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    """The format as its author describes it, written down independently of the reader."""
    code = CODES[array.dtype.str[1:]]
    start = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return start + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def write_set(folder, n_train=7, n_test=3, ending=".gz"):
    rng = np.random.default_rng(0)
    made = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        images = rng.integers(0, 256, (n, 5, 4), np.uint8)
        labels = (np.arange(n) % 4).astype(np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", labels)
        made[part] = images, labels
    return made


def test_a_file_written_down_by_hand(tmp_path):
    (tmp_path / "a").write_bytes(bytes.fromhex("00000b02 00000002 00000003 0001 0002 ffff 0100 0000 8000"))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), [[1, 2, -1], [256, 0, -32768]])


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("name", ["a", "a.gz", "gzip_without_an_ending"])
def test_all_types_come_back_in_native_order(tmp_path, kind, name):
    array = np.linspace(-100, 100, 24).reshape(2, 3, 4).astype(kind)
    write_idx(tmp_path / name, array)
    if name.startswith("gzip"):
        (tmp_path / name).write_bytes(gzip.compress(idx_bytes(array)))
    read = read_idx(tmp_path / name)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert not read.flags.writeable


WHOLE = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "expected an IDX file, which starts with two zeros, a type and a number of axes, found nothing; get the"),
        (b"\x89PNG\r\n", "a number of axes, found 89 50 4e 47; get the file again"),
        (b"\0\0\x0a\x01" + bytes(9), "a number of axes, found 00 00 0a 01;"),
        (b"\0\0\x08\x00", "a number of axes, found 00 00 08 00;"),
        (WHOLE[:10], "expected the lengths of 3 axes, found the end of the file; get it again"),
        (WHOLE[:-1], r"expected 24 bytes for shape \(2, 3, 4\), found 23; the file is cut off, get it again"),
        (WHOLE + b"1", r"expected 24 bytes for shape \(2, 3, 4\), found 25; the file is too long, get it again"),
        (
            gzip.compress(WHOLE, mtime=0)[:-10],
            r"expected an IDX file, found one that is damaged \(.*\); get the file again",
        ),
        (b"\x1f\x8bno", r"expected an IDX file, found one that is damaged \(.*\); get the file again"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=f"a: .*{message}"):
        read_idx(tmp_path / "a")


def test_a_flipped_byte_in_a_compressed_file_is_found(tmp_path):
    content = bytearray(gzip.compress(WHOLE))
    content[-7] ^= 1
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.gz: expected an IDX file, found one that is damaged \(CRC check failed"):
        read_idx(tmp_path / "a.gz")


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"b: expected an IDX file, found nothing; check the path"):
        read_idx(tmp_path / "b")
    with pytest.raises(DataError, match=r"expected an IDX file, found a folder; check the path"):
        read_idx(tmp_path)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_part_becomes_samples_with_labels(tmp_path, ending):
    made = write_set(tmp_path, n_train=12, ending=ending)
    assert idx_parts(tmp_path) == ("train", "test")
    for part, stem in (("train", "train"), ("test", "t10k")):
        dataset = open_idx(tmp_path, part, "letters")
        images, labels = made[stem]
        assert (dataset.name, dataset.task, dataset.classes) == ("letters", "classification", ("0", "1", "2", "3"))
        assert [s.label for s in dataset.samples] == labels.tolist()
        np.testing.assert_array_equal(np.stack([s.read_image() for s in dataset.samples]), images[:, None])
        assert all(s.annotated and s.mask is None and s.group == "" for s in dataset.samples)
    assert [s.name for s in open_idx(tmp_path, "train").samples][:2] == ["train_00", "train_01"]
    assert dataset.findings == (
        f"t10k-images-idx3-ubyte{ending}: 3 grey images of 5 x 4, each with a label: classification.",
    )


def test_names_as_other_programs_write_them(tmp_path):
    made = write_set(tmp_path, ending="")
    for old in list(tmp_path.iterdir()):
        old.rename(old.with_name(old.name.replace("t10k", "Test").replace("-idx", ".idx")))
    assert idx_parts(tmp_path) == ("train", "test")
    np.testing.assert_array_equal(open_idx(tmp_path, "test").samples[0].read_image(), made["t10k"][0][:1])


def test_a_plain_copy_beside_the_compressed_file_is_the_same_file(tmp_path):
    write_set(tmp_path)
    write_set(tmp_path, ending="")
    assert [p.suffix for p in open_idx(tmp_path, "train").samples[0].files] == ["", ""]


def test_both_parts_have_the_classes_of_both(tmp_path):
    write_set(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([0, 6, 1], np.uint8))
    assert open_idx(tmp_path, "train").classes == open_idx(tmp_path, "test").classes == tuple("0123456")
    assert open_idx(tmp_path, "train", classes=tuple("abcdefghij")).classes == tuple("abcdefghij")
    with pytest.raises(DataError, match=r"labels-idx1.*: expected labels below 3, found 6; get the file again"):
        open_idx(tmp_path, "train", classes=tuple("abc"))


def test_an_image_is_a_copy_that_may_be_changed(tmp_path):
    write_set(tmp_path)
    sample = open_idx(tmp_path, "train").samples[1]
    image = sample.read_image()
    image += 1
    np.testing.assert_array_equal(sample.read_image() + np.uint8(1), image)


def test_many_threads_read_the_file_once(tmp_path, monkeypatch):
    images, _ = write_set(tmp_path, n_train=40)["train"]
    dataset, reads, start = open_idx(tmp_path, "train"), [], threading.Barrier(8)

    def counted(path):
        reads.append(path)
        time.sleep(0.05)  # long enough for the other threads to come
        return read_idx(path)

    monkeypatch.setattr(idx, "read_idx", counted)
    got = {}

    def run(which):
        start.wait()
        for i in range(which, 40, 8):
            got[i] = dataset.samples[i].read_image()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    np.testing.assert_array_equal(np.stack([got[i][0] for i in range(40)]), images)


def test_images_are_read_when_they_are_asked_for(tmp_path):
    write_set(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    dataset = open_idx(tmp_path, "train")
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte\.gz: expected 140 bytes .*found 139; the file is cut"
    ):
        dataset.samples[0].read_image()


def test_what_does_not_belong_together_is_told(tmp_path):
    write_set(tmp_path)
    images, labels = (tmp_path / f"train-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))

    def fails(message, part="train"):
        with pytest.raises(DataError, match=message):
            open_idx(tmp_path, part)

    fails(r"expected a part called 'val', found train, test; name one of them", "val")
    write_idx(labels, np.zeros(6, np.uint8))
    fails(r"train-labels.*: expected a label for each of the 7 images, found 6; get both files again")
    write_idx(labels, np.full(7, -1, np.int8))
    fails(r"train-labels.*: expected labels from 0 to 99999, found -1 to -1; number the classes from 0")
    write_idx(labels, np.zeros(7, np.float32))
    fails(r"train-labels.*: expected one whole number for each image, found float32 of shape \(7,\); name a file")
    labels.unlink()
    fails(r"expected one file of labels such as train-labels-idx1-ubyte\.gz, found none; add it")
    write_idx(images, np.zeros((7, 5, 4, 3), np.uint8))
    write_idx(labels, np.zeros(7, np.uint8))
    fails(r"train-images.*: expected grey images of shape \(n, height, width\), found \(7, 5, 4, 3\); convert them")
    write_idx(tmp_path / "letters-train-images-idx3-ubyte", np.zeros((1, 5, 4), np.uint8))
    fails(
        r"expected one file of images such as train-images-idx3-ubyte\.gz, found letters-train-images-idx3-ubyte and "
        r"train-images-idx3-ubyte\.gz; put each set into a folder of its own"
    )


def test_other_folders_are_not_taken_for_it(tmp_path):
    assert not is_idx_folder(tmp_path / "missing")
    assert not is_idx_folder(tmp_path)
    (tmp_path / "train-images.png").write_bytes(b"")
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    assert not is_idx_folder(tmp_path)
    write_set(tmp_path / "set")
    assert is_idx_folder(tmp_path / "set")
    with pytest.raises(DataError, match=r"expected a part called 'train', found no IDX files"):
        open_idx(tmp_path, "train")


def test_the_real_training_images_of_mnist(real_data):
    """Counts of each digit as its authors and many after them report, and the sum of all pixels by another way."""
    dataset = open_idx(real_data / "mnist", "train")
    counts = np.bincount([s.label for s in dataset.samples])
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert dataset.samples[17].name == "train_00017"
    values = gzip.decompress((real_data / "mnist" / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    last = np.frombuffer(values[-28 * 28 :], np.uint8).reshape(1, 28, 28)
    np.testing.assert_array_equal(dataset.samples[-1].read_image(), last)
