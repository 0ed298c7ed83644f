"""The handshake, without I/O: who speaks which version, for which vhost, and who knows the key.

Its layout is fixed for ever, so that any two versions can tell each other why they do not match. It is read by hand,
field by field: bytes of a peer that is not authenticated never reach the message codec.

Each handshake frame has the usual length prefix, then a kind (one byte) and fields, each a length (unsigned 16-bit) and
bytes. Where a key is needed, both sides prove it by HMAC-SHA-256 over their role and everything that was said before:
both nonces, the versions, the vhost and the user. With TLS they prove it over the broker's certificate as well, so that
nobody in between can pass a proof on. The MAC protects the handshake only; what follows is TLS's to protect.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ._version import __version__
from .errors import HandshakeRefused, ProtocolError, TooManyConnections, VersionMismatch
from .limits import MAX_NAME_BYTES
from .protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, frame_bytes

__all__ = ["BrokerHandshake", "ClientHandshake", "Peer", "Welcome"]

MAGIC: Final = b"MPLITE"
NONCE_BYTES: Final = 32
_LENGTH: Final = struct.Struct(">H")
_MISMATCH: Final = (
    "This client ({client}) speaks protocol {theirs}, the broker ({broker}, pid {pid}) speaks {ours}. "
    "Restart the broker with this version: mplite broker restart"
)


class Kind(IntEnum):
    """The kinds of handshake frames."""

    HELLO = 1
    CHALLENGE = 2
    WELCOME = 3
    PROOF = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True)
class Peer:
    """What a client said of itself in HELLO."""

    major: int
    minor: int
    package: str
    vhost: str
    user: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the broker said of itself; the connection is open."""

    major: int
    minor: int
    package: str
    pid: int


def _pack(kind: Kind, *fields: bytes) -> bytes:
    return bytes([kind]) + b"".join(_LENGTH.pack(len(field)) + field for field in fields)


