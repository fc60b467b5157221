"""Sampling and augmentation of training batches, side by side, and the share of a training step that they take.

    PYTHONPATH=src python benchmarks/speed_sampling.py [--form quick]

Every line makes batches of two patches with their masks, from one simulated image of 1024 x 1024 pixels that lies in
memory, on one thread; its time is that of four batches. The work is the same for all, and done to every patch: a place
at random, any rotation, a zoom of 0.8 to 1.25, a smooth elastic deformation of some 10 pixels, flips, gamma of 0.8 to
1.25, Gaussian noise of up to 0.1.
Ours also carries along what training needs beside the classes (weights and distances, two planes more). albumentations
crops first and resamples twice in a row, as its transforms do; the others resample once. How each is called stands
beside the others in the script.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speed.interleave import Competitor, Limits, Outcome, Prepared, interleave, timed
from speed.predicting import mosaic
from speed.program import Sitting, measure, parser, tell
from speed.tables import Table
from speed_step import CPU, ENDLESS, cells, next_loss, our_network
from ushape.data.dataset import Sample
from ushape.network.hardware import best_dtype
from ushape.training.augment import Augmentation
from ushape.training.batches import Batch, Batches
from ushape.training.examples import Example, make_preparation, to_training_images
from ushape.training.loop import new_state, train_steps
from ushape.training.recipe import Recipe
from ushape.training.rules import plan_recipe
from ushape.training.schedule import Plan

TITLE = "Sampling and augmentation"
SOURCE = {"tiny": 256, "quick": 1024, "full": 1024}
PATCHES = {"tiny": (64,), "quick": (256, 512), "full": (256, 512)}
BATCH = 2
BATCHES_PER_RUN = 4

ROTATION = math.pi
ZOOM = 1.25
ELASTIC = 10.0
GAMMA = 1.25
NOISE = 0.1
SAME_WORK = Augmentation(zoom=ZOOM, elastic=ELASTIC, gamma=GAMMA, noise=NOISE, brightness=0, contrast=1)

Pair = tuple[Tensor, Tensor]
Sampler = Callable[[], object]


def source(side: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """A simulated image (side, side) and a mask of classes 0 and 1."""
    image = mosaic(side)[0]
    return image, (image > np.median(image)).astype(np.int32)


def stacked(pair: Callable[[], Pair]) -> Sampler:
    """Batches (B, 1, H, W) and (B, H, W) out of single patches."""

    def batch() -> tuple[Tensor, Tensor]:
        images, masks = zip(*(pair() for _ in range(BATCH)), strict=True)
        return torch.stack(images).float(), torch.stack(masks).long()

    return batch


# The same work by each: crop, rotate, zoom, elastic, flip, gamma, noise.


def ushape_sampler(side: int, patch: int, augmentation: Augmentation) -> Sampler:
    """Ours: `Batches`, as in training."""
    made = our_batches(replace(first_recipe(patch), augmentation=augmentation), side)
    steps = iter(range(ENDLESS))
    return lambda: made(next(steps))


def monai_sampler(side: int, patch: int) -> Sampler:
    """MONAI: one resampling holds place, rotation, zoom and deformation, on a coarse grid of nodes as ours."""
    from monai.data import set_track_meta
    from monai.transforms import Compose, Rand2DElasticd, RandAdjustContrastd, RandFlipd, RandGaussianNoised

    # Plain tensors, without what MONAI notes beside each image: faster, and there is nothing to note here.
    set_track_meta(False)
    image, mask = source(side)
    both = ["image", "mask"]
    room = (side - patch) / 2
    transform = Compose(
        [
            Rand2DElasticd(
                keys=both,
                spacing=(patch // 2, patch // 2),
                magnitude_range=(0, ELASTIC),
                prob=1,
                rotate_range=ROTATION,
                scale_range=(1 / ZOOM - 1, ZOOM - 1),
                translate_range=(room, room),
                spatial_size=(patch, patch),
                mode=["bilinear", "nearest"],
                padding_mode="reflection",
            ),
            RandFlipd(keys=both, prob=0.5, spatial_axis=0),
            RandFlipd(keys=both, prob=0.5, spatial_axis=1),
            RandAdjustContrastd(keys="image", prob=1, gamma=(1 / GAMMA, GAMMA)),
            RandGaussianNoised(keys="image", prob=1, std=NOISE),
        ]
    )
    given = {"image": torch.from_numpy(image.astype(np.float32) / 255)[None], "mask": torch.from_numpy(mask)[None]}

    def pair() -> Pair:
        done = transform(dict(given))
        return done["image"], done["mask"][0]

    return stacked(pair)


def batchgenerators_sampler(side: int, patch: int) -> Sampler:
    """batchgeneratorsv2, which nnU-Net samples with: one resampling too; its deformation is drawn pixel by pixel."""
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    image, mask = source(side)
    transform = ComposeTransforms(
        [
            SpatialTransform(
                (patch, patch),
                patch_center_dist_from_border=patch // 2,
                random_crop=True,
                p_elastic_deform=1,
                elastic_deform_scale=(0.2, 0.2),
                elastic_deform_magnitude=(ELASTIC, ELASTIC),
                p_rotation=1,
                rotation=(-ROTATION, ROTATION),
                p_scaling=1,
                scaling=(1 / ZOOM, ZOOM),
                p_synchronize_scaling_across_axes=1,
                bg_style_seg_sampling=False,
                mode_seg="nearest",
                border_mode_seg="reflection",
                padding_mode_image="reflection",
            ),
            MirrorTransform(allowed_axes=(0, 1)),
            GammaTransform(
                (1 / GAMMA, GAMMA), p_invert_image=0, synchronize_channels=False, p_per_channel=1, p_retain_stats=0
            ),
            GaussianNoiseTransform(noise_variance=(0, NOISE**2), p_per_channel=1, synchronize_channels=True),
        ]
    )
    pixels, classes = torch.from_numpy(image.astype(np.float32) / 255)[None], torch.from_numpy(mask)[None].short()

    def pair() -> Pair:
        done = transform(image=pixels, segmentation=classes)
        return done["image"], done["segmentation"][0]

    return stacked(pair)


def albumentations_sampler(side: int, patch: int, *, grid: bool) -> Sampler:
    """albumentations, on uint8, where it is fastest.

    grid  deform by a coarse grid (GridDistortion), which is cheaper than its ElasticTransform
    """
    import albumentations
    import cv2

    cv2.setNumThreads(1)
    image, mask = source(side)
    elastic = (
        albumentations.GridDistortion(num_steps=2, distort_limit=0.1, border_mode=cv2.BORDER_REFLECT_101, p=1)
        if grid
        else albumentations.ElasticTransform(alpha=20 * ELASTIC, sigma=ELASTIC, border_mode=cv2.BORDER_REFLECT_101, p=1)
    )
    transform = albumentations.Compose(
        [
            albumentations.RandomCrop(patch, patch),
            albumentations.Affine(rotate=(-180, 180), scale=(1 / ZOOM, ZOOM), border_mode=cv2.BORDER_REFLECT_101, p=1),
            elastic,
            albumentations.HorizontalFlip(p=0.5),
            albumentations.VerticalFlip(p=0.5),
            albumentations.RandomGamma(gamma_limit=(100 / GAMMA, 100 * GAMMA), p=1),
            albumentations.GaussNoise(std_range=(0, NOISE), p=1),
        ]
    )
    classes = mask.astype(np.uint8)

    def pair() -> Pair:
        done = transform(image=image[..., None], mask=classes)
        return torch.from_numpy(done["image"].reshape(1, patch, patch)) / 255, torch.from_numpy(done["mask"])

    return stacked(pair)


SAMPLERS: dict[str, Callable[[int, int], Sampler]] = {
    "ushape": partial(ushape_sampler, augmentation=SAME_WORK),
    "ushape, all that `auto` varies": partial(ushape_sampler, augmentation=Augmentation()),
    "MONAI": monai_sampler,
    "batchgeneratorsv2": batchgenerators_sampler,
    "albumentations": partial(albumentations_sampler, grid=False),
    "albumentations, GridDistortion": partial(albumentations_sampler, grid=True),
}


def first_recipe(patch: int, diameter: float = 30.0) -> Recipe:
    """`auto`'s first recipe for such cells, with this patch, batch and no more."""
    recipe = plan_recipe(replace(cells(64)[0], sizes=((4 * patch, 4 * patch),), diameter=diameter))
    return replace(recipe, patch=(patch, patch), batch=BATCH)


