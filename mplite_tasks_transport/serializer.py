"""The serializer ``mplite-json``: fast JSON that refuses what it could not carry faithfully.

Kombu finds it by the entry point ``kombu.serializers`` while ``kombu.serialization`` is being imported, so nothing here
may need that module, or raise. The same import makes ``mplite://`` known to Kombu.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

import msgspec

from . import aliases as _aliases

__all__ = ["CONTENT_TYPE", "NAME", "dumps", "loads", "register_args"]

_aliases.register()

#: The serializer's name in Kombu, and the content type of what it makes. Never ``application/json``: Kombu's own JSON
#: gives some values a form that only itself can read.
NAME: Final = "mplite-json"
CONTENT_TYPE: Final = "application/x-mplite-json"

_SIMPLE: Final = frozenset({str, int, bool, type(None)})
_BYTES: Final = (bytes, bytearray, memoryview)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def dumps(value: Any) -> bytes:
    """Return a value as JSON.

    Dates and times become ISO 8601 text, ``Decimal`` and ``UUID`` text, an enum its value, tuples and sets lists,
    dataclasses objects: :func:`loads` gives back the plain JSON form, not the type.

    Raises:
        TypeError: something in it has no JSON form; the text says where, such as ``value[0]['data']``. Bytes are
            refused: whether they are text or base64 is for the caller to say. So are numbers that are not finite.
        ValueError: it is nested too deeply, or contains itself.
    """
    try:
        _check(value)
        return _encoder.encode(value)
    except RecursionError:
        raise ValueError("The value is nested too deeply for JSON, or contains itself.") from None
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as exc:
        raise TypeError(_find(value, "value") or str(exc)) from exc


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Return the value that JSON text says, as plain JSON types. Raises :class:`ValueError` for anything else."""
    return _decoder.decode(data)


#: What Kombu registers: encoder, decoder, content type and content encoding.
register_args: Final = (dumps, loads, CONTENT_TYPE, "utf-8")


class _RefusedError(TypeError):
    """Something has no JSON form; where is not known yet."""


def _check(value: Any) -> None:
    """Raise for what the encoder would carry, but not faithfully: bytes as base64, NaN as null."""
    kind = type(value)
    if kind in _SIMPLE:
        return
    if kind is dict:
        for key in value:
            if type(key) is not str:
                _check(key)
        value = value.values()
    elif kind is not list and kind is not tuple:
        if _flaw(value):
            raise _RefusedError
        value = [item for _, item in _parts(value)]
    for item in value:
        if type(item) not in _SIMPLE:
            _check(item)


def _flaw(value: Any) -> str:
    """Return what makes a value itself, not its parts, unfit for JSON; nothing if it is fit."""
    if isinstance(value, _BYTES):
        return f"{type(value).__name__}, which JSON does not have: decode it to text, or encode it as base64"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}, which JSON does not have"
    return ""


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """Return what a value is made of, each with its name as it stands behind the value's own."""
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        parts = ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        parts = ((".an_item", item) for item in value)
    elif isinstance(value, Enum):
        parts = ((".value", value.value),)
    elif isinstance(value, msgspec.Struct):
        parts = ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = ((f".{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value))
    return parts


def _find(value: Any, path: str) -> str | None:
    """Return where the first part of a value is that has no JSON form, and why; ``None`` if all have one."""
    flaw = _flaw(value)
    if flaw:
        return f"{path} is {flaw}."
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int | float | Enum) or _flaw(key):
                return f"{path} has the key {key!r}: keys of JSON objects are text."
    parts = list(_parts(value))
    for name, item in parts:
        found = _find(item, path + name)
        if found is not None:
            return found
    if parts:
        return None
    try:
        _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as exc:
        return f"{path} is {type(value).__module__}.{type(value).__qualname__}, which has no JSON form: {exc}."
    return None
