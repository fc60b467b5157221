"""Folders in the layouts people already have become datasets.

    images/ + masks/          (or labels/, annotations/, gt/) paired by stem; _mask, _seg, _label(s), _masks allowed
    x.png + x_mask.png        side by side, with the same endings
    images only               for prediction: samples without mask
    train-volume.tif + train-labels.tif       a stack; each slice is a sample, the stack is its group
    01/, 01_GT/, 01_ST/       Cell Tracking Challenge, see `ctc`
    <id>/images, <id>/masks/* Data Science Bowl: one object in each mask file

`train/`, `val/`, `test/` inside a folder (or at the front of the stacks' names) are its parts. Without a word which
part is wanted, `train` is read where there is one, so that nobody trains on test images by accident.

What the masks mean is recognised from their values (`masks`), and each thing understood is one sentence in
`Dataset.findings`. What cannot be used is one sentence in `Dataset.problems`; all the rest stays usable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ushape.data.ctc import Truth, ctc_sequences, open_ctc
from ushape.data.dataset import Dataset, Sample, Task
from ushape.data.images import Layout, is_image_file, read_image, read_layout, read_mask
from ushape.data.masks import MaskFacts, MaskRule, mask_facts, read_mask_by_rule, recognise_masks
from ushape.errors import DataError

__all__ = ["LAYOUTS", "find_parts", "open_folder", "read_object_masks"]

Mask = NDArray[np.int32]

MASK_FOLDERS = ("masks", "labels", "annotations", "gt")
MASK_ENDINGS = ("_masks", "_mask", "_labels", "_label", "_seg")
PARTS = ("train", "val", "test")
MAX_CHANNEL_PAGES = 4  # a TIFF of up to 4 pages with a mask of one page holds channels
MAX_MASKS_READ = 50  # to recognise what the masks are
MAX_NAMES_TOLD = 5

LAYOUTS = (
    "images/ with masks/, images beside their masks (x.png, x_mask.png), images alone, "
    "train-volume.tif with train-labels.tif, a Cell Tracking Challenge folder (01, 01_GT), "
    "a Data Science Bowl folder (<id>/images, <id>/masks), or train/, val/, test/ with one of these inside"
)


@dataclass
class _Notes:
    """Sentences gathered while a folder is read."""

    findings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Pair:
    """One image of a file or of one of its pages, and the mask that belongs to it."""

    name: str
    image: Path
    mask: Path | None
    page: int | None = None
    mask_page: int | None = None
    axes: str | None = None
    group: str = ""


def _told(names: Sequence[str]) -> str:
    """A few names in words: 'a, b, c and 4 more'."""
    shown = ", ".join(names[:MAX_NAMES_TOLD])
    return shown if len(names) <= MAX_NAMES_TOLD else f"{shown} and {len(names) - MAX_NAMES_TOLD} more"


def _image_files(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if is_image_file(p))


def _subfolders(path: Path) -> dict[str, Path]:
    """Visible subfolders by their name in lower case."""
    return {p.name.lower(): p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")}


def _base_stem(stem: str) -> str:
    """The stem of the image that a mask of this stem belongs to."""
    for ending in MASK_ENDINGS:
        if stem.lower().endswith(ending):
            return stem[: -len(ending)]
    return stem


def _unique_stems(files: Iterable[Path], stem_of: Callable[[str], str], notes: _Notes, what: str) -> dict[str, Path]:
    """Files by stem; the second file of a stem becomes a problem."""
    by_stem: dict[str, Path] = {}
    for path in files:
        stem = stem_of(path.stem)
        if stem in by_stem:
            notes.problems.append(
                f"{path}: expected one {what} called {stem}, found {by_stem[stem].name} as well, which is used; "
                "rename or remove one of the two"
            )
        else:
            by_stem[stem] = path
    return by_stem


def _matched(images: Sequence[Path], masks: Sequence[Path], notes: _Notes) -> list[tuple[Path, Path | None]]:
    """Each image with the mask of its stem, and a problem for whatever is left over."""
    by_image = _unique_stems(images, str, notes, "image")
    # A mask may have exactly the image's stem even where that ends like a mask: scan_seg.tif and scan_seg.png.
    by_mask = _unique_stems(masks, lambda stem: stem if stem in by_image else _base_stem(stem), notes, "mask")
    for stem, mask in by_mask.items():
        if stem not in by_image:
            notes.problems.append(f"{mask}: expected an image called {stem}, found none; add it or remove the mask")
    if by_mask:
        for stem, image in by_image.items():
            if stem not in by_mask:
                notes.problems.append(
                    f"{image}: expected a mask called {stem} or {stem}_mask, found none; kept for prediction"
                )
    return [(image, by_mask.get(stem)) for stem, image in by_image.items()]


def _usable_layout(path: Path, notes: _Notes) -> Layout | None:
    try:
        return read_layout(path)
    except DataError as error:
        notes.problems.append(str(error))
        return None


def _usable_mask(image: Layout, mask_path: Path, notes: _Notes) -> Layout | None:
    """The mask's layout if it fits the image; otherwise None and a problem."""
    mask = _usable_layout(mask_path, notes)
    if mask is None:
        return None
    channels = mask.n_pages == 1 and image.n_pages <= MAX_CHANNEL_PAGES
    if mask.n_pages != image.n_pages and not channels:
        notes.problems.append(
            f"{mask_path}: expected {image.n_pages} pages like the image's, found {mask.n_pages}; "
            "export the mask again (the image is kept without it)"
        )
        return None
    if mask.size != image.size:
        notes.problems.append(
            f"{mask_path}: expected a mask of the image's size {image.size}, found {mask.size}; "
            "export it again at full size (the image is kept without it)"
        )
        return None
    return mask


