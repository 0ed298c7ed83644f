"""What an app's callers are promised of their broker: a message that was sent is in a queue, and a timeout is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mplite_tasks import BadOption, MPLite, ResultTimeout


@pytest.fixture
def app(local_home: Path) -> Iterator[MPLite]:
    """An app on a local broker of its own, without a worker."""
    with MPLite("lonely", pool_size=1) as app:
        yield app


def delete_queue(app: MPLite) -> None:
    with app.connection() as connection:
        connection.default_channel.queue_delete(app.queue)


def waiting(app: MPLite) -> int:
    with app.connection() as connection:
        return int(connection.default_channel.queue_declare(app.queue, passive=True).message_count)


def test_a_task_is_in_its_queue_though_somebody_deleted_that_after_the_first_one_was_sent(app: MPLite) -> None:
    app.send_task("anything")
    delete_queue(app)
    app.send_task("anything")
    assert waiting(app) == 1


def test_many_tasks_are_in_their_queue_though_somebody_deleted_that_before(app: MPLite) -> None:
    app.send_task("anything")
    delete_queue(app)
    app.send_many([app.signature({"task": "anything"}) for _ in range(3)])
    assert waiting(app) == 3


def test_a_result_is_not_waited_for_beyond_its_timeout_while_others_use_every_connection(app: MPLite) -> None:
    result = app.send_task("anything")
    with app._pool.link(), pytest.raises(ResultTimeout, match="all 1 connections of this process were in use"):
        result.get(timeout=0.05)


def test_a_result_is_not_waited_for_beyond_its_timeout_while_the_broker_is_not_there() -> None:
    app = MPLite("lonely", broker="mplite://127.0.0.1:1/", patience=600)
    with pytest.raises(ResultTimeout, match="could not be reached: No broker answers"):
        app.result("any").get(timeout=0.05)


def test_a_broker_of_a_kind_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(BadOption, match="begins with 'pigeon'"):
        MPLite("lonely", broker="pigeon://loft").send_task("anything")


@pytest.mark.rabbitmq
def test_a_task_is_in_its_queue_at_rabbitmq_though_somebody_deleted_that() -> None:
    with MPLite("mplite-test-deleted", broker="amqp://guest:guest@127.0.0.1:5672//") as app:
        try:
            app.send_task("anything")
            delete_queue(app)
            app.send_task("anything")
            assert waiting(app) == 1
        finally:
            with app.connection() as connection:
                for name in (app.queue, f"{app.queue}.dead"):
                    connection.default_channel.queue_delete(name)
