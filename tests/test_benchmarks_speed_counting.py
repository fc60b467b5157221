"""Operations counted by torch, against those counted by hand."""

import torch
from torch import nn

import ushape
from speed.counting import count_operations, count_parameters


def test_a_convolution_counts_two_operations_for_each_multiply_add():
    network = nn.Conv2d(3, 5, 3)
    forward = 2 * 2 * (3 * 9 * 5) * (6 * 8)
    assert count_operations(network, (2, 3, 8, 10), backward=False) == forward
    # Backwards only the gradient of the weights: nobody asks for that of the image.
    assert count_operations(network, (2, 3, 8, 10), backward=True) == 2 * forward


def test_a_second_convolution_also_passes_its_gradient_on():
    first, second = 2 * 1 * 9 * 4 * 36, 2 * 4 * 9 * 4 * 16
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert count_operations(network, (1, 1, 8, 8), backward=True) == 2 * first + 3 * second


def paper_multiply_adds():
    """Of one 572 x 572 tile, block by block, from the figures of the paper's drawing."""
    total, size, n_in = 0, 572, 1
    widths = [64, 128, 256, 512, 1024]
    for level, n in enumerate(widths):
        for first in (n_in, n):
            size -= 2
            total += 9 * first * n * size**2
        n_in = n
        if level < 4:
            size //= 2
    for n in reversed(widths[:-1]):
        size *= 2
        # Each pixel that is raised sees one pixel below, through one of four weights.
        total += 2 * n * n * size**2
        for first in (2 * n, n):
            size -= 2
            total += 9 * first * n * size**2
    assert size == 388
    return total + 64 * 2 * 388**2


def test_the_papers_network_counted_by_hand():
    network = ushape.UNet()
    assert count_operations(network, (1, 1, 572, 572), backward=False) == 2 * paper_multiply_adds()
    assert count_parameters(network) == 31_030_658
    assert next(network.parameters()).device == torch.device("cpu")


def test_of_several_answers_the_first_is_trained():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

        def forward(self, images):
            return [self.one(images), self.other(images)]

    assert count_operations(Two(), (1, 1, 4, 4), backward=True) == 3 * 2 * 16
