"""Files of public data sets, fetched into bvae's data folder: gone on with where they were cut off, and checked.

What is half there has ``.part`` behind its name; a file has its own name only when its sha256 is the known one. A file that
somebody has put there by hand under such a name must have it as well.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bvae_cli import paths
from bvae_cli.errors import InputOutputError, reason_of
from bvae_cli.files import describe_os_error
from bvae_cli.locks import Lock
from bvae_cli.sources import open_file, reading

if TYPE_CHECKING:
    import requests

PART = ".part"
_MOST_UNPACKED, _BYTES_AT_ONCE = 1 << 28, 1 << 20
# What is said of data whose files, unpacked or of another name, have no known sha256.
NOT_COMPARED = ", not compared with the official ones"
# Of a piece that is cut off nothing is kept.
_LARGEST_PIECE = 2**14
# A server that says nothing for so many seconds, before or within its answer, is given up.
_SECONDS_OF_SILENCE = (10.0, 60.0)
# So often a transfer that is cut off is gone on with, as long as each try brings something.
_MOST_TRIES = 8
_SECONDS_BETWEEN_WORDS = 5.0
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE = 206, 416


class Download(NamedTuple):
    """A public file: its name, its address, how many bytes it has and their sha256 (hexadecimal).

    ``unpacked_sha256`` is that of what a .gz file holds, where it is known: the same whoever packed it.
    """

    name: str
    url: str
    size: int
    sha256: str
    unpacked_sha256: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of files that can be compared with this one: its own, and that of what it holds."""
        return (self.name, self.name.removesuffix(".gz")) if self.unpacked_sha256 else (self.name,)


class _OtherContentError(ValueError):
    """What a server sends cannot be the known file; the words say why."""


class _TooLongError(_OtherContentError):
    """More came than the known file has: what is there of it is nothing to go on from."""


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
    """Fetch those of the files that are not in ``folder``, the folder of a data set in bvae's data folder.

    Raises InputOutputError where a file cannot be had, is not the known one, or cannot be written; it says where to put the
    files by hand. Raises UsageError where another process is fetching into the folder.
    """
    require_official(downloads, folder)
    missing = [download for download in downloads if not (folder / download.name).is_file()]
    if not missing:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputOutputError(
            f"The folder {folder} cannot be made: {reason_of(error)}.", "Name another in BVAE_DATA_DIR."
        ) from error
    by_hand = f"put {spoken_names(downloads)} into {folder} by hand"
    with Lock(folder):
        for download in missing:
            if not (folder / download.name).is_file():
                _fetch(download, folder, by_hand)


def require_official(downloads: Sequence[Download], folder: Path) -> None:
    """Raise InputOutputError where one of the files is in ``folder``, as ``fetch`` has it, and is not the known one."""
    for download in downloads:
        for path in (folder / name for name in download.names):
            if path.is_file() and not is_official(path, download):
                raise InputOutputError(
                    f"{path} is not the official file: its sha256 differs.",
                    f"Remove it, so that it is fetched, or name a folder of your own: {folder.name}:folder=FOLDER.",
                )


def is_official(path: Path, download: Download) -> bool:
    """Say whether a file is the known one, or holds what that holds. Raises InputOutputError where it cannot be read."""
    with reading(path), open_file(path) as file:
        # It has readinto, which the type does not say.
        if path.stat().st_size == download.size and _digest(cast(Any, file)) == download.sha256:
            return True
    return bool(download.unpacked_sha256) and _unpacked_digest(path) == download.unpacked_sha256


def _unpacked_digest(path: Path) -> str | None:
    """Return the sha256 of what a file holds, unpacked where it is .gz; None where that is damaged or far too long."""
    with reading(path), open_file(path) as file:
        content = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        digest, left = hashlib.sha256(), _MOST_UNPACKED
        try:
            while left > 0 and (part := content.read(_BYTES_AT_ONCE)):
                digest.update(part)
                left -= len(part)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return None
        return digest.hexdigest() if left > 0 else None


def _digest(file: Any) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def are_official(paths: Iterable[Path], downloads: Sequence[Download]) -> bool:
    """Say whether every file is the known one of its name."""
    known = {name: download for download in downloads for name in download.names}
    return all(path.name in known and is_official(path, known[path.name]) for path in paths)


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
    if _size(part) > download.size:
        part.unlink()
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
        if goes_on or isinstance(error, _TooLongError):
            part.unlink(missing_ok=True)
        # Its beginning may be damaged, or be of what the server had before.
        if goes_on:
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
                    raise _TooLongError(f"it has more than {download.size:,} bytes")
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
