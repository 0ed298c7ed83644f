"""What a consumer does with one message, without any I/O: message in, settlement out.

The steps: read the headers, find the task, look at the clock, read and check the arguments, run the function, say what
came of it. The settlement then goes to the broker in one piece: ack, outcome, and what is to be published.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kombu import Message

from mplite_tasks_transport import DeliveryFacts, Outcome, Publication

from ..app import MPLite
from ..context import Job, running
from ..errors import BadArguments, MPLiteError, NotSerializable, RetriesExhausted, UndecodableMessage, UnknownTask
from ..failures import Failure
from ..message import Header, TaskMessage, read_arguments
from ..retry import DEFAULT_RETRIES, RetryTask, as_retry
from ..states import State
from ..task import Task
from ..topology import dead_queue

__all__ = ["Executor", "Settlement"]

logger = logging.getLogger("mplite_tasks.worker")

#: Failed attempts that a message carries along, the latest ones.
MAX_HISTORY: Final = 10

#: Characters of an error in a header or a log line.
MAX_ERROR_CHARS: Final = 500

#: Why a message is a dead letter, in its header ``x-dead-reason``.
_REASONS: Final[Mapping[type[MPLiteError], str]] = {
    UnknownTask: "unknown-task",
    BadArguments: "bad-arguments",
    UndecodableMessage: "undecodable",
}


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the broker is told about a message that is done with.

    Parameters:
        outcome: what is kept as the task's result, if anything.
        outcome_ttl: seconds that it is kept; ``None`` takes the broker's default.
        publish: a dead letter, or the message of the next attempt.
    """

    outcome: Outcome | None = None
    outcome_ttl: float | None = None
    publish: tuple[Publication, ...] = ()


