"""What a handler's consumer tells the broker about each kind of message, without a broker."""

from __future__ import annotations

import logging
import pickle
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import tenacity
from kombu import Message

from mplite_tasks import Handler, HandlerOptions, ReceivedMessage, Retry, RetryTask
from mplite_tasks.received import BODY_CONTENT_TYPES
from mplite_tasks.worker.handling import MAX_TRACEBACK_CHARS, HandlerExecutor
from mplite_tasks.worker.settlement import Settlement
from mplite_tasks_transport import ContentTooLarge, DeliveryFacts, Publication

from .fakes import FACTS

MPLITE_JSON = "application/x-mplite-json"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def message(
    body: bytes = b"1", content_type: str | None = MPLITE_JSON, encoding: str | None = "utf-8", **fields: Any
) -> Any:
    return Message(
        body=body,
        content_type=content_type,
        content_encoding=encoding,
        delivery_info={"routing_key": "q"},
        accept=BODY_CONTENT_TYPES,
        **fields,
    )


def run(function: Callable[..., Any], received: Any = None, facts: DeliveryFacts = FACTS, **options: Any) -> Settlement:
    handler: Handler[..., Any] = Handler(function, HandlerOptions(("q",), **options))
    return HandlerExecutor(handler).run(message() if received is None else received, facts)


def letter_of(settlement: Settlement) -> Publication:
    (letter,) = settlement.publish
    assert letter.queue == "q.dead"
    return letter


def raising(error: BaseException) -> Callable[[Any], None]:
    def function(body: Any) -> None:
        raise error

    return function


def must_not_run(body: Any) -> None:
    raise AssertionError("it ran")


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "value"),
    [
        (b'{"a": [1, null]}', MPLITE_JSON, "utf-8", {"a": [1, None]}),
        (b'{"a": 1.5}', "application/json", "utf-8", {"a": 1.5}),
        ("größer".encode(), "text/plain", "utf-8", "größer"),
        (b"", "text/plain", "utf-8", ""),
        (b"\x00\xff", "application/data", "binary", b"\x00\xff"),
        (b"", "application/data", "binary", b""),
        (b"\x00\xff", "application/octet-stream", None, b"\x00\xff"),
        (b"words", None, None, "words"),
    ],
)
def test_json_text_and_bytes_arrive_as_what_they_are(
    body: bytes, content_type: str | None, encoding: str | None, value: Any
) -> None:
    seen: list[Any] = []
    assert run(seen.append, message(body, content_type, encoding)) == Settlement()
    assert seen == [value]
    assert type(seen[0]) is type(value)


def test_a_compressed_body_is_decompressed() -> None:
    seen: list[Any] = []
    run(seen.append, message(zlib.compress(b"[1]"), headers={"compression": "application/x-gzip"}))
    assert seen == [[1]]


def test_a_handler_may_ask_for_the_facts_of_its_message() -> None:
    seen: list[ReceivedMessage] = []
    headers = {"tenant": "t", "x-mplite-retries": 2, "x-mplite-began": 1.0, "x-mplite-history": []}
    properties = {"correlation_id": "c", "priority": 3, "content_type": MPLITE_JSON, "headers": headers}
    run(lambda body, message: seen.append(message), message(headers=headers, properties=properties))
    assert seen == [
        ReceivedMessage("the-id", "q", 3, {"tenant": "t"}, {"correlation_id": "c"}, 10, 20, deliveries=0, retries=2)
    ]


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        (pickle.dumps(Bomb()), "application/x-python-serialize", "binary"),
        (b"{", MPLITE_JSON, "utf-8"),
        (b"\xff", "text/plain", "utf-8"),
        (b"x", "text/plain", "no-such-encoding"),
        (b"a: 1", "application/x-yaml", "utf-8"),
        (b"a", "application/x-unheard-of", "utf-8"),
    ],
)
def test_any_other_body_is_a_dead_letter_as_it_is_and_is_never_decoded(
    body: bytes, content_type: str, encoding: str
) -> None:
    letter = letter_of(run(must_not_run, message(body, content_type, encoding, headers={"tenant": "t"})))
    assert (letter.body, letter.content_type, letter.content_encoding) == (body, content_type, encoding)
    assert letter.headers["x-dead-reason"] == "undecodable"
    assert letter.headers["tenant"] == "t"


def test_a_body_that_cannot_be_decompressed_is_a_dead_letter_that_says_it_is_compressed() -> None:
    letter = letter_of(run(must_not_run, message(b"not gzip", headers={"compression": "application/x-gzip"})))
    assert (letter.body, letter.headers["compression"]) == (b"not gzip", "application/x-gzip")