def _unpack(body: bytes, kind: Kind, count: int) -> list[bytes]:
    """Return the fields of a frame of the expected kind; later versions may add fields at the end."""
    if body[:1] != bytes([kind]):
        raise ProtocolError(f"A handshake frame of kind {kind} was expected.")
    fields: list[bytes] = []
    position = 1
    while position < len(body):
        if position + _LENGTH.size > len(body):
            raise ProtocolError("A handshake frame ends in the middle of a field.")
        (size,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        if position + size > len(body):
            raise ProtocolError("A handshake frame ends in the middle of a field.")
        fields.append(body[position : position + size])
        position += size
    if len(fields) < count:
        raise ProtocolError(f"A handshake frame of kind {kind} has {count} fields.")
    return fields


def _text(field: bytes) -> str:
    if len(field) > MAX_NAME_BYTES:
        raise ProtocolError(f"A name in the handshake is longer than {MAX_NAME_BYTES} bytes.")
    try:
        text = field.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ProtocolError("A name in the handshake is not UTF-8.") from exc
    if not text.isprintable():  # it goes into logs and onto terminals
        raise ProtocolError("A name in the handshake has characters that cannot be shown.")
    return text


def _version(field: bytes) -> tuple[int, int]:
    if len(field) != 2:
        raise ProtocolError("A protocol version has two bytes.")
    return field[0], field[1]


def _proof(key: bytes, role: bytes, binding: bytes, transcript: bytes) -> bytes:
    said = _LENGTH.pack(len(role)) + role + _LENGTH.pack(len(binding)) + binding + transcript
    return hmac.new(key, said, hashlib.sha256).digest()


#: The errors that come with the code that a refusal has.
_REFUSALS: Final = {str(int(each.code)).encode(): each for each in (VersionMismatch, TooManyConnections)}

_OUR_VERSION: Final = bytes([PROTOCOL_MAJOR, PROTOCOL_MINOR])


class ClientHandshake:
    """The client's side of one handshake.

    Parameters:
        vhost, user: names that the broker looks up.
        key: the shared secret; ``None`` where the broker knows the peer by its unix socket.
        binding: the channel binding of the certificate that the broker showed; empty without TLS.
    """

    def __init__(self, *, vhost: str, user: str = "", key: bytes | None = None, binding: bytes = b"") -> None:
        self._key = key
        self._binding = binding
        self._hello = _pack(
            Kind.HELLO,
            MAGIC,
            _OUR_VERSION,
            __version__.encode(),
            vhost.encode(),
            user.encode(),
            secrets.token_bytes(NONCE_BYTES),
        )
        self._transcript = b""

    def hello(self) -> bytes:
        """Return the first bytes to send."""
        return frame_bytes(self._hello)

    def receive(self, body: bytes) -> bytes | Welcome:
        """Take the body of a handshake frame; return the next bytes to send, or that the connection is open.

        Raises:
            HandshakeRefused: the broker refuses, wants a key that we do not have, or does not know ours.
            VersionMismatch: the broker speaks another major version.
            TooManyConnections: it takes no more of them.
            ProtocolError: the peer is no MPLite broker.
        """
        kind = body[:1]
        if kind == bytes([Kind.CHALLENGE]):
            return self._answer(body)
        if kind == bytes([Kind.WELCOME]):
            return self._welcomed(body)
        if kind == bytes([Kind.REFUSED]):
            code, text = _unpack(body, Kind.REFUSED, 2)[:2]
            error = _REFUSALS.get(code, HandshakeRefused)
            raise error("".join(each if each.isprintable() else " " for each in text.decode("utf-8", "replace")))
        raise ProtocolError("The peer does not speak the MPLite protocol.")

    def _answer(self, body: bytes) -> bytes:
        if self._key is None:
            raise HandshakeRefused(
                "The broker asks for a key. Put it in a credentials file (option credentials, or MPLITE_CREDENTIALS), "
                "in a key file (transport option key_file, or MPLITE_KEY_FILE), in MPLITE_KEY, or in the URL "
                "(mplite://:KEY@host)."
            )
        if self._transcript:
            raise ProtocolError("The broker sent a second challenge.")
        (nonce,) = _unpack(body, Kind.CHALLENGE, 1)[:1]
        if len(nonce) != NONCE_BYTES:
            raise ProtocolError(f"A nonce has {NONCE_BYTES} bytes.")
        self._transcript = _LENGTH.pack(len(self._hello)) + self._hello + body
        return frame_bytes(_pack(Kind.PROOF, _proof(self._key, b"client", self._binding, self._transcript)))

    def _welcomed(self, body: bytes) -> Welcome:
        version, package, pid, proof = _unpack(body, Kind.WELCOME, 4)[:4]
        major, minor = _version(version)
        if self._key is not None and not self._transcript:
            # A key was given and never asked for: whoever this is, it did not prove that it knows it.
            raise HandshakeRefused("The peer let us in without proving that it knows the key; it is not our broker.")
        if self._key is not None and not hmac.compare_digest(
            proof, _proof(self._key, b"broker", self._binding, self._transcript)
        ):
            raise HandshakeRefused("The peer does not know the key that we share with the broker.")
        return Welcome(major, minor, _text(package), int.from_bytes(pid, "big"))


class BrokerHandshake:
    """The broker's side of one handshake.

    Parameters:
        pid: the broker's process id, told to clients.
        key: the shared secret, or ``None`` for a peer that the operating system vouches for.
        keys_of: instead of ``key``: returns the keys of whoever says HELLO, none for somebody who may not come in.
        binding: the channel binding of the certificate that was shown; empty without TLS.

    After :meth:`receive` has returned with ``done``, ``peer`` says who it is.
    """

    def __init__(
        self,
        *,
        pid: int,
        key: bytes | None = None,
        keys_of: Callable[[Peer], Sequence[bytes]] | None = None,
        binding: bytes = b"",
    ) -> None:
        self._pid = pid
        self._keys_of = keys_of if keys_of is not None or key is None else lambda _: (key,)
        self._binding = binding
        self._hello = b""
        self._challenge = b""
        self.peer: Peer | None = None
        self.done = False

    def receive(self, body: bytes) -> bytes:
        """Take the body of a handshake frame and return the bytes to send.

        Raises:
            HandshakeRefused, VersionMismatch: send :meth:`refusal` and close.
            ProtocolError: close without a word: the peer does not speak our language.
        """
        if self.done:
            raise ProtocolError("The handshake is over.")
        if self.peer is None:
            return self._greet(body)
        (proof,) = _unpack(body, Kind.PROOF, 1)[:1]
        transcript = _LENGTH.pack(len(self._hello)) + self._hello + self._challenge
        keys = self._keys_of(self.peer) if self._keys_of is not None else ()
        # A stranger's proof is checked as well, so that it takes as long as a user's.
        for key in keys or (secrets.token_bytes(NONCE_BYTES),):
            if hmac.compare_digest(proof, _proof(key, b"client", self._binding, transcript)):
                return self._welcome(_proof(key, b"broker", self._binding, transcript))
        # One text for every reason: a stranger learns nothing about which part was wrong.
        raise HandshakeRefused("Access refused: the key is wrong, or the user or vhost is not known.")

    @staticmethod
    def refusal(error: HandshakeRefused | VersionMismatch | TooManyConnections) -> bytes:
        """Return the bytes that tell the peer why it is refused."""
        return frame_bytes(_pack(Kind.REFUSED, str(error.reply_code).encode(), str(error).encode()))

    def _greet(self, body: bytes) -> bytes:
        magic, version, package, vhost, user, nonce = _unpack(body, Kind.HELLO, 6)[:6]
        if magic != MAGIC or len(nonce) != NONCE_BYTES:
            raise ProtocolError("The peer does not speak the MPLite protocol.")
        major, minor = _version(version)
        self.peer = Peer(major, minor, _text(package), _text(vhost) or "/", _text(user))
        if major != PROTOCOL_MAJOR:  # any minor is welcome: both sides keep to the lower one
            raise VersionMismatch(
                _MISMATCH.format(
                    client=self.peer.package,
                    theirs=f"{major}.{minor}",
                    broker=__version__,
                    pid=self._pid,
                    ours=f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}",
                )
            )
        if self._keys_of is None:
            return self._welcome(b"")
        self._hello = body
        self._challenge = _pack(Kind.CHALLENGE, secrets.token_bytes(NONCE_BYTES))
        return frame_bytes(self._challenge)

    def _welcome(self, proof: bytes) -> bytes:
        self.done = True
        return frame_bytes(_pack(Kind.WELCOME, _OUR_VERSION, __version__.encode(), self._pid.to_bytes(8, "big"), proof))
