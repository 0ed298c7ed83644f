"""Dialling: from a broker's URL to an open connection that has been through the handshake."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .credentials import find_credentials
from .errors import (
    BrokerUnreachable,
    HandshakeRefused,
    InvalidCertificate,
    InvalidOption,
    ProtocolError,
    TooManyConnections,
    VersionMismatch,
)
from .handshake import ClientHandshake, Welcome
from .keys import load_key
from .limits import MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES
from .local import ensure_running, local_home, read_info
from .protocol import FrameReader
from .tls import TLSOptions, secure
from .url import TLS_SCHEME, BrokerURL

__all__ = ["DEFAULT_CONNECT_SECONDS", "Line", "dial"]

#: Seconds for connecting and the handshake: Kombu's default for ``connect_timeout``.
DEFAULT_CONNECT_SECONDS: Final = 5.0

#: A peer that vanished without a word is found within about half a minute: an idle connection is probed after 15 s and
#: given up after three probes 5 s apart; sent bytes that nobody acknowledges are given up after 30 s.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))

#: Bytes of one read: a whole TLS record, as a part that is left in memory is not seen by a poll.
_HANDSHAKE_READ_BYTES: Final = 16 * 1024


@dataclass(slots=True)
class Line:
    """An open connection to a broker.

    Parameters:
        sock: the socket; a plain one is in blocking mode, one with TLS is not.
        reader: what cuts its bytes into frames; it holds what was read already.
        bodies: whole frames that came together with the end of the handshake.
        welcome: what the broker said of itself.
        url: where it turned out to be: credentials say more than the URL that was asked for.
    """

    sock: socket.socket
    reader: FrameReader
    bodies: list[bytes]
    welcome: Welcome
    url: BrokerURL | None = None


def dial(
    url: BrokerURL,
    *,
    key: bytes | None = None,
    timeout: float | None = DEFAULT_CONNECT_SECONDS,
    autostart: bool = True,
    home: Path | None = None,
    credentials: str | os.PathLike[str] | None = None,
    tls: TLSOptions | None = None,
    allow_plaintext: bool = False,
) -> Line:
    """Connect to a broker and return the open line.

    The certificate of a broker that is reached by TLS is checked before anything is sent; nothing is sent in the clear
    to another machine.

    Parameters:
        url: where it is. The local broker is started if it does not run.
        key: the shared secret for TCP; by default the URL's, the credentials', ``MPLITE_KEY``'s or that of
            ``MPLITE_KEY_FILE``.
        timeout: seconds for connecting and the handshake, not counting the start of a local broker; ``None`` waits
            for as long as the system does.
        autostart: whether the local broker may be started.
        home: the local broker's home; ``$MPLITE_HOME`` or the user's state directory by default.
        credentials: a credentials file; by default the one that ``MPLITE_CREDENTIALS`` names, if it is for this broker.
        tls: how to check the certificate. It asks for TLS also where the URL does not.
        allow_plaintext: whether another machine may be talked to without TLS, where anybody in between reads
            everything and may change it.

    Raises:
        BrokerUnreachable: nobody answers, TooManyConnections: or not now.
        InvalidURL, InvalidKey, InvalidOption: what was given cannot be used, or is not safe.
        InvalidCertificate: it is not the broker, as far as TLS can tell.
        HandshakeRefused, VersionMismatch, ProtocolError: somebody answers, but cannot or will not talk to us.
        LocalBrokerError: the local broker cannot be started.
    """
    if url.is_local:
        return _dial_local(url, home or local_home(), timeout, autostart)
    found = find_credentials(url, credentials)
    if found is not None:
        url = found.apply(url)
        if found.fingerprint is not None and (tls is None or tls.ca_certs is None):
            tls = replace(tls or TLSOptions(), fingerprint=found.fingerprint)
    if tls is not None and not url.is_secure:
        url = replace(url, scheme=TLS_SCHEME, port=url.address[1])
    secret = key if key is not None else load_key(url.key)
    with _naming(url):
        deadline = _deadline(timeout)
        sock = socket.create_connection(url.address, timeout)
        try:
            _prepare_tcp(sock)
            if not url.is_secure:
                if not allow_plaintext:
                    _refuse_to_be_overheard(sock, url)
                return _shake_hands(sock, url, secret, deadline)
            return _shake_hands_by_tls(sock, url, secret, tls, deadline)
        except BaseException:
            sock.close()
            raise


def _refuse_to_be_overheard(sock: socket.socket, url: BrokerURL) -> None:
    address = str(sock.getpeername()[0])
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise InvalidOption(
            f"{url} is another machine, and everything would be sent in the clear: use {TLS_SCHEME}://, an SSH tunnel "
            "to its loopback, or, where nobody can listen, the option allow_plaintext."
        )


def _shake_hands_by_tls(
    sock: socket.socket, url: BrokerURL, key: bytes | None, tls: TLSOptions | None, deadline: float | None
) -> Line:
    sock.settimeout(_remaining(deadline))
    secured, binding = secure(sock, url.address[0], tls or TLSOptions())
    return _shake_hands(secured, url, key, deadline, binding)


def _dial_local(url: BrokerURL, home: Path, timeout: float | None, autostart: bool) -> Line:
    info = read_info(home)
    if info is not None:
        # Most times it runs, and asking first would cost a connection. It may just have ended, though.
        with contextlib.suppress(BrokerUnreachable):
            return _dial_socket(url, info.socket, timeout)
    import tenacity  # noqa: PLC0415 - it imports asyncio, which a client of a running broker does not need

    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BrokerUnreachable), stop=tenacity.stop_after_attempt(2), reraise=True
    )
    return again(lambda: _dial_socket(url, ensure_running(home, autostart=autostart).socket, timeout))


def _dial_socket(url: BrokerURL, path: str, timeout: float | None) -> Line:
    with _naming(url):
        deadline = _deadline(timeout)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return _shake_hands(sock, url, None, deadline)


def _prepare_tcp(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _shake_hands(
    sock: socket.socket, url: BrokerURL, key: bytes | None, deadline: float | None, binding: bytes = b""
) -> Line:
    """Do the client's side of the handshake; close the socket if it fails."""
    try:
        handshake = ClientHandshake(vhost=url.vhost, user=url.user or "", key=key, binding=binding)
        line = _talk(sock, handshake, deadline)
        line.url = url
        sock.settimeout(0.0 if binding else None)
    except BaseException:
        sock.close()
        raise
    return line


