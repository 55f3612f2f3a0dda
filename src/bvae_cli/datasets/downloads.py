"""Files of public data sets, fetched into bvae's data folder: gone on with where they were cut off, and checked.

What is half there has ``.part`` behind its name; a file has its own name only when its sha256 is the known one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bvae_cli import paths
from bvae_cli.errors import InputOutputError, reason_of
from bvae_cli.files import describe_os_error
from bvae_cli.locks import Lock

if TYPE_CHECKING:
    import requests

PART = ".part"
# Of a piece that is cut off nothing is kept.
_LARGEST_PIECE = 2**14
# A server that says nothing for so many seconds, before or within its answer, is given up.
_SECONDS_OF_SILENCE = (10.0, 60.0)
# So often a transfer that is cut off is gone on with, as long as each try brings something.
_MOST_TRIES = 8
_SECONDS_BETWEEN_WORDS = 5.0
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416


class Download(NamedTuple):
    """A public file: its name, its address, how many bytes it has and their sha256 (hexadecimal)."""

    name: str
    url: str
    size: int
    sha256: str


class _OtherContentError(ValueError):
    """What a server sends cannot be the known file; the words say why."""


class _CutOffError(OSError):
    """A transfer ended before the last byte."""


def own_folder(data_set: str) -> Path:
    """Return bvae's own folder of a data set (not made here). Raises InputOutputError where there is no home for it."""
    data = paths.data_dir()
    if data is None:
        raise InputOutputError(
            f"There is no home folder to keep {data_set} in.",
            f"Name a folder in BVAE_DATA_DIR, or its files: {data_set}:folder=FOLDER.",
        )
    return data / data_set


def fetch(downloads: Sequence[Download], folder: Path) -> None:
    """Fetch those of the files that are not in ``folder``.

    Raises InputOutputError where a file cannot be had, is not the known one, or cannot be written; it says where to put the
    files by hand. Raises UsageError where another process is fetching into the folder.
    """
    if all((folder / download.name).is_file() for download in downloads):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputOutputError(
            f"The folder {folder} cannot be made: {reason_of(error)}.", "Name another in BVAE_DATA_DIR."
        ) from error
    by_hand = f"put {spoken_names(downloads)} into {folder} by hand"
    with Lock(folder):
        for download in downloads:
            if not (folder / download.name).is_file():
                _fetch(download, folder, by_hand)


def spoken_names(downloads: Sequence[Download]) -> str:
    """Name files in a sentence.

    >>> spoken_names([Download("a.gz", "", 1, ""), Download("b.gz", "", 1, "")])
    'a.gz and b.gz'
    """
    *most, last = [download.name for download in downloads]
    return f"{', '.join(most)} and {last}" if most else last


def _fetch(download: Download, folder: Path, by_hand: str) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.getLogger(__name__).getEffectiveLevel())
    part = folder / f"{download.name}{PART}"
    goes_on = part.is_file()
    try:
        pooch.retrieve(
            download.url,
            known_hash=f"sha256:{download.sha256}",
            fname=download.name,
            path=folder,
            downloader=lambda _, file, __: _complete(download, part, Path(file)),
        )
    except ValueError as error:
        # Its beginning may be damaged, or be of what the server had before.
        if goes_on:
            part.unlink(missing_ok=True)
            _fetch(download, folder, by_hand)
            return
        why = str(error) if isinstance(error, _OtherContentError) else "its sha256 differs"
        raise InputOutputError(
            f"What {download.url} serves is not the official file: {why}.", f"Try again later, or {by_hand}."
        ) from error
    except (requests.RequestException, _CutOffError) as error:
        raise InputOutputError(
            f"{download.url} cannot be fetched ({_reason(error)}).", f"Go online and try again{_kept(part)}, or {by_hand}."
        ) from error
    except OSError as error:
        raise describe_os_error(error, folder) from error


def _reason(error: OSError) -> str:
    response: requests.Response | None = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}".rstrip()
    return "the transfer was cut off" if isinstance(error, _CutOffError) else type(error).__name__


def _kept(part: Path) -> str:
    there = _size(part)
    return f" (the {there:,} bytes that came are kept, and gone on from)" if there else ""


def _complete(download: Download, part: Path, file: Path) -> None:
    """Fetch what is missing of a part, and put it in the place of ``file``."""
    import requests

    for _ in range(_MOST_TRIES):
        before = _size(part)
        try:
            _go_on(download, part)
            break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _CutOffError):
            if _size(part) <= before:
                raise
    else:
        raise _CutOffError
    os.replace(part, file)  # noqa: PTH105 - as everywhere here


def _go_on(download: Download, part: Path) -> None:
    """Fetch a part from where it ends, or anew where the server cannot do that."""
    import pooch
    import requests

    there = _size(part)
    if there == download.size:
        return
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={there}-"} if there else {})}
    with requests.get(download.url, headers=headers, stream=True, timeout=_SECONDS_OF_SILENCE) as response:
        if response.status_code == _RANGE_NOT_SATISFIABLE and there:
            raise _OtherContentError(f"it ends before its byte {there:,}")
        response.raise_for_status()
        if response.status_code == _PARTIAL_CONTENT:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
                raise _OtherContentError("it is not the part that was asked for")
        else:
            there = 0
        _require_size(response, there, download.size)
        with part.open("ab" if there else "wb") as file:
            said = time.monotonic()
            for piece in response.iter_content(_LARGEST_PIECE):
                there += len(piece)
                if there > download.size:
                    raise _OtherContentError(f"it has more than {download.size:,} bytes")
                file.write(piece)
                if time.monotonic() - said >= _SECONDS_BETWEEN_WORDS:
                    said = time.monotonic()
                    pooch.get_logger().info(f"{there / 1e6:,.0f} of {download.size / 1e6:,.0f} MB of {download.name}")
    if there < download.size:
        raise _CutOffError


def _require_size(response: requests.Response, there: int, size: int) -> None:
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and there + int(length) != size:
        raise _OtherContentError(f"it has {there + int(length):,} bytes, and not {size:,}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
