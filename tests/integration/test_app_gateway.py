"""What an app's callers are promised of their broker: a message that was sent is in a queue, and a timeout is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mplite_tasks import MPLite


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
