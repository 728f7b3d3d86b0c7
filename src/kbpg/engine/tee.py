"""One stream of bytes to several consumers at the pace of the slowest that still listens."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

DEPTH = 64
"""Chunks that wait for a consumer before the producer does: at most 64 × 256 kB a consumer."""

Consumer = Callable[[Iterator[bytes]], object]


class _Pipe:
    """A bounded queue that its consumer may leave at any time."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue(DEPTH)
        self._left = False

    def put(self, chunk: bytes | None) -> None:
        while not self._left:
            try:
                self._chunks.put(chunk, timeout=0.5)
            except queue.Full:
                continue
            return

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self._chunks.get()) is not None:
            yield chunk

    def leave(self) -> None:
        self._left = True

    @property
    def left(self) -> bool:
        return self._left


def tee(chunks: Iterable[bytes], consumers: Sequence[Consumer]) -> None:
    """Give every chunk to every consumer; return when all are done.

    A consumer that fails does not stop the others; its error is raised at the end, or as soon as none is left:
    nobody waits for the rest of a stream that nobody reads. When the source fails,
    the consumers see the stream end early (and notice: an archive that stops half-way does not load), and
    the source's error is the one raised.
    """
    pipes = [_Pipe() for _ in consumers]

    def consume(pair: tuple[Consumer, _Pipe]) -> object:
        consumer, pipe = pair
        try:
            return consumer(iter(pipe))
        finally:
            pipe.leave()

    with ThreadPoolExecutor(max(1, len(consumers))) as pool:
        running = [pool.submit(consume, pair) for pair in zip(consumers, pipes, strict=True)]
        try:
            for chunk in chunks:
                for pipe in pipes:
                    pipe.put(chunk)
                if all(pipe.left for pipe in pipes):
                    break
        finally:
            for pipe in pipes:
                pipe.put(None)
    for done in running:
        done.result()
