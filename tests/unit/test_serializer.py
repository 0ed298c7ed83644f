"""The serializer ``mplite-json``: what it carries, what it refuses, and how it says so."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid

import kombu.serialization
import pytest
from kombu.exceptions import DecodeError, EncodeError

from mplite_tasks_transport.serializer import CONTENT_TYPE, NAME, dumps, loads


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: object


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": [1, 2.5, True, None, "ü"]}, {"a": [1, 2.5, True, None, "ü"]}),
        ((1, 2), [1, 2]),
        ([{7}], [[7]]),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2026-01-02T03:04:05Z"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([Colour.RED], ["red"]),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (10**30, 10**30),
        ({1: "one"}, {"1": "one"}),
        ("", ""),
    ],
)
def test_a_value_comes_back_as_its_plain_json_form(value: object, plain: object) -> None:
    assert loads(dumps(value)) == plain


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ([[b"raw"], {}], r"^value\[0\]\[0\] is bytes"),
        ({"args": [1, {"data": bytearray(b"x")}]}, r"^value\['args'\]\[1\]\['data'\] is bytearray"),
        ([Point(1, memoryview(b"x"))], r"^value\[0\]\.y is memoryview"),
        ([1, float("nan")], r"^value\[1\] is nan"),
        ({"x": object()}, r"^value\['x'\] is builtins\.object"),
        ({(1, 2): 3}, r"has the key \(1, 2\)"),
        ({b"k": 3}, r"has the key b'k'"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_a_type_error_that_says_where_it_is(value: object, where: str) -> None:
    with pytest.raises(TypeError, match=where):
        dumps(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="contains itself"):
        dumps(value)


def test_kombu_finds_it_by_its_entry_point_and_accepts_it() -> None:
    content_type, encoding, body = kombu.serialization.dumps({"a": 1}, serializer=NAME)
    assert (content_type, encoding) == (CONTENT_TYPE, "utf-8")
    assert kombu.serialization.loads(body, content_type, encoding) == {"a": 1}
    assert kombu.serialization.loads(body, content_type, encoding, accept={CONTENT_TYPE}) == {"a": 1}


def test_bad_values_and_bad_text_are_kombus_encode_and_decode_errors() -> None:
    with pytest.raises(EncodeError, match=r"value\[0\] is bytes"):
        kombu.serialization.dumps([b"x"], serializer=NAME)
    with pytest.raises(DecodeError):
        kombu.serialization.loads(b"{nonsense", CONTENT_TYPE, "utf-8")
