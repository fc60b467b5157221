"""The diagrams against real networks: shapes, operations and memory of real passes, and what is written where."""

import json
import random
import re
import weakref
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ushape.errors import RecipeError, SizeError
from ushape.geometry import Geometry
from ushape.network.classifier import Classifier
from ushape.network.unet import UNet, crop_to_centre
from ushape.picture.canvas import Box, Polygon, Text, arrow, bounds, overlaps, png, svg, text_width
from ushape.picture.describe import architecture_facts, describe_architecture, readable, written
from ushape.picture.diagram import architecture_drawing, architecture_png, architecture_svg
from ushape.picture.skip import skip_drawing, skip_png, skip_svg
from ushape.picture.trace import receptive_field, trace, usual_size

IMAGES = Path(__file__).parent.parent / "docs" / "images"
LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


pytestmark = pytest.mark.usefixtures("one_thread")


def on_meta(**options) -> UNet:
    """A network without memory for its numbers."""
    with torch.device("meta"):
        return UNet(**options)


def some_network(seed: int) -> tuple[UNet, tuple[int, ...]]:
    """A random small network and a size that it takes."""
    draw = random.Random(seed)
    options = {
        "in_channels": draw.randint(1, 4),
        "n_classes": draw.randint(1, 5),
        "channels": draw.randint(2, 8),
        "depth": draw.randint(1, 4),
        "dims": draw.choice([2, 2, 3]),
        "padding": draw.choice(["valid", "same"]),
        "scale": draw.choice([1, 2, 4]),
        "norm": draw.choice(["none", "batch", "group"]),
    }
    if options["dims"] == 3 and options["padding"] == "valid":
        options["depth"], options["scale"] = min(3, options["depth"]), min(2, options["scale"])
    network = UNet(**options)
    geometry = network.geometry
    odd = draw.randint(0, 3) if options["padding"] == "same" else 0
    long = geometry.legal_at_least(geometry.smallest_legal + draw.randint(0, 20)) + odd
    return network, (geometry.smallest_legal,) * (options["dims"] - 1) + (long,)


class Passed:
    """A real pass: the shapes at each layer, and what was pooled, joined and cropped, as hooks see them."""

    def __init__(self, network, size):
        self.layers, self.inputs, self.skips = [], {}, []
        handles = [
            module.register_forward_hook(lambda module, args, output, name=name: self.see(name, module, args, output))
            for name, module in network.named_modules()
        ]
        with torch.no_grad():
            self.output = network.eval()(torch.zeros(1, network.in_channels, *size))
        for handle in handles:
            handle.remove()

    def see(self, name, module, args, output):
        self.inputs[name] = tuple(args[0].shape[1:])
        if isinstance(module, LAYERS):
            self.layers.append((name, tuple(output.shape[1:])))
        if len(args) == 2:
            below, skip = args
            # A raised size is twice that below; an up-convolution run again would be seen again.
            self.skips.insert(0, (skip, crop_to_centre(skip, [2 * n for n in below.shape[2:]])))


# The shapes are those of a real pass.


@pytest.mark.parametrize("seed", range(20))
def test_every_shape_is_that_of_a_real_pass(seed):
    network, size = some_network(seed)
    passed, traced = Passed(network, size), trace(network, size)
    layers = [(step.name, (step.channels, *step.size)) for step in traced.steps if step.name]
    assert layers == passed.layers
    pools = [(step.channels, *step.size) for step in traced.steps if step.kind == "pool"]
    blocks = [f"down.{level}" for level in range(1, traced.depth - 1)] + ["bottom"] * (traced.depth > 1)
    assert pools == [passed.inputs[name] for name in blocks]
    joined = [(step.channels, *step.size) for step in traced.steps if step.kind == "concatenate"]
    assert joined == [passed.inputs[f"up.{index}.block"] for index in range(traced.depth - 1)]
    entered = [step for step in traced.steps if step.kind in ("image", "pad", "fold")][-1]
    assert (entered.channels, *entered.size) == passed.inputs["down.0" if traced.depth > 1 else "bottom"]
    last = traced.steps[-1]
    assert (last.channels, *last.size) == tuple(passed.output.shape[1:])
    for skip, (whole, centre) in zip(traced.skips, passed.skips, strict=True):
        assert (skip.channels, *skip.size) == tuple(whole.shape[1:])
        place = [slice(start, start + n) for start, n in zip(skip.offset, skip.cropped, strict=True)]
        assert torch.equal(whole[(..., *place)], centre)


