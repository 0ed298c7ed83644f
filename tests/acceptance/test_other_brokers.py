"""Tasks over other brokers: what Kombu can say in its own words works; the rest is refused clearly."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mplite_tasks import MPLite
from mplite_tasks_transport import FeatureNotSupported
from tests.support.workers import wait_until, worker

from . import sample

Lines = Callable[[], list[str]]


@pytest.fixture(
    params=[
        pytest.param("redis://127.0.0.1:6379/14", marks=pytest.mark.redis),
        pytest.param("amqp://guest:guest@127.0.0.1:5672//", marks=pytest.mark.rabbitmq),
    ]
)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MPLite]:
    """A client of the sample app on another broker, in a queue of its own that is deleted afterwards."""
    monkeypatch.setenv("MPLITE_BROKER", request.param)
    with MPLite("sample", queue=f"mplite-test-{uuid.uuid4().hex}") as app:
        yield app
        with app.connection() as connection:
            for name in (app.queue, f"{app.queue}.dead"):
                connection.default_channel.queue_delete(name)


def test_tasks_run_are_retried_and_die_there_as_well(app: MPLite, notes: Path, lines: Lines) -> None:
    with worker("tests.acceptance.sample", options=("-Q", app.queue)):
        for number in range(3):
            app.send_task(sample.record.name, [str(notes), number])
        wait_until(lambda: len(lines()) == 3, "three tasks ran")
        app.send_task(sample.flaky.name, [str(notes), 1])
        wait_until(lambda: len(lines()) == 5, "a task was run again")
        app.send_task("nothing")
        app.send_task(sample.record.name, [str(notes), "after"])
        wait_until(lambda: lines()[-1] == "after", "the worker went on after an unknown task")
        with app.connection() as connection:
            letter = connection.default_channel.basic_get(f"{app.queue}.dead", no_ack=True)
        assert letter is not None
        assert letter.headers["x-dead-reason"] == "unknown-task"


def test_what_the_broker_has_no_words_for_is_refused_with_the_alternative(app: MPLite) -> None:
    result = app.send_task(sample.add.name, [1])
    with pytest.raises(FeatureNotSupported, match="mplite://"):
        result.get(timeout=1)
    with pytest.raises(FeatureNotSupported, match="mplite://"):
        app.send_task(sample.add.name, [1], countdown=5)