def our_batches(recipe: Recipe, side: int) -> Callable[[int], Batch]:
    """The batches that training would draw from the source."""
    image, mask = source(side)
    instances = Sample(name="source", image=lambda: image[None], mask=lambda: mask)
    example = Example(instances, image[None], mask)
    summary = replace(cells(64)[0], sizes=(image.shape,))
    images = to_training_images([example], recipe, make_preparation(recipe, summary, [example]), CPU)
    return Batches(images, recipe.geometry, recipe.patch, recipe.batch, recipe.augmentation, 0, recipe.foreground)


def several(sampler: Sampler) -> None:
    """Some batches, so that a run is long enough to be timed."""
    for _ in range(BATCHES_PER_RUN):
        sampler()


def prepare(make: Callable[[int, int], Sampler], side: int, patch: int) -> Prepared:
    """A sampler to be timed."""
    return Prepared(timed(partial(several, make(side, patch))), {"images": BATCH * BATCHES_PER_RUN})


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, as in a worker process of a data loader."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rate_table(sitting: Sitting, patch: int) -> Table:
    """Images per second of each."""
    side = SOURCE[sitting.form]
    listed = [Competitor(name, partial(prepare, make, side, patch)) for name, make in SAMPLERS.items()]
    limits = {"tiny": Limits(2, 2, 0), "quick": Limits(5, 15, 8), "full": Limits(15, 40, 60)}[sitting.form]
    with one_thread():
        outcomes = interleave(listed, limits, told=lambda name: tell(f"  sampling {patch} px: {name}"))
    return Table(f"Patches of {patch} x {patch}, one thread", ("images/s", "x ours", "ms", "runs"), outcomes)


