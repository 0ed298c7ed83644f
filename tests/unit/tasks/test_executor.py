"""What a consumer tells the broker about each kind of message, without a broker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from mplite_tasks import MPLite, Retry, RetryTask, State, current_job
from mplite_tasks.failures import read_failure
from mplite_tasks.worker.executor import Executor, Settlement

from .fakes import FACTS, delivered, publication_of

Run = Callable[..., Settlement]


@pytest.fixture
def app(caplog: pytest.LogCaptureFixture) -> MPLite:
    caplog.set_level(logging.CRITICAL)
    return MPLite("proj", "memory://", result_ttl=60)


@pytest.fixture
def run(app: MPLite) -> Run:
    """Run a function as a task, after so many retries."""

    def run(
        function: Callable[[], Any], retries: int = 0, headers: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        task = app.task(name="t", **options)(function)
        publication = publication_of(app, task.s())
        changed = {**publication.headers, "retries": retries, **(headers or {})}
        return Executor(app).run(delivered(publication, headers=changed), FACTS)

    return run


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def test_a_value_is_an_outcome_and_nothing_is_published(app: MPLite, run: Run) -> None:
    settlement = run(lambda: [1, "a"])
    assert settlement.outcome is not None
    assert (settlement.outcome.state, settlement.outcome.final, settlement.publish) == (State.SUCCESS, True, ())
    assert settlement.outcome.value == b'[1,"a"]'
    assert settlement.outcome_ttl == 60


def test_a_task_that_keeps_no_result_has_no_outcome_and_may_return_anything(run: Run) -> None:
    assert run(lambda: {object()}, ignore_result=True).outcome is None


def test_the_code_of_a_task_knows_its_job_and_nothing_does_afterwards(run: Run) -> None:
    seen: list[Any] = []
    run(lambda: seen.append(current_job()), retries=2, headers={"tenant": "t"})
    (job,) = seen
    assert (job.task, job.queue, job.priority, job.retries, job.posted_at) == ("t", "q", 3, 2, 10)
    assert job.headers["tenant"] == "t"
    assert current_job() is None


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_task_raises_fails_the_task_and_not_the_worker(run: Run, error: BaseException) -> None:
    settlement = run(raising(error))
    assert settlement.outcome is not None
    assert settlement.outcome.state == State.FAILURE
    assert read_failure(settlement.outcome.value).type == f"builtins:{type(error).__name__}"


def test_the_traceback_begins_in_the_task_and_not_in_the_worker(run: Run) -> None:
    settlement = run(raising(ValueError("x")))
    assert settlement.outcome is not None
    text = read_failure(settlement.outcome.value).traceback
    assert "raise error" in text
    assert "worker/executor.py" not in text


def test_a_retry_is_a_delayed_message_with_the_same_id(run: Run) -> None:
    settlement = run(raising(OSError("down")), retries=1, retry=Retry(wait=tenacity.wait_fixed(7)))
    assert settlement.outcome is not None
    assert (settlement.outcome.state, settlement.outcome.final) == (State.RETRY, False)
    (again,) = settlement.publish
    assert (again.id, again.queue, again.delay, again.priority) == (settlement.outcome.id, "q", 7.0, 3)
    assert again.headers["retries"] == 2
    assert again.headers["history"][0]["error"] == "OSError: down"


@pytest.mark.parametrize(("retries", "again"), [(0, 1), (1, 1), (2, 0)])
def test_a_number_means_so_many_retries_after_the_first_attempt(run: Run, retries: int, again: int) -> None:
    assert len(run(raising(OSError()), retries=retries, retry=2).publish) == again


def test_an_exception_that_the_policy_does_not_name_is_not_retried(run: Run) -> None:
    policy = Retry(retry=tenacity.retry_if_exception_type(OSError))
    assert run(raising(ValueError()), retry=policy).publish == ()


def test_a_policy_that_looks_at_the_time_counts_from_the_first_start(run: Run) -> None:
    policy = Retry(stop=tenacity.stop_after_delay(60))
    assert run(raising(OSError()), retry=policy, headers={"began": 0.0}).publish == ()


def test_a_policy_that_raises_fails_the_task(run: Run) -> None:
    def broken(state: tenacity.RetryCallState) -> float:
        raise ZeroDivisionError

    settlement = run(raising(OSError("first")), retry=Retry(wait=broken))
    assert settlement.outcome is not None
    assert settlement.outcome.state == State.FAILURE


def test_a_task_may_say_itself_when_it_is_run_again(run: Run) -> None:
    (again,) = run(raising(RetryTask(countdown=5))).publish
    assert again.delay == 5.0


def test_a_task_that_asks_too_often_fails(run: Run) -> None:
    settlement = run(raising(RetryTask()), retries=3)
    assert settlement.publish == ()
    assert settlement.outcome is not None
    assert read_failure(settlement.outcome.value).type == "mplite_tasks.errors:RetriesExhausted"


def test_the_history_of_a_message_stays_short(run: Run) -> None:
    history = [{"at": 0.0, "error": str(n)} for n in range(50)]
    (again,) = run(raising(OSError()), retry=9, headers={"history": history}).publish
    assert len(again.headers["history"]) == 10


def test_an_expired_task_is_not_run(run: Run) -> None:
    settlement = run(raising(AssertionError("it ran")), headers={"expires": 1.0})
    assert settlement.outcome is not None
    assert settlement.outcome.state == State.EXPIRED


@pytest.mark.parametrize("headers", [{"task": 3}, {"retries": "many"}, {"expires": "soon"}])
def test_headers_that_are_not_ours_make_a_dead_letter_with_everything_that_was_there(
    run: Run, headers: dict[str, Any]
) -> None:
    settlement = run(raising(AssertionError("it ran")), headers=headers)
    (letter,) = settlement.publish
    assert letter.queue == "q.dead"
    assert letter.headers["x-dead-reason"] == "undecodable"
    assert letter.body == b"[[],{}]"
    assert letter.headers.items() >= headers.items()


@pytest.mark.parametrize("countdown", ["soon", -1, float("inf"), float("nan")])
def test_a_countdown_that_is_none_fails_the_task_and_not_its_consumer(run: Run, countdown: Any) -> None:
    def function() -> None:
        raise RetryTask(countdown)

    settlement = run(function)
    assert settlement.outcome is not None
    assert settlement.outcome.state == State.FAILURE
    assert "is not a number of seconds" in str(read_failure(settlement.outcome.value).exception())


@pytest.mark.parametrize("error", [ValueError("x"), RetryTask()])
@pytest.mark.parametrize("wait", [float("inf"), float("nan"), "soon", None])
def test_a_wait_that_is_none_fails_the_task_and_not_its_consumer(run: Run, error: Exception, wait: Any) -> None:
    settlement = run(raising(error), retry=Retry(wait=lambda state: wait))
    assert settlement.outcome is not None
    assert settlement.outcome.state == State.FAILURE
    assert not settlement.publish
