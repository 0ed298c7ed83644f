"""What strangers may put into logs, how they are counted, and how seldom they are written about."""

from __future__ import annotations

import logging
import struct

import pytest

from mplite_tasks_transport.broker.door import origin_of
from mplite_tasks_transport.broker.throttle import Throttle
from mplite_tasks_transport.errors import HandshakeRefused, ProtocolError
from mplite_tasks_transport.handshake import MAGIC, NONCE_BYTES, BrokerHandshake, ClientHandshake, Kind
from mplite_tasks_transport.protocol import PROTOCOL_MAJOR


def frame(kind: int, *fields: bytes) -> bytes:
    return bytes([kind]) + b"".join(struct.pack(">H", len(field)) + field for field in fields)


@pytest.mark.parametrize("text", [b"1.0\n2026 CRITICAL all is lost", b"\x1b[2J", b"\xe2\x80\xae", b"\0"])
@pytest.mark.parametrize("place", [2, 3, 4])
def test_a_name_that_would_write_lines_of_its_own_into_a_log_is_no_name(text: bytes, place: int) -> None:
    fields = [MAGIC, bytes([PROTOCOL_MAJOR + 1, 0]), b"1.0", b"/", b"u", bytes(NONCE_BYTES)]
    fields[place] = text
    with pytest.raises(ProtocolError) as caught:
        BrokerHandshake(pid=1, key=b"k" * 32).receive(frame(Kind.HELLO, *fields))
    assert str(caught.value).isprintable()


def test_the_text_of_a_refusal_is_one_line_whatever_the_peer_says() -> None:
    with pytest.raises(HandshakeRefused) as caught:
        ClientHandshake(vhost="/").receive(frame(Kind.REFUSED, b"403", b"no\nCRITICAL: \x1b[2J\xff"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_machine_with_a_network_of_addresses_counts_as_one(address: str, origin: str) -> None:
    assert origin_of(address) == origin


def test_lines_of_a_kind_are_written_once_a_second_and_the_others_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    say = Throttle(logging.getLogger("strangers"), clock=lambda: now[0])
    for at in (100.0, 100.1, 100.9, 101.0, 101.5, 103.0):
        now[0] = at
        say("came from %s", "somewhere")
    assert caplog.messages == [
        "came from somewhere",
        "came from somewhere (2 more like this before)",
        "came from somewhere (1 more like this before)",
    ]
