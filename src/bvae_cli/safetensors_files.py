"""Tensors by their names in a file of safetensors, with facts of ours beside them.

The library looks at every length and every place that a file claims before it makes a tensor, and a file holds no program.
Importing this module imports neither it nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bvae_cli.errors import is_out_of_memory
from bvae_cli.extras import require_extra
from bvae_cli.sources import parsed_json
from bvae_cli.torch_files import UnreadableError

if TYPE_CHECKING:
    import torch

SUFFIX = ".safetensors"
# One name for all that is told: of several the library chooses the order at random, and equal files would differ.
_FACTS, _METADATA = "bvae", "__metadata__"
_LENGTH_BYTES = 8
# Names and shapes of a model's tensors, some hundred bytes each, and a configuration.
_LONGEST_HEADER = 2**25


def require_safetensors() -> None:
    """Raise UsageError where safetensors is not installed; it is not imported here."""
    require_extra("safetensors", "safetensors")


def safetensors_bytes(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return a file with tensors, on whatever device they are, and facts as JSON; equal values are equal bytes."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return bytes(save(plain, {_FACTS: json.dumps(facts, sort_keys=True)}))


def read_safetensors(content: bytes) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a file and the facts that stand beside them, none where nobody wrote them.

    Raises UnreadableError where the bytes are no such file.
    """
    from safetensors.torch import load

    try:
        facts = _facts(content)
        return load(content), facts
    except UnreadableError:
        raise
    except Exception as error:
        # The bytes are in memory: but for a full one, whatever is raised here comes of what they are.
        if is_out_of_memory(error):
            raise
        raise UnreadableError(str(error)) from error


def _facts(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if length > min(len(content) - _LENGTH_BYTES, _LONGEST_HEADER):
        raise UnreadableError("its header claims to be larger than the file, or than one of a model is")
    header = parsed_json(content[_LENGTH_BYTES : _LENGTH_BYTES + length].decode())
    text = header.get(_METADATA, {}).get(_FACTS)
    facts = None if text is None else parsed_json(text)
    return facts if isinstance(facts, dict) else {}
