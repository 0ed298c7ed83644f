"""Where messages go: the types of exchanges, bindings, and what a restart keeps of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.exchange import topic_matches, words_of

from .bench import Bench, Client, letter


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def client(bench: Bench) -> Client:
    made = bench.client()
    for name in ("a", "b", "c"):
        made.declare(name)
    return made


def reached(bench: Bench) -> list[str]:
    """Return the queues that have a message, and empty them."""
    queues = bench.core.vhosts["/"].queues
    found = [name for name in queues if queues[name].shared_index]
    for name in found:
        queues[name].take()
    return found


def bind(client: Client, exchange: str, *bindings: tuple[str, str]) -> None:
    for queue, key in bindings:
        assert client.request(frames.BindQueue, queue, exchange, key) is None


def test_the_default_exchange_reaches_each_queue_by_its_name(bench: Bench, client: Client) -> None:
    client.publish("m", queue="b")
    assert reached(bench) == ["b"]


def test_a_direct_exchange_reaches_the_queues_that_are_bound_with_the_key(bench: Bench, client: Client) -> None:
    client.request(frames.DeclareExchange, "x")
    bind(client, "x", ("a", "k"), ("b", "k"), ("b", "k"), ("c", "other"))
    client.publish("1", exchange="x", queue="k")
    assert reached(bench) == ["a", "b"]
    client.request(frames.UnbindQueue, "a", "x", "k")
    client.publish("2", exchange="x", queue="k")
    assert reached(bench) == ["b"]
    assert client.publish("3", exchange="x", queue="none") is False


def test_a_direct_exchange_forgets_the_keys_of_bindings_that_are_gone(bench: Bench, client: Client) -> None:
    for n in range(10):
        bind(client, "amq.direct", ("a", f"reply-{n}"))
        client.request(frames.UnbindQueue, "a", "amq.direct", f"reply-{n}")
    bind(client, "amq.direct", ("b", "k"))
    client.request(frames.DeleteQueue, "b")
    assert bench.core.vhosts["/"].exchanges["amq.direct"]._by_key == {}  # type: ignore[attr-defined]


def test_a_fanout_exchange_reaches_every_bound_queue_once(bench: Bench, client: Client) -> None:
    bind(client, "amq.fanout", ("a", "1"), ("a", "2"), ("c", ""))
    client.publish("m", exchange="amq.fanout", queue="whatever")
    assert reached(bench) == ["a", "c"]
    assert not bench.queue("a").shared_index


words = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=5).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", "ab", "*", "#"]), max_size=5).map(".".join)


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return what a pattern means for a key whose words each end with a dot."""
    parts = {"#": r"(?:[^.]*\.)*", "*": r"[^.]*\."}
    return re.compile("".join(parts.get(part, re.escape(part) + r"\.") for part in words_of(pattern)))


@settings(max_examples=500, deadline=None)
@given(patterns, words)
def test_topic_patterns_mean_what_their_regular_expressions_mean(pattern: str, key: str) -> None:
    expected = as_regex(pattern).fullmatch("".join(f"{word}." for word in words_of(key))) is not None
    assert topic_matches(words_of(pattern), words_of(key)) is expected


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("#", "", True),
        ("", "", True),
        ("*", "", False),
        ("*", "a", True),
        ("a.#", "a", True),
        ("#.a", "a", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a..c", True),
        ("*.*", "a", False),
    ],
)
def test_topic_patterns_at_their_edges(pattern: str, key: str, expected: bool) -> None:
    assert topic_matches(words_of(pattern), words_of(key)) is expected


def test_a_pattern_made_to_take_long_does_not() -> None:
    assert not topic_matches(["#", "a"] * 60, ["a"] * 126 + ["b"])


def test_a_topic_exchange_reaches_the_queues_whose_pattern_matches(bench: Bench, client: Client) -> None:
    bind(client, "amq.topic", ("a", "order.*"), ("b", "order.#"), ("c", "#.paid"))
    client.publish("m", exchange="amq.topic", queue="order.paid")
    assert reached(bench) == ["a", "b", "c"]
    client.publish("n", exchange="amq.topic", queue="order.x.y")
    assert reached(bench) == ["b"]


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({"x-match": "all", "k": 1, "l": "v"}, {"k": 1, "l": "v", "m": 2}, True),
        ({"x-match": "all", "k": 1, "l": "v"}, {"k": 1}, False),
        ({"k": 1}, {"k": 2}, False),
        ({"k": None}, {"k": 2}, True),
        ({"x-match": "any", "k": 1, "l": "v"}, {"l": "v"}, True),
        ({"x-match": "any", "k": 1, "l": "v"}, {"k": 2}, False),
        ({}, {}, True),
        ({"x-match": "any"}, {}, False),
    ],
)
def test_a_headers_exchange_compares_headers(
    bench: Bench, client: Client, arguments: dict[str, Any], headers: dict[str, Any], expected: bool
) -> None:
    client.request(frames.BindQueue, "a", "amq.headers", "", arguments)
    client.publish("m", exchange="amq.headers", payload=letter(headers))
    assert reached(bench) == (["a"] if expected else [])


