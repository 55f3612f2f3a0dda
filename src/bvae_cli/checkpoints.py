"""The two kinds of files that hold tensors: weights, which people read with torch, and states, from which a run goes on.
Exported weights may be a file of safetensors as well.

Both carry a digest of what they hold, because torch's reader does not notice a flipped bit. Nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvae_cli.errors import InputOutputError, cannot_be_read
from bvae_cli.safetensors_files import SUFFIX, read_safetensors, require_safetensors, safetensors_bytes
from bvae_cli.sources import open_file, parsed_json
from bvae_cli.torch_files import RefusedError, UnreadableError, read_tensors

if TYPE_CHECKING:
    import torch

FORMAT = 1
_CODE_FACTS = {"type", "options", "n", "digest", "distribution", "version"}
# Of what type the facts are that a model is built of, and that are told of it: somebody else may have written them.
_TYPES: dict[str, dict[str, type]] = {
    "code": {"type": str, "options": dict, "n": int, "digest": str},
    "decides": {"hidden": int, "depth": int, "activation": str, "latent": int, "seed": int, "epochs": int, "estimator": str},
    "data": {"type": str, "options": dict, "digest": str},
}
_TRAIN_AGAIN = "Train again, or restore the file."
_GIVE_OURS = "Give a file that `bvae train` wrote."
# A state is one line, `bvae state 1 <sha256> <length>`, and so many bytes of a file of torch.
_STATE = "bvae state"
_LONGEST_LINE = 200


@dataclass(frozen=True)
class Checkpoint:
    """Weights with everything needed to build their model again: plain values and tensors, never a pickle."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]


class DamagedStateError(Exception):
    """A state is there, and is not what was written."""


