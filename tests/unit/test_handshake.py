"""The handshake: who gets in, who does not, and what a stranger learns."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mplite_tasks_transport import handshake
from mplite_tasks_transport._version import __version__
from mplite_tasks_transport.errors import Code, HandshakeRefused, ProtocolError, VersionMismatch
from mplite_tasks_transport.handshake import MAGIC, NONCE_BYTES, BrokerHandshake, ClientHandshake, Kind, Welcome
from mplite_tasks_transport.limits import MAX_HANDSHAKE_BYTES
from mplite_tasks_transport.protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, FrameReader

KEY = b"k" * 32


def body(data: bytes) -> bytes:
    """Return the body of the one frame in these bytes."""
    (only,) = FrameReader(MAX_HANDSHAKE_BYTES).feed(data)
    return only


def frame(kind: int, *fields: bytes) -> bytes:
    """Return the body of a handshake frame, made by hand as the specification says."""
    return bytes([kind]) + b"".join(struct.pack(">H", len(field)) + field for field in fields)


def hello(version: bytes = bytes([PROTOCOL_MAJOR, PROTOCOL_MINOR]), **changes: bytes) -> bytes:
    fields = {"magic": MAGIC, "version": version, "package": b"1.0", "vhost": b"/v", "user": b"u"}
    return frame(Kind.HELLO, *{**fields, "nonce": bytes(NONCE_BYTES), **changes}.values())


def answered(client: ClientHandshake, broker: BrokerHandshake) -> tuple[bytes, bytes]:
    """Return the broker's challenge and the client's proof."""
    challenge = body(broker.receive(body(client.hello())))
    proof = client.receive(challenge)
    assert isinstance(proof, bytes)
    return challenge, body(proof)


def test_both_sides_prove_that_they_know_the_key() -> None:
    client, broker = ClientHandshake(vhost="/v", user="me", key=KEY), BrokerHandshake(pid=42, key=KEY)
    _, proof = answered(client, broker)
    assert not broker.done
    welcome = client.receive(body(broker.receive(proof)))
    assert welcome == Welcome(PROTOCOL_MAJOR, PROTOCOL_MINOR, __version__, 42)
    assert broker.done
    assert broker.peer is not None
    assert (broker.peer.vhost, broker.peer.user, broker.peer.package) == ("/v", "me", __version__)


def test_a_peer_that_the_system_vouches_for_needs_no_key() -> None:
    client, broker = ClientHandshake(vhost=""), BrokerHandshake(pid=1, key=None)
    assert isinstance(client.receive(body(broker.receive(body(client.hello())))), Welcome)
    assert broker.done
    assert broker.peer is not None
    assert broker.peer.vhost == "/"
    with pytest.raises(ProtocolError, match="over"):
        broker.receive(body(client.hello()))


def test_a_wrong_key_is_refused_without_saying_what_was_wrong() -> None:
    client, broker = ClientHandshake(vhost="/", key=b"wrong"), BrokerHandshake(pid=1, key=KEY)
    _, proof = answered(client, broker)
    with pytest.raises(HandshakeRefused) as caught:
        broker.receive(proof)
    assert not broker.done
    with pytest.raises(HandshakeRefused, match="the key is wrong, or the user or vhost is not known"):
        client.receive(body(BrokerHandshake.refusal(caught.value)))


def test_a_client_without_a_key_is_told_where_to_put_it() -> None:
    client, broker = ClientHandshake(vhost="/"), BrokerHandshake(pid=1, key=KEY)
    with pytest.raises(HandshakeRefused, match="MPLITE_KEY_FILE"):
        client.receive(body(broker.receive(body(client.hello()))))


@pytest.mark.parametrize("proof", [b"", b"\0", bytes(32), bytes(64)])
def test_a_proof_that_is_none_is_refused(proof: bytes) -> None:
    broker = BrokerHandshake(pid=1, key=KEY)
    broker.receive(hello())
    with pytest.raises(HandshakeRefused):
        broker.receive(frame(Kind.PROOF, proof))


def test_a_recorded_handshake_opens_no_second_connection() -> None:
    client, broker = ClientHandshake(vhost="/", key=KEY), BrokerHandshake(pid=1, key=KEY)
    greeting = body(client.hello())
    _, proof = answered(client, broker)
    replayed = BrokerHandshake(pid=1, key=KEY)
    replayed.receive(greeting)
    with pytest.raises(HandshakeRefused):
        replayed.receive(proof)


def test_a_reflected_proof_does_not_pass_for_the_brokers() -> None:
    client = ClientHandshake(vhost="/", key=KEY)
    proof = client.receive(frame(Kind.CHALLENGE, bytes(NONCE_BYTES)))
    assert isinstance(proof, bytes)
    mirrored = body(proof)[3:]
    version = bytes([PROTOCOL_MAJOR, PROTOCOL_MINOR])
    with pytest.raises(HandshakeRefused, match="does not know the key"):
        client.receive(frame(Kind.WELCOME, version, b"1", b"\1", mirrored))


def test_a_client_cannot_be_made_to_answer_the_challenge_of_a_broker_for_somebody_else() -> None:
    broker = BrokerHandshake(pid=1, key=KEY)
    challenge = body(broker.receive(hello()))
    victim = ClientHandshake(vhost="/v", user="u", key=KEY)
    proof = victim.receive(challenge)
    assert isinstance(proof, bytes)
    with pytest.raises(HandshakeRefused):
        broker.receive(body(proof))


def test_a_client_answers_one_challenge_only() -> None:
    client = ClientHandshake(vhost="/", key=KEY)
    client.receive(frame(Kind.CHALLENGE, bytes(NONCE_BYTES)))
    with pytest.raises(ProtocolError, match="second challenge"):
        client.receive(frame(Kind.CHALLENGE, b"\1" * NONCE_BYTES))


def test_a_peer_that_welcomes_without_a_proof_is_not_believed() -> None:
    version = bytes([PROTOCOL_MAJOR, PROTOCOL_MINOR])
    eager = ClientHandshake(vhost="/", key=KEY)
    with pytest.raises(HandshakeRefused, match="without proving"):
        eager.receive(frame(Kind.WELCOME, version, b"1", b"\1", b""))
    challenged = ClientHandshake(vhost="/", key=KEY)
    challenged.receive(frame(Kind.CHALLENGE, bytes(NONCE_BYTES)))
    with pytest.raises(HandshakeRefused, match="does not know the key"):
        challenged.receive(frame(Kind.WELCOME, version, b"1", b"\1", bytes(32)))


def test_every_part_of_what_was_said_is_in_the_proof() -> None:
    client = ClientHandshake(vhost="/v", user="u", key=KEY)
    greeting = body(client.hello())
    for position in range(len(greeting)):
        changed = bytearray(greeting)
        changed[position] ^= 1
        broker = BrokerHandshake(pid=1, key=KEY)
        try:
            challenge = body(broker.receive(bytes(changed)))
        except (ProtocolError, VersionMismatch):
            continue
        again = ClientHandshake(vhost="/v", user="u", key=KEY)
        again._hello = greeting
        proof = again.receive(challenge)
        assert isinstance(proof, bytes)
        with pytest.raises(HandshakeRefused):
            broker.receive(body(proof))


# Versions


def test_another_major_version_is_told_which_broker_to_restart() -> None:
    broker = BrokerHandshake(pid=4711, key=KEY)
    with pytest.raises(VersionMismatch) as caught:
        broker.receive(hello(bytes([PROTOCOL_MAJOR + 1, 0]), package=b"9.9"))
    assert not broker.done
    client = ClientHandshake(vhost="/", key=KEY)
    with pytest.raises(VersionMismatch, match=r"pid 4711.*mplite broker restart") as told:
        client.receive(body(BrokerHandshake.refusal(caught.value)))
    assert "9.9" in str(told.value)
    assert told.value.reply_code == Code.VERSION_MISMATCH


@pytest.mark.parametrize("minor", [0, 1, 255])
def test_any_minor_version_is_welcome(minor: int) -> None:
    broker = BrokerHandshake(pid=1, key=None)
    broker.receive(hello(bytes([PROTOCOL_MAJOR, minor])))
    assert broker.done
    assert broker.peer is not None
    assert broker.peer.minor == minor


def test_fields_of_a_later_version_are_passed_over() -> None:
    broker = BrokerHandshake(pid=1, key=None)
    broker.receive(hello(later=b"something new"))
    assert broker.done
    client = ClientHandshake(vhost="/")
    version = bytes([PROTOCOL_MAJOR, PROTOCOL_MINOR + 1])
    assert client.receive(frame(Kind.WELCOME, version, b"2", b"\1", b"", b"new")) == Welcome(
        PROTOCOL_MAJOR, PROTOCOL_MINOR + 1, "2", 1
    )


# What is no handshake


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": b"HTTP/1"},
        {"magic": b""},
        {"version": b"\1"},
        {"version": b"\1\0\0"},
        {"nonce": bytes(NONCE_BYTES - 1)},
        {"nonce": bytes(NONCE_BYTES + 1)},
        {"vhost": b"v" * 256},
        {"vhost": b"\xff"},
        {"user": b"u" * 256},
        {"user": b"\xff"},
        {"package": b"\xff"},
    ],
)
def test_a_hello_with_a_wrong_field_is_no_handshake(changes: dict[str, bytes]) -> None:
    with pytest.raises(ProtocolError):
        BrokerHandshake(pid=1, key=KEY).receive(hello(**changes))


def test_a_hello_that_is_cut_anywhere_is_no_handshake() -> None:
    whole = hello()
    for size in range(len(whole)):
        with pytest.raises(ProtocolError):
            BrokerHandshake(pid=1, key=KEY).receive(whole[:size])


@pytest.mark.parametrize(
    "received",
    [
        frame(Kind.CHALLENGE, bytes(NONCE_BYTES)),
        frame(Kind.WELCOME, bytes([PROTOCOL_MAJOR, 0]), b"1", b"\1", b""),
        frame(Kind.REFUSED, b"403", b"no"),
    ],
)
def test_an_answer_that_is_cut_anywhere_is_no_handshake(received: bytes) -> None:
    for size in range(len(received)):
        with pytest.raises(ProtocolError):
            ClientHandshake(vhost="/", key=KEY).receive(received[:size])


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | st.builds(frame, st.integers(0, 6), st.binary(max_size=40), st.binary(max_size=40)))
def test_random_bytes_get_nobody_in(data: bytes) -> None:
    broker = BrokerHandshake(pid=1, key=KEY)
    for step in (data, data):
        try:
            broker.receive(step)
        except (ProtocolError, HandshakeRefused, VersionMismatch):
            break
    assert not broker.done
    client = ClientHandshake(vhost="/", key=KEY)
    with contextlib.suppress(ProtocolError, HandshakeRefused, VersionMismatch):
        assert not isinstance(client.receive(data), Welcome)


def test_no_text_of_an_error_has_the_key_in_it() -> None:
    assert KEY.decode() not in handshake._MISMATCH
    assert KEY.decode() not in repr(BrokerHandshake(pid=1, key=KEY))
    assert KEY.decode() not in repr(ClientHandshake(vhost="/", key=KEY))