def _pages_of(image_path: Path, mask_path: Path | None, notes: _Notes) -> list[_Pair]:
    """The pairs of one image file: one, or one for each page; none when the image cannot be read."""
    image = _usable_layout(image_path, notes)
    if image is None:
        return []
    mask = _usable_mask(image, mask_path, notes) if mask_path is not None else None
    mask_path = mask_path if mask is not None else None
    stem = image_path.stem
    if image.n_pages == 1:
        return [_Pair(stem, image_path, mask_path)]
    if mask is not None and mask.n_pages == 1:
        notes.findings.append(f"{image_path.name} has {image.n_pages} pages and one mask: read as channels.")
        return [_Pair(stem, image_path, mask_path, axes="CYX")]
    notes.findings.append(f"{image_path.name} has {image.n_pages} pages: each is read as one image.")
    digits = len(str(image.n_pages - 1))
    return [
        _Pair(f"{stem}_{page:0{digits}d}", image_path, mask_path, page, page if mask_path else None, group=stem)
        for page in range(image.n_pages)
    ]


def _read_facts(pairs: Sequence[_Pair], notes: _Notes) -> tuple[dict[_Pair, MaskFacts], set[Path]]:
    """The facts of up to 50 masks, spread evenly, and the mask files that turned out to be unusable."""
    masked = [p for p in pairs if p.mask is not None]
    chosen = np.unique(np.linspace(0, len(masked) - 1, min(MAX_MASKS_READ, len(masked))).round().astype(int))
    facts: dict[_Pair, MaskFacts] = {}
    broken: set[Path] = set()
    for index in chosen:
        pair = masked[index]
        assert pair.mask is not None
        if pair.mask in broken:
            continue
        try:
            facts[pair] = mask_facts(read_mask(pair.mask, page=pair.mask_page))
        except DataError as error:
            broken.add(pair.mask)
            notes.problems.append(f"{error} (the image is kept without it)")
    empty = [pair.name for pair, fact in facts.items() if not fact.ids]
    if empty:
        notes.findings.append(
            f"{len(empty)} of {len(facts)} masks read are all background ({_told(empty)}): right if nothing is there, "
            "otherwise annotate them or leave them out."
        )
    return facts, broken


def _sample(pair: _Pair, rule: MaskRule | None) -> Sample:
    """The sample of a pair; without mask where there is none, or no rule to read it by."""
    mask: partial[Mask] | None = None
    files: tuple[Path, ...] = (pair.image,)
    if pair.mask is not None and rule is not None:
        mask, files = partial(read_mask_by_rule, pair.mask, pair.mask_page, rule), (pair.image, pair.mask)
    return Sample(
        name=pair.name,
        image=partial(read_image, pair.image, page=pair.page, axes=pair.axes),
        mask=mask,
        group=pair.group,
        position=pair.page or 0,
        files=files,
    )


