from __future__ import annotations

import gzip
import hashlib
import logging
import multiprocessing
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pooch
import pytest

from bvae_cli.datasets import downloads
from bvae_cli.datasets.binarized_mnist import BinarizedMnist
from bvae_cli.datasets.downloads import Download, are_official, fetch, own_folder, require_official
from bvae_cli.errors import UsageError
from bvae_cli.locks import Lock

from .mirror import Mirror, serving
from .refusal import refused

CONTENT = np.random.default_rng(0).bytes(100_000)
OTHER = np.random.default_rng(1).bytes(100_000)
_PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


def download_of(url: str, name: str = "file.gz", content: bytes = CONTENT) -> Download:
    return Download(name, f"{url}{name}", len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    for variable in _PROXIES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(downloads, "_LARGEST_PIECE", 1000)
    with serving({"file.gz": CONTENT}) as mirror:
        yield mirror


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_is_fetched_once_into_a_folder_that_is_made(mirror: Mirror, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "set"
    for _ in range(2):
        fetch([download_of(mirror.url)], folder)
    assert (folder / "file.gz").read_bytes() == CONTENT
    assert names_in(folder) == ["file.gz"]
    assert mirror.asked == [("file.gz", None)]


def test_a_transfer_that_is_cut_off_goes_on_where_it_stopped(mirror: Mirror, tmp_path: Path) -> None:
    mirror.truncated_after = [30_000, 20_000]
    fetch([download_of(mirror.url)], tmp_path)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=30000-", "bytes=50000-"]
    assert names_in(tmp_path) == ["file.gz"]


def test_a_server_without_ranges_is_asked_for_all_of_it_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.ranges, mirror.truncated_after = False, [30_000]
    fetch([download_of(mirror.url)], tmp_path)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=30000-"]


def test_what_is_half_there_is_kept_under_another_name_and_gone_on_from_by_the_next_command(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.truncated_after = [40_000, 0]
    with refused("cannot be fetched", "Go online", "the 40,000 bytes that came are kept", f"put file.gz into {tmp_path}"):
        fetch([download_of(mirror.url)], tmp_path)
    assert names_in(tmp_path) == ["file.gz.part"]
    assert (tmp_path / "file.gz.part").read_bytes() == CONTENT[:40_000]
    mirror.asked.clear()
    fetch([download_of(mirror.url)], tmp_path)
    assert mirror.asked == [("file.gz", "bytes=40000-")]
    assert names_in(tmp_path) == ["file.gz"]


def test_a_part_that_is_whole_is_only_checked(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file.gz.part").write_bytes(CONTENT)
    fetch([download_of(mirror.url)], tmp_path)
    assert mirror.asked == []
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [OTHER[:30_000], OTHER, CONTENT + b"more"], ids=["other start", "other file", "longer"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_that_is_damaged_is_fetched_anew(mirror: Mirror, tmp_path: Path, part: bytes, ranges: bool) -> None:
    mirror.ranges = ranges
    (tmp_path / "file.gz.part").write_bytes(part)
    fetch([download_of(mirror.url)], tmp_path)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["file.gz"]


def test_a_server_that_sends_another_part_than_asked_for_is_asked_for_all_of_it(mirror: Mirror, tmp_path: Path) -> None:
    mirror.sends_the_part = slice(0, 100_000)
    (tmp_path / "file.gz.part").write_bytes(CONTENT[:30_000])
    fetch([download_of(mirror.url)], tmp_path)
    assert [wanted for _, wanted in mirror.asked] == ["bytes=30000-", None]
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("served", "says_length", "why"),
    [
        (OTHER, True, "its sha256 differs"),
        (CONTENT[:-1], True, "it has 99,999 bytes, and not 100,000"),
        (b"<html>moved</html>", True, "it has 18 bytes, and not 100,000"),
        (CONTENT + b"more", False, "it has more than 100,000 bytes"),
    ],
    ids=["corrupted", "short", "a page", "without end"],
)
def test_another_file_under_the_name_is_refused_and_not_kept(
    mirror: Mirror, tmp_path: Path, served: bytes, says_length: bool, why: str
) -> None:
    mirror.files["file.gz"], mirror.says_length = served, says_length
    with refused(f"What {mirror.url}file.gz serves is not the official file", why, "by hand"):
        fetch([download_of(mirror.url)], tmp_path)
    assert not (tmp_path / "file.gz").exists()


def test_of_a_file_that_is_longer_than_known_nothing_stays(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["file.gz"], mirror.says_length = CONTENT * 20, False
    with refused("more than 100,000 bytes"):
        fetch([download_of(mirror.url)], tmp_path)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (500, "500 Internal Server Error"), (503, "503")])
def test_the_answer_of_a_server_that_refuses_is_named(mirror: Mirror, tmp_path: Path, status: int, words: str) -> None:
    mirror.status = status
    with refused(f"{mirror.url}file.gz cannot be fetched (the server answers {words}", "by hand", str(tmp_path)):
        fetch([download_of(mirror.url)], tmp_path)
    assert names_in(tmp_path) == []


def test_a_server_that_falls_silent_is_given_up_and_what_it_sent_is_kept(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_SECONDS_OF_SILENCE", (5, 0.2))
    mirror.seconds_of_silence, mirror.truncated_after = 1.0, [60_000, 0]
    with refused("cannot be fetched", "30,000 bytes that came are kept"):
        fetch([download_of(mirror.url)], tmp_path)
    assert (tmp_path / "file.gz.part").read_bytes() == CONTENT[:30_000]


def test_a_long_transfer_says_how_far_it_is(mirror: Mirror, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(downloads, "_SECONDS_BETWEEN_WORDS", 0)
    monkeypatch.setattr(logging.getLogger("bvae_cli"), "level", logging.INFO)
    logging.getLogger("bvae_cli").manager._clear_cache()
    # It is in no table of loggers, and so keeps what it once found out of its level.
    pooch.get_logger()._cache.clear()
    pooch.get_logger().addHandler(caplog.handler)
    try:
        fetch([download_of(mirror.url)], tmp_path)
    finally:
        pooch.get_logger().removeHandler(caplog.handler)
    assert "0 of 0 MB of file.gz" in caplog.text


def test_a_slow_server_is_waited_for(mirror: Mirror, tmp_path: Path) -> None:
    mirror.seconds_of_silence = 0.3
    fetch([download_of(mirror.url)], tmp_path)
    assert (tmp_path / "file.gz").read_bytes() == CONTENT


def test_offline_the_words_name_the_address_and_the_place_for_the_file(tmp_path: Path, monkeypatch) -> None:
    for variable in _PROXIES:
        monkeypatch.delenv(variable, raising=False)
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody_listens.getsockname()[1]}/"
        with refused(f"{url}file.gz cannot be fetched (ConnectionError)", "Go online", f"put file.gz into {tmp_path}"):
            fetch([download_of(url)], tmp_path)


def test_files_that_are_there_are_left_alone(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "mine.gz").write_bytes(CONTENT)
    fetch([download_of(mirror.url, "mine.gz"), download_of(mirror.url)], tmp_path)
    assert (tmp_path / "mine.gz").read_bytes() == CONTENT
    assert mirror.asked == [("file.gz", None)]


@pytest.mark.parametrize("content", [OTHER, b"by hand"], ids=["of the same size", "of another size"])
def test_a_file_put_there_by_hand_is_the_official_one_or_refused(mirror: Mirror, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "emnist"
    folder.mkdir()
    (folder / "mine.gz").write_bytes(content)
    with refused(f"{folder / 'mine.gz'} is not the official file: its sha256 differs", "Remove it", "emnist:folder="):
        fetch([download_of(mirror.url, "mine.gz"), download_of(mirror.url)], folder)
    assert (folder / "mine.gz").read_bytes() == content
    assert mirror.asked == []


def test_a_part_that_is_longer_than_the_file_is_not_said_to_be_kept(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file.gz.part").write_bytes(CONTENT + b"more")
    mirror.status = 503
    with refused("Go online and try again, or put file.gz"):
        fetch([download_of(mirror.url)], tmp_path)
    assert names_in(tmp_path) == []


def test_a_disk_that_is_full_is_named_as_such(mirror: Mirror, tmp_path: Path, monkeypatch) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", *more, **others):
        if path.suffix == ".part":
            raise OSError(28, "No space left on device")
        return opened(path, mode, *more, **others)

    monkeypatch.setattr(Path, "open", full)
    with refused(f"Cannot write to {tmp_path}: no space left on device"):
        fetch([download_of(mirror.url)], tmp_path)


def _hold(folder: Path, held, done) -> None:
    with Lock(folder):
        held.set()
        done.wait(30)


def test_two_processes_do_not_write_into_one_part(mirror: Mirror, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, done))
    other.start()
    assert held.wait(60)
    with pytest.raises(UsageError, match=r"is in use by .*\n.*Wait for it"):
        fetch([download_of(mirror.url)], tmp_path)
    done.set()
    other.join()
    fetch([download_of(mirror.url)], tmp_path)
    assert names_in(tmp_path) == ["file.gz"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused("cannot be made", "BVAE_DATA_DIR"):
        fetch([download_of("http://127.0.0.1:1/")], tmp_path / "file" / "set")


def test_without_a_home_the_words_say_where_else_the_files_can_be(monkeypatch) -> None:
    monkeypatch.setattr(downloads.paths, "data_dir", lambda: None)
    with refused("no home folder to keep emnist in", "BVAE_DATA_DIR", "emnist:folder=FOLDER"):
        own_folder("emnist")


def test_what_is_bundled_needs_no_download(monkeypatch) -> None:
    monkeypatch.setattr(pooch, "retrieve", None)
    assert len(BinarizedMnist().load().test) == 10_000


def test_a_file_that_somebody_else_packed_is_the_official_one_by_what_it_holds(tmp_path: Path) -> None:
    held, theirs = CONTENT, gzip.compress(CONTENT, 9)
    known = Download("file.gz", "", len(theirs), hashlib.sha256(theirs).hexdigest(), hashlib.sha256(held).hexdigest())
    of_the_archive_alone = known._replace(unpacked_sha256="")
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(held, 0))
    assert are_official([path], [known])
    assert not are_official([path], [of_the_archive_alone])
    (tmp_path / "file").write_bytes(held)
    require_official([known], tmp_path)
    assert are_official([tmp_path / "file"], [known])
    assert not are_official([tmp_path / "file"], [of_the_archive_alone])
    for wrong in (gzip.compress(OTHER), gzip.compress(held)[:-9], b"no gzip"):
        path.write_bytes(wrong)
        with refused("file.gz is not the official file", "Remove it"):
            require_official([known], tmp_path)
    path.unlink()
    (tmp_path / "file").write_bytes(OTHER)
    with refused("file is not the official file"):
        require_official([known], tmp_path)
