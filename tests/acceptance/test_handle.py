"""``mplite handle`` as real processes: each message once, signals, deaths, and what it says when started wrongly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Queue

from mplite_tasks_transport import NotFound
from tests.support.brokers import BrokerProcess
from tests.support.workers import HANDLE, WorkerProcess, wait_until, worker

Lines = Callable[[], list[str]]

MODULE = "tests.acceptance.apps.handling"


@pytest.fixture
def channel(local_home: Path) -> Iterator[Any]:
    """A channel to a local broker of this test, with a queue ``q`` that somebody else has made."""
    with Connection("mplite://") as connection:
        declared = Queue("q", durable=True)(connection.default_channel)
        declared.queue_declare()
        yield connection.default_channel


def handle(name: str, *options: str, concurrency: int = 1, queue: str | None = "q", ready: bool = True) -> Any:
    named = () if queue is None else ("-Q", queue)
    return worker(f"{MODULE}:{name}", concurrency=concurrency, options=(*named, *options), program=HANDLE, ready=ready)


def put(channel: Any, queue: str = "q", **body: Any) -> None:
    priority = body.pop("priority", 0)
    channel.connection.client.Producer().publish(
        {key: str(value) if isinstance(value, Path) else value for key, value in body.items()},
        exchange="",
        routing_key=queue,
        serializer="json",
        priority=priority,
    )


def length(channel: Any, queue: str = "q") -> int:
    """How many messages wait; -1 if there is no such queue."""
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except NotFound:
        return -1


def wait_for_dead_letter(channel: Any, queue: str = "q.dead") -> Any:
    wait_until(lambda: length(channel, queue) == 1, "there is a dead letter")
    message = Queue(queue)(channel).get()
    message.ack()
    return message


def test_each_message_is_handled_once_by_several_processes(channel: Any, notes: Path, lines: Lines) -> None:
    for n in range(200):
        put(channel, notes=notes, line=n)
    with handle("record", concurrency=3) as process:
        wait_until(lambda: len(lines()) == 200 and length(channel) == 0, "all are handled")
        assert len(process.consumers) == 3
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    assert sorted(map(int, lines())) == list(range(200))


def test_the_banner_says_what_is_handled_and_with_what_priority_the_order_is_kept(
    channel: Any, notes: Path, lines: Lines
) -> None:
    for priority in (0, 9, 5):
        put(channel, notes=notes, line=priority, priority=priority)
    with handle("record") as process:
        for line in ("mplite handle 0", f"handler      {MODULE}:record", "broker       mplite://", "queues       q"):
            process.wait_for(line)
        process.wait_for("concurrency  1")
        wait_until(lambda: lines() == ["9", "5", "0"], "all are handled in their order")


def test_a_declared_handler_says_itself_what_it_wants(channel: Any, notes: Path, lines: Lines) -> None:
    process = WorkerProcess(f"{MODULE}:flaky", (), Path.cwd(), {**os.environ, "PYTHONUNBUFFERED": "1"}, HANDLE)
    try:
        process.wait_for("concurrency  2")
        process.wait_ready(2)
        put(channel, "declared", notes=notes, failures=1)
        wait_until(lambda: lines() == ["0", "1"], "the message is handled again")
    finally:
        process.clean_up()


def test_retries_may_be_given_on_the_command_line(channel: Any, notes: Path, lines: Lines) -> None:
    put(channel, notes=notes, failures=9)
    with handle("flaky", "--retries", "0"):
        letter = wait_for_dead_letter(channel)
        assert letter.headers["x-dead-error"] == "ConnectionError: not yet"
        assert lines() == ["0"]


def test_a_message_of_a_killed_process_is_handled_again(channel: Any, notes: Path, lines: Lines, fifo: Path) -> None:
    put(channel, notes=notes, fifo=fifo)
    with handle("hold") as process:
        wait_until(lambda: len(lines()) == 1, "the handler runs")
        victim = int(lines()[0].split()[1])
        assert process.consumers == [victim]
        os.kill(victim, signal.SIGKILL)
        process.wait_for(f"Consumer {victim} was killed by SIGKILL; another one takes its place")
        wait_until(lambda: len(lines()) == 2, "the message is handled again")
        fifo.write_text("done")
        wait_until(lambda: lines()[2:] == ["end"] and length(channel) == 0, "it is done")


def test_a_message_that_kills_its_process_each_time_is_a_dead_letter_in_the_end(
    channel: Any, notes: Path, lines: Lines
) -> None:
    """Though somebody else made the queue, and gave it no limit."""
    put(channel, notes=notes)
    with handle("die", concurrency=2):
        assert wait_for_dead_letter(channel).headers["x-dead-reason"] == "delivery-limit"
    assert lines() == ["dies"] * 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_the_running_handler_finish_and_starts_no_other(
    channel: Any, notes: Path, lines: Lines, fifo: Path, number: signal.Signals
) -> None:
    for _ in range(2):
        put(channel, notes=notes, fifo=fifo)
    with handle("hold") as process:
        wait_until(lambda: len(lines()) == 1, "the handler runs")
        process.send(number)
        process.wait_for("told to stop when they are done")
        fifo.write_text("done")
        assert process.wait() == 0
        assert lines()[1:] == ["end"]
    assert length(channel) == 1


def test_a_second_signal_stops_now_and_the_message_goes_back(
    channel: Any, notes: Path, lines: Lines, fifo: Path
) -> None:
    put(channel, notes=notes, fifo=fifo)
    with handle("hold") as process:
        wait_until(lambda: len(lines()) == 1, "the handler runs")
        process.send(signal.SIGTERM)
        process.wait_for("told to stop when they are done")
        process.send(signal.SIGTERM)
        assert process.wait() == 1
    wait_until(lambda: length(channel) == 1, "the message is back")
    assert len(lines()) == 1


def test_a_broker_that_refuses_the_handler_ends_it_with_the_reason(
    broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("x" * 32)
    monkeypatch.setenv("MPLITE_KEY_FILE", str(key))
    with handle("record", "--broker", broker.plain_url, ready=False) as process:
        assert process.wait() == 2
        assert "refuses this consumer" in process.output
        assert "x" * 32 not in process.output


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "Missing argument 'MODULE:FUNCTION'"),
        ((f"{MODULE}:record", "-Q", "a,,b"), "'a,,b' is not a list like q1,q2"),
        ((f"{MODULE}:record", "-c", "0"), "Invalid value for '-c'"),
        ((f"{MODULE}:record", "--retries", "-1"), "Invalid value for '--retries'"),
        ((f"{MODULE}:record", "--nothing"), "No such option"),
        ((f"{MODULE}:record", "--broker", "nowhere"), "not a URL like mplite://host:7878/"),
        ((f"{MODULE}:record", "--broker", "mplite://h:port/"), "Invalid value for '--broker'"),
        ((f"{MODULE}:record", "--broker", "mplite://:geheimnis@h:1/"), "no key or password here"),
        ((f"{MODULE}:record", "--broker", "amqp://guest:geheimnis@h//"), "no key or password here"),
        ((f"{MODULE}:record", "--broker", "mplite://h:1;mplite://:geheimnis@h:2"), "no key or password here"),
        ((f"{MODULE}:record", "-Q", "q", "--broker", "pigeon://loft"), "that begins with 'pigeon'"),
        ((f"{MODULE}:record",), "declares no queues, so name them: -Q q1,q2"),
        ((f"{MODULE}:nothing", "-Q", "q"), "has nothing called 'nothing'"),
        ((f"{MODULE}:not_callable", "-Q", "q"), "3 is not a function"),
        (("nowhere:f", "-Q", "q"), "there is no module 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, options: tuple[str, ...], text: str) -> None:
    done = subprocess.run([sys.executable, *HANDLE, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("mplite handle: ")
    assert text in done.stderr
    assert "geheimnis" not in done.stderr


@pytest.mark.parametrize("url", ["mplite://h:geheimnis/", "mplites://:geheimnis/x@h", "amqp://me:geheimnis/x@h//"])
def test_a_url_in_the_environment_that_no_broker_can_have_ends_it_with_one_line_and_without_the_key(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("MPLITE_BROKER", url)
    command = [sys.executable, *HANDLE, f"{MODULE}:record", "-Q", "q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "bad host or port" in done.stderr
    assert "geheimnis" not in done.stderr


def test_an_error_in_the_modules_own_code_is_shown_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_thing_at_all\n")
    command = [sys.executable, *HANDLE, "broken:f", "-Q", "q"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert 'broken.py", line 1' in done.stderr
    assert done.stderr.splitlines()[-1].startswith("mplite handle: broken:f: importing it raised ModuleNotFoundError")
