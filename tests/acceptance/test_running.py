"""A worker runs what is sent to it, and the caller is told what came of it."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kombu
import pytest

from mplite_tasks import (
    BadArguments,
    MPLite,
    NotSerializable,
    RemoteTraceback,
    ResultIgnored,
    ResultTimeout,
    State,
    TaskError,
    TaskExpired,
    UndecodableMessage,
    UnknownTask,
)
from tests.support.brokers import end_local_broker
from tests.support.workers import WorkerProcess, wait_until, worker

from . import sample

Lines = Callable[[], list[str]]


@pytest.fixture(scope="module")
def running() -> Iterator[WorkerProcess]:
    """One worker for all tests here, with one consumer."""
    with tempfile.TemporaryDirectory(prefix="mplite-test-") as directory, pytest.MonkeyPatch.context() as patch:
        home = Path(directory) / "home"
        patch.setenv("MPLITE_HOME", str(home))
        patch.delenv("MPLITE_AUTOSTART", raising=False)
        try:
            with worker("tests.acceptance.sample") as process:
                yield process
        finally:
            sample.app.close()
            end_local_broker(home)


@pytest.fixture
def app(running: WorkerProcess) -> MPLite:
    return sample.app


def dead_letter() -> kombu.Message:
    with sample.app.connection() as connection:
        message = connection.default_channel.basic_get("sample.dead", no_ack=True)
        assert message is not None, "there is no dead letter in sample.dead"
        return message


def test_the_banner_names_app_broker_queues_tasks_and_concurrency(running: WorkerProcess) -> None:
    running.wait_for("tests.acceptance.sample.unsendable")
    for line in ("app          sample", "broker       mplite://", "queues       sample", "concurrency  1"):
        assert line in running.output
    assert "tests.acceptance.sample.add" in running.output


def test_a_task_is_run_elsewhere_and_its_result_comes_back(app: MPLite) -> None:
    result = sample.add.delay(2, y=3)
    assert result.get(timeout=20) == 5
    assert result.state is State.SUCCESS
    assert result.ready() and result.successful() and not result.failed()
    assert app.result(result.id).get(timeout=20) == 5


def test_a_forgotten_result_is_gone(app: MPLite) -> None:
    result = sample.add.delay(1)
    result.get(timeout=20)
    assert result.forget()
    assert result.state is State.PENDING
    assert not result.forget()


def test_many_tasks_are_sent_in_one_go_and_each_has_its_result(app: MPLite) -> None:
    results = sample.add.delay_many([(n, 1) for n in range(200)])
    assert [result.get(timeout=20) for result in results] == [n + 1 for n in range(200)]


def test_signatures_are_sent_as_they_are(app: MPLite) -> None:
    results = app.send_many([sample.add.s(1, 2), app.signature(sample.add.si(3, 4).as_dict())])
    assert [result.get(timeout=20) for result in results] == [3, 7]
    assert sample.add.s(10).delay(5).get(timeout=20) == 15


def test_an_exception_comes_back_as_its_own_type_with_the_workers_traceback(app: MPLite) -> None:
    with pytest.raises(ValueError, match="not this one") as caught:
        sample.fail.delay("value").get(timeout=20)
    assert caught.value.args == ("not this one", 7)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert 'raise ValueError("not this one", 7)' in str(caught.value.__cause__)


def test_an_exception_with_attributes_comes_back_with_them(app: MPLite) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        sample.fail.delay("file").get(timeout=20)
    assert (caught.value.errno, caught.value.filename) == (2, "/nowhere")


def test_an_exception_whose_constructor_differs_from_its_text_comes_back_with_its_text(app: MPLite) -> None:
    with pytest.raises(sample.OutOfStock, match=r"^no soap left$"):
        sample.fail.delay("own").get(timeout=20)


@pytest.mark.parametrize(("kind", "name"), [("opaque", "tests.acceptance.sample.Opaque"), ("exit", "SystemExit")])
def test_an_exception_that_cannot_come_back_is_a_task_error_that_names_it(app: MPLite, kind: str, name: str) -> None:
    result = sample.fail.delay(kind)
    with pytest.raises(TaskError, match=name):
        result.get(timeout=20)
    assert result.failed()
    assert "in fail" in (result.traceback or "")


def test_a_return_value_that_cannot_be_sent_fails_the_task_and_names_the_place(app: MPLite) -> None:
    with pytest.raises(NotSerializable, match=r"its return value\['answer'\]\[1\] \(builtins.object\)"):
        sample.unsendable.delay().get(timeout=20)


def test_a_failed_task_is_run_again_as_its_policy_says_until_it_succeeds(
    app: MPLite, notes: Path, lines: Lines
) -> None:
    assert sample.flaky.delay(str(notes), 2).get(timeout=20) == 2
    assert lines() == ["0", "1", "2"]


def test_a_task_that_fails_too_often_fails_with_its_last_error(app: MPLite, notes: Path, lines: Lines) -> None:
    with pytest.raises(ConnectionError, match="not yet"):
        sample.flaky.delay(str(notes), 9).get(timeout=20)
    assert lines() == ["0", "1", "2"]


def test_while_a_retry_waits_in_the_broker_the_consumer_does_other_work(
    app: MPLite, notes: Path, lines: Lines, running: WorkerProcess
) -> None:
    first = sample.flaky.delay(str(notes), 1)
    wait_until(lambda: lines() == ["0"], "the first attempt ran")
    assert sample.add.delay(1, 1).get(timeout=20) == 2
    assert first.get(timeout=20) == 1


def test_a_task_may_ask_to_be_run_again_and_fails_with_the_cause_in_the_end(
    app: MPLite, notes: Path, lines: Lines
) -> None:
    with pytest.raises(KeyError, match="busy"):
        sample.ask_again.delay(str(notes)).get(timeout=20)
    assert lines() == ["0", "1", "2", "3"]


def test_an_unknown_task_goes_to_the_dead_letters_and_its_caller_is_told(app: MPLite) -> None:
    result = app.send_task("sample.never_written", [1])
    with pytest.raises(UnknownTask, match=r"knows no task 'sample\.never_written'"):
        result.get(timeout=20)
    letter = dead_letter()
    assert letter.headers["x-dead-reason"] == "unknown-task"
    assert letter.headers["x-dead-queue"] == "sample"
    assert letter.headers["id"] == result.id
    assert letter.decode() == [[1], {}]


def test_bad_arguments_go_to_the_dead_letters_and_their_caller_is_told(app: MPLite) -> None:
    other = MPLite("sample")  # a program that has an older version of the task
    with pytest.raises(BadArguments, match="unexpected keyword argument 'z'"):
        other.send_task("tests.acceptance.sample.add", [1], {"z": 2}).get(timeout=20)
    other.close()
    assert dead_letter().headers["x-dead-reason"] == "bad-arguments"


@pytest.mark.parametrize(
    ("body", "content_type", "headers"),
    [
        (b"\xff\x00", "application/x-mplite-json", {"task": "tests.acceptance.sample.add", "id": "broken"}),
        (b"cos\nsystem\n", "application/x-python-serialize", {"task": "tests.acceptance.sample.add", "id": "broken"}),
        (b"{}", "application/json", {"task": "tests.acceptance.sample.add", "id": "broken"}),
        (b"[[], {}]", "application/json", {}),
        (b"junk", "application/json", {"compression": "application/x-gzip", "id": "broken", "task": "x"}),
    ],
)
def test_a_message_that_is_no_task_goes_to_the_dead_letters_as_it_was(
    app: MPLite, body: bytes, content_type: str, headers: dict[str, str]
) -> None:
    with app.connection() as connection:
        connection.Producer().publish(
            body, routing_key="sample", content_type=content_type, content_encoding="utf-8", headers=headers
        )
    assert sample.add.delay(1, 1).get(timeout=20) == 2  # the worker went on
    letter = dead_letter()
    assert bytes(letter.body) == body or letter.errors
    assert letter.headers["x-dead-reason"] == ("unknown-task" if headers.get("task") == "x" else "undecodable")
    if headers.get("id") and headers["task"] != "x":
        with pytest.raises(UndecodableMessage):
            app.result("broken").get(timeout=20)
    app.result("broken").forget()


def test_a_task_that_has_expired_is_not_run(app: MPLite, notes: Path, lines: Lines) -> None:
    result = sample.record.options(expires=timedelta(milliseconds=1), countdown=0.1).delay(str(notes), "late")
    with pytest.raises(TaskExpired):
        result.get(timeout=20)
    assert result.state is State.EXPIRED
    assert lines() == []


def test_a_countdown_and_an_eta_are_kept(app: MPLite, notes: Path, lines: Lines) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=0.4)
    at = sample.record.options(eta=eta).delay(str(notes), "eta")
    counted = sample.record.options(countdown=0.2).delay(str(notes), "countdown")
    sample.record.delay(str(notes), "now").get(timeout=20)
    counted.get(timeout=20)
    at.get(timeout=20)
    assert time.time() >= eta.timestamp()
    assert lines() == ["now", "countdown", "eta"]


def test_a_result_that_is_not_there_in_time_is_a_timeout_of_the_standard_kind(app: MPLite) -> None:
    with pytest.raises(TimeoutError) as caught:
        sample.add.options(countdown=60).delay(1).get(timeout=0.05)
    assert isinstance(caught.value, ResultTimeout)


def test_waiting_for_an_ignored_result_says_that_there_is_none(app: MPLite) -> None:
    with pytest.raises(ResultIgnored, match="forgetful"):
        sample.forgetful.delay().get(timeout=20)


def test_one_consumer_runs_a_backlog_by_priority_and_then_by_arrival(
    app: MPLite, notes: Path, lines: Lines, fifo: Path
) -> None:
    rng = random.Random(7)
    sample.hold.options(priority=2**31 - 1).delay(str(notes), str(fifo))
    wait_until(lambda: lines() == ["start"], "the consumer is busy")
    priorities = [rng.choice([rng.randint(-(2**31), 2**31 - 1), rng.randint(-2, 2)]) for _ in range(300)]
    results = app.send_many(
        [sample.record.options(priority=p).si(str(notes), f"{p} {n}") for n, p in enumerate(priorities)]
    )
    fifo.write_text("go")
    for result in results:
        result.get(timeout=30)
    expected = sorted(enumerate(priorities), key=lambda pair: (-pair[1], pair[0]))
    assert lines()[2:] == [f"{p} {n}" for n, p in expected]


def test_a_jobs_programs_are_not_in_the_terminals_process_group(app: MPLite, running: WorkerProcess) -> None:
    assert sample.process_group.delay().get(timeout=20) not in {os.getpgid(running.pid), os.getpgrp()}


def test_a_result_that_is_too_large_for_the_broker_fails_its_task_and_the_worker_goes_on(app: MPLite) -> None:
    result = sample.huge.delay()
    with pytest.raises(Exception, match="bytes"):
        result.get(timeout=30)
    assert sample.add.delay(1, 1).get(timeout=20) == 2


def test_a_process_that_a_task_forks_does_not_become_a_second_consumer(
    app: MPLite, notes: Path, lines: Lines, running: WorkerProcess
) -> None:
    assert sample.forks_and_returns.delay(str(notes)).get(timeout=20) == "child 0"
    assert lines() == ["child"]


def test_a_process_that_a_task_starts_can_be_terminated_as_usual(app: MPLite, notes: Path) -> None:
    assert sample.terminate.delay(str(notes)).get(timeout=20) == -15


def test_a_dead_letter_is_kept_though_somebody_deleted_its_queue(app: MPLite) -> None:
    with app.connection() as connection:
        connection.default_channel.queue_delete("sample.dead")
    with pytest.raises(UnknownTask):
        app.send_task("sample.nothing").get(timeout=20)
    assert dead_letter().headers["x-dead-task"] == "sample.nothing"


def test_a_worker_whose_queue_is_deleted_declares_it_again(app: MPLite) -> None:
    with app.connection() as connection:
        connection.default_channel.queue_delete("sample")
    app.close()
    assert sample.add.delay(1, 1).get(timeout=20) == 2
