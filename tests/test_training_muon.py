"""Muon: what is orthogonal, whose weights it moves, and how far."""

import math

import pytest
import torch
from torch import nn

from ushape.network.unet import UNet
from ushape.training.loop import make_optimiser
from ushape.training.muon import MOMENTUM, Muon, orthogonal
from ushape.training.recipe import OptimiserSettings

MUON = OptimiserSettings(name="muon", learning_rate=0.01, weight_decay=0.0)


def random_matrix(rows, columns, values):
    left, _ = torch.linalg.qr(torch.randn(rows, len(values)))
    right, _ = torch.linalg.qr(torch.randn(columns, len(values)))
    return left, right, (left * values) @ right.T


@pytest.mark.parametrize(("rows", "columns"), [(24, 216), (32, 32), (96, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_singular_values_become_about_one_and_vectors_stay(rows, columns, dtype, scale):
    torch.manual_seed(0)
    left, right, matrix = random_matrix(rows, columns, torch.logspace(0, -1.5, min(rows, columns)))
    found = orthogonal(scale * matrix, dtype).float()
    assert found.shape == matrix.shape
    values = left.T @ found @ right
    assert ((values.diagonal() > 0.6) & (values.diagonal() < 1.3)).all()
    assert (values - torch.diag(values.diagonal())).abs().max() < 0.05


def test_a_direction_that_is_hardly_there_is_not_blown_up_to_one():
    torch.manual_seed(0)
    left, right, matrix = random_matrix(16, 64, torch.tensor([1.0, 0.1, 1e-5]))
    values = (left.T @ orthogonal(matrix, torch.float32) @ right).diagonal()
    assert 0.6 < values[1] < 1.3
    assert values[2] < 1e-3


def test_weak_directions_beside_many_strong_ones_are_raised_too():
    torch.manual_seed(0)
    left, right, matrix = random_matrix(96, 216, torch.tensor([1.0] * 80 + [0.05] * 16))
    values = (left.T @ orthogonal(matrix, torch.float32) @ right).diagonal()
    assert ((values[:80] > 0.6) & (values[:80] < 1.3)).all()
    assert ((values[80:] > 0.5) & (values[80:] < 1.3)).all()


def test_nothing_comes_of_no_gradient():
    assert not orthogonal(torch.zeros(4, 8)).any()


def test_it_goes_where_pytorchs_own_muon_goes():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(24, 216)), nn.Parameter(torch.zeros(24, 216))
    theirs.data.copy_(ours.data)
    reference = torch.optim.Muon(
        [theirs], 0.01, weight_decay=0.1, momentum=MOMENTUM, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    optimiser, start = Muon([ours], [nn.Parameter(torch.zeros(1))], 0.01, 0.1), ours.data.clone()
    for _ in range(6):
        ours.grad = torch.randn(24, 216) + torch.linspace(0, 3, 216)
        theirs.grad = ours.grad.clone()
        optimiser.step()
        reference.step()
    moved, expected = (ours.data - start).flatten(), (theirs.data - start).flatten()
    assert torch.cosine_similarity(moved, expected, dim=0) > 0.98
    assert moved.norm() / expected.norm() == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_step_moves_a_kernel_as_far_as_adamw_would_and_every_direction_alike(dims):
    torch.manual_seed(0)
    double = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims](16, 8, 2, 2)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims](16, 12, 3)
    kernels = [conv.weight, double.weight]
    if dims == 2:
        for kernel in kernels:
            kernel.data = kernel.data.to(memory_format=torch.channels_last)
    optimiser, before = Muon(kernels, [], 0.01, 0.0), [kernel.detach().clone() for kernel in kernels]
    for kernel in kernels:
        kernel.grad = torch.randn_like(kernel) ** 3
    optimiser.step()
    for kernel, old in zip(kernels, before, strict=True):
        # The kernel of a convolution takes (in, *window) to out; one that doubles takes in to (out, *window).
        moved = (old - kernel.detach()).reshape(len(kernel), -1)
        values = torch.linalg.svdvals(moved) / (0.01 * 0.2 * math.sqrt(max(moved.shape)))
        assert ((values > 0.6) & (values < 1.3)).all()
        assert kernel.is_contiguous(memory_format=torch.channels_last if dims == 2 else torch.contiguous_format)


def test_momentum_remembers_and_looks_ahead():
    kernel = nn.Parameter(torch.zeros(2, 2, 1, 1))
    optimiser = Muon([kernel], [], 1.0, 0.0)
    first, second = torch.eye(2)[..., None, None], torch.tensor([[0.0, 1.0], [-1.0, 0.0]])[..., None, None]
    for gradient in (first, second):
        before = kernel.detach().clone()
        kernel.grad = gradient.clone()
        optimiser.step()
    momentum = MOMENTUM * (1 - MOMENTUM) * first + (1 - MOMENTUM) * second
    ahead = (1 - MOMENTUM) * second + MOMENTUM * momentum
    step = (before - kernel.detach()).flatten()
    assert torch.cosine_similarity(step, ahead.flatten(), dim=0) > 0.999


def test_weight_decay_is_decoupled():
    kernel = nn.Parameter(torch.full((4, 4, 3, 3), 2.0))
    kernel.grad = torch.zeros(4, 4, 3, 3)
    Muon([kernel], [], 0.1, 0.5).step()
    assert torch.allclose(kernel.detach(), torch.full((4, 4, 3, 3), 2.0 * (1 - 0.1 * 0.5)))


def test_the_first_layer_the_bottom_the_head_and_all_that_is_no_kernel_follow_adamw():
    torch.manual_seed(0)
    network = UNet(1, 3, channels=8, depth=3, padding="same", norm="batch")
    twin = UNet(1, 3, channels=8, depth=3, padding="same", norm="batch")
    twin.load_state_dict(network.state_dict())
    optimiser, reference = make_optimiser(network, MUON), torch.optim.AdamW(twin.parameters(), 0.01, weight_decay=0.0)
    for _ in range(3):
        for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        optimiser.step()
        reference.step()
    pairs = zip(network.named_parameters(), twin.parameters(), strict=True)
    same = [name for (name, ours), theirs in pairs if torch.allclose(ours, theirs, atol=1e-6)]
    by_muon = [name for name, _ in network.named_parameters() if name not in same]
    assert by_muon == [
        "down.0.3.weight",
        "down.1.0.weight",
        "down.1.3.weight",
        "up.0.block.0.weight",
        "up.0.block.3.weight",
        "up.1.up_convolution.weight",
        "up.1.block.0.weight",
        "up.1.block.3.weight",
    ]


def test_a_network_learns_with_it():
    torch.manual_seed(0)
    network = UNet(1, 2, channels=8, depth=2, padding="same", norm="batch")
    optimiser = make_optimiser(network, MUON)
    images = torch.randn(2, 1, 32, 32)
    truth = (nn.functional.avg_pool2d(images, 5, 1, 2) > 0)[:, 0].long()
    losses = []
    for _ in range(80):
        loss = nn.functional.cross_entropy(network(images), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
