"""An authenticated SSH connection to one host, by way of jump hosts if need be."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from typing import Any

from kbpg.errors import ConnectionLost, HostError, HostKeyError, Unreachable
from kbpg.hosts import channel as channel  # all channels are of its class
from kbpg.hosts.auth import log_in
from kbpg.hosts.config import Target, resolve_jump
from kbpg.hosts.keys import HostKey, known_keys, verify
from kbpg.hosts.lean import IncompatiblePeer, Packetizer, paramiko
from kbpg.hosts.settings import Ask, SshSettings
from kbpg.hosts.tcp import DEAD_AFTER, dial

PING_AFTER = 5
"""Seconds of silence after which a host is asked for a sign of life."""

# AES-GCM moves 250-300 MB/s through paramiko on a 2-core machine, AES-CTR with any SHA-2 MAC 140-190
# (measured with 200 MB through `cat`). The key exchanges cost the same within the noise, so the one that is
# safe against quantum computers comes first. CBC, 3DES, SHA-1 and MD5 are left out.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
KEX = ("mlkem768x25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384")


class _Packetizer(Packetizer):
    """Remembers since when a ping has gone unanswered, and that nothing will be read any more."""

    waiting_since: float | None = None
    ended = False

    def read_message(self) -> Any:
        try:
            message = super().read_message()
        except (EOFError, OSError, paramiko.SSHException):  # each ends paramiko's thread
            self.ended = True
            raise
        self.waiting_since = None
        return message


_STOCK: Any = paramiko.Transport
"""paramiko's transport with its private tables, which the type stubs leave out."""


class Transport(paramiko.Transport):
    """A paramiko transport that prefers cheap algorithms, notices a dead peer, and reports exit signals."""

    gave_up: str | None = None
    """Why this end closed the connection, when the other had been silent for too long."""

    packetizer: _Packetizer
    _preferred_ciphers = CIPHERS
    _preferred_macs = MACS
    _preferred_kex = tuple(
        # What paramiko offers depends on the version of `cryptography`.
        name
        for name in dict.fromkeys((*KEX, *_STOCK._preferred_kex))
        if name in _STOCK._kex_info
    )
    _preferred_keys: tuple[str, ...] = _STOCK._preferred_keys

    def __init__(self, sock: Any) -> None:
        super().__init__(sock, packetizer_class=_Packetizer)
        self._channel_handler_table = {
            **_STOCK._channel_handler_table,
            paramiko.common.MSG_CHANNEL_REQUEST: _on_channel_request,
        }

    def run(self) -> None:
        """Serve the connection until it ends.

        When the connection below this one (through a jump host) ends first, paramiko's thread may still want to
        close a channel on it. That is no news: whoever used this connection has been told.
        """
        with contextlib.suppress(EOFError, OSError):
            super().run()

    def prefer_host_keys(self, known: list[str]) -> None:
        """Ask first for the types of host key that are known, so that a known host is recognised."""
        first = [name for kind in known for name in _algorithms(kind) if name in self._preferred_keys]
        self._preferred_keys = tuple(dict.fromkeys((*first, *self._preferred_keys)))

    def watch(self) -> None:
        """From now on, ask a silent peer for a sign of life, and give up when none comes."""
        self.packetizer.set_keepalive(PING_AFTER, self._ping)

    @property
    def alive(self) -> bool:
        """Return whether the connection is up. No more so, once one of its channels has ended with it.

        paramiko's `is_active` says yes until all channels have been told of the end, so who reads from one, sees it
        end and asks at once would blame the service at its other end.
        """
        return self.is_active() and not self.packetizer.ended

    def silent_for(self) -> float:
        """Return for how many seconds a sign of life has been overdue; 0 when none is."""
        since = self.packetizer.waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def _send_user_message(self, message: paramiko.Message) -> None:
        """Send a message. paramiko drops one when the connection is dead, and now also when it dies meanwhile.

        Otherwise threads that copy what a forwarded port receives end with a traceback.
        """
        with contextlib.suppress(EOFError):
            super()._send_user_message(message)  # type: ignore[misc]  # private

    def _ping(self) -> None:
        if self.packetizer.waiting_since is None:
            self.packetizer.waiting_since = time.monotonic()
            ping = paramiko.Message()
            ping.add_byte(paramiko.common.cMSG_GLOBAL_REQUEST)
            ping.add_string("keepalive@openssh.com")
            ping.add_boolean(True)
            self._send_user_message(ping)
        elif self.silent_for() >= DEAD_AFTER - PING_AFTER - 0.5:
            self.gave_up = f"no answer for {DEAD_AFTER} s"
            # No OSError: paramiko's thread dies of one that has not two arguments, and tells nobody who waits.
            raise paramiko.SSHException(self.gave_up)


