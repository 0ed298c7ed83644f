"""Values as messages: what is written, what is read, and what is refused."""

from __future__ import annotations

import pickle
import zlib
from typing import Any

import pytest

from mplite_tasks_transport.payload import Payload, decode_payload, encode_payload
from mplite_tasks_transport.values import SERIALIZERS, UnreadableValue, decode_value, encode_value

DATA = [None, True, 0, -1.5, "ü", [1, [2, {"a": None}]], {"k": [1, 2]}, b"", b"\x00\xff"]


def message(body: bytes, **properties: Any) -> bytes:
    return encode_payload(Payload(body, properties))


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("value", DATA, ids=repr)
def test_data_comes_back_as_it_was(value: Any, serializer: str) -> None:
    assert decode_value(encode_value(value, serializer), "m") == value


def test_a_payload_says_what_it_is_in_kombus_words() -> None:
    assert decode_payload(encode_value(b"raw")).properties["content_type"] == "application/data"
    assert decode_payload(encode_value(1)).properties["content_type"] == "application/x-mplite-json"
    assert decode_payload(encode_value(1, "json")).properties["content_type"] == "application/json"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (message(b"\xe9", content_type="text/plain", content_encoding="latin-1"), "é"),
        (message(b"text", content_type="application/text"), "text"),
        (message(b"raw", content_type="application/octet-stream"), b"raw"),
        (message(b"raw", content_encoding="binary"), b"raw"),
        (message(b'{"a": 1}', content_type="application/json", content_encoding="utf-8"), {"a": 1}),
        (
            message(zlib.compress(b"[1]"), content_type="application/json", headers={"compression": "zlib"}),
            [1],
        ),
    ],
)
def test_what_others_wrote_is_read(data: bytes, value: Any) -> None:
    assert decode_value(data, "m") == value


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        raise AssertionError("it was pickled or unpickled")


@pytest.mark.parametrize("kind", ["application/x-python-serialize", "application/x-yaml", "", None, 7, "text/html"])
def test_other_content_is_refused_by_its_name_and_never_run(kind: Any) -> None:
    body = pickle.dumps(print)
    with pytest.raises(UnreadableValue, match=f"message 'm' is {kind!r}"):
        decode_value(message(body, content_type=kind), "message 'm'")


@pytest.mark.parametrize(
    "properties",
    [
        {"content_type": "application/json"},
        {"content_type": "application/x-mplite-json"},
        {"content_type": "text/plain", "content_encoding": "utf-8"},
        {"content_type": "text/plain", "content_encoding": "no-such-code"},
        {"content_type": "text/plain", "content_encoding": 7},
        {"content_type": "application/data", "headers": {"compression": "zlib"}},
        {"content_type": "application/data", "headers": {"compression": "no-such-method"}},
        {"content_type": "application/data", "headers": {"compression": 7}},
    ],
)
def test_damaged_content_is_one_error_that_says_which_message(properties: dict[str, Any]) -> None:
    with pytest.raises(UnreadableValue, match="message 'm'"):
        decode_value(message(b"\xff{", **properties), "message 'm'")


def test_bytes_that_are_no_payload_are_unreadable() -> None:
    with pytest.raises(UnreadableValue, match="message 'm' holds is no message"):
        decode_value(b"\xc1", "message 'm'")


@pytest.mark.parametrize("properties", [{"content_type": ["text/plain"]}, {"content_encoding": {"utf-8": 1}}])
def test_a_content_type_that_is_no_text_is_unreadable(properties: dict[str, Any]) -> None:
    with pytest.raises(UnreadableValue):
        decode_value(message(b"x", **{"content_type": "text/plain", **properties}), "message 'm'")


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_what_is_no_data_is_refused_and_not_pickled(serializer: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_value(Trap(), serializer)
