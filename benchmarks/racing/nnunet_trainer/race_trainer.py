"""nnU-Net's trainer, cut to a budget: `python race_trainer.py FOLDER` in place of `nnUNetv2_train DATASET 2d 0`.

Network, loss, augmentation, optimiser, learning rate and its polynomial are nnU-Net's; only the numbers of epochs and
of iterations in an epoch follow the clock. One iteration is timed, and counts as a step; then the number of epochs is
set, and with it the schedule. The number of iterations in each epoch is what the time that is left allows, so that the
schedule ends with the time. The environment says when that is (RACE_DEADLINE, seconds since 1970), with which seed the
first weights are drawn (RACE_SEED), and where to say what was trained (RACE_FACTS, a JSON file).

A script of its own, and not `nnUNetv2_train -tr`: to find a trainer that is not among its own, that command imports all
of its own, and one of them needs torchvision. What the command does after training, scoring the images held out, is
left out: it changes nothing of what was learnt.
"""

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from race_budget import RATIO, VALIDATION_COST, iterations_now, plan_epochs, validations


class RaceTrainer(nnUNetTrainer):
    """Trains until the deadline; at least one epoch of one iteration."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        torch.manual_seed(int(os.environ["RACE_SEED"]))
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.deadline = float(os.environ["RACE_DEADLINE"])
        self.n_steps, self.each, self.epoch_began = 0, 0.0, 0.0

    def left(self):
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def on_train_start(self):
        """Time an iteration, and plan."""
        super().on_train_start()
        self.network.train()
        begun = time.perf_counter()
        self.train_step(next(self.dataloader_train))
        self.each, self.n_steps = time.perf_counter() - begun, 1
        self.num_epochs = plan_epochs(self.left(), self.each)
        self.lr_scheduler = PolyLRScheduler(self.optimizer, self.initial_lr, self.num_epochs)
        self.each *= 1 + VALIDATION_COST / RATIO
        self.print_to_log_file(f"{self.num_epochs} epochs, {self.each:.2f} s an iteration, {self.left():.0f} s left")

    def on_epoch_start(self):
        """Decide how many iterations this epoch has."""
        epochs = self.num_epochs - self.current_epoch
        self.num_iterations_per_epoch = iterations_now(self.left(), epochs, self.each)
        self.num_val_iterations_per_epoch = validations(self.num_iterations_per_epoch)
        self.epoch_began = time.perf_counter()
        super().on_epoch_start()

    def on_epoch_end(self):
        """Count the steps, and see what they took."""
        super().on_epoch_end()
        self.n_steps += self.num_iterations_per_epoch
        self.each = (time.perf_counter() - self.epoch_began) / self.num_iterations_per_epoch

    def on_train_end(self):
        """Say what was trained."""
        super().on_train_end()
        facts = {
            "steps": self.n_steps,
            "epochs": self.num_epochs,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "patch": [int(side) for side in self.configuration_manager.patch_size],
            "batch": int(self.configuration_manager.batch_size),
            "seconds an iteration": round(self.each, 2),
            "pseudo dice": float(self.logger.get_value("ema_fg_dice", step=-1)),
        }
        Path(os.environ["RACE_FACTS"]).write_text(json.dumps(facts), "utf-8")


# The network is nnU-Net's own, so that `nnUNetv2_predict` finds what was learnt under the name of its own trainer.
RaceTrainer.__name__ = nnUNetTrainer.__name__


def main(folder):
    """As `nnUNetv2_train` does, on the CPU with all of its cores; `folder` is that of the preprocessed data set."""
    torch.set_num_threads(multiprocessing.cpu_count())
    plans = load_json(str(folder / "nnUNetPlans.json")) | {"continue_training": False}
    trainer = RaceTrainer(plans, "2d", 0, load_json(str(folder / "dataset.json")), torch.device("cpu"))
    trainer.run_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
