"""Training step and forward pass, side by side: the paper's network, other widths, patches and batches.

    PYTHONPATH=src python benchmarks/speed_step.py [--form quick] [--old] [--engines torch,openvino,int8]

Ours is the real loop (`ushape.training.loop`): number format and memory format as it chooses them, its optimiser, its
loss, and sampling of each batch inside the measured time. The plain loop is float32 with the default memory format,
SGD with momentum and cross entropy, and its batch lies ready. The other networks have the plain loop's optimiser and
loss; they are padded, so that their image has the 388 pixels that the paper's tile answers, rounded up to what they
take. `--old` computes as on a processor without AVX-512 and AMX, in a process of its own, and checks that no bfloat16
was used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from speed.counting import count_operations, count_parameters, first_of
from speed.engines import quantised_for_time, with_engine
from speed.interleave import Competitor, Limits, Prepared, interleave, timed
from speed.machine import OLD_PROCESSOR
from speed.peers import PEERS, Peer, TextbookUNet
from speed.program import Sitting, measure, parser, tell
from speed.tables import Table
from ushape.data.dataset import Sample
from ushape.data.phantom import phantom_image
from ushape.model import Model, Preparation
from ushape.network.hardware import best_dtype
from ushape.targets.instances import default_decision
from ushape.training.batches import Batches
from ushape.training.examples import DataSummary, Example, make_preparation, to_training_images
from ushape.training.loop import Record, new_state, train_steps
from ushape.training.recipe import Recipe
from ushape.training.rules import paper_recipe, plan_recipe
from ushape.training.schedule import Plan

CPU = torch.device("cpu")
TITLE = "Training step and forward pass"
COLUMNS = ("ms", "x ours", "GFLOP", "GFLOP/s", "of the ceiling", "parameters", "dtype", "image")
ENDLESS = 10**9
"""Steps planned; more than are ever run."""
CALIBRATED = 4
"""Random tiles that the ranges of int8 are taken from: they decide what is answered, and not how fast."""
NOTE = (
    "Our step holds the sampling and augmentation of its batch; the others' batch lies ready. GFLOP: operations of "
    "convolutions, two for each multiply-add, counted by torch. The ceiling is the matrix product's in the same number "
    "format."
)


@dataclass(frozen=True)
class Case:
    """What is compared: a recipe of ours and its plain counterpart.

    out  side of what the recipe's network answers, in pixels
    """

    name: str
    recipe: Recipe
    peers: Sequence[Peer] = ()

    @property
    def out(self) -> int:
        """Side of what is answered, in pixels."""
        return self.recipe.geometry.output_size(self.recipe.patch[0])

    @property
    def channels(self) -> int:
        """At the first level."""
        return self.recipe.network.channels


def cells(side: int) -> tuple[DataSummary, Example]:
    """A simulated image of cells with its instances, and what the planning rules see of many like it."""
    image, mask = phantom_image(0, (side, side))
    size = (side, side)
    summary = DataSummary("phantom", "instances", ("background", "object"), 8, 1, (size,), diameter=30.0)
    sample = Sample(name="phantom", image=lambda: image, mask=lambda: mask)
    return summary, Example(sample, image, mask)


def paper_case(form: str) -> Case:
    """The paper's network; of the tiny form a small one."""
    recipe = paper_recipe(cells(64)[0])
    if form == "tiny":
        recipe = replace(recipe, network=replace(recipe.network, channels=8), patch=(220, 220))
    return Case("the paper's network, one 572 x 572 tile", recipe, PEERS)


def auto_recipe(channels: int, side: int, batch: int) -> Recipe:
    """What `auto` plans for such cells, at another width, patch and batch."""
    planned = plan_recipe(cells(64)[0])
    return replace(planned, network=replace(planned.network, channels=channels), patch=(side, side), batch=batch)


def auto_cases(form: str) -> list[Case]:
    """`auto`'s first recipe, then other widths, patches and batches."""
    first = plan_recipe(replace(cells(64)[0], sizes=((256, 256),)))
    grid = {
        "tiny": [(8, 64, 2)],
        "quick": [(16, 256, 2), (64, 256, 1)],
        "full": [(c, p, b) for c in (16, 32, 64) for p, b in ((256, 1), (256, 2), (256, 4), (512, 1), (512, 2))],
    }[form]
    chosen = [] if form == "tiny" else [Case("auto's first recipe for simulated cells", first)]
    return chosen + [Case("auto at another width, patch or batch", auto_recipe(*each)) for each in grid]


def described(case: Case) -> str:
    """The case's numbers."""
    side = case.recipe.patch[0]
    return f"{case.channels} channels, patch {side}, batch {case.recipe.batch}"


