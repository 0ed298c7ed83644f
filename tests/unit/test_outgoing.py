"""A message on its way out: what becomes of priorities, ids, times and properties."""

from __future__ import annotations

from typing import Any

import pytest

from mplite_tasks_transport.limits import MAX_PRIORITY, MIN_PRIORITY
from mplite_tasks_transport.payload import decode_payload
from mplite_tasks_transport.transport.outgoing import Outgoing


def outgoing(body: bytes | str = b"body", priority: Any = 0, **properties: Any) -> Outgoing:
    return Outgoing(body, priority, "text/plain", "utf-8", {"h": 1}, properties)


def test_body_headers_and_properties_are_sent_and_our_own_properties_are_not() -> None:
    frame = outgoing("grün", mplite_id="me", mplite_delay=1.5, mplite_ttl=2, correlation_id="c").frame("", "q")
    payload = decode_payload(frame.payload)
    assert payload.body == "grün".encode()
    assert payload.properties == {
        "correlation_id": "c",
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "headers": {"h": 1},
    }
    assert (frame.id, frame.delay, frame.ttl, frame.due) == ("me", 1_500_000, 2_000_000, 0)


def test_an_eta_is_sent_as_wall_clock_microseconds() -> None:
    assert outgoing(mplite_eta=1_700_000_000.25).frame("", "q").due == 1_700_000_000_250_000


@pytest.mark.parametrize(("given", "sent"), [(None, 0), (0, 0), (-5, -5), (MAX_PRIORITY, MAX_PRIORITY), (True, 1)])
def test_a_priority_is_any_signed_32_bit_integer_and_none_is_0(given: Any, sent: int) -> None:
    assert outgoing(priority=given).frame("", "q").priority == sent


@pytest.mark.parametrize("priority", [MAX_PRIORITY + 1, MIN_PRIORITY - 1])
def test_a_priority_out_of_range_is_a_value_error_that_names_it(priority: int) -> None:
    with pytest.raises(ValueError, match=str(priority)):
        outgoing(priority=priority)


@pytest.mark.parametrize("priority", [1.5, "9"])
def test_a_priority_that_is_no_whole_number_is_a_type_error_that_names_it(priority: object) -> None:
    with pytest.raises(TypeError, match=repr(priority)):
        outgoing(priority=priority)


def test_the_shorter_of_ttl_and_expiration_counts_and_zero_is_now_or_never() -> None:
    assert outgoing(expiration="1500").frame("", "q").ttl == 1_500_000
    assert outgoing(expiration="1500", mplite_ttl=1).frame("", "q").ttl == 1_000_000
    assert outgoing(expiration="0").frame("", "q").ttl == 1
    assert outgoing().frame("", "q").ttl == 0


@pytest.mark.parametrize("properties", [{"expiration": "soon"}, {"expiration": "-1"}, {"mplite_delay": -1}])
def test_times_that_make_no_sense_are_value_errors_that_name_the_property(properties: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(properties))):
        outgoing(**properties).frame("", "q")


def test_delivery_mode_1_does_not_outlive_the_broker() -> None:
    assert not outgoing(delivery_mode=1).frame("", "q").persistent
    assert outgoing(delivery_mode=2).frame("", "q").persistent
    assert outgoing().frame("", "q").persistent


def test_a_repetition_of_a_publish_in_doubt_has_the_same_id_and_another_message_has_not() -> None:
    shared: dict[str, Any] = {}
    body = b"the same body"
    first = Outgoing(body, 0, None, None, None, shared)
    assert "mplite_id" not in shared
    first.in_doubt()
    assert Outgoing(body, 0, None, None, None, shared).id == first.id
    other = Outgoing(b"another body", 0, None, None, None, shared)
    assert other.id != first.id
    assert Outgoing(b"a third body", 0, None, None, None, shared).id not in {first.id, other.id}


def test_a_given_id_stays_through_a_repetition() -> None:
    message = outgoing(mplite_id="mine")
    message.in_doubt()
    assert message.properties["mplite_id"] == "mine"


@pytest.mark.parametrize("bad", ["", "x" * 256, 7])
def test_a_bad_id_is_a_value_error(bad: object) -> None:
    with pytest.raises(ValueError, match="mplite_id"):
        outgoing(mplite_id=bad)


def test_headers_that_cannot_be_sent_are_a_type_error() -> None:
    message = Outgoing(b"", 0, None, None, {"h": object()}, {})
    with pytest.raises(TypeError, match="Headers and properties"):
        message.frame("", "q")


def test_a_body_that_is_neither_bytes_nor_text_is_a_type_error_that_says_what_to_do() -> None:
    with pytest.raises(TypeError, match="dict is neither: name a serializer"):
        outgoing({})  # type: ignore[arg-type]
