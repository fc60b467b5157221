"""The U-Net against the paper's numbers (P1-P9) and against a second one, written here in plain functions."""

import math
import re
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ushape.errors import RecipeError, SizeError
from ushape.geometry import Geometry
from ushape.network.unet import Block, UNet, crop_to_centre, fold, unfold

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def paper():
    """The paper's network without memory for its numbers: sizes, counts and names only."""
    with torch.device("meta"):
        return UNet().eval()


def small(**options) -> UNet:
    """A narrow network in double precision with biases that are not 0, in evaluation mode."""
    torch.manual_seed(0)
    network = UNet(**{"channels": 4, "depth": 3, **options}).double().eval()
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name.endswith("bias"):
                tensor.normal_(std=0.3)
    return network


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def second_u_net(tensors, image, depth, padding=0):
    """The logits of a U-Net for (B, C, *size), from its weights and biases in the order of the paper's figure."""
    tensors = iter(tensors)
    flat = image.ndim == 4
    convolve = F.conv2d if flat else F.conv3d
    raise_up = F.conv_transpose2d if flat else F.conv_transpose3d
    pool = F.max_pool2d if flat else F.max_pool3d

    def block(maps):
        for _ in range(2):
            maps = F.relu(convolve(maps, next(tensors), next(tensors), padding=padding))
        return maps

    skips = []
    for _ in range(depth - 1):
        skips.append(block(image))
        image = pool(skips[-1], kernel_size=2, stride=2)
    image = block(image)
    while skips:
        image = raise_up(image, next(tensors), next(tensors), stride=2)
        skip = skips.pop()
        for axis in range(2, image.ndim):
            lost = skip.shape[axis] - image.shape[axis]
            assert lost % 2 == 0
            indices = torch.arange(lost // 2, lost // 2 + image.shape[axis])
            skip = skip.index_select(axis, indices)
        image = block(torch.cat([skip, image], dim=1))
    logits = convolve(image, next(tensors), next(tensors))
    assert next(tensors, None) is None
    return logits


# The paper's numbers.


def test_the_number_of_parameters(paper):
    assert sum(tensor.numel() for tensor in paper.parameters()) == 31_030_658


def test_there_are_23_convolutional_layers(paper):
    layers = [module for module in paper.modules() if isinstance(module, CONVOLUTIONS)]
    kinds = [(type(layer).__name__, layer.kernel_size) for layer in layers]
    assert len(layers) == 23
    assert kinds.count(("Conv2d", (3, 3))) == 18
    assert kinds.count(("ConvTranspose2d", (2, 2))) == 4
    assert kinds.count(("Conv2d", (1, 1))) == 1
    assert all(layer.padding == (0, 0) and layer.bias is not None for layer in layers)


def test_nothing_but_convolutions_relus_and_dropout(paper):
    leaves = {type(module) for module in paper.modules() if not list(module.children())}
    assert leaves == {nn.Conv2d, nn.ConvTranspose2d, nn.ReLU, nn.Dropout}
    assert sum(isinstance(module, nn.ReLU) for module in paper.modules()) == 18


def test_every_size_along_the_way(paper):
    seen = []

    def note(module, inputs, output):
        sizes = [inputs[0].shape[-1]] if module.kernel_size == (3, 3) else []
        seen.append((*sizes, output.shape[-1]))

    layers = [module for module in paper.modules() if isinstance(module, CONVOLUTIONS)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    logits = paper(torch.empty(1, 1, 572, 572, device="meta"))
    for hook in hooks:
        hook.remove()
    down = [(572, 570, 568), (284, 282, 280), (140, 138, 136), (68, 66, 64), (32, 30, 28)]
    up = [(56, 54, 52), (104, 102, 100), (200, 198, 196), (392, 390, 388)]
    expected = [pair for sizes in down for pair in pairwise(sizes)]
    for sizes in up:
        expected += [sizes[:1], *pairwise(sizes)]
    assert seen == [*expected, (388,)]
    assert logits.shape == (1, 2, 388, 388)


def test_the_channels_at_each_level(paper):
    layers = [module for module in paper.modules() if isinstance(module, CONVOLUTIONS)]
    down = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 1024)]
    up = [(1024, 1024)]
    for channels in (512, 256, 128, 64):
        up += [(2 * channels, channels), (2 * channels, channels), (channels, channels)]
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [*down, *up, (64, 2)]