def _algorithms(kind: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _on_channel_request(channel: Any, message: Any) -> None:
    """Pass a request on, but turn `exit-signal`, which paramiko ignores, into a shell's 128 + number."""
    start = message.packet.tell()
    if message.get_text() != "exit-signal":
        message.packet.seek(start)
        channel._handle_request(message)
        return
    message.get_boolean()
    number = getattr(signal, f"SIG{message.get_text()}", signal.SIGKILL)
    channel.exit_status = 128 + int(number)
    channel.status_event.set()


def open_connection(
    target: Target, settings: SshSettings, *, ask: Ask | None, accept_new: bool
) -> list[Transport]:
    """Connect and log in; return the transports of the jump hosts, in order, and the host's own as the last.

    Raises `Unreachable`, `HostKeyError`, `AccessDenied`. Nothing stays open when it raises.
    """
    opened: list[Transport] = []
    hops = [resolve_jump(target, jump, settings) for jump in target.jumps]
    try:
        for hop in (*hops, target):
            before = opened[-1] if opened else None
            opened.append(_open_one(hop, before, ask=ask, accept_new=accept_new))
    except BaseException:
        close_all(opened)
        raise
    return opened


def close_all(transports: list[Transport]) -> None:
    """Close the transports, last first."""
    for transport in reversed(transports):
        # Wakes the transport's thread, which otherwise looks every 0.1 s whether it is to end.
        with contextlib.suppress(OSError):
            transport.sock.shutdown(socket.SHUT_RDWR)
        transport.close()


def _open_one(target: Target, through: Transport | None, *, ask: Ask | None, accept_new: bool) -> Transport:
    transport = _handshake(target, through)
    try:
        if _check_host_key(transport, target, ask=ask, accept_new=accept_new):
            # A person was asked, which may have taken longer than the host allows for a login.
            transport.close()
            transport = _handshake(target, through)
            _check_host_key(transport, target, ask=None, accept_new=False)
        log_in(transport, target)
    except BaseException:
        close_all([transport])
        raise
    transport.watch()
    return transport


def _handshake(target: Target, through: Transport | None) -> Transport:
    # First: a file that cannot be used must not leave a connection behind
    known = known_keys(target.known_hosts, target.key_name, host=target.name)
    sock = dial(target) if through is None else _dial_through(target, through)
    transport = Transport(sock)
    # A known key that is not pinned is of no use: the host may have another one, of another type, that is
    preferred = [entry for entry in known if not target.pinned or entry.fingerprint in target.pinned]
    transport.prefer_host_keys([entry.kind for entry in preferred if not entry.revoked])
    transport.banner_timeout = transport.handshake_timeout = target.connect_timeout
    started = time.monotonic()
    try:
        transport.start_client(timeout=target.connect_timeout)
        if not transport.initial_kex_done:
            raise TimeoutError
    except (paramiko.SSHException, EOFError, OSError) as exc:
        close_all([transport])
        sock.close()
        raise _no_handshake(target, exc, time.monotonic() - started) from exc
    return transport


def _no_handshake(target: Target, exc: Exception, seconds: float) -> HostError:
    if isinstance(exc, IncompatiblePeer):
        return Unreachable(target.name, f"{target.where} and kbpg share no SSH algorithm", detail=(str(exc),))
    # By the clock: paramiko says the same of a peer that is silent and of one that hangs up.
    if seconds > 0.9 * target.connect_timeout:
        return Unreachable(
            target.name,
            f"{target.where} accepts connections but does not speak SSH within {target.connect_timeout:g} s",
            hint="is it an SSH port, and is the host alive?",
        )
    return Unreachable(
        target.name,
        f"{target.where} closed the connection before the login",
        detail=(str(exc),) if str(exc) else (),
        hint="is it an SSH port? sshd also closes when too many logins are going on (MaxStartups)",
    )


def _check_host_key(transport: Transport, target: Target, *, ask: Ask | None, accept_new: bool) -> bool:
    shown = transport.get_remote_server_key()
    key = HostKey(shown.get_name(), shown.asbytes())
    try:
        return verify(
            key,
            host=target.name,
            where=target.where,
            name=target.key_name,
            paths=target.known_hosts,
            pinned=target.pinned,
            ask=ask,
            accept_new=accept_new,
        )
    except HostKeyError:
        close_all([transport])
        raise


def _dial_through(target: Target, through: Transport) -> Any:
    try:
        return through.open_channel(
            "direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=target.connect_timeout
        )
    except paramiko.SSHException as exc:
        if not through.is_active():
            raise ConnectionLost(target.name, "the connection to its jump host is lost") from exc
        raise Unreachable(
            target.name,
            f"the jump host cannot reach {target.where}",
            detail=(str(exc),),
            hint="is the host up, and does the jump host allow TCP forwarding?",
        ) from exc