def weights_bytes(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> bytes:
    """Return the file of a run's weights, which ``torch.load`` reads."""
    plain = json.dumps(config, sort_keys=True)
    return torch_bytes(
        {"format": FORMAT, "config": plain, "weights": dict(weights), "digest": _digest_of_weights(plain, weights)}
    )


def exported_bytes(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> bytes:
    """Return a file of safetensors with the same weights and facts, which ``read_weights`` reads as well."""
    ordered = {name: weights[name] for name in sorted(weights)}
    digest = _digest_of_weights(json.dumps(config, sort_keys=True), ordered)
    return safetensors_bytes(ordered, {"format": FORMAT, "config": dict(config), "digest": digest})


def read_weights(path: Path) -> Checkpoint:
    """Read a file of weights, of torch or by its suffix of safetensors.

    Raises InputOutputError for one that is missing, damaged or foreign, UsageError where safetensors is not installed.
    """
    content = _content_of_weights(path)
    foreign = InputOutputError(f"{path} was not written by bvae.", _GIVE_OURS)
    if not isinstance(content, dict) or {"format", "config", "weights"} - set(content):
        raise foreign
    if content["format"] != FORMAT:
        raise later_format(path, content["format"], FORMAT)
    try:
        config = parsed_json(content["config"])
    except (ValueError, TypeError, AttributeError):
        raise foreign from None
    if not _is_complete(config) or not isinstance(content["weights"], dict):
        raise foreign
    _require_numbers(path, content["weights"])
    # Files of the first versions have none.
    if "digest" in content and content["digest"] != _digest_of_weights(content["config"], content["weights"]):
        raise InputOutputError(f"{path} is damaged: its weights are not those that were written.", _TRAIN_AGAIN)
    return Checkpoint(config, content["weights"])


def state_bytes(state: Mapping[str, Any]) -> bytes:
    """Return the file of a state: tensors and plain values under a digest."""
    content = torch_bytes(dict(state))
    return f"{_STATE} {FORMAT} {hashlib.sha256(content).hexdigest()} {len(content)}\n".encode() + content


def read_state(path: Path) -> dict[str, Any]:
    """Return what a file of ``state_bytes`` holds.

    Raises FileNotFoundError; DamagedStateError for one that is not what was written; InputOutputError where the system does
    not let it be read, or a later version wrote it.
    """
    try:
        line, content = _line_and_rest(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_be_read(path, error) from None
    if not line.startswith(_STATE):
        raise DamagedStateError(path)
    version, _, fact = line.removeprefix(_STATE).strip().partition(" ")
    # The first line stays what it is in every version, so that a damaged one is not taken for a later one.
    if fact != f"{hashlib.sha256(content).hexdigest()} {len(content)}":
        raise DamagedStateError(path)
    if version != str(FORMAT):
        if version.isdecimal() and int(version) > FORMAT:
            raise later_format(path, version, FORMAT, "or train with --overwrite")
        raise DamagedStateError(path)
    try:
        state = read_tensors(content)
    except UnreadableError as error:
        raise DamagedStateError(path) from error
    if not isinstance(state, dict):
        raise DamagedStateError(path)
    return state


def later_format(path: Path, found: object, known: int, otherwise: str = "") -> InputOutputError:
    """Return the error for a file that a later version wrote; ``otherwise`` is what can be done but to update."""
    alternative = f", {otherwise}" if otherwise else ""
    return InputOutputError(f"{path} has format {found}; this bvae reads format {known}.", f"Update bvae-cli{alternative}.")


def is_later(content: Mapping[str, Any]) -> bool:
    """Say whether a later version wrote a run's configuration."""
    found = content.get("format")
    return isinstance(found, int) and found > FORMAT


def torch_bytes(content: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of torch; equal values are equal bytes."""
    # In memory first: torch.save writes the name of its file into the bytes, and they would differ from run to run.
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _line_and_rest(path: Path) -> tuple[str, bytes]:
    with open_file(path) as file:
        return file.readline(_LONGEST_LINE).decode("ascii", errors="replace").rstrip("\n"), file.read()


def _is_complete(config: Any) -> bool:
    """Say whether a configuration has what is asked of it, and of the types that it is used as."""
    if not isinstance(config, dict) or not all(isinstance(config.get(table), dict) for table in _TYPES):
        return False
    told = [
        (config[table][fact], kind)
        for table, facts in _TYPES.items()
        for fact, kind in facts.items()
        if fact in config[table]
    ]
    return config["code"].keys() >= _CODE_FACTS and all(
        isinstance(it, kind) and not isinstance(it, bool) for it, kind in told
    )


def _content_of_weights(path: Path) -> Any:
    of_safetensors = path.suffix == SUFFIX
    if of_safetensors:
        require_safetensors()
    try:
        with open_file(path) as file:
            content = file.read()
        if not of_safetensors:
            return read_tensors(content)
        weights, facts = read_safetensors(content)
        # The digest is of the text, and equal values are one text.
        told = {"config": json.dumps(facts["config"], sort_keys=True)} if "config" in facts else {}
        return {**facts, **told, "weights": {name: weights[name] for name in sorted(weights)}}
    except OSError as error:
        raise cannot_be_read(path, error) from None
    except RefusedError:
        raise InputOutputError(
            f"{path} holds more than weights (or is damaged): it was refused, and nothing in it was run.", _GIVE_OURS
        ) from None
    except UnreadableError:
        raise InputOutputError(f"{path} cannot be read: it is damaged or cut short.", _TRAIN_AGAIN) from None


def _digest_of_weights(config: str, weights: Mapping[str, Any]) -> str:
    import torch

    digest = hashlib.sha256(config.encode())
    for name, values in weights.items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _require_numbers(path: Path, weights: Mapping[str, Any]) -> None:
    import torch

    for name, values in weights.items():
        if not isinstance(values, torch.Tensor) or not isinstance(name, str):
            raise InputOutputError(f"{path} was not written by bvae.", _GIVE_OURS)
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise InputOutputError(
                f"{path} holds weights that are not numbers (NaN or infinite), in {name}.",
                "The file is damaged: train again, or restore it.",
            )