def test_the_arithmetic_of_one_pass(paper):
    counter = FlopCounterMode(display=False)
    with counter:
        paper(torch.empty(1, 1, 572, 572, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(300.9, abs=0.05)


def test_the_first_weights_are_gaussian_with_the_papers_deviation():
    torch.manual_seed(0)
    for name, module in UNet(channels=32, depth=5).named_modules():
        if not isinstance(module, CONVOLUTIONS):
            continue
        up = isinstance(module, nn.ConvTranspose2d)
        incoming = module.in_channels * (1 if up else math.prod(module.kernel_size))
        expected, n = math.sqrt(2 / incoming), module.weight.numel()
        assert abs(module.weight.std().item() - expected) < 4 * expected / math.sqrt(2 * n), name
        assert abs(module.weight.mean().item()) < 4 * expected / math.sqrt(n), name
        assert not module.bias.any(), name
        if n > 5000:
            # A Gaussian, not a uniform draw: a thousandth lies beyond 3.29 deviations.
            beyond = (module.weight.abs() > 3.29 * expected).double().mean().item()
            assert abs(beyond - 0.001) < 4 * math.sqrt(0.001 / n), name


# The second U-Net.


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "depth, dims, size", [(1, 2, (7, 9)), (3, 2, (44, 52)), (5, 2, (188, 204)), (2, 3, (18, 20, 24))]
)
def test_it_equals_the_second_u_net(padding, depth, dims, size):
    network = small(in_channels=3, n_classes=5, depth=depth, dims=dims, padding=padding, channels=3)
    size = size if padding == "valid" else tuple(16 * (n // 16 + 1) for n in size)
    image = noise(2, 3, *size)
    expected = second_u_net(network.state_dict().values(), image, depth, padding=1 if padding == "same" else 0)
    with torch.inference_mode():
        logits = network(image)
    assert logits.shape == (2, 5, *(network.geometry.output_size(n) for n in size))
    assert logits.std() > 0.1
    assert (logits - expected).abs().max() < 1e-9


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_working_scale_wraps_it_in_a_pixel_unshuffle_and_a_shuffle(padding):
    network = small(in_channels=3, depth=2, scale=2, padding=padding)
    image = noise(1, 3, 40, 48)
    core = second_u_net(network.state_dict().values(), F.pixel_unshuffle(image, 2), 2, 1 if padding == "same" else 0)
    with torch.inference_mode():
        assert (network(image) - F.pixel_shuffle(core, 2)).abs().max() < 1e-9


def test_valid_and_padded_are_one_function_away_from_the_zeros():
    # A valid network's pooling cells begin 2 px before those of a padded one.
    valid, padded = small(depth=4), small(depth=4, padding="same")
    image = noise(1, 1, 160, 160)
    with torch.inference_mode():
        inner, outer = valid(image[..., 2 : 2 + 156, 2 : 2 + 156]), padded(image)
    assert (inner - outer[..., 46 : 160 - 46, 46 : 160 - 46]).abs().max() < 1e-9


# Pieces.


def test_fold_and_unfold_by_hand():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    blocks = [[[0, 2], [8, 10]], [[1, 3], [9, 11]], [[4, 6], [12, 14]], [[5, 7], [13, 15]]]
    assert fold(image, 2).tolist() == [blocks]
    assert unfold(torch.tensor([blocks]), 2).tolist() == image.tolist()


@pytest.mark.parametrize("size", [(6, 12), (6, 12, 18)])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_unfold_is_the_inverse_of_fold(size, scale):
    image = noise(2, 3, *size)
    folded = fold(image, scale)
    assert folded.shape == (2, 3 * scale ** len(size), *(n // scale for n in size))
    assert torch.equal(unfold(folded, scale), image)
    # Each folded pixel holds a block of the image, whose order inside is another matter.
    corner = (slice(0, 1), slice(0, 1), *[slice(0, scale)] * len(size))
    assert set(folded[0, : scale ** len(size)].flatten(1)[:, 0].tolist()) == set(image[corner].flatten().tolist())


def test_crop_to_centre_by_hand():
    skip = torch.arange(24).reshape(1, 1, 4, 6)
    assert crop_to_centre(skip, (2, 4)).tolist() == [[[[7, 8, 9, 10], [13, 14, 15, 16]]]]
    assert crop_to_centre(skip, (4, 6)) is skip
    assert crop_to_centre(skip, (3, 6)).tolist() == skip[:, :, :3].tolist()
    assert crop_to_centre(noise(1, 2, 5, 6, 8), (1, 2, 8)).shape == (1, 2, 1, 2, 8)


def test_the_gradient_of_a_cropped_skip_keeps_the_channels_last():
    found = []
    image = noise(1, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    skip = image * 2
    skip.register_hook(found.append)
    # As in the network: the crop's gradient comes out of a concatenation.
    raised = noise(1, 4, 4, 4).contiguous(memory_format=torch.channels_last)
    joined = torch.cat([crop_to_centre(skip, (4, 4)), raised], dim=1)
    joined.backward(torch.full_like(joined, 3))
    (gradient,) = found
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert gradient.sum() == 3 * 4 * 16
    assert gradient[..., 2:6, 2:6].min() == 3


@pytest.mark.parametrize(
    "norm, layer", [("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d), ("group", nn.GroupNorm)]
)
def test_a_normalisation_stands_between_convolution_and_relu(norm, layer):
    network = small(norm=norm, channels=16)
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    assert len(blocks) == 5
    for block in blocks:
        assert [type(module) for module in block][:6] == [nn.Conv2d, layer, nn.ReLU] * 2
        assert block[0].bias is None
        assert all(tensor.requires_grad for tensor in block[1].parameters())
        assert len(list(block[1].parameters())) == 2
    with torch.inference_mode():
        assert network(noise(2, 1, 44, 44)).isfinite().all()


# Dropout.


@pytest.mark.parametrize(
    "depth, names", [(5, ["down.3.4", "bottom.4"]), (3, ["down.1.4", "bottom.4"]), (1, ["bottom.4"])]
)
def test_dropout_ends_the_contracting_path(depth, names):
    network = UNet(channels=2, depth=depth)
    drops = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    assert drops == dict.fromkeys(names, 0.5)
    assert not any(isinstance(module, nn.Dropout) for module in UNet(channels=2, dropout=0).modules())


def test_dropout_acts_in_training_only():
    network, image = small(), noise(1, 1, 44, 44)
    without = UNet(**{**network.settings, "dropout": 0}).double()
    without.load_state_dict(network.state_dict())
    with torch.no_grad():
        still = network(image)
        assert torch.equal(still, network(image))
        assert torch.equal(still, without.train()(image))
        network.train()
        torch.manual_seed(1)
        first = network(image)
        assert not torch.allclose(first, still)
        assert not torch.allclose(first, network(image))
        torch.manual_seed(1)
        assert torch.equal(first, network(image))


# Sizes.


def test_the_legal_sizes():
    with torch.device("meta"):
        network = UNet(channels=1)

    def takes(n):
        try:
            network(torch.empty(1, 1, 188, n, device="meta"))
        except SizeError:
            return False
        return True

    assert network.geometry == Geometry(5, "valid", 1)
    assert [n for n in range(1, 240) if takes(n)] == [188, 204, 220, 236]


def test_an_illegal_size_names_the_nearest_legal_ones(paper):
    sentence = "expected a size of 188, 204, 220, ... pixels for a U-Net of depth 5 without padding, found 512; "
    with pytest.raises(SizeError, match=re.escape(sentence + "take 508 or 524")):
        paper(torch.empty(1, 1, 512, 572, device="meta"))
    with pytest.raises(SizeError, match=r"found 100; take 188$"):
        paper(torch.empty(1, 1, 572, 100, device="meta"))


def test_an_input_of_another_shape(paper):
    sentence = "expected a tensor (B, C, H, W) with C = 1, found shape "
    for shape in [(1, 572, 572), (1, 3, 572, 572)]:
        with pytest.raises(SizeError, match=re.escape(sentence + str(shape))):
            paper(torch.empty(shape, device="meta"))


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (16, 32), (33, 1)])
def test_a_padded_network_pads_right_and_bottom_and_crops_back(size):
    network = small(depth=5, padding="same", channels=2)
    image = noise(1, 1, *size)
    height, width = (16 * -(-n // 16) for n in size)
    padded = torch.zeros(1, 1, height, width, dtype=image.dtype)
    padded[..., : size[0], : size[1]] = image
    with torch.inference_mode():
        logits = network(image)
        assert logits.shape == (1, 2, *size)
        assert (logits - network(padded)[..., : size[0], : size[1]]).abs().max() < 1e-12


def test_a_padded_volume_of_any_size():
    network = small(dims=3, padding="same", scale=2)
    with torch.inference_mode():
        assert network(noise(1, 1, 3, 10, 17)).shape == (1, 2, 3, 10, 17)


# Ways to run it.


@pytest.mark.parametrize("padding, size", [("valid", (44, 48)), ("same", (10, 13))])
def test_it_can_be_compiled_in_one_graph(padding, size):
    network, image = small(padding=padding, norm="batch"), noise(1, 1, *size)
    torch.compiler.reset()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert (compiled(image) - network(image)).abs().max() < 1e-9


@pytest.mark.parametrize("padding, size", [("valid", (44, 48)), ("same", (10, 13))])
def test_it_can_be_exported(padding, size):
    network, image = small(padding=padding, scale=1), noise(1, 1, *size)
    exported = torch.export.export(network, (image,)).module()
    with torch.no_grad():
        assert (exported(image) - network(image)).abs().max() < 1e-9


def test_channels_last_gives_the_same():
    network, image = small(in_channels=3), noise(2, 3, 44, 44)
    with torch.inference_mode():
        expected = network(image)
        last = network.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    assert (last - expected).abs().max() < 1e-9


def test_it_runs_in_bfloat16():
    network, image = small().float(), noise(1, 1, 44, 44).float()
    with torch.inference_mode():
        expected = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
    assert logits.dtype == torch.bfloat16
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()


def test_every_parameter_learns():
    network = small(padding="same", norm="none")
    network(noise(1, 1, 16, 16)).square().mean().backward()
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in network.parameters())


def test_the_settings_build_it_again():
    network = small(in_channels=2, norm="group", scale=2, dims=3)
    twin = UNet(**network.settings).double().eval()
    twin.load_state_dict(network.state_dict())
    image = noise(1, 2, 88, 88, 88)
    with torch.inference_mode():
        assert torch.equal(twin(image), network(image))


def test_features_come_from_the_bottom_up():
    network, image = small(depth=3), noise(1, 1, 52, 52)
    with torch.inference_mode():
        shapes = [tuple(maps.shape) for maps in network.features(image)]
    assert shapes == [(1, 16, 6, 6), (1, 8, 8, 8), (1, 4, 12, 12)]


# What is refused.


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"padding": "full"}, "expected padding to be one of ('valid', 'same'), found 'full'; choose one of them"),
        ({"norm": "layer"}, "expected norm to be one of ('none', 'batch', 'instance', 'group'), found 'layer'"),
        ({"dims": 1}, "expected dims to be one of (2, 3), found 1; choose one of them"),
        ({"channels": 0}, "expected channels to be a whole number of at least 1, found 0; change it"),
        ({"n_classes": 2.0}, "expected n_classes to be a whole number of at least 1, found 2.0; change it"),
        ({"dropout": 1}, "expected dropout to lie in 0 <= rate < 1, found 1; change it"),
        ({"depth": 9}, "expected a depth of 1 to 8 levels, found 9; choose one in that range"),
    ],
)
def test_a_network_is_born_valid(options, sentence):
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        UNet(**options)
