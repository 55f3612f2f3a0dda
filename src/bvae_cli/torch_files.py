"""What is in a file of torch, read without torch's own reader of archives: that one trusts the sizes that a file claims.

Python's zipfile reads the archive, torch's unpickler of weights (that of ``weights_only=True``) the pickle, which can name
tensors and plain values and nothing else; each tensor gets the bytes that are there. Nothing in the file is executed,
nothing is written anywhere, and memory follows the file.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import sys
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

from bvae_cli.errors import is_out_of_memory
from bvae_cli.sources import require_shallow

if TYPE_CHECKING:
    import torch

_PICKLE, _RECORDS, _BYTE_ORDER = "data.pkl", "data/", "byteorder"
# A pickle says how the tensors of a model are shaped, and their names: some hundred bytes each.
_LARGEST_PICKLE = 2**26
_FLAG_ENCRYPTED = 1
_BARE_PICKLE = b"\x80"
# All that a file of dense tensors names. Torch's unpickler lets more through: ``bytearray`` alone makes memory of a number.
_GLOBALS = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict"}
_STORAGES = re.compile(r"torch [A-Z][A-Za-z0-9]+Storage|torch\.storage UntypedStorage")
_NAMING = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}


class UnreadableError(Exception):
    """The bytes of a file are not what torch writes."""


class RefusedError(UnreadableError):
    """The file names something else than tensors and plain values."""


def read_tensors(content: bytes) -> Any:
    """Return what ``torch.save`` wrote: tensors in dicts and lists, and plain values, on the CPU.

    Raises UnreadableError where the bytes are no such file, RefusedError where they hold more than that.
    """
    if content.startswith(_BARE_PICKLE):
        raise RefusedError("it is a pickle and no archive")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's remarks on a stranger's file are not for the person who named it
        try:
            value = _unpickled(_members(content))
            require_shallow(value)
        except pickle.UnpicklingError as error:
            raise RefusedError(str(error)) from error
        except UnreadableError:
            raise
        except Exception as error:
            # The bytes are in memory: but for a full one, whatever is raised here comes of what they are.
            if is_out_of_memory(error):
                raise
            raise UnreadableError(str(error)) from error
    return value


def _members(content: bytes) -> dict[str, bytes]:
    """Return the members of the archive by their names within its one folder. Each must be there once, unpacked."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            # Torch packs nothing. What is packed could unpack to any size.
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _FLAG_ENCRYPTED:
                raise UnreadableError(f"'{info.filename}' is compressed or encrypted")
            if max(info.file_size, info.compress_size) > len(content):
                raise UnreadableError(f"'{info.filename}' claims to be larger than the file")
            name = info.filename.partition("/")[2]
            if name in found:
                raise UnreadableError(f"'{info.filename}' is there twice")
            found[name] = archive.read(info)
            # Members that lie over each other would make much of little.
            if sum(map(len, found.values())) > len(content):
                raise UnreadableError("its members lie over each other")
    if len(found.get(_PICKLE, b"")) > _LARGEST_PICKLE:
        raise UnreadableError("it describes more tensors than a model has")
    return found


def _unpickled(members: dict[str, bytes]) -> Any:
    import torch
    from torch import _weights_only_unpickler

    if members.get(_BYTE_ORDER, sys.byteorder.encode()) != sys.byteorder.encode():
        raise UnreadableError("it was written on a machine of another byte order")
    _require_known_names(members[_PICKLE])
    storages: dict[str, torch.TypedStorage] = {}

    def storage(told: tuple[Any, ...]) -> torch.TypedStorage:
        """Return the storage that the pickle tells of: ('storage', its type, its name, its device, its length)."""
        _, kind, name, _, length = told
        if name not in storages:
            dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
            record = members[f"{_RECORDS}{name}"]
            if len(record) != length * (dtype.itemsize if kind is not torch.UntypedStorage else 1):
                raise UnreadableError(f"a tensor claims {length} values, and its record has {len(record)} bytes")
            untyped = torch.UntypedStorage(len(record)) if not record else _copied(record)
            storages[name] = torch.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)
        return storages[name]

    unpickler = _weights_only_unpickler.Unpickler(io.BytesIO(members[_PICKLE]), encoding="utf-8")
    unpickler.persistent_load = storage  # type: ignore[method-assign]
    value = unpickler.load()
    _require_dense(value)
    return value


def _require_known_names(content: bytes) -> None:
    """Raise RefusedError where a pickle names a function or a class that no file of tensors needs."""
    for opcode, told, _ in pickletools.genops(content):
        if opcode.name in _NAMING and not (told in _GLOBALS or _STORAGES.fullmatch(str(told))):
            raise RefusedError(f"it names {told}")


def _copied(record: bytes) -> torch.UntypedStorage:
    import torch

    return torch.frombuffer(bytearray(record), dtype=torch.uint8).untyped_storage()


def _require_dense(value: Any) -> None:
    """Raise UnreadableError where a tensor is no plain table of numbers: one number can be said to be 10¹² of them."""
    import torch

    seen: set[int] = set()
    open_values = [value]
    while open_values:
        found = open_values.pop()
        if isinstance(found, torch.Tensor):
            wanted = math.prod(found.shape) * found.element_size()
            if found.layout != torch.strided or found.is_quantized or wanted > found.untyped_storage().nbytes():
                raise UnreadableError("a tensor in it is no plain table of numbers")
        elif isinstance(found, dict | list | tuple | set) and id(found) not in seen:
            seen.add(id(found))
            open_values += [*found, *found.values()] if isinstance(found, dict) else found
