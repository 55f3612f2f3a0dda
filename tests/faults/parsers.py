"""What is fed: for each parser how a changed file is made of real ones, and the calls of the program that read it."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import torch

from bvae_cli import checkpoints, runs, settings
from bvae_cli.arms import CompareConfig, arms_of, command_of, tuned_settings
from bvae_cli.cli.comparison import show_comparison
from bvae_cli.cli.render import show_json
from bvae_cli.code_rows import open_codes
from bvae_cli.codes.ldpc import Ldpc
from bvae_cli.codes.matrix import Linear
from bvae_cli.comparisons import ComparisonFolder
from bvae_cli.config import PluginRef, TrainConfig, parse_code, parse_dataset
from bvae_cli.datasets.arrays import Arrays
from bvae_cli.datasets.cifar10 import Cifar10
from bvae_cli.datasets.emnist import Emnist
from bvae_cli.datasets.idx import Mnist
from bvae_cli.datasets.images import Images
from bvae_cli.datasets.omniglot import Omniglot
from bvae_cli.datasets.packed import Packed
from bvae_cli.errors import BvaeError
from bvae_cli.fields import validated
from bvae_cli.report.page import write_report
from bvae_cli.retrieval.nearest import nearest
from bvae_cli.settings import Layer
from bvae_cli.trained import SampleConfig
from bvae_cli.workflows.building import load_model
from bvae_cli.workflows.listing import summarize_runs
from bvae_cli.workflows.resuming import unfinished
from bvae_cli.workflows.sample import sample
from bvae_cli.workflows.train import train

from . import mutate
from .samples import Samples, settings_of

# What is drawn or trained costs a hundred times what is read: one input in so many goes all the way.
_DRAWN, _TRAINED, _SAMPLED = 400, 40, 4


@dataclass(frozen=True)
class Parser:
    """A name, how an input is written into an empty folder, and how it is read there.

    ``write`` is told whether what the checksum, archive or grammar holds is to be changed, and the outside made right, or
    any byte; ``share_inside`` is the share of the former.
    """

    name: str
    write: Callable[[Samples, Random, Path, bool], None]
    read: Callable[[Path], None]
    share_inside: float = 0.7


def _chosen(samples: Samples, chance: Random, folder: str) -> tuple[str, bytes]:
    files = samples.of(folder)
    name = chance.choice(sorted(files))
    return name, files[name]


def _write_file(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# --- configuration


def _write_config(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    said = settings_of(samples)
    # A few options each: the first wrong one ends the reading.
    kept = {name: said[name] for name in ("ecc", "latent", "arm", *chance.sample(sorted(said), chance.choice((1, 3, 8))))}
    if inside:
        text = mutate.as_toml(mutate.any_table(kept, chance))
        if chance.random() < 0.01:
            deep = chance.choice((100, 900, 50_000))
            text += chance.choice(("a = " + "[" * deep + "]" * deep, "a." * deep + "b = 1", "[" + "a." * deep + "b]"))
    else:
        text = mutate.any_text(mutate.as_toml(kept), chance)
    content = text.encode("utf-8", "surrogatepass")
    _write_file(folder, "config.toml", content if inside or chance.random() < 0.5 else mutate.any_bytes(content, chance))


def _read_config(folder: Path) -> None:
    flags, path = Layer("flags", {}), folder / "config.toml"
    _try_all(
        lambda: settings.resolve(TrainConfig, flags, path) and None,
        lambda: settings.resolve(SampleConfig, flags, path) and None,
        lambda: _understand(settings.resolve(CompareConfig, flags, path).config),
    )


def _understand(config: CompareConfig) -> None:
    arms_of(config)
    tuned_settings(config)
    command_of(config)


_CODES = (
    *("none", "repetition:R=3", "repetition:R=2", "parity:k=3", "hamming:r=3,pad=true", "golay:n=24", "reed-muller:r=1,m=3"),
    *("bch:n=15,t=2,pad=true", "ldpc:n=24,dv=3,dc=6", "linear:matrix=1101000/0110100,pad=true", "polar:n=8,k=4"),
    *("convolutional:k=4,pad=true", "unequal:groups=12 repetition:R=3+12 none", "ldpc:n=12,seed=5,pad=true"),
    *("linear:matrix=111,kind=parity-check", "polar:n=8,k=4,pad=true", "unequal:groups=6 parity:k=5+18 repetition:R=2"),
)
_DATA = (
    "binarized-mnist",
    "mnist:folder=x",
    "arrays:path=bits.npy,validation=0.2",
    "packed:path=b.npz,features=12",
    "./x.csv",
)


def _write_words(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    words = {
        "ecc": chance.choice(_CODES),
        "dataset": chance.choice(_DATA),
        "arm": chance.choice(_CODES),
        "tune": "lr=1e-3,0.01",
    }
    for name in chance.sample(sorted(words), 1 if inside else 3):
        words[name] = _of_grammar(words[name], chance) if inside else mutate.any_text(words[name], chance)
    _write_file(folder, "words.json", json.dumps(words).encode())


def _of_grammar(words: str, chance: Random) -> str:
    """Change names, options and values, and keep name:key=value,…."""
    name, _, rest = words.partition(":")
    options = [item.partition("=")[::2] for item in rest.split(",") if item]
    if chance.random() < 0.2:
        name = chance.choice(_CODES).partition(":")[0]
    for _ in range(chance.choice((1, 1, 2))):
        key, value = chance.choice(options) if options else ("R", "3")
        said = chance.choice((mutate.any_text(value, chance), str(mutate.any_value(chance)), str(chance.randrange(-2, 200))))
        options = [pair for pair in options if pair[0] != key] + [
            (chance.choice((key, key, mutate.any_text(key, chance))), said)
        ]
    return f"{name}:{','.join(f'{key}={value}' for key, value in options)}"


def _read_words(folder: Path) -> None:
    words = json.loads((folder / "words.json").read_bytes())
    options = {"arm": ["uncoded:latent=7", words["arm"]], "tune": [words["tune"]], "latent": 24}
    _try_all(
        partial(_understand_code, words["ecc"]),
        partial(_understand_data, words["dataset"]),
        lambda: _understand(validated(CompareConfig, options, "compare")),
    )


def _try_all(*readings: Callable[[], None]) -> None:
    """Read several things, of which each may be refused; raise the first refusal when all have been read."""
    refusals = []
    for read in readings:
        try:
            read()
        except BvaeError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _understand_code(text: str) -> None:
    code: PluginRef = parse_code(text)
    spec = code.spec("code")
    spec.label(), spec.told_options(), spec.block(), spec.soft_decoding(), spec.hard_decoding(), spec.fits(24)


def _understand_data(text: str) -> None:
    data: PluginRef = parse_dataset(text)
    data.label(), data.spec("data set")


def _write_environment(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    said = {f"BVAE_{name.upper()}": value for name, value in settings_of(samples).items() if not isinstance(value, dict)}
    said |= {"BVAE_ECC": "repetition:R=3", "BVAE_ECC_R": "3", "BVAE_CONFIG": "", "BVAE_DATA_DIR": "~/x"}
    chosen = ("BVAE_ECC", "BVAE_LATENT", *chance.sample(sorted(said), chance.choice((1, 3, 6))))
    kept = {name: said[name] for name in chosen}
    told = {name: ";".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in kept.items()}
    name = chance.choice(sorted(told))
    if inside:
        told[name] = chance.choice((mutate.any_text(told[name], chance), str(mutate.any_value(chance))))
    else:
        told[mutate.any_text(name, chance)] = told.pop(name)
    _write_file(folder, "environment.json", json.dumps(told).encode())


def _read_environment(folder: Path) -> None:
    told = json.loads((folder / "environment.json").read_bytes())
    # What no system lets stand in an environment is left out.
    fit = {name: value for name, value in told.items() if name and not {"=", "\0"} & set(name) and "\0" not in value}
    with mock.patch.dict(os.environ):
        for name, value in fit.items():
            os.environ[name.encode("utf-8", "replace").decode()] = value.encode("utf-8", "replace").decode()
        flags = Layer("flags", {})
        _try_all(
            settings.require_known_variables,
            lambda: settings.resolve(TrainConfig, flags) and None,
            lambda: settings.resolve(SampleConfig, flags) and None,
            lambda: _understand(settings.resolve(CompareConfig, flags).config),
        )


# --- data


def _write_npy(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    kind = chance.choice(("npy", "npz"))
    name, content = _chosen(samples, chance, kind)
    if not inside:
        changed = mutate.any_bytes(content, chance)
    elif kind == "npy":
        changed = mutate.any_npy(content, chance)
    else:
        changed = mutate.any_zip(content, chance, lambda _, held, chance: mutate.any_npy(held, chance))
    _write_file(folder, f"data{Path(name).suffix}", changed)


def _write_csv(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    name, content = _chosen(samples, chance, "csv")
    change = mutate.any_lines if inside else mutate.any_bytes
    _write_file(folder, f"data{chance.choice((Path(name).suffix, '.tsv'))}", change(content, chance))


def _read_arrays(folder: Path) -> None:
    (path,) = folder.iterdir()
    for mapped in ("auto", "always") if path.suffix == ".npy" else ("auto",):
        splits = Arrays(path=path, mapped=mapped).load()
        assert splits.problem() is None
        splits.digest()


def _write_packed(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    name, content = _chosen(samples, chance, "packed")
    if not inside:
        changed = mutate.any_bytes(content, chance)
    elif name.endswith(".npy"):
        changed = mutate.any_npy(content, chance)
    else:
        changed = mutate.any_zip(content, chance, lambda _, held, chance: mutate.any_npy(held, chance))
    _write_file(folder, name, changed)


def _read_packed(folder: Path) -> None:
    (path,) = folder.iterdir()
    for mapped in ("auto", "always"):
        splits = Packed(path=path, features=12 if path.suffix == ".npy" else 0, mapped=mapped).load()
        assert splits.problem() is None
        splits.digest()


def _write_codes(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    name, content = _chosen(samples, chance, "codes")
    _write_file(folder, name, (mutate.any_npy if inside and name.endswith(".npy") else mutate.any_bytes)(content, chance))


def _read_codes(folder: Path) -> None:
    (path,) = folder.iterdir()
    for widths in ({}, {"code bits": 12, "information bits": 4}):
        codes = open_codes(path, widths)
        for start, stop in codes.spans():
            assert codes.bits(start, stop).shape == (stop - start, codes.width)
        found = nearest(codes, codes.packed(0, 1), 1, threads=1)
        assert found.distances.tolist() == [[0]]


def _write_idx(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    kind = chance.choice(("idx", "gz"))
    files = samples.of(kind)
    changed = chance.choice(sorted(files))
    content = files[changed]
    if not inside:
        files[changed] = mutate.any_bytes(content, chance)
    elif kind == "gz":
        files[changed] = mutate.any_gzip(content, chance, mutate.any_idx)
    else:
        files[changed] = mutate.any_idx(content, chance)
    for name, held in files.items():
        _write_file(folder, name, held)


def _read_idx(folder: Path) -> None:
    for binarize in ("none", "fresh"):
        assert Mnist(folder=folder, binarize=binarize).load().problem() is None


# --- pictures, archives and other tables


def _write_public(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    """Write the files of a data set, one of them changed: of an archive, with ``inside``, one of its members."""
    kinds = ("images", "emnist", "cifar10", "omniglot", "sparse", "parquet")
    kind = chance.choice([kind for kind in kinds if samples.of(kind)])
    files = samples.of(kind)
    changed = chance.choice(sorted(files))
    content = files[changed]
    if inside and kind in ("emnist", "omniglot", "sparse"):
        change = mutate.any_npy if kind == "sparse" else mutate.any_bytes
        files[changed] = mutate.any_zip(content, chance, lambda _, held, chance: change(held, chance))
    elif inside and kind == "cifar10":
        files[changed] = mutate.any_gzip(content, chance, mutate.any_bytes)
    else:
        files[changed] = mutate.any_bytes(content, chance)
    for name, held in files.items():
        _write_file(folder / kind, name, held)


def _read_public(folder: Path) -> None:
    (place,) = folder.iterdir()
    readers: dict[str, Callable[[], Any]] = {
        "images": lambda: Images(path=place, size=6, channels="colour"),
        "emnist": lambda: Emnist(folder=place),
        "cifar10": lambda: Cifar10(folder=place),
        "omniglot": lambda: Omniglot(folder=place),
    }
    spec = readers[place.name]() if place.name in readers else Arrays(path=next(place.iterdir()))
    assert spec.load().problem() is None


# --- codes


def _write_code(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    name, content = _chosen(samples, chance, "code")
    if name.endswith(".npy"):
        change = mutate.any_npy if inside else mutate.any_bytes
    else:
        change = mutate.any_lines if inside else mutate.any_bytes
    _write_file(folder, name, change(content, chance))


def _read_code(folder: Path) -> None:
    (path,) = folder.iterdir()
    if path.suffix == ".alist":
        specs: list[Any] = [validated(Ldpc, {"alist": str(path)}, "the code 'ldpc'")]
    else:
        specs = [validated(Linear, {"matrix": str(path), "kind": kind}, "a code") for kind in ("generator", "parity-check")]
    for spec in specs:
        block = spec.block()
        spec.label(), spec.soft_decoding(), spec.hard_decoding()
        if spec.no_soft_decoder() is None and block.n <= 64:
            spec.build(block.n).digest()


# --- weights


def _write_weights(samples: Samples, chance: Random, folder: Path, inside: bool, described: bool = False) -> None:
    # Weights of the first versions have no digest, and a stranger leaves it out.
    content = samples.files[chance.choice((f"finished/{runs.WEIGHTS}", "plain.pt", "plain.pt"))]
    if not inside:
        changed = mutate.any_bytes(content, chance)
    elif described:
        changed = _described_otherwise(content, chance)
    else:
        changed = mutate.any_zip(content, chance, _changed_member)
    _write_file(folder, runs.WEIGHTS, changed)


def _write_safetensors(samples: Samples, chance: Random, folder: Path, inside: bool) -> None:
    content = samples.files["plain.safetensors"]
    changed = _header_otherwise(content, chance) if inside else mutate.any_bytes(content, chance)
    _write_file(folder, runs.EXPORTED_WEIGHTS["safetensors"], changed)


def _header_otherwise(content: bytes, chance: Random) -> bytes:
    """Change the header, or the facts in it, and make its length right again."""
    end = 8 + int.from_bytes(content[:8], "little")
    header, told = content[8:end], json.loads(content[8:end])
    if chance.random() < 0.5:
        header = mutate.any_json(header, chance)
    else:
        facts = json.loads(told["__metadata__"]["bvae"])
        facts.pop("digest" if chance.random() < 0.8 else "format")
        changed = mutate.any_json(json.dumps(facts).encode(), chance).decode("utf-8", "replace")
        told["__metadata__"]["bvae"] = changed
        header = json.dumps(told).encode()
    return len(header).to_bytes(8, "little") + header + content[end:]


def _changed_member(name: str, content: bytes, chance: Random) -> bytes:
    # Nearly all that a reader of weights does is in the pickle.
    return mutate.any_pickle(content, chance) if name.endswith(".pkl") else mutate.any_bytes(content, chance)


def _described_otherwise(content: bytes, chance: Random) -> bytes:
    """Change the configuration that weights keep, and write them as torch does."""
    held = torch.load(io.BytesIO(content), weights_only=True)
    held.pop("digest", None)
    kind = chance.random()
    if kind < 0.75:
        held["config"] = mutate.any_json(held["config"].encode(), chance).decode("utf-8", "replace")
    elif kind < 0.95:
        name = chance.choice(sorted(held["weights"]))
        held["weights"][name] = _other_tensor(held["weights"][name], chance)
    else:
        held = mutate.any_structure({**held, "weights": dict.fromkeys(held["weights"], 1)}, chance)
    return checkpoints.torch_bytes(held)


def _other_tensor(tensor: Any, chance: Random) -> Any:
    others: list[Any] = [
        tensor.reshape(-1)[:-1].clone(),
        tensor.double(),
        tensor.to(torch.int64),
        tensor.to(torch.complex64),
        tensor.half(),
        tensor.T if tensor.dim() == 2 else tensor[None],
        tensor.to_sparse(),
        torch.full(tensor.shape, float("nan")),
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(()),
        torch.zeros(0, 7),
        [1, 2],
    ]
    return chance.choice(others)


def _read_weights(folder: Path) -> None:
    rebuilt = load_model(folder)
    assert rebuilt.label
    rebuilt.model.sample(2, None, 1.0)


def _read_for_samples(folder: Path) -> None:
    weights = folder / runs.WEIGHTS
    if weights.stat().st_size % _SAMPLED:
        _read_weights(folder)
    else:
        values = {"weights": weights, "num_samples": 2, "iwae_samples": 1, "subset": 4, "device": "cpu"}
        sample(validated(SampleConfig, values, "sample"))


# --- folders


def _write_folder(samples: Samples, chance: Random, folder: Path, inside: bool, kinds: tuple[str, ...]) -> None:
    files = samples.of(chance.choice(kinds))
    chosen = [name for name in files if not name.endswith((".svg", ".png", ".html"))]
    for name in chance.sample(chosen, chance.choice((1, 1, 2))):
        files[name] = _changed_file(name, files[name], chance, inside)
    if chance.random() < 0.03:
        del files[chance.choice(sorted(files))]
    for name, content in files.items():
        _write_file(folder, f"it/{name}", content)
    (folder / "samples.json").write_text(json.dumps(samples.config), encoding="utf-8")


def _changed_file(name: str, content: bytes, chance: Random, inside: bool) -> bytes:
    if not inside:
        return mutate.any_bytes(content, chance)
    if name.endswith(".json"):
        return mutate.any_json(content, chance)
    if name.endswith(".jsonl"):
        lines = content.splitlines()
        place = chance.randrange(len(lines))
        lines[place] = mutate.any_json(lines[place], chance)
        return b"\n".join(lines) + b"\n"
    if content.startswith(b"bvae state"):
        return _changed_state(content.partition(b"\n")[2], chance)
    if name.endswith(".pt"):
        return mutate.any_zip(content, chance, _changed_member)
    if name.endswith(".npz"):
        return mutate.any_zip(content, chance, lambda _, held, chance: mutate.any_npy(held, chance))
    return mutate.any_lines(content, chance)


def _changed_state(content: bytes, chance: Random) -> bytes:
    """Change a state, and write it under its digest."""
    if chance.random() < 0.4:
        changed = mutate.any_zip(content, chance, _changed_member)
    else:
        state = torch.load(io.BytesIO(content), weights_only=True)
        changed = checkpoints.torch_bytes(_changed_entry(state, chance))
    return f"bvae state 1 {hashlib.sha256(changed).hexdigest()} {len(changed)}\n".encode() + changed


def _changed_entry(held: Any, chance: Random) -> Any:
    """Change one entry of tables in one another: a tensor, or a plain value."""
    if isinstance(held, torch.Tensor):
        return _other_tensor(held, chance)
    if not isinstance(held, dict) or not held or chance.random() < 0.05:
        return mutate.any_value(chance)
    name = chance.choice(list(held))
    if chance.random() < 0.1:
        return {key: value for key, value in held.items() if key != name}
    return {**held, name: _changed_entry(held[name], chance)}


def _read_run(folder: Path) -> None:
    there = folder / "it"
    for summary in summarize_runs(folder):
        show_json(summary)
    run = runs.Run(there)
    run.state(), run.options(), run.recorded_epochs(), runs.training_seconds(there)
    _try_all(
        lambda: list(run.saved_states()) and None,
        lambda: runs.read_record(there) and None,
        lambda: unfinished(there) and None,
    )
    size = sum(path.stat().st_size for path in there.iterdir() if path.is_file())
    if size % _TRAINED == 0:
        _go_on(folder)


def _go_on(folder: Path) -> None:
    """Train in the folder, as the command that began it does."""
    values = json.loads((folder / "samples.json").read_bytes())
    config = TrainConfig(**{**values, "output_dir": folder / "weights"})
    like = next(iter(Path(values["output_dir"]).iterdir())).name
    (folder / "weights").mkdir()
    (folder / "it").rename(folder / "weights" / like)
    train(config)


def _read_comparison(folder: Path) -> None:
    there = ComparisonFolder(folder / "it")
    there.classifier_accuracy()
    there.tuning(0, 0, 1_000_000, "d")
    comparison = there.load()
    show_comparison(comparison)
    show_json(comparison.model_dump(mode="json"))
    there.claim(comparison.digest, {})
    for index, arm in enumerate(comparison.arms):
        there.evaluation(index, 0, arm.runs[0].digest)
    there.arrays(0, comparison.protocol.seeds[0])
    # A page is drawn of one in so many, chosen by the content.
    if sum((folder / "it" / "comparison.json").read_bytes()) % _DRAWN == 0:
        write_report(there, comparison)


PARSERS: tuple[Parser, ...] = (
    Parser("configuration TOML", _write_config, _read_config),
    Parser("code grammar", _write_words, _read_words),
    Parser("environment", _write_environment, _read_environment),
    Parser("IDX", _write_idx, _read_idx),
    Parser("npy and npz", _write_npy, _read_arrays),
    Parser("csv", _write_csv, _read_arrays),
    Parser("packed data", _write_packed, _read_packed),
    Parser("codes to search", _write_codes, _read_codes),
    Parser("pictures, archives and other tables", _write_public, _read_public),
    Parser("code files", _write_code, _read_code),
    Parser("weights", _write_weights, _read_weights),
    Parser("weights to sample", partial(_write_weights, described=True), _read_for_samples),
    Parser("safetensors", _write_safetensors, _read_weights),
    Parser("run folder", partial(_write_folder, kinds=("finished", "unfinished")), _read_run),
    Parser("comparison folder", partial(_write_folder, kinds=("comparison",)), _read_comparison),
)
