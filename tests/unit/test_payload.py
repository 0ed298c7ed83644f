"""The payload of a message: what goes in comes out, and what is not one is a protocol error."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mplite_tasks_transport.errors import ProtocolError
from mplite_tasks_transport.payload import Payload, decode_payload, encode_payload

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.binary(), st.dictionaries(st.text(), values, max_size=4))
def test_a_payload_survives_the_wire(body: bytes, properties: dict[str, Any]) -> None:
    payload = Payload(body, properties)
    assert decode_payload(encode_payload(payload)) == payload


def test_times_with_a_zone_survive_the_wire() -> None:
    when = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    assert decode_payload(encode_payload(Payload(b"", {"timestamp": when}))).properties["timestamp"] == when


def test_a_property_that_msgpack_cannot_carry_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        encode_payload(Payload(b"", {"headers": {"k": object()}}))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"text", id="something else"),
        pytest.param(b"\x91\xa1x", id="text for the body"),
        pytest.param(b"\x92\xc4\x00\x90", id="a list for the properties"),
        pytest.param(b"\x92\xc4\x00\x81\x01\x01", id="a number for a name"),
        pytest.param(b"\x92\xc4\x00\x81\xa1k\xa2\xff\xff", id="text that is not UTF-8"),
        pytest.param(b"\x92\xc4\x00\x81\xa1k" + b"\x91" * 100_000 + b"\xc0", id="nested 100,000 deep"),
    ],
)
def test_what_is_not_a_payload_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_payload(data)


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=40))
def test_random_bytes_are_a_payload_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode_payload(data)