class Executor:
    """Runs the messages of one app. Never raises for anything that a message or a task does."""

    def __init__(self, app: MPLite) -> None:
        self._app = app
        self._default_retry = as_retry(DEFAULT_RETRIES)

    def run(self, message: Message, facts: DeliveryFacts) -> Settlement:
        """Do what a message asks for and return what the broker is to be told."""
        queue = facts.queue or str(message.delivery_info.get("routing_key") or self._app.queue)
        try:
            request = TaskMessage.read(message, queue=queue, priority=facts.priority)
        except UndecodableMessage as exc:
            return self._refuse(message, queue, facts.id, exc)
        try:
            task = self._app.find_task(request.task)
            if request.expires is not None and time.time() >= request.expires:
                return self._expired(request, task)
            args, kwargs = read_arguments(message)
            task.arguments.check(args, kwargs)
        except (UnknownTask, BadArguments, UndecodableMessage) as exc:
            return self._refuse(message, queue, request.id, exc)
        return self._attempt(request, task, args, kwargs, facts)

    def _attempt(
        self, request: TaskMessage, task: Task[Any, Any], args: list[Any], kwargs: dict[str, Any], facts: DeliveryFacts
    ) -> Settlement:
        job = Job(
            request.id,
            request.task,
            request.queue,
            request.priority,
            request.retries,
            request.headers,
            facts.posted_at,
            facts.delivered_at,
        )
        logger.debug("Task %s[%s] started", request.task, request.id)
        token = running.set(job)
        began = time.time()
        pid = os.getpid()
        try:
            value = task.function(*args, **kwargs)
        except BaseException as exc:  # a task that calls sys.exit() ends the task, not the worker
            _end_forked_child(pid, exc)
            return self._failed(request, task, exc, began)
        finally:
            running.reset(token)
        _end_forked_child(pid, None)
        return self._succeeded(request, task, value, began)

    def _succeeded(self, request: TaskMessage, task: Task[Any, Any], value: Any, began: float) -> Settlement:
        if task.declared.ignore_result:
            packed = b""
        else:
            try:
                packed = self._app.pack(value, of=f"Task {request.task}")
            except NotSerializable as exc:
                return self._failed(request, task, exc, began, may_retry=False)
        logger.info("Task %s[%s] succeeded in %.3f s", request.task, request.id, time.time() - began)
        return self._settlement(task, Outcome(request.id, State.SUCCESS, packed))

    def _failed(
        self,
        request: TaskMessage,
        task: Task[Any, Any],
        error: BaseException,
        began: float,
        *,
        may_retry: bool = True,
    ) -> Settlement:
        first = _number(request.headers.get(Header.BEGAN), began)
        wait = self._next_wait(request, task, error, time.time() - first) if may_retry else None
        cause = error.__cause__ if isinstance(error, RetryTask) else error
        if cause is None:
            cause = error if wait is not None else RetriesExhausted()
        failure = Failure.of(cause, retries=request.retries, skip_frames=1 if cause is error else 0)
        if wait is not None:
            logger.warning("Task %s[%s] is run again in %.3g s: %s", request.task, request.id, wait, _summary(failure))
            outcome = Outcome(request.id, State.RETRY, failure.encode(), final=False)
            return self._settlement(task, outcome, self._next_attempt(request, wait, first, failure))
        logger.error(
            "Task %s[%s] failed after %.3f s: %s\n%s",
            *(request.task, request.id, time.time() - began, _summary(failure), failure.traceback.rstrip()),
        )
        return self._settlement(task, Outcome(request.id, State.FAILURE, failure.encode()))

    def _next_wait(
        self, request: TaskMessage, task: Task[Any, Any], error: BaseException, elapsed: float
    ) -> float | None:
        policy = task.declared.retry
        if isinstance(error, RetryTask):
            policy = policy or self._default_retry
            ask = policy.next_wait_on_request if policy is not None else None
            return None if ask is None else ask(error, retries=request.retries, elapsed=elapsed)
        if policy is None:
            return None
        try:
            return policy.next_wait(error, retries=request.retries, elapsed=elapsed)
        except Exception:
            logger.exception("The retry policy of task %s raised; the task is not run again", request.task)
            return None

    @staticmethod
    def _next_attempt(request: TaskMessage, wait: float, first: float, failure: Failure) -> Publication:
        history = request.headers.get(Header.HISTORY)
        entry = {"at": time.time(), "error": _summary(failure)}
        history = [*(history if isinstance(history, list) else []), entry][-MAX_HISTORY:]
        headers = {**request.headers, Header.BEGAN: first, Header.HISTORY: history}
        return request.copy(retries=request.retries + 1, delay=wait, eta=None, headers=headers).publication()

    def _expired(self, request: TaskMessage, task: Task[Any, Any]) -> Settlement:
        logger.warning("Task %s[%s] had expired and was not started", request.task, request.id)
        return self._settlement(task, Outcome(request.id, State.EXPIRED))

    def _refuse(self, message: Message, queue: str, id: str | None, error: MPLiteError) -> Settlement:
        name = message.headers.get(Header.TASK)
        logger.error("Task %s[%s] goes to %s: %s", name, id, dead_queue(queue), error)
        letter = Publication(
            queue=dead_queue(queue),
            id=uuid.uuid4().hex,
            body=message.body if isinstance(message.body, bytes) else str(message.body).encode(),
            content_type=message.content_type or "application/data",
            content_encoding=message.content_encoding or "binary",
            headers={
                **message.headers,
                "x-dead-reason": _REASONS[type(error)],
                "x-dead-error": str(error)[:MAX_ERROR_CHARS],
                "x-dead-queue": queue,
                "x-dead-task": name if isinstance(name, str) else None,
                "x-dead-at": time.time(),
            },
            properties={} if id is None else {"correlation_id": id},
        )
        outcome = None if id is None else Outcome(id, State.FAILURE, Failure.of(error).encode())
        return Settlement(outcome, self._app.result_ttl, (letter,))

    def _settlement(self, task: Task[Any, Any], outcome: Outcome, *publish: Publication) -> Settlement:
        ttl = self._app.result_ttl if task.declared.result_ttl is None else task.declared.result_ttl
        return Settlement(None if task.declared.ignore_result else outcome, ttl, publish)


def _end_forked_child(pid: int, error: BaseException | None) -> None:
    """End a process that the task forked and that came back from its function: only its parent is the consumer."""
    if os.getpid() != pid:
        code = error.code if isinstance(error, SystemExit) else 0 if error is None else 1
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _summary(failure: Failure) -> str:
    return f"{failure.type.replace(':', '.').removeprefix('builtins.')}: {failure.message}"[:MAX_ERROR_CHARS]