def _talk(sock: socket.socket, handshake: ClientHandshake, deadline: float | None) -> Line:
    reader = FrameReader(MAX_HANDSHAKE_BYTES)
    bodies: list[bytes] = []
    answer: bytes | Welcome = handshake.hello()
    while not isinstance(answer, Welcome):
        sock.settimeout(_remaining(deadline))
        sock.sendall(answer)
        while not bodies:
            sock.settimeout(_remaining(deadline))
            data = sock.recv(_HANDSHAKE_READ_BYTES)
            if not data:
                raise ConnectionResetError("the peer closed the connection during the handshake")
            bodies = reader.feed(data)
        answer = handshake.receive(bodies.pop(0))
    reader.limit = MAX_FRAME_BYTES
    return Line(sock, reader, bodies, answer)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float | None:
    """Return the seconds left, never 0: that would mean something else to a socket."""
    return None if deadline is None else max(0.001, deadline - time.monotonic())


@contextlib.contextmanager
def _naming(url: BrokerURL) -> Iterator[None]:
    """Turn what sockets raise into our errors, and name the broker in all of them."""
    try:
        yield
    except (HandshakeRefused, VersionMismatch, TooManyConnections) as exc:
        raise type(exc)(f"{url}: {exc}") from None
    except InvalidCertificate as exc:
        raise InvalidCertificate(f"{url}: {exc}") from None
    except ProtocolError as exc:
        raise ProtocolError(f"{url}: {exc} Is it another service's address?", exc.code) from exc
    except TimeoutError as exc:
        raise BrokerUnreachable(f"No broker answers at {url}: it took too long.") from exc
    except OSError as exc:
        reason = getattr(exc, "verify_message", "")  # of ssl.SSLCertVerificationError
        if reason:
            raise InvalidCertificate(
                f"{url}: the certificate is not to be believed: {reason.rstrip('.')}. Name its authority (ca_certs), "
                "or use the broker's credentials file, which has its fingerprint."
            ) from exc
        raise BrokerUnreachable(f"No broker answers at {url}: {exc.strerror or exc}.") from exc