def stepping(recipe: Recipe, side: int) -> list[Competitor]:
    """A training step, and the sampling in it."""

    def step() -> Prepared:
        network = our_network(recipe)
        state = new_state(network, recipe, CPU)
        state.plans = [Plan(0, ENDLESS, ENDLESS)]
        records = train_steps(state, our_batches(recipe, side), recipe, 0, CPU, best_dtype(CPU))
        return Prepared(timed(partial(next_loss, records)), {})

    def sampling() -> Prepared:
        steps, batches = iter(range(ENDLESS)), our_batches(recipe, side)
        return Prepared(timed(lambda: batches(next(steps))), {})

    return [Competitor("training step, sampling in it", step), Competitor("its sampling alone", sampling)]


def with_share(outcomes: list[Outcome]) -> list[Outcome]:
    """Note the share of the first outcome's time that the second takes."""
    step, sampling = outcomes
    if not step.failed and not sampling.failed:
        sampling.facts["share of the step"] = f"{sampling.median / step.median:.1%}"
    return outcomes


def share_tables(sitting: Sitting) -> list[Table]:
    """What sampling takes of a step of `auto`: small cells, large ones seen at half their size, and larger patches."""
    made = []
    for patch, diameter in ((256, 30.0), (256, 80.0), (512, 80.0)) if sitting.form != "tiny" else ((64, 30.0),):
        recipe = first_recipe(patch, diameter)
        if sitting.form == "tiny":
            recipe = replace(recipe, network=replace(recipe.network, channels=8))
        told = f"{recipe.network.channels} channels, patch {patch}, batch {BATCH}, working scale {recipe.network.scale}"
        limits = {"tiny": Limits(2, 2, 0), "quick": Limits(7, 25, 5), "full": Limits(25, 60, 60)}[sitting.form]
        outcomes = interleave(
            stepping(recipe, SOURCE[sitting.form]), limits, told=lambda name, t=told: tell(f"  {t}: {name}")
        )
        caption = f"`auto`'s first recipe ({told}), all threads"
        made.append(Table(caption, ("ms", "share of the step", "runs"), with_share(outcomes)))
    return made


def tables(sitting: Sitting) -> list[Table]:
    """Rates, then shares."""
    return [rate_table(sitting, patch) for patch in PATCHES[sitting.form]] + share_tables(sitting)


def main() -> None:
    """Measure, write, print."""
    asked = parser(__doc__).parse_args()
    about = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].strip()
    measure(Sitting(asked.form, asked.output), "sampling", TITLE, about, tables)


if __name__ == "__main__":
    main()
