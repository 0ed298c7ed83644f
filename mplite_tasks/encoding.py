"""Values as bytes, by Kombu's serializers; what cannot be sent is named by its place inside the arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kombu import serialization

from .errors import BadOption, NotSerializable

__all__ = ["Encoded", "accepted_content_types", "check_serializer", "decode", "encode"]

#: Serializers that run code when they decode. What comes off the wire is never given to them.
_UNSAFE: Final = frozenset({"pickle", "auth"})

#: How deep :func:`_culprit` looks into nested values before it names the outer one.
_SEARCH_DEPTH: Final = 20


@dataclass(frozen=True, slots=True)
class Encoded:
    """A serialized value, and what its reader must know."""

    body: bytes
    content_type: str
    content_encoding: str


def check_serializer(name: str) -> str:
    """Return the name of a serializer that may be used. Raises :class:`BadOption` for an unknown or unsafe one."""
    if name in _UNSAFE:
        raise BadOption(f"serializer={name!r} runs code from the wire when it decodes; use 'mplite-json' or 'json'.")
    if name not in serialization.registry.name_to_type:
        known = sorted(set(serialization.registry.name_to_type) - _UNSAFE)
        raise BadOption(f"There is no serializer {name!r}. Kombu knows here: {', '.join(known)}.")
    return name


def accepted_content_types(serializer: str) -> frozenset[str]:
    """Return the content types that a worker of an app with this serializer decodes."""
    types = serialization.registry.name_to_type
    return frozenset(types[name] for name in {serializer, "mplite-json", "json"} if name in types)


def encode(value: Any, serializer: str, *, of: str, named: Callable[[], Mapping[str, Any]]) -> Encoded:
    """Return a value as bytes.

    Parameters:
        of: what the value belongs to, for the error: ``"task proj.add"``.
        named: returns the parts of the value by the names that the caller gave them, such as the bound arguments.

    Raises :class:`NotSerializable`, which names the part and the place inside it.
    """
    try:
        return _dump(value, serializer)
    except Exception as exc:
        place = _culprit(named(), serializer)
        reason = str(exc.__cause__ or exc).rstrip(".")
        raise NotSerializable(f"{of}: {place} cannot be sent as {serializer}: {reason}.") from exc


def decode(encoded: Encoded) -> Any:
    """Return the value of :func:`encode`, with any exception that the serializer raises."""
    return serialization.loads(encoded.body, encoded.content_type, encoded.content_encoding, force=False)


def _dump(value: Any, serializer: str) -> Encoded:
    content_type, content_encoding, body = serialization.dumps(value, serializer)
    return Encoded(body.encode() if isinstance(body, str) else body, content_type, content_encoding)


def _culprit(names: Mapping[str, Any], serializer: str) -> str:
    for name, value in names.items():
        if not _can_dump(value, serializer):
            return _inside(name, value, serializer, _SEARCH_DEPTH)
    return "the arguments"


def _inside(path: str, value: Any, serializer: str, depth: int) -> str:
    if depth > 0:
        for step, part in _parts(value):
            if not _can_dump(part, serializer):
                return _inside(path + step, part, serializer, depth - 1)
    return f"{path} ({type(value).__module__}.{type(value).__qualname__})"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))


def _can_dump(value: Any, serializer: str) -> bool:
    try:
        _dump(value, serializer)
    except Exception:
        return False
    return True