def facts_of(network: nn.Module, shape: Sequence[int], dtype: torch.dtype, *, backward: bool) -> dict[str, object]:
    """What the columns need."""
    return {
        "GFLOP": count_operations(network, shape, backward=backward) / 1e9,
        "parameters": count_parameters(network),
        "dtype": str(dtype).removeprefix("torch."),
        "image": " x ".join(map(str, [shape[0], *shape[2:]])),
    }


def our_network(recipe: Recipe) -> nn.Module:
    """The recipe's network for images of one channel."""
    torch.manual_seed(0)
    return recipe.network.build(1, recipe.encoding.n_channels, 2)


def next_loss(records: Iterator[Record]) -> float:
    """One step, to its end."""
    return next(records).loss.item()


def our_records(recipe: Recipe, device: torch.device = CPU) -> tuple[Iterator[Record], dict[str, object]]:
    """(the loop that trains, sampling included, without an end; facts of its network)."""
    side, dtype = recipe.patch[0], best_dtype(device)
    summary, example = cells(max(256, side + side // 4))
    images = to_training_images([example], recipe, make_preparation(recipe, summary, [example]), device)
    batches = Batches(images, recipe.geometry, recipe.patch, recipe.batch, recipe.augmentation, 0, recipe.foreground)
    network = our_network(recipe)
    facts = facts_of(network, (recipe.batch, 1, *recipe.patch), dtype, backward=True)
    state = new_state(network, recipe, device)
    state.plans = [Plan(0, ENDLESS, ENDLESS)]
    return train_steps(state, batches, recipe, 0, device, dtype), facts


def our_step(recipe: Recipe) -> Prepared:
    """The loop that trains, a step at a time."""
    records, facts = our_records(recipe)
    return Prepared(timed(partial(next_loss, records)), facts)


def random_tiles(n: int, recipe: Recipe) -> NDArray[np.float32]:
    """(n, 1, *patch) float32, as prepared images are: mean 0, standard deviation 1."""
    return np.random.default_rng(0).normal(size=(n, 1, *recipe.patch)).astype(np.float32)


def our_forward(recipe: Recipe, engine: str) -> Prepared:
    """A call of the engine: array in, probabilities out."""
    network, dtype = our_network(recipe).eval(), torch.float32 if engine == "onnxruntime" else best_dtype(CPU)
    tiles = random_tiles(recipe.batch, recipe)
    facts = facts_of(network, tiles.shape, dtype, backward=False)
    classes, decision = ("background", "object"), default_decision(recipe.encoding)
    model = Model(network, Preparation(), "instances", classes, recipe.encoding, decision, device="cpu")
    if engine == "int8":
        facts["dtype"] = "int8"
        model = quantised_for_time(model, list(random_tiles(CALIBRATED, recipe)))
    return Prepared(timed(partial(with_engine(model, engine).runner(), tiles)), facts)


def plain_network(case: Case) -> nn.Module:
    """The textbook's network of the case's numbers."""
    settings, n_classes = case.recipe.network, case.recipe.encoding.n_channels
    return TextbookUNet(1, n_classes, settings.channels, settings.depth, padded=settings.padding == "same")


def side_of(case: Case, peer: Peer) -> int:
    """The side of a peer's image: what the case answers, rounded up to what the peer takes."""
    return -(-case.out // peer.stride) * peer.stride


def step_of(network: nn.Module, optimiser: torch.optim.Optimizer, images: torch.Tensor, fast: bool) -> float:
    """A step of the plain loop; the classes are those of a mask that never changes."""
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        logits = first_of(network(images))
    classes = torch.zeros((len(images), *logits.shape[2:]), dtype=torch.int64)
    loss = F.cross_entropy(logits.float(), classes)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def forward_of(network: nn.Module, images: torch.Tensor, fast: bool) -> torch.Tensor:
    """A forward pass without gradients, to probabilities."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
        return first_of(network(images)).float().softmax(dim=1)


def theirs(build: partial[nn.Module], shape: tuple[int, ...], *, backward: bool, fast: bool = False) -> Prepared:
    """The plain loop of any network.

    fast  bfloat16 where this machine has it, and channels last, as ours: what of the difference that alone makes
    """
    torch.manual_seed(0)
    network, images = build(), torch.randn(shape)
    dtype = best_dtype(CPU) if fast else torch.float32
    facts = facts_of(network, shape, dtype, backward=backward)
    if fast:
        network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    bfloat16 = dtype == torch.bfloat16
    if not backward:
        return Prepared(timed(partial(forward_of, network.eval(), images, bfloat16)), facts)
    optimiser = torch.optim.SGD(network.train().parameters(), lr=1e-4, momentum=0.99)
    return Prepared(timed(partial(step_of, network, optimiser, images, bfloat16)), facts)


def competitors(case: Case, engines: Sequence[str], *, backward: bool, thorough: bool) -> list[Competitor]:
    """Ours first; thorough adds the plain loop and the peers in our number and memory format."""
    recipe = case.recipe
    if backward:
        made = [Competitor("ushape", partial(our_step, recipe))]
    else:
        made = [Competitor(f"ushape, {engine}", partial(our_forward, recipe, engine)) for engine in engines]
    shape = (recipe.batch, 1, *recipe.patch)
    others = [("plain PyTorch", partial(plain_network, case), shape)]
    for peer in case.peers:
        side = side_of(case, peer)
        others.append((peer.name, partial(peer.build, case.channels), (recipe.batch, 1, side, side)))
    for name, build, size in others:
        made.append(Competitor(name, partial(theirs, build, size, backward=backward)))
        if thorough:
            fast = partial(theirs, build, size, backward=backward, fast=True)
            made.append(Competitor(f"{name}, bfloat16 and channels last", fast))
    return made


def limits(form: str, seconds: float, least: int = 3) -> Limits:
    """Few repetitions for what takes long, more where there is time."""
    return {"tiny": Limits(2, 2, 0), "quick": Limits(least, 15, seconds), "full": Limits(7, 25, 4 * seconds)}[form]


def paper_tables(sitting: Sitting, engines: Sequence[str]) -> list[Table]:
    """The paper's network: step and forward pass."""
    tables, case = [], paper_case(sitting.form)
    for what, backward in (("Training step", True), ("Forward pass", False)):
        listed = competitors(case, engines, backward=backward, thorough=sitting.form == "full")
        outcomes = interleave(listed, limits(sitting.form, 20), told=lambda name, w=what: tell(f"  {w}: {name}"))
        tables.append(Table(f"{what}: {case.name}", (*COLUMNS, "runs"), outcomes, NOTE))
    return tables


def auto_tables(sitting: Sitting) -> list[Table]:
    """Steps of `auto`'s network in several sizes, each beside the plain loop of the same network."""
    tables = []
    for case in auto_cases(sitting.form):
        listed = competitors(case, (), backward=True, thorough=sitting.form == "full")
        told = f"{case.name}: {described(case)}"
        outcomes = interleave(listed, limits(sitting.form, 5), told=lambda name, t=told: tell(f"  {t}: {name}"))
        tables.append(Table(f"Training step, {told}", (*COLUMNS, "runs"), outcomes))
    return tables


def old_tables(sitting: Sitting) -> list[Table]:
    """On a processor without AVX-512: the paper's network and `auto`'s first recipe, without bfloat16."""
    assert os.environ.get("ONEDNN_MAX_CPU_ISA") == OLD_PROCESSOR["ONEDNN_MAX_CPU_ISA"]
    assert best_dtype(CPU) == torch.float32, "a processor without the units must not be given bfloat16"
    tables = []
    for case in (replace(paper_case(sitting.form), peers=()), auto_cases(sitting.form)[0]):
        listed = competitors(case, (), backward=True, thorough=False)
        outcomes = interleave(listed, limits(sitting.form, 5, least=2), told=lambda name: tell(f"  AVX2: {name}"))
        assert all(each.failed or each.facts["dtype"] == "float32" for each in outcomes)
        note = "No bfloat16 was used: the machine's best number format is float32, which is asserted."
        tables.append(Table(f"Training step, {case.name}: {described(case)}", (*COLUMNS, "runs"), outcomes, note))
    return tables


def main() -> None:
    """Measure, write, print."""
    options = parser(__doc__)
    options.add_argument("--old", action="store_true", help="as on a processor with AVX2 and no more")
    options.add_argument("--engines", default="torch", help="engines of our forward pass, with commas between")
    asked = options.parse_args()
    sitting = Sitting(asked.form, asked.output)
    if asked.old and OLD_PROCESSOR.items() - os.environ.items():
        # The libraries read these when they are loaded, so that a process of its own is needed.
        again = subprocess.run([sys.executable, *sys.argv], env={**os.environ, **OLD_PROCESSOR}, check=False)
        sys.exit(again.returncode)
    about = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].strip()
    if asked.old:
        about = (
            "The same on this machine as if it were older: `ONEDNN_MAX_CPU_ISA=AVX2`, and torch's own loops and matrix "
            "products held to AVX2 likewise."
        )
        measure(sitting, "step-avx2", "Training step without AVX-512", about, old_tables)
        return
    measure(sitting, "step", TITLE, about, partial(paper_tables, engines=asked.engines.split(",")))
    about = "Ours beside the plain loop of the same network, padded and with batch normalisation, in float32."
    measure(sitting, "widths", "Training step at several widths, patches and batches", about, auto_tables)


if __name__ == "__main__":
    main()
