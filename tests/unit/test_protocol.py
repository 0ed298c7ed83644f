"""Framing and codec: every boundary of a frame, and everything that is not one."""

from __future__ import annotations

import contextlib
import enum
import struct
import tracemalloc
import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mplite_tasks_transport import frames
from mplite_tasks_transport.errors import Code, ProtocolError
from mplite_tasks_transport.limits import MAX_FRAME_BYTES
from mplite_tasks_transport.protocol import (
    FrameReader,
    decode_push,
    decode_request,
    encode_push,
    encode_request,
    encode_requests,
)

KINDS = [*frames.Request.__args__, *frames.Push.__args__]


def framed(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(body)) + body for body in bodies)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=8), st.lists(st.integers(1, 30), min_size=1))
def test_frames_come_out_whole_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = framed(*bodies)
    reader = FrameReader(20)
    out: list[bytes] = []
    position = n = 0
    while position < len(stream):
        size = cuts[n % len(cuts)]
        out += reader.feed(stream[position : position + size])
        position, n = position + size, n + 1
    assert out == bodies
    assert reader.take_rest() == b""


def test_one_byte_at_a_time_gives_a_frame_with_its_last_byte() -> None:
    reader = FrameReader()
    stream = framed(b"abc")
    assert [reader.feed(stream[n : n + 1]) for n in range(len(stream))] == [[]] * 6 + [[b"abc"]]


def test_two_frames_and_a_half_in_one_packet() -> None:
    reader = FrameReader()
    assert reader.feed(framed(b"a", b"bc") + b"\0\0") == [b"a", b"bc"]
    assert reader.take_rest() == b"\0\0"
    assert reader.feed(framed(b"d")) == [b"d"]


def test_the_largest_frame_is_taken_and_one_byte_more_is_refused() -> None:
    reader = FrameReader(1000)
    assert reader.feed(framed(bytes(1000))) == [bytes(1000)]
    with pytest.raises(ProtocolError, match="1001 bytes was announced; 1000") as caught:
        reader.feed(struct.pack(">I", 1001))
    assert caught.value.code is Code.FRAME_TOO_LARGE


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_an_announcement_over_the_limit_is_refused_without_taking_memory(size: int) -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as caught:
            reader.feed(struct.pack(">I", size))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code is Code.FRAME_TOO_LARGE
    assert peak < 100_000


def test_an_announcement_takes_no_memory_before_its_bytes_come() -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        assert reader.feed(struct.pack(">I", MAX_FRAME_BYTES) + b"x") == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(ProtocolError, match="without content"):
        FrameReader().feed(b"\0\0\0\0")


def test_the_limit_can_be_raised_when_the_handshake_is_over() -> None:
    reader = FrameReader(4)
    assert reader.feed(framed(b"abcd")) == [b"abcd"]
    reader.limit = 5
    assert reader.feed(framed(b"abcde")) == [b"abcde"]


# The codec

_VALUES: dict[Any, Any] = {int: 5, str: "text", bool: True, bytes: b"\0\xff", Any: [1, b"x", None], float: 0.5}


def sample(kind: Any) -> Any:
    """Return a value of a type; of a struct, with a value of the right type in every field."""
    if kind in _VALUES:
        return _VALUES[kind]
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is dict:
        return {"k": [1, None]}
    if origin is list:
        return [sample(arguments[0])]
    if origin is tuple:
        return tuple(sample(argument) for argument in arguments if argument is not Ellipsis)
    if origin in (typing.Union, types.UnionType, typing.Literal):
        return arguments[0] if origin is typing.Literal else sample(arguments[0])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    return kind(*(sample(typing.get_type_hints(kind)[name]) for name in kind.__struct_fields__))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_frame_survives_the_wire(kind: type[Any]) -> None:
    frame = sample(kind)
    request = kind in frames.Request.__args__
    (body,) = FrameReader().feed((encode_request if request else encode_push)(frame))
    decoded = (decode_request if request else decode_push)(body)
    assert type(decoded) is kind
    assert decoded == frame


def test_every_frame_has_a_number_of_its_own_that_never_changes() -> None:
    numbers = {kind.__name__: kind.__struct_config__.tag for kind in KINDS}
    assert len(set(numbers.values())) == len(numbers)
    published = {
        "OpenChannel": 1,
        "CloseChannel": 2,
        "DeclareExchange": 3,
        "DeleteExchange": 4,
        "DeclareQueue": 5,
        "DeleteQueue": 6,
        "BindQueue": 7,
        "UnbindQueue": 8,
        "PurgeQueue": 9,
        "Publish": 10,
        "Consume": 11,
        "CancelConsumer": 12,
        "Qos": 13,
        "Credit": 14,
        "Ack": 15,
        "Reject": 16,
        "Recover": 17,
        "Get": 18,
        "Started": 19,
        "Settle": 20,
        "StoreResult": 21,
        "WaitResult": 22,
        "GetResult": 23,
        "ForgetResults": 24,
        "StopWaiting": 25,
        "CancelMessage": 26,
        "Reprioritise": 27,
        "Position": 28,
        "AcquireLock": 29,
        "ReleaseLock": 30,
        "Status": 31,
        "Ping": 32,
        "Identify": 33,
        "Ok": 100,
        "Failed": 101,
        "Deliver": 102,
        "Returned": 103,
        "ConsumerCancelled": 104,
        "Blocked": 105,
        "Unblocked": 106,
        "Goodbye": 107,
    }
    assert {name: numbers[name] for name in published} == published