def _dataset_of_pairs(name: str, path: Path, pairs: Sequence[_Pair], task: Task | None, notes: _Notes) -> Dataset:
    """Samples for the pairs, with the masks read by the rule that their values suggest."""
    facts, broken = _read_facts(pairs, notes)
    rule = recognise_masks(list(facts.values()), str(path), task) if facts else None
    if rule is not None:
        notes.findings.insert(0, rule.finding)
    else:
        notes.findings.insert(0, f"No masks: {len(pairs)} images for prediction.")
    samples = [_sample(pair, rule if pair.mask not in broken else None) for pair in pairs]
    classes = rule.classes if rule is not None else ("background", "foreground")
    kind: Task = rule.task if rule is not None else task or "semantic"
    return Dataset(name, tuple(samples), kind, classes, tuple(notes.findings), tuple(notes.problems))


def _open_matched(
    name: str, path: Path, matches: Sequence[tuple[Path, Path | None]], task: Task | None, notes: _Notes
) -> Dataset:
    pairs = [pair for image, mask in matches for pair in _pages_of(image, mask, notes)]
    if not pairs:
        raise DataError(f"{path}: expected images that can be read, found none ({_told(notes.problems)})")
    return _dataset_of_pairs(name, path, pairs, task, notes)


def _open_images_and_masks(name: str, path: Path, task: Task | None) -> Dataset | None:
    folders = _subfolders(path)
    if "images" not in folders:
        return None
    images = _image_files(folders["images"])
    if not images:
        raise DataError(f"{folders['images']}: expected images, found no image file; put them there as TIFF or PNG")
    notes = _Notes()
    present = [folders[n] for n in MASK_FOLDERS if n in folders]
    masks = _image_files(present[0]) if present else []
    if present and not masks:
        notes.problems.append(f"{present[0]}: expected masks, found no image file; put them there as TIFF or PNG")
    if len(present) > 1:
        notes.findings.append(
            f"Masks are read from {present[0].name}/, not from {_told([p.name for p in present[1:]])}."
        )
    return _open_matched(name, path, _matched(images, masks, notes), task, notes)


def read_object_masks(paths: tuple[Path, ...], size: tuple[int, int]) -> Mask:
    """Mask files with one object each, merged to instances 1..n (H, W) in the order of the file names.

    Where objects overlap, the smaller one is on top, and of equal ones the later; an object wholly covered gets no
    id. DataError when a mask has another size than the image.
    """
    objects = []
    for path in paths:
        mask = read_mask(path)
        if mask.shape != size:
            raise DataError(f"{path}: expected a mask of the image's size {size}, found {mask.shape}; export it again")
        objects.append(np.flatnonzero(mask > 0))
    merged = np.zeros(size[0] * size[1], np.int32)
    for index in sorted(range(len(objects)), key=lambda i: (-len(objects[i]), i)):
        merged[objects[index]] = index + 1
    visible = np.bincount(merged, minlength=len(objects) + 1) > 0
    visible[0] = False
    ids = np.where(visible, np.cumsum(visible), 0).astype(np.int32)
    return ids[merged].reshape(size)


def _object_sample(folder: Path, notes: _Notes) -> Sample | None:
    """The sample of one <id> folder of the Data Science Bowl."""
    images = _image_files(folder / "images")
    if len(images) != 1:
        notes.problems.append(f"{folder / 'images'}: expected one image, found {len(images)}; the folder is left out")
    layout = _usable_layout(images[0], notes) if len(images) == 1 else None
    if layout is None:
        return None
    masks = tuple(_image_files(folder / "masks")) if (folder / "masks").is_dir() else ()
    if not masks:
        notes.problems.append(f"{images[0]}: expected masks in {folder / 'masks'}, found none; kept for prediction")
    return Sample(
        name=folder.name,
        image=partial(read_image, images[0]),
        mask=partial(read_object_masks, masks, layout.size) if masks else None,
        files=(images[0], *masks),
    )


def _open_object_folders(name: str, path: Path, task: Task | None) -> Dataset | None:
    folders = [p for p in _subfolders(path).values() if (p / "images").is_dir()]
    if not folders:
        return None
    notes = _Notes(["Each image has a folder with one mask file for each object: read as instances."])
    samples = [s for s in (_object_sample(p, notes) for p in folders) if s is not None]
    if not samples:
        raise DataError(f"{path}: expected images that can be read, found none ({_told(notes.problems)})")
    if not any(s.mask for s in samples):
        notes = _Notes([f"No masks: {len(samples)} images for prediction."])
    if task == "semantic":
        raise DataError(
            f"{path}: expected task instances for one mask file per object, found task semantic; leave it out"
        )
    return Dataset(
        name, tuple(samples), "instances", ("background", "object"), tuple(notes.findings), tuple(notes.problems)
    )


