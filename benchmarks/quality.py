"""The project beside a plain PyTorch yardstick, and all parameter sets at the defaults, on binarised MNIST.

``beside`` trains sets 1 and 5 (R=3) and the yardstick with the same sizes, batch 1000, lr 0.001, the same epochs and seeds,
in turn. ``sets`` trains every set with the defaults and gives the 64-sample bound. Markdown tables go to stdout.

    python benchmarks/quality.py beside --epochs 30 --seeds 0 1 2
    python benchmarks/quality.py sets --epochs 100 --seeds 0
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import bvae_cli
from bvae_cli.config import PARAMETER_SETS

_YARDSTICK = Path(__file__).with_name("plain_torch_vae.py")
_CASES = ((1, "none", 1), (5, "repetition:R=3", 3))


def beside(arguments: argparse.Namespace) -> None:
    """Train ours and the yardstick in turn and print both."""
    print("| set, code | seed | yardstick −ELBO | ours −ELBO | better by | yardstick images/s | ours images/s |")
    print("|---|---|---|---|---|---|---|")
    for number, code, copies in _CASES:
        gains = []
        for seed in arguments.seeds:
            rival = _yardstick(number, copies, seed, arguments)
            result = _ours(number, code, seed, arguments)
            gain = rival["loss"] - result.best_validation_loss
            gains.append(gain)
            print(
                f"| {number}, {code} | {seed} | {rival['loss']:.2f} | {result.best_validation_loss:.2f} | {gain:.2f} | "
                f"{rival['rate']:,.0f} | {result.images_per_second:,.0f} |",
                flush=True,
            )
        print(f"| {number}, {code} | mean | | | {statistics.mean(gains):.2f} (least {min(gains):.2f}) | | |", flush=True)


def sets(arguments: argparse.Namespace) -> None:
    """Train every parameter set at the defaults and print bounds on the validation split."""
    print("| set | hidden, N, depth | code | seed | epochs (best) | −ELBO | −IWAE-64 ± s.e. | active bits | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for number in arguments.only or PARAMETER_SETS:
        sizes = PARAMETER_SETS[number]
        for code in ("none", "repetition:R=3") if sizes.latent % 3 == 0 and arguments.coded else ("none",):
            for seed in arguments.seeds:
                result = _ours(number, code, seed, arguments)
                quality = bvae_cli.evaluate(result.folder)
                iwae = quality.bounds.iwae
                print(
                    f"| {number} | {sizes.hidden}, {sizes.latent}, {sizes.depth} | {code} | {seed} | {result.epochs} "
                    f"({result.best_epoch}) | {-quality.bounds.elbo.mean:.2f} | "
                    f"{-iwae.mean:.2f} ± {iwae.standard_error:.2f} | "
                    f"{quality.latent.active_bits} of {quality.latent.information_bits} | {result.seconds:.0f} |",
                    flush=True,
                )


def _ours(number: int, code: str, seed: int, arguments: argparse.Namespace) -> bvae_cli.TrainResult:
    return bvae_cli.train(
        params=number,
        ecc=code,
        epochs=arguments.epochs,
        seed=seed,
        threads=arguments.threads,
        output_dir=Path(arguments.output_dir),
    )


def _yardstick(number: int, copies: int, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    sizes = PARAMETER_SETS[number]
    options = {
        "hidden": sizes.hidden,
        "latent": sizes.latent,
        "depth": sizes.depth,
        "epochs": arguments.epochs,
        "seed": seed,
    }
    command = [sys.executable, str(arguments.yardstick or _YARDSTICK)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command += ["--threads", str(arguments.threads)]
    if arguments.yardstick is None:
        command += ["--copies", str(copies)]
    else:
        command += ["--repeat", str(copies), "--data", str(arguments.data)]
    printed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    loss = printed.get("validation_negative_elbo", printed.get("val_nelbo_nats"))
    return {"loss": loss, "rate": printed["images_per_second"]}


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("beside", "sets"))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", type=int, nargs="+", help="these sets only")
    parser.add_argument("--coded", action="store_true", help="sets: also R=3 where it divides")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--yardstick", type=Path, help="another yardstick with the options --repeat and --data")
    parser.add_argument("--data", type=Path, help="folder of IDX files for that yardstick")
    parser.add_argument("--output-dir", help="where the runs go (default: a temporary folder)")
    arguments = parser.parse_args()
    threads = arguments.threads or torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} CPU threads, {arguments.epochs} epochs at most\n")
    with tempfile.TemporaryDirectory() as temporary:
        arguments.output_dir = arguments.output_dir or temporary
        (beside if arguments.what == "beside" else sets)(arguments)


if __name__ == "__main__":
    main()