@pytest.mark.parametrize("seed", range(20))
def test_the_boxes_of_the_drawing_say_the_shapes_of_a_real_pass(seed):
    network, size = some_network(seed)
    passed = Passed(network, size)
    hints = [text_of(element) for element in ElementTree.fromstring(architecture_svg(network, size)).iter(SVG + "rect")]
    drawn = [tuple(map(int, hint.replace(" × ", "×").split("×"))) for hint in hints if hint]
    assert drawn[0] == (network.in_channels, *size)
    assert drawn[-1] == tuple(passed.output.shape[1:])
    expected = {shape for name, shape in passed.layers if "up_convolution" not in name}
    assert expected <= set(drawn)
    assert {shape for name, shape in passed.inputs.items() if name.endswith(".block")} <= set(drawn)


def test_the_papers_numbers():
    paper = trace(on_meta(), 572)
    assert paper.parameters == 31_030_658
    assert paper.operations / 1e9 == pytest.approx(300.9, abs=0.05)
    assert paper.receptive_field == (188, 204)
    assert [(skip.size[0], skip.cropped[0], skip.offset[0]) for skip in paper.skips] == [
        (568, 392, 88),
        (280, 200, 40),
        (136, 104, 16),
        (64, 56, 4),
    ]


@pytest.mark.parametrize("seed", range(0, 20, 3))
def test_parameters_and_operations_are_the_networks(seed):
    network, size = some_network(seed)
    counter, traced = FlopCounterMode(display=False), trace(network, size)
    with counter, torch.no_grad():
        network(torch.zeros(1, network.in_channels, *size))
    assert traced.operations == counter.get_total_flops()
    assert traced.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_a_network_is_left_as_it_is():
    network = UNet(channels=2, depth=2, norm="batch")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trace(network, 20)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


# Memory, against the memory of real passes.


