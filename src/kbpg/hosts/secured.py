"""TLS over a stream that need not be a socket: Python's `ssl` wraps sockets only, a forwarded stream is none."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from kbpg.hosts.streams import ChannelSocket

CHUNK = 1 << 14
"""Bytes; a record of TLS holds no more (RFC 8446, 5.1)."""


def secured(stream: Any, context: ssl.SSLContext, name: str) -> ChannelSocket:
    """Return a stream that speaks TLS over `stream` with a server that proved to be `name` (a name or an address).

    Raises `ssl.SSLCertVerificationError` where it did not, `ssl.SSLError` where it speaks something else, `OSError`.
    """
    channel = _Channel(stream, context, name)
    channel.handshake()
    return ChannelSocket(channel, stream.getpeername())


def certificate_of(stream: Any, context: ssl.SSLContext, name: str) -> str:
    """Return the certificate, in PEM, with which a server proves to be `name`, and hang up. Raises as `secured`."""
    channel = _Channel(stream, context, name)
    channel.handshake()
    shown = channel.certificate
    channel.close()
    return ssl.DER_cert_to_PEM_cert(shown)


class _Channel:
    """The part of a paramiko channel that `ChannelSocket` needs."""

    def __init__(self, stream: Any, context: ssl.SSLContext, name: str) -> None:
        self._stream = stream
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=name)

    def handshake(self) -> None:
        self._until_done(self._tls.do_handshake)

    @property
    def certificate(self) -> bytes:
        return self._tls.getpeercert(binary_form=True) or b""

    def recv(self, size: int) -> bytes:
        try:
            return bytes(self._until_done(lambda: self._tls.read(size)))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def send(self, data: bytes) -> int:
        return int(self._until_done(lambda: self._tls.write(data)))

    def _until_done(self, work: Any) -> Any:
        """Do `work`, passing on what TLS wants to send, and feeding it what it waits for."""
        while True:
            try:
                done = work()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._stream.recv(CHUNK)
                self._received.write(data) if data else self._received.write_eof()
                continue
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert that tells the other side why
                raise
            self._flush()
            return done

    def _flush(self) -> None:
        if self._to_send.pending:
            self._stream.sendall(self._to_send.read())

    def settimeout(self, seconds: float | None) -> None:
        self._stream.settimeout(seconds)

    def gettimeout(self) -> float | None:
        seconds: float | None = self._stream.gettimeout()
        return seconds

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def shutdown(self, how: int) -> None:
        self._stream.shutdown(how)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._flush()
        self._stream.close()
