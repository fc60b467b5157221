"""The augmentation figure against the code that trains: the same warps, the same samples, and lines that fit them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ushape.geometry import Geometry
from ushape.picture import augmentation as drawn
from ushape.picture.augmentation import draw_classifier_augmentation, draw_segmenter_augmentation
from ushape.picture.marks import SIDE, Spot
from ushape.picture.overlay import to_display
from ushape.training.augment import Augmentation, draw_warp, sample_patch, warp_coordinates
from ushape.training.batches import Batches, TrainingImage
from ushape.training.label_batches import LabelBatches

CPU = torch.device("cpu")
PADDED = Geometry(3, "same")
PLAIN = Augmentation(mirror=False, rotation=0, zoom=1, elastic=0, brightness=0, contrast=1, gamma=1, noise=0)


def image_of(*size: int, seed: int = 0) -> TrainingImage:
    """Noise, with a mask of one object, in the order of training: image, weights, mask."""
    rng = np.random.default_rng(seed)
    planes = torch.from_numpy(rng.normal(size=(3, *size)).astype(np.float32))
    planes[-1] = 0
    planes[-1, ..., 5:15, 8:20] = 1
    return TrainingImage(planes, 1, (), 1.0)


def batches_of(augmentation: Augmentation, geometry=PADDED, patch=(40, 48), size=(50, 60)) -> Batches:
    return Batches([image_of(*size)], geometry, patch, 2, augmentation, seed=4)


@pytest.fixture
def panels(monkeypatch) -> list:
    """The panels of a sheet, as they are made."""
    seen: list = []
    real = drawn.sheet

    def look(title, note, panels, caption):
        seen.extend(panels)
        return real(title, note, panels, caption)

    monkeypatch.setattr(drawn, "sheet", look)
    return seen


def limits_of(batches: Batches):
    return drawn.display_limits(batches.images[0].planes[:1].numpy())


def test_the_steps_of_a_warp_are_those_of_training(panels):
    batches = batches_of(Augmentation(elastic=4.0))
    draw_segmenter_augmentation("x", batches, seed=3)
    centre = ((50 - 40) // 2 + 39 / 2, (60 - 48) // 2 + 47 / 2)
    whole = draw_warp(batches.augmentation, centre, np.random.default_rng(3))
    planes, limits = batches.images[0].planes, limits_of(batches)
    for panel, matrix in ((panels[1], np.eye(2)), (panels[2], whole.matrix)):
        read = sample_patch(planes, 2, warp_coordinates(replace(whole, matrix=matrix), (40, 48), CPU))
        np.testing.assert_array_equal(panel.picture, to_display(read[:1].numpy(), limits))
    assert panels[3].picture.shape == (40, 48, 3)
    assert (panels[3].picture != panels[2].picture).any()
    far = np.sqrt((whole.displacement**2).sum(axis=0)).max()
    assert f"moved by up to {far:.3g} px" in panels[1].said
    assert f"{abs(np.linalg.det(whole.matrix)) ** -0.5:.2f} times as large" in panels[2].said
    assert ("irrored" in panels[2].said) == (np.linalg.det(whole.matrix) < 0)


def test_the_samples_are_those_that_training_draws(panels):
    batches = batches_of(Augmentation(elastic=4.0))
    draw_segmenter_augmentation("x", batches, n_samples=3)
    limits = limits_of(batches)
    assert [panel.title for panel in panels[4:]] == ["Step 1, sample 1", "Step 1, sample 2", "Step 2, sample 1"]
    for panel, image in zip(panels[4:], [*batches(0).images, batches(1).images[0]], strict=True):
        np.testing.assert_array_equal(panel.picture, to_display(image.numpy(), limits))


def arrows_in(panel) -> list:
    return [
        shape for mark in panel.marks for shape in mark(drawn_spot(panel)) if getattr(shape, "fill", "") == "#ffd21f"
    ]


def drawn_spot(panel):
    return Spot(0, 0, SIDE / max(panel.picture.shape[:2]))


def test_arrows_start_at_the_nodes_and_show_where_they_are_read(panels):
    batches = batches_of(Augmentation(elastic=2.0, elastic_nodes=4))
    draw_segmenter_augmentation("x", batches, seed=3)
    centre = (24.5, 29.5)
    displacement = draw_warp(batches.augmentation, centre, np.random.default_rng(3)).displacement
    assert displacement.shape == (2, 4, 4)
    before, spot = panels[0], drawn_spot(panels[0])
    shapes = arrows_in(before)
    nodes, heads = shapes[::2], shapes[1::2]
    assert len(nodes) == len(heads) == 16
    # A standard deviation is drawn about 18 units long; 236 units are 48 px.
    longer = round(18 / (2 * 236 / 48))
    assert f"{longer} times as long as it is" in before.said
    pad = (before.picture.shape[0] - 40) // 2
    for index, (node, head) in enumerate(zip(nodes, heads, strict=True)):
        row, column = divmod(index, 4)
        place = np.array([39 * row / 3, 47 * column / 3]) + pad
        middle = (node.x + 3, node.y + 3)
        assert middle == pytest.approx(spot.at(*place))
        stop = spot.at(*(place + longer * displacement[:, row, column]))
        assert min(np.hypot(*np.subtract(point, stop)) for point in head.points) < 1e-6
        # Nothing leaves the picture.
        assert 0 <= stop[0] <= SIDE
        assert 0 <= stop[1] <= SIDE


def test_the_grid_follows_what_is_read(panels):
    """Paint lines into the image, read it by the warp, and find them under the lines that are drawn."""
    image = image_of(120, 120)
    image.planes[0] = 0
    batches = Batches([image], Geometry(3, "same"), (96, 96), 2, Augmentation(elastic=5.0, zoom=1), seed=4)
    corner = (120 - 96) // 2
    image.planes[0, corner % 8 :: 8] = 1
    draw_segmenter_augmentation("x", batches, seed=1)
    bright = panels[2].picture[..., 0].astype(float)
    spot = drawn_spot(panels[2])
    rows = [s for mark in panels[2].marks for s in mark(spot) if s.line == "#56b4e9"]
    assert len(rows) > 6
    on = [
        bright[round(y / spot.scale - 0.5), round(x / spot.scale - 0.5)]
        for line in rows
        for x, y in line.points
        if 2 * spot.scale < min(x, y) and max(x, y) < SIDE - 2 * spot.scale
    ]
    assert np.mean(on) > 2.5 * bright.mean()


def test_what_is_off_is_said_to_be_off(panels):
    drawing = draw_segmenter_augmentation("x", batches_of(PLAIN))
    assert panels[1].title == "Not deformed"
    assert panels[2].said == "Nothing more this time."
    assert not arrows_in(panels[0])
    assert drawing.description.startswith("Each sample is left as it is.")
    np.testing.assert_array_equal(panels[1].picture, panels[0].picture)
    np.testing.assert_array_equal(panels[3].picture, panels[2].picture)


def test_strengths_are_said():
    told = draw_segmenter_augmentation("x", batches_of(Augmentation(elastic=7.5, warped=0.75))).description
    assert told.startswith(
        "Each sample is mirrored half of the time, turned by up to 180°, zoomed by 0.80 to 1.25, bent by displacements "
        "of 7.5 px (standard deviation) on 3×3 nodes, changed in its grey values (brightness, contrast, gamma, noise). "
        "A share of 25% is neither turned, zoomed nor bent."
    )
    assert "training with seed 4 draws from these 1 images" in told


def test_without_padding_the_part_that_is_answered_is_framed_and_ignored_pixels_are_striped(panels):
    geometry = Geometry(2)
    batches = batches_of(PLAIN, geometry, (40, 44), (40, 44))
    batches.images[0].planes[-1, :, 30:] = -1
    draw_segmenter_augmentation("x", batches)
    sample = panels[3]
    frames = [s for mark in sample.marks for s in mark(drawn_spot(sample)) if getattr(s, "dashed", False)]
    lost = geometry.lost
    scale = SIDE / 44
    assert (frames[0].x, frames[0].y, frames[0].width) == pytest.approx(
        (lost * scale, lost * scale, (44 - 2 * lost) * scale)
    )
    assert "answers for the dashed frame" in sample.said
    np.testing.assert_array_equal(sample.picture[:, :30], panels[2].picture[:, :30])
    assert (sample.picture[:, 30:] != panels[2].picture[:, 30:]).any()


def test_of_a_volume_the_middle_slice_is_drawn(panels):
    batches = batches_of(Augmentation(elastic=1.5), Geometry(2, "same"), (8, 16, 20), (9, 20, 24))
    draw_segmenter_augmentation("x", batches, seed=3)
    assert [panel.picture.shape for panel in panels[1:]] == [(16, 20, 3)] * 7
    np.testing.assert_array_equal(
        panels[4].picture,
        to_display(batches(0).images[0][:, 4].numpy(), drawn._common_limits([batches.images[0].planes[:1, 4].numpy()])),
    )
    assert len(arrows_in(panels[0])) == 18


def test_a_classifiers_images_and_their_grids(panels):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(6, 1, 24, 32)).astype(np.float32))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    augmentation = Augmentation(mirror=False, rotation=10, zoom=1, elastic=1, shift=2)
    batches = LabelBatches(images, labels, torch.ones(3), 6, augmentation, seed=1)
    drawing = draw_classifier_augmentation("x", batches, ("cat", "dog", "owl"))
    members, batch = batches.members(0), batches(0)
    limits = drawn._common_limits([images[m].numpy() for m in members])
    names = [("cat", "dog", "owl")[int(labels[m])] for m in members]
    assert [panel.title for panel in panels] == [
        f"Before: {names[0]}",
        f"Warped: {names[0]}",
        f"Before: {names[1]}",
        f"Warped: {names[1]}",
        *names[2:],
    ]
    np.testing.assert_array_equal(panels[0].picture, to_display(images[members[0]].numpy(), limits))
    for place, index in ((1, 0), (3, 1), (4, 2), (7, 5)):
        np.testing.assert_array_equal(panels[place].picture, to_display(batch.images[index].numpy(), limits))
    # Reading an image at the coordinates that the grid is drawn from gives the warped image.
    source = drawn._source_of(batches, 6)
    ramp = torch.arange(24.0).view(1, 1, 24, 1).expand(6, 1, 24, 32)
    plain = replace(augmentation, brightness=0, contrast=1, gamma=1, noise=0)
    moved = LabelBatches(ramp, labels, torch.ones(3), 6, plain, seed=1)(0).images
    np.testing.assert_allclose(source[:, 0], moved[:, 0], atol=1e-4)
    assert "shifted by up to 2 px" in drawing.description
    assert "Beyond its border the image is mirrored." in drawing.description
