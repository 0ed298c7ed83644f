"""What a call puts into its message, and what fails in the caller."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mplite_tasks import BadArguments, BadOption, CallOptions, MPLite, NotSerializable, Signature
from mplite_tasks.message import TaskMessage

from .fakes import delivered, publication_of


@pytest.fixture
def app() -> MPLite:
    return MPLite("proj", "memory://")


@pytest.fixture
def add(app: MPLite) -> Any:
    @app.task(name="add", priority=2, queue="sums")
    def add(x: int, y: int = 0, *, scale: int = 1) -> int:
        return (x + y) * scale

    return add


def test_a_message_survives_the_wire(app: MPLite, add: Any) -> None:
    publication = publication_of(app, add.options(priority=9, id="i", headers={"tenant": "t"}).s(1, scale=2))
    message = TaskMessage.read(delivered(publication), queue="sums", priority=9)
    assert (message.id, message.task, message.queue, message.priority) == ("i", "add", "sums", 9)
    assert dict(message.headers) == {"tenant": "t"}
    assert delivered(publication).decode() == [[1], {"scale": 2}]


def test_what_the_call_does_not_say_is_the_tasks(app: MPLite, add: Any) -> None:
    publication = publication_of(app, add.s(1))
    assert (publication.priority, publication.queue) == (2, "sums")
    other = publication_of(app, add.s(1).set(queue="other", priority=-1))
    assert (other.priority, other.queue) == (-1, "other")


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})])
def test_wrong_arguments_fail_in_the_caller_and_the_error_names_the_task(
    app: MPLite, add: Any, args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    with pytest.raises(BadArguments, match=r"Task add\(x: .*\)"):
        publication_of(app, add.s(*args, **kwargs))


def test_what_cannot_be_sent_fails_in_the_caller_and_the_error_names_task_argument_and_place(
    app: MPLite, add: Any
) -> None:
    with pytest.raises(NotSerializable, match=r"Task add: y\['a'\]\[1\] \(builtins\.object\) cannot be sent"):
        publication_of(app, add.s(1, {"a": [0, object()]}))


def test_nothing_is_sent_if_one_of_many_cannot_be(app: MPLite, add: Any) -> None:
    with pytest.raises(NotSerializable, match="Task add: x"):
        app.send_many([add.s(1), add.s(object())])
    with app.connection() as connection, pytest.raises(connection.channel_errors):
        connection.default_channel.queue_declare("sums", passive=True)


def test_a_countdown_is_a_delay_and_an_eta_a_moment(app: MPLite, add: Any) -> None:
    assert publication_of(app, add.s(1).set(countdown=timedelta(minutes=1))).delay == 60
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert publication_of(app, add.s(1).set(eta=moment)).eta == moment.timestamp()


def test_expiry_in_seconds_counts_from_now(app: MPLite, add: Any) -> None:
    before = time.time()
    expires = publication_of(app, add.s(1).set(expires=10)).headers["expires"]
    assert before + 10 <= expires <= time.time() + 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"eta": datetime(2030, 1, 1)}, "has no time zone"),
        ({"expires": datetime(2030, 1, 1)}, "has no time zone"),
        ({"eta": "tomorrow"}, "neither a datetime"),
        ({"countdown": -1}, "not a number of seconds"),
        ({"countdown": float("nan")}, "not a number of seconds"),
        ({"countdown": 1e300}, "not a number of seconds"),
        ({"eta": float("inf")}, "no time from 1970 on"),
        ({"countdown": 1, "eta": 2.0}, "not both"),
        ({"headers": {"task": "x"}}, "are MPLite's own"),
        ({"priority": 2**40}, "signed 32-bit"),
        ({"id": ""}, "not a string"),
        ({"queue": ""}, "not a name"),
    ],
)
def test_an_option_that_makes_no_sense_fails_in_the_caller(
    app: MPLite, add: Any, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(BadOption, match=text):
        publication_of(app, add.s(1).set(**options))


def test_a_signature_is_completed_in_front_and_never_changed(app: MPLite, add: Any) -> None:
    signature = add.s(10, scale=2)
    assert signature.completed([1], {"scale": 3}).args == (1, 10)
    assert signature.completed([1], {"scale": 3}).kwargs == {"scale": 3}
    assert signature.args == (10,)


def test_an_immutable_signature_refuses_more_arguments(add: Any) -> None:
    with pytest.raises(BadArguments, match=r"made with \.si\(\)"):
        add.si(1).delay(2)


def test_a_signature_survives_as_plain_data(app: MPLite, add: Any) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    signature = add.s(1, scale=2).set(priority=4, countdown=3, expires=moment, headers={"a": 1})
    again = app.signature(signature.as_dict())
    assert again == Signature("add", (1,), {"scale": 2}, CallOptions(4, None, 3.0, None, moment, {"a": 1}))


def test_a_signature_without_an_app_says_so() -> None:
    with pytest.raises(BadArguments, match="belongs to no app"):
        Signature("add", (1,)).delay()


def test_a_task_is_kept_by_any_kombu_broker() -> None:
    with MPLite("proj", "memory://") as app:
        result = app.send_task("add", [1, 2], priority=3)
        with app.connection() as connection:
            message = connection.default_channel.basic_get("proj", no_ack=True)
        assert message is not None
        assert message.headers["id"] == result.id