def _volumes(path: Path) -> dict[str, Path]:
    """TIFF stacks called X-volume.tif, by X."""
    files = [p for p in _image_files(path) if p.stem.lower().endswith("-volume")]
    return {p.stem[: -len("-volume")]: p for p in files}


def _open_stacks(name: str, path: Path, part: str | None, task: Task | None) -> Dataset | None:
    volumes = _volumes(path)
    if not volumes:
        return None
    notes = _Notes()
    matches = []
    for stack, volume in volumes.items():
        if part in (None, stack.lower()):
            labels = [p for p in _image_files(path) if p.stem.lower() == f"{stack}-labels".lower()]
            matches.append((volume, labels[0] if labels else None))
    return _open_matched(name, path, matches, task, notes)


def _open_plain(name: str, path: Path, task: Task | None) -> Dataset | None:
    """Images, some of them perhaps beside their masks (x.tif, x_masks.tif)."""
    files = _image_files(path)
    if not files:
        return None
    stems = {p.stem for p in files}
    masks = [p for p in files if _base_stem(p.stem) != p.stem and _base_stem(p.stem) in stems]
    notes = _Notes()
    return _open_matched(name, path, _matched([p for p in files if p not in masks], masks, notes), task, notes)


def find_parts(path: Path) -> tuple[str, ...]:
    """The parts that a folder has: train, val, test as subfolders or stacks, or sequences with -gold variants."""
    sequences = ctc_sequences(path)
    if sequences:
        return tuple(part for s in sequences for part in (s, f"{s}-gold"))
    folders, volumes = _subfolders(path), {v.lower() for v in _volumes(path)}
    return tuple(p for p in PARTS if p in folders) or tuple(sorted(volumes, key=lambda v: (v != "train", v)))


def _choose_part(path: Path, parts: tuple[str, ...], split: str | None) -> str | None:
    """The part to read; None for all that lies in the folder itself."""
    if split is not None and split not in parts:
        raise DataError(
            f"{path}: expected a part called '{split}', found {', '.join(parts) or 'no parts'}; "
            "name one of them, or none for the whole folder"
        )
    if split is not None or "train" in parts:
        return split or "train"
    if not parts or "images" in _subfolders(path) or _image_files(path):
        return None
    if len(parts) > 1:
        raise DataError(f"{path}: expected to know which of the parts {', '.join(parts)} to read; name one")
    return parts[0]


def _open_sequences(name: str, path: Path, split: str | None, parts: tuple[str, ...]) -> Dataset:
    if split is None:
        return open_ctc(path, name=name)
    part = _choose_part(path, parts, split)
    assert part is not None
    truth: Truth = "gold" if part.endswith("-gold") else "gold+silver"
    return open_ctc(path, name=name, sequences=(part.removesuffix("-gold"),), truth=truth)


def _open_whole(name: str, path: Path, part: str | None, task: Task | None) -> Dataset | None:
    return (
        _open_images_and_masks(name, path, task)
        or _open_object_folders(name, path, task)
        or _open_stacks(name, path, part, task)
        or _open_plain(name, path, task)
    )


def open_folder(path: Path, *, name: str | None = None, split: str | None = None, task: Task | None = None) -> Dataset:
    """A folder in any layout above as a dataset; masks are read when they are needed.

    name   the dataset's name; the folder's name by default
    split  a part of the folder: 'train', 'val', 'test', or '01' and '01-gold' (Cell Tracking Challenge)
    task   "semantic" or "instances" where the masks are to be read as another thing than recognised

    DataError for a missing or empty folder, for one in no known layout, and when nothing in it can be used.
    """
    path = Path(path)
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise DataError(f"{path}: expected a folder of images, found {found}; check the path")
    name = name or path.resolve().name
    parts = find_parts(path)
    if ctc_sequences(path):
        return _open_sequences(name, path, split, parts)
    part = _choose_part(path, parts, split)
    inside = _subfolders(path).get(part or "")
    dataset = _open_whole(name, inside or path, None if inside else part, task)
    if dataset is None:
        endings = sorted({p.suffix for p in path.iterdir() if p.is_file() and not p.name.startswith(".")})
        found = f"only {', '.join(e or 'files without ending' for e in endings)}" if endings else "no image"
        raise DataError(f"{inside or path}: expected {LAYOUTS}; found {found}")
    others = [p for p in parts if p != part]
    if part is None or not others:
        return dataset
    return replace(dataset, findings=(*dataset.findings, f"Part {part} is read; {', '.join(others)} not."))
