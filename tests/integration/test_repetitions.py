"""A batch whose sending a crash of the broker interrupted is sent again, and nothing of it runs twice."""

from __future__ import annotations

from pathlib import Path

from mplite_tasks_transport import BrokerClient, frames
from mplite_tasks_transport.broker.journal import SQLiteJournal, database
from mplite_tasks_transport.broker.journal.port import DropQueue, DropRecent, KeepRecent
from tests.support.brokers import BrokerProcess
from tests.support.journals import BASE, keep, queue


def publish_all(client: BrokerClient, number: int) -> None:
    client.call_many(frames.Publish(0, "", "q", f"id{n}", 0, b"x") for n in range(number))


def test_what_was_settled_before_the_broker_was_killed_is_not_taken_again(broker: BrokerProcess) -> None:
    with BrokerClient.connect(broker.broker_url) as client:
        client.call(frames.OpenChannel(0, 1))
        client.call(frames.DeclareQueue(0, "q"))
        publish_all(client, 100)
        for _ in range(30):
            assert client.call(frames.Get(0, 1, "q")) is not None
        client.call(frames.Ack(0, 1, 0, multiple=True))
    broker.kill()
    broker.start()
    with BrokerClient.connect(broker.broker_url) as client:
        publish_all(client, 100)
        assert client.call(frames.DeclareQueue(0, "q", passive=True))[1] == 70


def recent(path: Path) -> list[KeepRecent]:
    journal = SQLiteJournal(path)
    records = [record for record in journal.load() if isinstance(record, KeepRecent)]
    journal.close()
    return records


def test_the_journal_keeps_recent_ids_until_they_are_dropped_or_their_queue_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    records = [KeepRecent(1, BASE, ["a", "b"]), KeepRecent(1, BASE + 1, ["c"]), KeepRecent(2, BASE, ["d"])]
    keep(SQLiteJournal(path), [queue(1), queue(2, "other"), *records])
    assert recent(path) == records
    keep(SQLiteJournal(path), [DropRecent(1, BASE + 1)])
    assert recent(path) == records[1:]
    keep(SQLiteJournal(path), [DropQueue(2)])
    assert recent(path) == records[1:2]


def test_a_journal_of_the_first_format_is_brought_to_this_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = SQLiteJournal(path)
    journal._connection.execute("DROP TABLE recent")
    journal._connection.execute("PRAGMA user_version = 1")
    keep(journal, [queue(1)])
    for _ in range(2):
        keep(SQLiteJournal(path), [KeepRecent(1, BASE, ["a"])])
    assert recent(path) == [KeepRecent(1, BASE, ["a"])]
    assert database.FORMAT == 2
