"""What can be a handler, with which options, and what it is called with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from mplite_tasks import BadOption, HandlerNotFound, InvalidHandler, ReceivedMessage, handler, register_handler
from mplite_tasks.worker.handler_finder import find_handler
from mplite_tasks_transport import InvalidURL


def body_only(body: Any) -> None: ...
def body_and_message(body: Any, message: ReceivedMessage) -> None: ...
def optional_message(body: Any, message: ReceivedMessage | None = None) -> None: ...
def other_option(body: Any, verbose: bool = False) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...


class WithMethod:
    def handle(self, body: Any, facts: ReceivedMessage) -> None: ...
    def __call__(self, body: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (body_only, False),
        (body_and_message, True),
        (optional_message, True),
        (other_option, False),
        (anything, False),
        (WithMethod().handle, True),
        (WithMethod(), False),
        (functools.partial(body_and_message, 1), False),
        (print, False),
        ([].append, False),
    ],
)
def test_a_second_parameter_that_must_be_given_or_is_named_message_is_the_message(
    function: Callable[..., Any], wanted: bool
) -> None:
    assert handler(queues=["q"])(function).wants_message is wanted


async def asynchronous(body: Any) -> None: ...


@pytest.mark.parametrize("function", [3, asynchronous, lambda: None, lambda a, b, c: None, lambda a, *, key: None])
def test_what_cannot_be_called_with_a_body_is_refused_at_declaration(function: Any) -> None:
    with pytest.raises(InvalidHandler):
        handler(queues=["q"])(function)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": 2.5},
        {"max_deliveries": 0},
        {"retry": -1},
        {"retry": "3"},
        {"queues": [""]},
        {"queues": ["x" * 300]},
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_at_declaration(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        handler(**{"queues": ["q"], **options})


def test_a_broker_url_that_cannot_be_used_is_refused_at_declaration() -> None:
    with pytest.raises(InvalidURL):
        register_handler(print, ["q"], broker="mplite://host:port/")


def test_brokers_to_fail_over_to_may_be_named() -> None:
    handler(queues=["q"], broker="mplite://h:1;mplites://other:2")(print)
    with pytest.raises(InvalidURL):
        handler(queues=["q"], broker="mplite://h:1;mplite://other:port")


def test_the_decorator_without_its_parentheses_says_so() -> None:
    with pytest.raises(InvalidHandler, match="needs its parentheses"):
        handler(print)  # type: ignore[arg-type]  # that is the mistake


def test_a_kind_of_broker_that_nobody_knows_is_refused_when_the_handler_starts() -> None:
    with pytest.raises(BadOption, match="begins with 'pigeon'"):
        register_handler(print, ["q"], broker="pigeon://loft")


def test_a_handler_without_queues_cannot_be_started() -> None:
    with pytest.raises(BadOption, match="listens to no queue"):
        handler()(print).start()


def test_one_name_is_one_queue_and_a_name_counts_once() -> None:
    assert handler(queues="orders")(print).options.queues == ("orders",)
    assert handler(queues=["a", "b", "a"])(print).options.queues == ("a", "b")


def test_a_declared_handler_is_still_the_function() -> None:
    @handler(queues=["q"])
    def double(body: int) -> int:
        """Twice."""
        return 2 * body

    assert double(2) == 4
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_neither_the_key_of_the_broker_nor_that_of_the_options_is_shown() -> None:
    declared = handler(queues=["q"], broker="mplite://:geheim@h:1/", transport_options={"key": "geheim"})(print)
    for shown in (repr(declared), repr(declared.options), repr(declared.source()), declared.source().broker_url):
        assert "geheim" not in shown


MODULE = "tests.unit.tasks.test_handlers"

declared = handler(queues=["declared"], concurrency=3, retry=1)(body_only)


def test_the_command_finds_any_function_and_takes_what_it_declares() -> None:
    assert find_handler(f"{MODULE}:body_only", queues=["q"]).options.queues == ("q",)
    found = find_handler(f"{MODULE}:declared")
    assert (found.options.queues, found.options.concurrency) == (("declared",), 3)
    changed = find_handler(f"{MODULE}:declared", queues=["q"], broker="memory://", retries=7).options
    assert (changed.queues, changed.broker, changed.concurrency) == (("q",), "memory://", 3)
    assert changed.retry is not None
    assert changed.retry.next_wait(OSError(), retries=6, elapsed=0.0) is not None
    assert changed.retry.next_wait(OSError(), retries=7, elapsed=0.0) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_module:f", "there is no module 'no_such_module'"),
        (f"{MODULE}:no_such_function", "has nothing called 'no_such_function'"),
        (MODULE, "not a name like module:function"),
        ("a b:c", "not a name like module:function"),
        (f"{MODULE}:body_only", "name them: -Q q1,q2"),
    ],
)
def test_what_the_command_does_not_find_is_said(name: str, text: str) -> None:
    with pytest.raises(HandlerNotFound, match=text):
        find_handler(name)
