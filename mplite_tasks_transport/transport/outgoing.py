"""A message on its way out: from what Kombu hands over to the ``Publish`` frame."""

from __future__ import annotations

import math
import operator
import uuid
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

from ..frames import Publish
from ..limits import MAX_ID_CHARS, MAX_PRIORITY, MIN_PRIORITY
from ..payload import Payload, encode_payload

__all__ = ["Outgoing", "checked_priority", "microseconds", "packed"]

#: Properties that tell the transport something and are not sent: the message's id, seconds until it is ready, the
#: wall-clock time (seconds since the epoch) at which it is, and seconds after which it expires.
_OWN: Final = frozenset({"mplite_id", "mplite_delay", "mplite_eta", "mplite_ttl"})

#: AMQP's delivery mode of a message that does not outlive the broker.
_TRANSIENT: Final = 1


class _InDoubt:
    """The id of a publish that was not confirmed, left in the properties that Kombu hands over again at a retry."""

    def __init__(self, id: str, body: bytes) -> None:
        self.id = id
        self.body = body


class Outgoing:
    """What :meth:`Channel.prepare_message` makes and :meth:`Channel.basic_publish` sends.

    Parameters:
        body: the serialized content; text is encoded as UTF-8.
        properties: Kombu's mapping, which is kept: Kombu completes it after the message was prepared, and hands
            the same one over again when it repeats a publish that failed.

    Raises:
        ValueError, TypeError: the priority is not a signed 32-bit integer, or the body is neither bytes nor text.
    """

    def __init__(
        self,
        body: bytes | str,
        priority: int | None,
        content_type: str | None,
        content_encoding: str | None,
        headers: Mapping[str, Any] | None,
        properties: MutableMapping[str, Any] | None,
    ) -> None:
        self._original = body
        self.body = _as_bytes(body)
        self.priority = checked_priority(priority)
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.headers = headers
        self.properties: MutableMapping[str, Any] = {} if properties is None else properties
        self.id = self._chosen_id()

    def in_doubt(self) -> None:
        """Remember that this was sent and not confirmed: a repetition by Kombu is to be kept once."""
        self.properties.setdefault("mplite_id", _InDoubt(self.id, self._original))  # type: ignore[arg-type]

    def frame(self, exchange: str, routing_key: str, *, mandatory: bool = False) -> Publish:
        """Return the frame. Raises TypeError or ValueError, naming what cannot be sent."""
        given = self.properties
        properties = {key: value for key, value in given.items() if key not in _OWN and value is not None}
        reply_to = properties.get("reply_to")
        if reply_to is not None and not isinstance(reply_to, str):
            properties["reply_to"] = reply_to.name
        return Publish(
            0,
            exchange,
            routing_key,
            self.id,
            self.priority,
            packed(self.body, self.content_type, self.content_encoding, self.headers, properties),
            delay=microseconds(given.get("mplite_delay") or 0, "mplite_delay"),
            due=microseconds(given.get("mplite_eta") or 0, "mplite_eta"),
            ttl=_ttl(given),
            mandatory=mandatory,
            persistent=given.get("delivery_mode") != _TRANSIENT,
        )

    def _chosen_id(self) -> str:
        chosen = self.properties.get("mplite_id")
        if isinstance(chosen, _InDoubt):
            if chosen.body is self._original:
                return chosen.id
            # Somebody uses one mapping for several messages: this is another one.
            del self.properties["mplite_id"]
            chosen = None
        if chosen is None:
            return uuid.uuid4().hex
        if not isinstance(chosen, str) or not 0 < len(chosen) <= MAX_ID_CHARS:
            raise ValueError(f"mplite_id has to be text of 1 to {MAX_ID_CHARS} characters; {chosen!r} is not.")
        return chosen


def checked_priority(priority: Any) -> int:
    """Return a priority; ``None`` is 0. Raises ValueError or TypeError, naming what it is instead."""
    if priority is None:
        return 0
    try:
        number = operator.index(priority)
    except TypeError:
        raise TypeError(f"A priority is a whole number; {priority!r} is not.") from None
    if not MIN_PRIORITY <= number <= MAX_PRIORITY:
        raise ValueError(f"The priority {number} is outside of {MIN_PRIORITY} to {MAX_PRIORITY}.")
    return number


def microseconds(seconds: Any, what: str) -> int:
    """Return seconds as whole microseconds. Raises ValueError, naming ``what``, if it is negative or not finite."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or not 0 <= seconds < 2**63 / 1e6:
        raise ValueError(f"{what} has to be a number of seconds from 0 on; {seconds!r} is not.")
    return round(seconds * 1_000_000)


def packed(
    body: bytes,
    content_type: str | None,
    content_encoding: str | None,
    headers: Mapping[str, Any] | None,
    properties: dict[str, Any],
) -> bytes:
    """Return the payload. Raises TypeError for a property or header that cannot be sent."""
    properties["content_type"] = content_type
    properties["content_encoding"] = content_encoding
    properties["headers"] = dict(headers or {})
    try:
        return encode_payload(Payload(body, properties))
    except (TypeError, ValueError, OverflowError) as exc:
        raise TypeError(
            "Headers and properties of a message carry numbers, text, bytes, booleans, times, lists and mappings: "
            f"{exc}"
        ) from exc


def _ttl(properties: Mapping[str, Any]) -> int:
    """Return the microseconds that a message may wait, 0 for ever: the shorter of ours and AMQP's ``expiration``."""
    found = []
    if properties.get("mplite_ttl") is not None:
        found.append(microseconds(properties["mplite_ttl"], "mplite_ttl"))
    if properties.get("expiration") is not None:
        try:
            found.append(microseconds(int(properties["expiration"]) / 1000, "expiration"))
        except (TypeError, ValueError):
            raise ValueError(
                f"expiration has to be a whole number of milliseconds from 0 on; {properties['expiration']!r} is not."
            ) from None
    # On the wire 0 is "never"; AMQP's 0 is "now or never", for which one microsecond does.
    return max(1, min(found)) if found else 0


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8")
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise TypeError(f"A message's body is bytes or text; {type(body).__name__} is neither: name a serializer.")