def test_a_body_that_was_decompressed_is_a_dead_letter_that_does_not_say_it_is_compressed() -> None:
    received = message(zlib.compress(b"{"), headers={"compression": "application/x-gzip"})
    letter = letter_of(run(must_not_run, received))
    assert letter.body == b"{"
    assert "compression" not in letter.headers


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_handler_raises_makes_a_dead_letter_with_the_reason(error: BaseException) -> None:
    received = message(b"[1]", headers={"tenant": "t"}, properties={"correlation_id": "c"})
    letter = letter_of(run(raising(error), received))
    name = f"{type(error).__name__}: {error}"
    assert (
        letter.headers.items()
        >= {
            "tenant": "t",
            "x-dead-reason": "failed",
            "x-dead-error": name,
            "x-dead-queue": "q",
            "x-dead-id": "the-id",
            "x-dead-retries": 0,
        }.items()
    )
    assert letter.headers["x-dead-traceback"].rstrip().endswith(name.rstrip(": "))
    assert "worker/handling.py" not in letter.headers["x-dead-traceback"]
    assert (letter.body, letter.priority, letter.properties) == (b"[1]", 3, {"correlation_id": "c"})
    assert letter.id != "the-id"


def test_a_long_error_and_a_long_traceback_are_cut() -> None:
    headers = letter_of(run(raising(ValueError("x" * 100_000)))).headers
    assert len(headers["x-dead-error"]) == 500
    assert len(headers["x-dead-traceback"]) == MAX_TRACEBACK_CHARS


def test_a_retry_is_the_same_message_delayed() -> None:
    received = message(b"[1]", headers={"tenant": "t"}, properties={"reply_to": "r"})
    settlement = run(raising(OSError("down")), received, retry=Retry(wait=tenacity.wait_fixed(7)))
    (again,) = settlement.publish
    assert (again.queue, again.id, again.body, again.content_type) == ("q", "the-id", b"[1]", MPLITE_JSON)
    assert (again.delay, again.priority, again.properties) == (7.0, 3, {"reply_to": "r"})
    assert again.headers["tenant"] == "t"
    assert again.headers["x-mplite-retries"] == 1
    assert again.headers["x-mplite-history"][0]["error"] == "OSError: down"


@pytest.mark.parametrize(("retries", "queue"), [(0, "q"), (1, "q"), (2, "q.dead")])
def test_a_number_means_so_many_retries_after_the_first_attempt(retries: int, queue: str) -> None:
    policy = Retry(stop=tenacity.stop_after_attempt(3))
    (sent,) = run(raising(OSError()), message(headers={"x-mplite-retries": retries}), retry=policy).publish
    assert sent.queue == queue


def test_a_handler_may_say_itself_when_it_is_called_again() -> None:
    (again,) = run(raising(RetryTask(countdown=5))).publish
    assert (again.queue, again.delay) == ("q", 5.0)
    letter = letter_of(run(raising(RetryTask()), message(headers={"x-mplite-retries": 3})))
    assert letter.headers["x-dead-error"].startswith("mplite_tasks.errors.RetriesExhausted: ")


def test_an_exception_that_the_policy_does_not_name_is_not_retried() -> None:
    letter_of(run(raising(ValueError()), retry=Retry(retry=tenacity.retry_if_exception_type(OSError))))


def test_a_policy_that_raises_makes_a_dead_letter() -> None:
    def broken(state: tenacity.RetryCallState) -> float:
        raise ZeroDivisionError

    assert (
        letter_of(run(raising(OSError("first")), retry=Retry(wait=broken))).headers["x-dead-error"] == "OSError: first"
    )


@pytest.mark.parametrize("headers", [{"x-mplite-retries": "many"}, {"x-mplite-began": "soon"}, {"x-mplite-history": 3}])
def test_headers_of_ours_that_others_have_written_do_no_harm(headers: dict[str, Any]) -> None:
    (again,) = run(raising(OSError()), message(headers=headers), retry=Retry()).publish
    assert again.headers["x-mplite-retries"] == 1


def test_a_message_that_has_killed_enough_handlers_is_not_given_to_another() -> None:
    facts = replace(FACTS, deliveries=2)
    assert run(lambda body: None, facts=facts, max_deliveries=3) == Settlement()
    letter = letter_of(run(must_not_run, facts=facts, max_deliveries=2))
    assert letter.headers["x-dead-reason"] == "delivery-limit"


def test_a_broker_that_says_little_is_enough() -> None:
    facts = DeliveryFacts(None, None, 0, None, None, None, redelivered=False)
    seen: list[ReceivedMessage] = []
    run(lambda body, message: seen.append(message), facts=facts)
    assert seen == [ReceivedMessage(None, "q")]
    (again,) = run(raising(OSError()), facts=facts, retry=Retry()).publish
    assert again.id


def test_a_dead_letter_that_is_too_large_is_tried_without_its_traceback_and_then_given_up() -> None:
    executor = HandlerExecutor(Handler(raising(ValueError("x")), HandlerOptions(("q",))))
    received = message()
    settlement = executor.run(received, FACTS)
    smaller = executor.instead(received, settlement, ContentTooLarge("too large"))
    assert letter_of(smaller).headers["x-dead-traceback"] == ""
    with pytest.raises(ContentTooLarge):
        executor.instead(received, smaller, ContentTooLarge("too large"))
