"""Exchanges: to which queues a message goes. One class for each type that AMQP 0-9-1 knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from .queue import Queue

__all__ = ["EXCHANGE_TYPES", "Binding", "Exchange", "HeadersOf"]

#: Gives a message's headers when a route needs them, so that payloads are opened only then.
HeadersOf = Callable[[], Mapping[str, Any]]


class Binding(NamedTuple):
    """Messages of the exchange that match ``routing_key`` or ``arguments`` go to ``queue``."""

    queue: Queue
    routing_key: str
    arguments: dict[str, Any]


class Exchange:
    """What all types share: bindings, and their addition and removal.

    Attributes:
        durable: whether the journal has it.
        auto_delete: whether it goes away with its last binding.
    """

    kind: ClassVar[str]

    def __init__(self, name: str, *, durable: bool, auto_delete: bool, arguments: dict[str, Any]) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments = arguments
        self.bindings: list[Binding] = []

    def bind(self, binding: Binding) -> bool:
        """Add a binding. Returns whether it is new."""
        if binding in self.bindings:
            return False
        self.bindings.append(binding)
        return True

    def unbind(self, binding: Binding) -> bool:
        """Remove a binding. Returns whether it was there."""
        if binding not in self.bindings:
            return False
        self.bindings.remove(binding)
        return True

    def matches(self, binding: Binding, routing_key: str, headers: HeadersOf) -> bool:
        """Return whether a message takes this binding."""
        raise NotImplementedError

    def route(self, routing_key: str, headers: HeadersOf) -> Iterable[Queue]:
        """Return the queues for a message, each once, in the order of their bindings."""
        return dict.fromkeys(b.queue for b in self.bindings if self.matches(b, routing_key, headers))


class DirectExchange(Exchange):
    """To the queues that are bound with exactly the message's routing key."""

    kind = "direct"

    def __init__(self, name: str, *, durable: bool, auto_delete: bool, arguments: dict[str, Any]) -> None:
        super().__init__(name, durable=durable, auto_delete=auto_delete, arguments=arguments)
        self._by_key: dict[str, dict[Queue, None]] = {}

    def bind(self, binding: Binding) -> bool:
        self._by_key.setdefault(binding.routing_key, {})[binding.queue] = None
        return super().bind(binding)

    def unbind(self, binding: Binding) -> bool:
        removed = super().unbind(binding)
        if removed:
            queues = (b.queue for b in self.bindings if b.routing_key == binding.routing_key)
            remaining = dict.fromkeys(queues)
            if remaining:
                self._by_key[binding.routing_key] = remaining
            else:
                del self._by_key[binding.routing_key]
        return removed

    def route(self, routing_key: str, headers: HeadersOf) -> Iterable[Queue]:
        return self._by_key.get(routing_key, ())


class FanoutExchange(Exchange):
    """To every bound queue."""

    kind = "fanout"

    def matches(self, binding: Binding, routing_key: str, headers: HeadersOf) -> bool:
        return True


class TopicExchange(Exchange):
    """To the queues whose pattern matches: words between dots, ``*`` for one word, ``#`` for any number of them."""

    kind = "topic"

    def matches(self, binding: Binding, routing_key: str, headers: HeadersOf) -> bool:
        return topic_matches(words_of(binding.routing_key), words_of(routing_key))


class HeadersExchange(Exchange):
    """To the queues whose arguments agree with the message's headers: all of them, or any with ``x-match: any``."""

    kind = "headers"

    def route(self, routing_key: str, headers: HeadersOf) -> Iterable[Queue]:
        present = headers() if self.bindings else {}
        return super().route(routing_key, lambda: present)

    def matches(self, binding: Binding, routing_key: str, headers: HeadersOf) -> bool:
        wanted = {key: value for key, value in binding.arguments.items() if not key.startswith("x-")}
        present = headers()
        hits = (key in present and (value is None or present[key] == value) for key, value in wanted.items())
        return any(hits) if binding.arguments.get("x-match") == "any" else all(hits)


def words_of(key: str) -> list[str]:
    """Return the words of a routing key; the empty key has none."""
    return key.split(".") if key else []


def topic_matches(pattern: list[str], words: list[str]) -> bool:
    """Return whether a topic pattern matches a routing key, both split into words.

    Takes time in proportion to the product of their lengths, whatever the pattern.
    """
    reached = {0}  # how many words the pattern so far can have used up
    for part in pattern:
        if part == "#":
            reached = set(range(min(reached), len(words) + 1)) if reached else reached
        else:
            reached = {n + 1 for n in reached if n < len(words) and part in ("*", words[n])}
    return len(words) in reached


EXCHANGE_TYPES: dict[str, type[Exchange]] = {
    cls.kind: cls for cls in (DirectExchange, FanoutExchange, TopicExchange, HeadersExchange)
}
