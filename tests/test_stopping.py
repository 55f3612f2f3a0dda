"""Requests of signals wait for a moment at which they do no harm."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from bvae_cli.stopping import Requests, passing_on_saves


class StoppedError(Exception):
    """Raised by the handler that was there before."""


@pytest.fixture(autouse=True)
def before() -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM raise StoppedError, and return the numbers that came."""
    heard: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        raise StoppedError

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    kept = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGHUP, handler)
    yield heard
    for number, former in kept.items():
        signal.signal(number, former)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_waits_until_it_is_obeyed(number: signal.Signals, before: list[int]) -> None:
    with Requests() as requests:
        requests.obey()
        os.kill(os.getpid(), number)
        assert before == []
        with pytest.raises(StoppedError):
            requests.obey()
        requests.obey()
    assert before == [number]


def test_a_second_signal_acts_at_once(before: list[int]) -> None:
    with Requests() as requests:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError):
            os.kill(os.getpid(), signal.SIGINT)
        assert before == [signal.SIGINT]
        requests.obey()  # the first was for the same end


def test_the_patient_wait_with_the_second_as_well(before: list[int]) -> None:
    with Requests(patient=True) as requests:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert before == []
        with pytest.raises(StoppedError):
            requests.obey()


def test_what_is_asked_for_after_the_last_safe_moment_is_obeyed_at_the_end(before: list[int]) -> None:
    with pytest.raises(StoppedError), Requests():
        os.kill(os.getpid(), signal.SIGINT)
    assert before == [signal.SIGINT]


def test_what_ends_the_block_goes_before_a_request_that_waits(before: list[int]) -> None:
    def fail() -> None:
        with Requests():
            os.kill(os.getpid(), signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert before == []


def test_handlers_are_as_they_were_afterwards() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    kept = [signal.getsignal(number) for number in numbers]
    with Requests():
        assert [signal.getsignal(number) for number in numbers] != kept
    assert [signal.getsignal(number) for number in numbers] == kept


def test_a_handler_that_was_set_meanwhile_stays(before: list[int]) -> None:
    with Requests():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    os.kill(os.getpid(), signal.SIGTERM)
    assert before == []


@pytest.mark.parametrize("former", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_signal_that_is_ignored_or_ends_the_process_goes_on_doing_so(former: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, former)
    with Requests():
        assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.parametrize("former", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_warning_asks_for_the_state_once(former: signal.Handlers, before: list[int]) -> None:
    signal.signal(signal.SIGUSR1, former)
    with Requests() as requests:
        assert not requests.asked_to_save()
        os.kill(os.getpid(), signal.SIGUSR1)
        requests.obey()
        assert [requests.asked_to_save(), requests.asked_to_save()] == [True, False]
    assert before == []


def test_a_handler_of_somebody_elses_for_warnings_stays() -> None:
    def mine(number: int, frame: FrameType | None) -> None: ...

    signal.signal(signal.SIGUSR1, mine)
    with Requests():
        assert signal.getsignal(signal.SIGUSR1) is mine


def test_outside_of_the_main_thread_nothing_is_changed(before: list[int]) -> None:
    seen = []

    def work() -> None:
        with Requests() as requests, passing_on_saves(seen.append):
            seen.append(signal.getsignal(signal.SIGINT))
            requests.obey()

    former = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [former]


def test_a_warning_is_passed_on_to_those_who_work(before: list[int]) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with passing_on_saves(heard.append):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