class Alive(TorchDispatchMode):
    """Counts the bytes of all arrays that are alive during a pass, and their peak."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.peak = {}, 0, 0

    def add(self, tensor):
        storage = tensor.untyped_storage()
        if id(storage) not in self.alive:
            key, n = id(storage), storage.nbytes()
            self.alive[key] = weakref.ref(storage, lambda _: self.drop(key, n))
            self.now += n
            self.peak = max(self.peak, self.now)

    def drop(self, key, n):
        del self.alive[key]
        self.now -= n

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return result


@pytest.mark.parametrize("seed", range(20))
def test_the_memory_to_predict_is_the_peak_of_a_real_pass(seed):
    network, size = some_network(seed)
    alive, image = Alive(), torch.zeros(1, network.in_channels, *size)
    with torch.no_grad(), alive:
        alive.add(image)
        network.eval()(image)
    # Running means and the like are a few hundred bytes.
    assert sum(trace(network, size).prediction_bytes) == pytest.approx(alive.peak, rel=1e-3, abs=600)


@pytest.mark.parametrize("seed", range(20))
def test_the_memory_to_train_is_what_autograd_keeps_and_the_logits(seed):
    network, size = some_network(seed)
    weights = {tensor.untyped_storage().data_ptr() for tensor in [*network.parameters(), *network.buffers()]}
    kept, held = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    # One step more than the least: a normalisation cannot train on a single value.
    size = tuple(n + network.geometry.stride for n in size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(torch.zeros(1, network.in_channels, *size))
    traced = trace(network, size)
    logits = next(step.bytes for step in traced.steps if step.kind == "head")
    assert sum(traced.training_bytes) == pytest.approx(sum(kept.values()) + logits, rel=2e-3, abs=2000)


# The receptive field, against what a NaN spreads to.


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_receptive_field_is_what_a_nan_spreads_to(padding):
    """One column of NaN in each image of a batch; which columns of the features become NaN says what they see."""
    geometry, n = Geometry(3, padding), 76 if padding == "valid" else 80
    network = UNet(channels=1, depth=3, padding=padding, dropout=0.0)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    images = torch.zeros(n, 1, n, n)
    images[range(n), :, :, range(n)] = torch.nan
    down = []
    handles = [block.register_forward_hook(lambda _, args, output: down.append(output)) for block in network.down]
    with torch.no_grad():
        maps = network.features(images)
    for handle in handles:
        handle.remove()
    found = {("down", 0): down[0], ("down", 1): down[1], ("bottom", 2): maps[0], ("up", 1): maps[1], ("up", 0): maps[2]}
    for (side, level), features in found.items():
        # (input column, feature column): how many columns does each feature see? Those at the rim may see fewer.
        widths = features.isnan().any(dim=(1, 2)).sum(dim=0)
        inner = widths[len(widths) // 2 - 4 : len(widths) // 2 + 4] if padding == "same" else widths
        assert (int(inner.min()), int(inner.max())) == receptive_field(geometry, level, side), (side, level)


@pytest.mark.parametrize("depth", [1, 2, 4, 5])
@pytest.mark.parametrize("scale", [1, 3])
def test_the_receptive_field_of_the_output_is_the_geometrys(depth, scale):
    geometry = Geometry(depth, scale=scale)
    contexts = [geometry.context(place, place + 1) for place in range(geometry.stride)]
    widths = [stop - start for start, stop in contexts]
    assert receptive_field(geometry, 0, "up" if depth > 1 else "bottom") == (min(widths), max(widths))


# What is drawn, and where.

SVG = "{http://www.w3.org/2000/svg}"

EXTREMES = [
    ({}, 572),
    ({"depth": 1}, 5),
    ({"depth": 7, "channels": 64}, None),
    ({"depth": 7, "channels": 2, "padding": "same", "scale": 4, "in_channels": 3}, (1000, 1501)),
    ({"dims": 3, "depth": 5, "n_classes": 100}, (300, 204, 188)),
    ({"depth": 2, "channels": 1, "n_classes": 1}, (18, 2000)),
    ({"depth": 3, "channels": 2}, (2004, 44)),
]


def text_of(element):
    return "".join(element.itertext()).strip()


def texts(drawing):
    return [shape for shape in drawing.shapes if isinstance(shape, Text)]


def words(drawing):
    return {text.words for text in texts(drawing)}


def assert_legible(drawing):
    """No text lies on another, on an arrow, on the outline of a box, or outside the sheet."""
    written_ = texts(drawing)
    things = [
        shape for shape in drawing.shapes if isinstance(shape, Polygon) or (isinstance(shape, Box) and shape.hint)
    ]
    assert not list(overlaps(written_, [*written_, *things]))
    for shape in drawing.shapes:
        left, top, right, bottom = bounds(shape)
        assert 0 <= left <= right <= drawing.width
        assert 0 <= top <= bottom <= drawing.height


@pytest.mark.parametrize("seed", range(20))
def test_no_text_is_covered_in_random_networks(seed):
    network, size = some_network(seed)
    traced = trace(network, size)
    assert_legible(architecture_drawing(traced))
    for skip in traced.skips:
        assert_legible(skip_drawing(traced, skip.level))


@pytest.mark.parametrize("options, size", EXTREMES)
def test_no_text_is_covered_in_extreme_ones(options, size):
    network = on_meta(**options)
    traced = trace(network, size or usual_size(network))
    assert_legible(architecture_drawing(traced))
    for skip in traced.skips:
        assert_legible(skip_drawing(traced, skip.level))


def test_texts_that_cover_each_other_are_found():
    first, second = Text(0, 10, "one", 10), Text(8, 10, "two", 10)
    assert list(overlaps([first], [first, second])) == [(first, second)]
    assert not list(overlaps([first], [Text(60, 10, "two", 10)]))


def test_widths_of_texts_are_not_underestimated():
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    traced = trace(on_meta(), 572)
    drawn = [*texts(architecture_drawing(traced)), *texts(skip_drawing(traced, 0))]
    for said, bold in {(text.words, text.bold) for text in drawn}:
        font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
        real = TextPath((0, 0), said, size=10, prop=font).get_extents().width
        assert real <= 1.03 * text_width(said, 10, bold), said


def test_the_default_says_what_the_papers_figure_says():
    drawing = architecture_drawing(trace(on_meta(), 572))
    said = words(drawing)
    sizes = (572, 570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28, 56, 54, 52)
    assert {f"{n}²" for n in (*sizes, 104, 102, 100, 200, 198, 196, 392, 390, 388)} <= said
    assert {"1", "2", "64", "1024", "64 + 64", "512 + 512", "image", "logits"} <= said
    assert {"copy and crop 568² → 392², 88 pixels off each side", "64² → 56²", "31,030,658", "301 GFLOP"} <= said
    legend = {"convolution 3×3, ReLU", "copy and crop", "max pooling 2×2", "up-convolution 2×2", "convolution 1×1"}
    assert legend <= said


def test_sizes_that_are_no_squares_are_height_times_width():
    said = words(architecture_drawing(trace(on_meta(depth=2), (60, 100))))
    assert {"60×100", "58×98", "56×96", "28×48", "26×46", "24×44", "48×88", "46×86", "44×84"} <= said


def test_the_outline_of_a_crop_is_as_high_as_the_box_where_it_lands():
    boxes = [shape for shape in architecture_drawing(trace(on_meta(), 572)).shapes if isinstance(shape, Box)]
    outlines = [box for box in boxes if box.dashed and box.height > 12]
    landed = [box for box in boxes if box.hint.startswith(("128 × 392", "256 × 200", "512 × 104", "1024 × 56"))]
    heights = sorted({round(box.height, 6) for box in landed})
    assert sorted(round(box.height, 6) for box in outlines) == pytest.approx(heights)


def test_a_padded_network_copies_without_cropping():
    drawing = architecture_drawing(trace(on_meta(padding="same", channels=8, depth=3), 64))
    assert {"copy all of 64²", "copy"} <= words(drawing)
    assert not any(isinstance(shape, Box) and shape.dashed for shape in drawing.shapes)


def test_what_pads_and_folds_is_drawn():
    said = words(architecture_drawing(trace(on_meta(padding="same", channels=8, depth=2, scale=2, norm="batch"), 63)))
    assert {"63²", "64²", "32²", "4", "8"} <= said
    assert {"convolution 3×3, batch norm, ReLU", "blocks of 2×2 pixels become channels, and back"} <= said
    assert "zeros added at the far end, and cut off again" in said


def test_volumes_are_slabs():
    flat, deep = (architecture_drawing(trace(on_meta(dims=dims, depth=2), 20)) for dims in (2, 3))
    n_flat, n_deep = (sum(isinstance(shape, Polygon) for shape in drawing.shapes) for drawing in (flat, deep))
    n_boxes = sum(isinstance(shape, Box) and bool(shape.hint) for shape in deep.shapes) - 1
    assert n_deep - n_flat == 2 * n_boxes
    assert {"20³", "convolution 3×3×3, ReLU"} <= words(deep)


def test_a_classifier_ends_in_a_mean_and_a_linear_layer():
    for head, depth in (("decoder", 3), ("bottom", 3)):
        network = Classifier(channels=4, depth=depth, head=head)
        passed, traced = Passed(network, (30, 28)), trace(network, (30, 28))
        layers = [(step.name, (step.channels, *step.size)) for step in traced.steps if step.name]
        found = dict(passed.layers)
        assert layers == list((found | {"linear": (10, 1, 1)}).items())
        assert traced.parameters == sum(parameter.numel() for parameter in network.parameters())
        assert len(traced.skips) == (2 if head == "decoder" else 0)
        drawing = architecture_drawing(traced)
        assert_legible(drawing)
        assert {"mean over the image", "linear layer", "10"} <= words(drawing)


# A skip.


def test_a_skip_says_what_it_cuts_and_where_it_lands():
    said = words(skip_drawing(trace(on_meta(), 572), 1))
    assert {"128 × 280²", "256 × 200²", "256 × 100²", "128 × 198²", "128 copied", "128 from below"} <= said
    assert {"rows 40 to 239", "columns 40 to 239", "Only its centre fits: 280 − 2 × 40 = 200."} <= said


def test_the_outline_of_a_skip_is_to_scale():
    shapes = skip_drawing(trace(on_meta(), 572), 0).shapes
    outline = next(shape for shape in shapes if isinstance(shape, Box) and shape.dashed)
    whole = max(
        (shape for shape in shapes[1:] if isinstance(shape, Box) and shape.fill == "#eef2f6"), key=lambda b: b.y
    )
    assert outline.width / whole.width == pytest.approx(392 / 568)
    assert outline.x - whole.x == pytest.approx(whole.width * 88 / 568)


def test_a_padded_skip_says_that_nothing_is_cut():
    said = words(skip_drawing(trace(on_meta(padding="same"), 512), 0))
    assert "nothing is cut off" in said
    assert any("padded with zeros" in line for line in said)


def test_slices_are_told_of_a_volume():
    said = words(skip_drawing(trace(on_meta(dims=3, depth=3), (60, 132, 116)), 1))
    assert {"slices 4 to 19", "rows 4 to 55", "columns 4 to 47"} <= said


@pytest.mark.parametrize(
    "depth, level, message",
    [
        (5, 4, "expected a level with a skip, found 4; a U-Net of depth 5 without padding has them at levels 0 to 3"),
        (2, -1, "found -1; a U-Net of depth 2 without padding has one at level 0"),
        (1, 0, "found 0; a U-Net of depth 1 without padding has none, take a deeper one"),
    ],
)
def test_a_level_without_a_skip_is_refused(depth, level, message):
    network = on_meta(depth=depth)
    with pytest.raises(RecipeError, match=re.escape(message)):
        skip_svg(network, usual_size(network), level)


# Words and numbers.


def test_the_table_has_a_row_for_each_level():
    lines = describe_architecture(on_meta(), 572).splitlines()
    assert lines[0] == (
        "U-Net of depth 5 with 64 channels at the first level (padding valid, norm none, dropout 0.5): "
        "image 1 x 572 x 572 -> logits 2 x 388 x 388"
    )
    rows = [line.split() for line in lines[4:9]]
    assert rows[0][:8] == ["0", "64", "568²", "88", "388²", "181,250", "60.24", "324"]
    assert rows[4][:5] == ["4", "1024", "28²", "14,157,824", "23.29"]
    assert lines[10].split()[:3] == ["all", "31,030,658", "300.86"]


def test_the_facts_are_ready_for_json_and_add_up():
    facts = json.loads(json.dumps(architecture_facts(on_meta(channels=4, depth=3), (60, 44))))
    assert (facts["input"], facts["output"]) == ({"channels": 1, "size": [60, 44]}, {"channels": 2, "size": [20, 4]})
    for name in ("parameters", "operations", "training_bytes", "prediction_bytes"):
        assert facts[name] == sum(level[name] for level in facts["levels"])
    assert [level["receptive_field"] for level in facts["levels"]] == [[44, 44], [40, 40], [32, 32]]
    assert facts["levels"][0]["skip"] == {"size": [56, 40], "cropped": [24, 8], "offset": [16, 16]}


def test_sizes_and_numbers_are_written_shortly():
    assert [written(size) for size in ((572, 572), (60, 60, 60), (284, 188))] == ["572²", "60³", "284×188"]
    numbers = (3, 999.6, 9_994, 12_345, 388_000_000, 300.9e9)
    assert [readable(n, "B") for n in numbers] == ["3 B", "1.00 kB", "9.99 kB", "12.3 kB", "388 MB", "301 GB"]


@pytest.mark.parametrize("draw", [architecture_svg, architecture_png, skip_svg, skip_png, describe_architecture])
def test_an_illegal_size_is_refused_with_the_nearest_legal_ones(draw):
    with pytest.raises(SizeError, match=re.escape("found 570; take 556 or 572")):
        draw(on_meta(), 570)


def test_sizes_must_fit_the_networks_axes():
    message = "expected one length or 3 of them for a network with 3 spatial axes, found 2; give 3"
    with pytest.raises(SizeError, match=re.escape(message)):
        trace(on_meta(dims=3), (188, 188))


def test_the_usual_size_is_the_papers_or_the_next_legal_one():
    assert usual_size(on_meta()) == (572, 572)
    assert usual_size(on_meta(depth=7)) == (764, 764)
    assert usual_size(on_meta(padding="same", dims=3)) == (128, 128, 128)


# The two writers.


@pytest.mark.parametrize("draw", [architecture_svg, skip_svg])
def test_the_svg_has_a_title_a_description_and_nothing_from_outside(draw):
    text = draw(on_meta(), 572)
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert [child.tag for child in root[:2]] == [SVG + "title", SVG + "desc"]
    assert text_of(root[0])
    assert "388" in text_of(root[1]) or "392" in text_of(root[1])
    assert not re.search(r"href|url\(|<style|<script", text)


def test_the_png_shows_what_the_svg_shows():
    drawing = architecture_drawing(trace(on_meta(depth=2, channels=4), 60))
    pixels = png(drawing, 900)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (pytest.approx(900 * drawing.height / drawing.width, abs=1), 900, 3)
    factor = 900 / drawing.width
    for box in drawing.shapes[1:]:
        if isinstance(box, Box) and box.hint:
            row, column = ((box.y + 4) * factor, (box.x + box.width / 2) * factor)
            colour = "#" + bytes(pixels[round(row), round(column)]).hex()
            assert f'fill="{box.fill}"' in svg(drawing)
            # What is dashed or copied lies on another box.
            assert colour == box.fill or box.fill == "#ffffff"


def test_the_png_is_as_wide_as_asked():
    assert architecture_png(on_meta(depth=2), 60, width=640).shape[1:] == (640, 3)
    assert skip_png(on_meta(depth=2), 60, width=640).shape[1:] == (640, 3)


def test_an_arrow_ends_at_its_points():
    level = arrow((0, 0), (30, 0), "#000000", 2)
    assert bounds(level)[0] == 0
    assert max(level.points) == (30, 0)
    assert bounds(arrow((5, 40), (5, 10), "#000000"))[1] == pytest.approx(10)


@pytest.mark.parametrize("name, draw", [("architecture", architecture_svg), ("skip", skip_svg)])
def test_the_pictures_of_the_documentation_are_todays(name, draw):
    """Made by docs/make_diagrams.py; small enough to be looked at on a telephone."""
    assert (IMAGES / f"{name}.svg").read_text(encoding="utf-8") == draw(on_meta(), 572)
    assert (IMAGES / f"{name}.png").stat().st_size < 200_000