@pytest.mark.parametrize("payload", [b"", b"junk", b"\x92\xc4\x00\x81\xa7headers\x01"])
def test_a_message_whose_headers_cannot_be_read_has_none(bench: Bench, client: Client, payload: bytes) -> None:
    client.request(frames.BindQueue, "a", "amq.headers", "", {"k": None})
    client.request(frames.BindQueue, "b", "amq.headers", "", {})
    client.publish("m", exchange="amq.headers", payload=payload)
    assert reached(bench) == ["b"]


def test_exchanges_are_declared_once_and_checked_after_that(client: Client) -> None:
    assert client.request(frames.DeclareExchange, "x", "topic") is None
    assert client.request(frames.DeclareExchange, "x", "topic") is None
    assert client.request(frames.DeclareExchange, "x", "fanout").code == 406
    assert client.request(frames.DeclareExchange, "y", "quorum").code == 406
    assert client.request(frames.DeclareExchange, "amq.mine").code == 406
    assert client.request(frames.DeclareExchange, "x" * 256).code == 406
    assert client.request(frames.DeclareExchange, "x", passive=True) is None
    assert client.request(frames.DeclareExchange, "missing", passive=True).code == 404
    assert client.request(frames.DeclareExchange, "", passive=True) is None
    assert client.request(frames.DeleteExchange, "amq.topic").code == 406
    assert client.request(frames.DeleteExchange, "missing") is None


def test_an_exchange_in_use_is_kept_if_asked(client: Client) -> None:
    client.request(frames.DeclareExchange, "x")
    bind(client, "x", ("a", "k"))
    assert client.request(frames.DeleteExchange, "x", if_unused=True).code == 406
    client.request(frames.UnbindQueue, "a", "x", "k")
    assert client.request(frames.UnbindQueue, "a", "x", "k") is None, "a binding that is not there is no error"
    assert client.request(frames.DeleteExchange, "x", if_unused=True) is None
    assert client.request(frames.UnbindQueue, "a", "x", "k").code == 404
    assert client.request(frames.BindQueue, "a", "x", "k").code == 404
    assert client.request(frames.BindQueue, "missing", "amq.topic", "k").code == 404


def test_an_auto_delete_exchange_goes_with_its_last_binding(bench: Bench, client: Client) -> None:
    exchanges = bench.core.vhosts["/"].exchanges
    client.request(frames.DeclareExchange, "x", auto_delete=True)
    assert "x" in exchanges
    bind(client, "x", ("a", "k"), ("b", "k"))
    client.request(frames.UnbindQueue, "a", "x", "k")
    assert "x" in exchanges
    client.request(frames.DeleteQueue, "b")
    assert "x" not in exchanges
    assert not bench.kept.exchanges
    assert not bench.kept.bindings


def test_a_restart_keeps_durable_exchanges_with_the_bindings_of_durable_queues(bench: Bench, client: Client) -> None:
    client.declare("passing", durable=False)
    client.request(frames.DeclareExchange, "kept", "topic")
    client.request(frames.DeclareExchange, "lost", "topic", durable=False)
    bind(client, "kept", ("a", "k.*"), ("b", "k.*"), ("passing", "#"))
    bind(client, "lost", ("a", "#"))
    bind(client, "amq.fanout", ("c", ""))
    client.request(frames.UnbindQueue, "b", "kept", "k.*")
    after = bench.crashed()
    restarted = after.client()
    assert restarted.publish("1", exchange="kept", queue="k.x") is True
    assert reached(after) == ["a"]
    assert restarted.publish("2", exchange="amq.fanout") is True
    assert reached(after) == ["c"]
    assert restarted.publish("3", exchange="lost", queue="k").code == 404


def test_nothing_is_left_of_a_deleted_exchange_or_queue(bench: Bench, client: Client) -> None:
    client.request(frames.DeclareExchange, "x")
    bind(client, "x", ("a", "k"), ("b", "k"))
    client.request(frames.DeleteQueue, "a")
    assert [b.queue for b in bench.kept.bindings] == [bench.queue("b").number]
    client.request(frames.DeleteExchange, "x")
    assert not bench.kept.bindings
    assert not bench.kept.exchanges
    bench.crashed()


def test_vhosts_see_nothing_of_each_other(bench: Bench, client: Client) -> None:
    stranger = bench.client("other")
    assert stranger.publish("m", queue="a") is False
    assert stranger.consume("a").code == 404
    stranger.declare("a")
    stranger.publish("m", queue="a")
    assert bench.waiting("a") == []
    after = bench.crashed()
    assert [e.id for e in after.queue("a", "other").shared_index] == ["m"]