def test_a_frame_with_more_fields_of_a_later_minor_version_is_understood() -> None:
    assert decode_request(msgspec.msgpack.encode([14, 1, 2, 3, "new"])) == frames.Credit(1, 2, 3)


def test_a_frame_without_its_last_fields_has_their_defaults() -> None:
    assert decode_request(msgspec.msgpack.encode([14, 1, 2])) == frames.Credit(1, 2, 1)


def test_several_requests_become_one_string_of_bytes() -> None:
    asked = [frames.Ping(1), frames.Status(2)]
    assert [decode_request(body) for body in FrameReader().feed(encode_requests(asked))] == asked


def test_a_frame_that_is_too_large_is_not_encoded() -> None:
    with pytest.raises(ProtocolError, match=r"Publish frame of .* exceeds the limit") as caught:
        encode_request(frames.Publish(1, "", "q", "m", 0, bytes(MAX_FRAME_BYTES)))
    assert caught.value.code is Code.CONTENT_TOO_LARGE


def packed(*fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


DECLARE = b"\x98\x05\x01\xa1q\xc2\xc3\xc2\xc2"  # DeclareQueue up to its arguments


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="a byte that msgpack never uses"),
        pytest.param(packed(), id="no number"),
        pytest.param(packed(999, 1), id="an unknown number"),
        pytest.param(packed("Publish", 1), id="a name for a number"),
        pytest.param(packed(100, 1), id="a frame of the other side"),
        pytest.param(packed(32), id="no request id"),
        pytest.param(packed(32, "1"), id="text for a number"),
        pytest.param(packed(32, 1.0), id="a float for a number"),
        pytest.param(packed(32, True), id="a truth value for a number"),
        pytest.param(packed(10, 1, "", "q", "m", None, b""), id="nothing for a number"),
        pytest.param(packed(10, 1, "", "q", "m", 0, "text"), id="text for bytes"),
        pytest.param(packed(10, 1, b"", "q", "m", 0, b""), id="bytes for text"),
        pytest.param(packed(24, 1, [1]), id="numbers for ids"),
        pytest.param(packed(20, 1, 1, 1, None, [[1, 2]]), id="another frame in a settle"),
        pytest.param(msgspec.msgpack.encode({"r": 1}), id="a mapping"),
        pytest.param(packed(32, 1) + b"\0", id="more bytes after the frame"),
        pytest.param(b"\x92\x20\xa1", id="cut in the middle"),
        pytest.param(b"\x95\x21\x01\xa2\xff\xff\xc0\xc0", id="text that is not UTF-8 (surplus fields)"),
        pytest.param(b"\x93\x21\x01\xa2\xff\xff", id="text that is not UTF-8"),
        pytest.param(b"\x93\x21\x01\xa3\xed\xa0\x80", id="half of a surrogate pair"),
        pytest.param(DECLARE + b"\x81\xa1k" + b"\x91" * 100_000 + b"\xc0", id="nested 100,000 lists deep"),
        pytest.param(DECLARE + b"\x81\xa1k" * 100_000 + b"\xc0", id="nested 100,000 mappings deep"),
        pytest.param(DECLARE + b"\x81\x01\x01", id="a number for a key"),
        pytest.param(DECLARE + b"\x81\xa1k\x81\x81\x01\x01\x01", id="a mapping for a key"),
        pytest.param(DECLARE + b"\xdf\xff\xff\xff\xff", id="a mapping of four billion announced"),
        pytest.param(DECLARE + b"\x81\xa1k\xdd\xff\xff\xff\xff", id="a list of four billion announced"),
        pytest.param(DECLARE + b"\x81\xa1k\xc6\xff\xff\xff\xff", id="four gigabytes announced"),
        pytest.param(DECLARE + b"\x81\xa1k\xd7\xff" + b"\xff" * 8, id="a time that does not exist"),
    ],
)
def test_what_is_not_a_request_is_a_protocol_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_request(body)
    assert caught.value.code is Code.BAD_FORMAT
    assert len(str(caught.value)) < 500


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=60))
@example(b"\x95\x21\x01\xa2\xff\xff\xc0\xc0")
def test_random_bytes_are_a_frame_or_a_protocol_error(body: bytes) -> None:
    for decode in (decode_request, decode_push):
        with contextlib.suppress(ProtocolError):
            decode(body)


_ENCODED = [encode_request(sample(kind))[4:] for kind in frames.Request.__args__]


@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(_ENCODED), st.data())
def test_a_request_with_changed_bytes_is_a_frame_or_a_protocol_error(body: bytes, data: st.DataObject) -> None:
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        decode_request(bytes(changed))
