"""One resampling: identity and symmetries exact, the rest against plain definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.interpolate import CubicSpline

from ushape.errors import RecipeError
from ushape.training.augment import (
    Augmentation,
    Warp,
    draw_warp,
    moves_pixels,
    read_patch,
    sample_patch,
    spline_matrix,
    vary_grey_values,
    warp_coordinates,
)

CPU = torch.device("cpu")
STILL = Augmentation(mirror=False, rotation=0, zoom=1, elastic=0, brightness=0, contrast=1, gamma=1, noise=0)


def planes_of(*size, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=size).astype(np.float32))


def centre_of(start, patch):
    return tuple(s + (p - 1) / 2 for s, p in zip(start, patch, strict=True))


@pytest.mark.parametrize("patch", [(16, 16), (15, 24), (64, 80)])
def test_the_identity_grid_returns_the_input_exactly(patch):
    planes = planes_of(3, 64, 80)
    warp = draw_warp(STILL, centre_of((0, 0), patch), np.random.default_rng(0))
    assert torch.equal(read_patch(planes, 2, warp, patch), planes[:, : patch[0], : patch[1]])


def test_the_identity_grid_is_exact_in_volumes_too():
    planes = planes_of(2, 9, 12, 11)
    warp = draw_warp(STILL, centre_of((1, 2, 3), (4, 6, 8)), np.random.default_rng(0))
    assert torch.equal(read_patch(planes, 1, warp, (4, 6, 8)), planes[:, 1:5, 2:8, 3:11])


def test_beyond_the_border_the_plane_is_mirrored_about_the_edge_pixel():
    planes = planes_of(1, 10, 10)
    warp = draw_warp(STILL, centre_of((-4, 3), (12, 12)), np.random.default_rng(0))
    expected = np.pad(planes.numpy(), ((0, 0), (4, 9), (4, 9)), mode="reflect")[:, 0:12, 7:19]
    np.testing.assert_array_equal(read_patch(planes, 1, warp, (12, 12)).numpy(), expected)


def test_copying_and_sampling_agree_for_every_symmetry_of_the_square():
    planes, rng, seen = planes_of(3, 40, 50), np.random.default_rng(1), set()
    for _ in range(60):
        warp = draw_warp(Augmentation(warped=0), centre_of((5, -3), (16, 16)), rng)
        assert moves_pixels(warp, (16, 16))
        seen.add(tuple(warp.matrix.ravel().astype(int)))
        copied = read_patch(planes, 2, warp, (16, 16))
        sampled = sample_patch(planes, 2, warp_coordinates(warp, (16, 16), CPU))
        torch.testing.assert_close(copied, sampled, atol=1e-4, rtol=0)
    assert len(seen) == 8


def test_a_rotation_equals_scipys_linear_interpolation():
    planes, patch = planes_of(1, 60, 60), (20, 20)
    warp = draw_warp(Augmentation(mirror=False, elastic=0), centre_of((20, 22), patch), np.random.default_rng(3))
    assert not moves_pixels(warp, patch)
    offsets = np.stack(np.mgrid[:20, :20]).reshape(2, -1) - 9.5
    places = warp.matrix @ offsets + np.array(warp.centre)[:, None]
    expected = ndimage.map_coordinates(planes[0].numpy(), places, order=1, mode="mirror").reshape(20, 20)
    np.testing.assert_allclose(read_patch(planes, 1, warp, patch)[0].numpy(), expected, atol=1e-3)


def test_a_rotation_of_a_volume_equals_scipys_linear_interpolation():
    planes, patch = planes_of(1, 12, 40, 44), (5, 14, 16)
    warp = draw_warp(Augmentation(mirror=False, elastic=0), centre_of((3, 12, 13), patch), np.random.default_rng(3))
    offsets = np.stack(np.mgrid[:5, :14, :16]).reshape(3, -1) - np.array([[2], [6.5], [7.5]])
    places = warp.matrix @ offsets + np.array(warp.centre)[:, None]
    expected = ndimage.map_coordinates(planes[0].numpy(), places, order=1, mode="mirror").reshape(patch)
    np.testing.assert_allclose(read_patch(planes, 1, warp, patch)[0].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("size", [(60, 60), (7, 1), (1, 13)])
def test_sampling_far_beyond_the_border_reads_the_mirrored_plane(size):
    planes, rng = planes_of(1, *size), np.random.default_rng(2)
    places = rng.uniform(-150, 200, size=(2, 24, 24))
    expected = ndimage.map_coordinates(planes[0].numpy(), places, order=1, mode="mirror")
    found = sample_patch(planes, 1, torch.from_numpy(places).float())[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_classes_come_from_the_nearest_pixel_so_none_is_invented():
    classes = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 0.0, 7.0], size=(1, 50, 50)).astype(np.float32))
    warp = draw_warp(Augmentation(), (25.0, 25.0), np.random.default_rng(5))
    assert set(read_patch(torch.cat([classes, classes]), 1, warp, (32, 32))[1].unique().tolist()) <= {-1.0, 0.0, 7.0}


def test_displacements_have_the_drawn_spread_and_reach_the_nodes_exactly():
    rng = np.random.default_rng(0)
    drawn = np.concatenate(
        [draw_warp(Augmentation(elastic=10), (0.0, 0.0), rng).displacement.ravel() for _ in range(400)]
    )
    assert drawn.std() == pytest.approx(10, rel=0.05)
    displacement = rng.normal(size=(2, 3, 3))
    bent = warp_coordinates(Warp((0.0, 0.0), np.eye(2), displacement), (33, 33), CPU).numpy()
    flat = warp_coordinates(Warp((0.0, 0.0), np.eye(2), None), (33, 33), CPU).numpy()
    np.testing.assert_allclose((bent - flat)[:, ::16, ::16], displacement, atol=1e-5)


@pytest.mark.parametrize("patch", [(33, 33), (21, 48), (9, 12, 15)])
def test_between_nodes_displacements_follow_a_cubic_spline_along_each_axis(patch):
    """Of scipy, one axis after the other, at every pixel."""
    expected = np.random.default_rng(1).normal(scale=10, size=(len(patch), *[3] * len(patch)))
    matrix, centre = np.eye(len(patch)), tuple(40.0 for _ in patch)
    bent, flat = (warp_coordinates(Warp(centre, matrix, each), patch, CPU) for each in (expected, None))
    for axis, n in enumerate(patch, start=1):
        spline = CubicSpline(np.linspace(0, n - 1, 3), expected, axis=axis, bc_type="natural")
        expected = spline(np.arange(n))
    np.testing.assert_allclose((bent - flat).numpy(), expected, atol=1e-4)


def test_places_are_exact_where_a_program_asks_for_coarse_products(monkeypatch):
    """Programs that want speed let products of float32 matrices be computed in bfloat16, which has 8 bits."""
    warp = draw_warp(Augmentation(elastic=0), (3000.0, 2000.0), np.random.default_rng(3))
    exact = warp_coordinates(warp, (64, 48), CPU)
    matmul, addmm_ = torch.matmul, torch.Tensor.addmm_
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: matmul(a.bfloat16(), b.bfloat16()).float())
    monkeypatch.setattr(torch.Tensor, "addmm_", lambda s, a, b: addmm_(s, a.bfloat16().float(), b.bfloat16().float()))
    assert torch.equal(warp_coordinates(warp, (64, 48), CPU), exact)
    bent = replace(warp, displacement=np.random.default_rng(3).normal(scale=10, size=(2, 3, 3)))
    coarse = warp_coordinates(bent, (64, 48), CPU)
    monkeypatch.undo()
    error = (coarse - warp_coordinates(bent, (64, 48), CPU)).abs().max()
    assert 0 < error < 0.5


def test_interpolation_between_nodes_is_the_natural_cubic_spline():
    ramp = spline_matrix(9, 3) @ torch.tensor([0.0, 4.0, 8.0])
    torch.testing.assert_close(ramp, torch.arange(9.0))
    # Of nodes 0, 1, 0 the natural spline is 3x - 4x^3 up to the middle: 11/16 at a quarter. A parabola has 3/4 there,
    # straight lines 1/2.
    x = torch.linspace(0, 0.5, 51)
    bump = spline_matrix(101, 3) @ torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(bump[:51], 3 * x - 4 * x**3, atol=1e-5, rtol=0)
    torch.testing.assert_close(bump, bump.flip(0), atol=1e-5, rtol=0)
    assert bump[25].item() == pytest.approx(11 / 16, abs=1e-5)


def test_grey_values_vary_within_their_strength_and_by_the_seed_alone():
    image = planes_of(2, 32, 32)
    strong = Augmentation(brightness=0.5, contrast=1.5, gamma=1.5, noise=0.3)
    first, again = (vary_grey_values(image, strong, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, vary_grey_values(image, strong, np.random.default_rng(5)))
    assert torch.equal(image, vary_grey_values(image, STILL, np.random.default_rng(4)))


def test_a_hot_pixel_does_not_make_the_exponent_stronger():
    image = planes_of(1, 64, 64)
    image = (image - image.mean()) / image.std()
    image[0, 10, 20] = 1000.0
    gamma = replace(STILL, gamma=1.25)
    for seed in range(20):
        changed = vary_grey_values(image, gamma, np.random.default_rng(seed))
        assert 0.5 < changed[0, 30:].std() / image[0, 30:].std() < 2
        assert changed.argmax() == image.argmax()
    # The image itself as it was: the largest of its values stays.
    calm = image[:, 30:]
    assert float(vary_grey_values(calm, gamma, np.random.default_rng(0)).max()) == pytest.approx(
        float(calm.max()), abs=1e-4
    )


@pytest.mark.parametrize("largest", [30.0, 180.0])
def test_every_angle_is_drawn_and_none_beyond_the_largest(largest):
    turning, rng = replace(STILL, rotation=largest), np.random.default_rng(0)
    matrices = np.array([draw_warp(turning, (0.0, 0.0), rng).matrix for _ in range(400)])
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (400, 2, 2)), atol=1e-9
    )
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    counts, _ = np.histogram(angles, 8, (-largest, largest))
    assert counts.sum() == 400
    assert counts.min() > 25


def test_each_kind_of_grey_value_change_is_drawn():
    image = planes_of(1, 64, 64)

    def changed(**strength):
        return vary_grey_values(image, replace(STILL, **strength), np.random.default_rng(4))

    brighter, steeper, bent, noisy = (
        changed(brightness=0.5),
        changed(contrast=2.0),
        changed(gamma=2.0),
        changed(noise=0.5),
    )
    assert (brighter - image).std() < 1e-6
    assert abs((brighter - image).mean()) > 0.05
    assert (steeper / image).std() < 1e-4
    assert abs(float((steeper / image).mean()) - 1) > 0.05
    # A gamma keeps the darkest and the brightest pixel and the order of all others.
    assert float(bent.min()) == pytest.approx(float(image.min()), abs=1e-4)
    assert float(bent.max()) == pytest.approx(float(image.max()), abs=1e-4)
    assert torch.equal(bent.ravel().argsort(), image.ravel().argsort())
    assert (bent - image).abs().max() > 0.05
    assert 0.05 < (noisy - image).std() < 0.5
    assert abs(float(torch.corrcoef(torch.stack([(noisy - image).ravel(), image.ravel()]))[0, 1])) < 0.1


def test_changes_follow_one_another():
    """Gamma, then contrast about zero, then brightness: one factor and one sum on what gamma alone gives."""
    image, bent_only = planes_of(1, 32, 32), replace(STILL, gamma=2.0)
    bent, steeper = (
        vary_grey_values(image, each, np.random.default_rng(6))
        for each in (bent_only, replace(bent_only, contrast=2.0))
    )
    factor = float((steeper * bent).sum() / (bent * bent).sum())
    assert abs(factor - 1) > 0.05
    torch.testing.assert_close(steeper, bent * factor, atol=1e-5, rtol=0)


def test_a_factor_below_one_is_refused():
    with pytest.raises(RecipeError, match=r"^expected augmentation.zoom to be a factor of at least 1 \(1 = off\), "):
        Augmentation(zoom=0.5)
