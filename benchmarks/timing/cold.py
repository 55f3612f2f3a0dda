"""A process that trains until the validation bound is good enough, says so, and ends; started by the part ``cuda``."""

from __future__ import annotations

import json
import sys

import torch

from bvae_cli.datasets.binarized_mnist import BinarizedMnist
from timing.contenders import fits_of
from timing.setting import Setting


def main() -> None:
    """Train as asked in the argument."""
    asked = json.loads(sys.argv[1])
    setting = Setting(**asked["setting"])
    splits = BinarizedMnist().load()
    train = splits.train[: setting.rows or None].to(setting.device)
    validation = splits.validation[: setting.rows or None].to(setting.device)
    (fit,) = fits_of(setting, train, validation, torch.bfloat16, [setting.seed])
    for stats in fit:
        reached = stats.validation_loss <= asked["target"]
        if reached or stats.epoch >= asked["most_epochs"]:
            print(json.dumps({"reached": reached, "epochs": stats.epoch}), flush=True)
            return


if __name__ == "__main__":
    main()
