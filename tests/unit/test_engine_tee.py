"""One stream to several consumers: every byte in order, whoever is slow or fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from kbpg.engine.tee import DEPTH, tee

DEADLINE = 20.0
"""Seconds for a test's whole stream; it takes milliseconds."""

Consumer = Callable[[Iterator[bytes]], object]


def keeping(into: list[bytes]) -> Consumer:
    return into.extend


def within_deadline(work: Callable[[], None]) -> BaseException | None:
    """Run `work` in a thread and return what it raised; it must end before the deadline."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (handed to the test)
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "the stream is stuck"
    return raised[0] if raised else None


def chunks(count: int) -> list[bytes]:
    return [f"{number}\n".encode() for number in range(count)]


def test_every_consumer_gets_every_byte_in_order() -> None:
    sent, taken = chunks(5 * DEPTH), [[], [], []]  # type: tuple[list[bytes], list[list[bytes]]]
    assert within_deadline(lambda: tee(sent, [keeping(each) for each in taken])) is None
    assert taken == [sent, sent, sent]


def test_the_pace_is_the_slowest_consumers() -> None:
    """The source is never more than a queue ahead of a consumer that has not begun."""
    begin, ahead = threading.Event(), []  # type: tuple[threading.Event, list[int]]
    fast: list[bytes] = []
    slow: list[bytes] = []

    def source() -> Iterator[bytes]:
        for number, chunk in enumerate(chunks(3 * DEPTH)):
            ahead.append(number)
            if number == DEPTH:
                threading.Timer(0.05, begin.set).start()
            yield chunk

    def late(stream: Iterator[bytes]) -> None:
        assert begin.wait(DEADLINE)
        # One chunk more than fits may have been taken from the source by now, and waits
        assert ahead[-1] <= DEPTH
        slow.extend(stream)

    assert within_deadline(lambda: tee(source(), [keeping(fast), late])) is None
    assert fast == slow == chunks(3 * DEPTH)


def test_a_consumer_that_fails_does_not_stop_the_others_and_its_error_is_raised() -> None:
    sent = chunks(5 * DEPTH)
    taken: list[bytes] = []

    def failing(stream: Iterator[bytes]) -> None:
        next(stream)
        raise ValueError("no space left")

    error = within_deadline(lambda: tee(sent, [failing, keeping(taken)]))
    assert isinstance(error, ValueError)
    assert taken == sent


def test_a_consumer_may_leave_early() -> None:
    sent = chunks(5 * DEPTH)
    taken: list[bytes] = []
    assert within_deadline(lambda: tee(sent, [lambda stream: next(stream), keeping(taken)])) is None
    assert taken == sent


def test_when_all_consumers_fail_the_stream_still_ends() -> None:
    def failing(stream: Iterator[bytes]) -> None:
        raise ValueError("at once")

    assert isinstance(within_deadline(lambda: tee(chunks(5 * DEPTH), [failing, failing])), ValueError)


def test_a_source_that_fails_ends_the_streams_and_its_error_is_the_one_raised() -> None:
    taken: list[bytes] = []

    def source() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError("the source went away")

    def notices(stream: Iterator[bytes]) -> None:
        taken.extend(stream)
        raise ValueError("an archive that stops half-way")

    error = within_deadline(lambda: tee(source(), [notices, notices]))
    assert isinstance(error, ConnectionResetError)
    assert taken == [b"half", b"half"]


@pytest.mark.parametrize("sent", [[], [b""], [b"one"]])
def test_short_streams(sent: list[bytes]) -> None:
    taken: list[bytes] = []
    assert within_deadline(lambda: tee(sent, [keeping(taken)])) is None
    assert taken == sent


def test_no_consumer_is_no_error() -> None:
    assert within_deadline(lambda: tee([b"x"], [])) is None


def test_a_stream_that_nobody_reads_any_more_is_not_drained() -> None:
    sent: list[int] = []

    def endless() -> Iterator[bytes]:
        for number in range(1_000_000):
            sent.append(number)
            yield b"x"

    def leaving(stream: Iterator[bytes]) -> None:
        next(stream)
        raise ValueError("the disk is full")

    assert isinstance(within_deadline(lambda: tee(endless(), [leaving, leaving])), ValueError)
    assert len(sent) < 100_000
