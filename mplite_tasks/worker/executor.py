"""What a consumer does with one message, without any I/O: message in, settlement out.

The steps: read the headers, find the task, look at the clock, read and check the arguments, run the function, say what
came of it. The settlement then goes to the broker in one piece: ack, outcome, and what is to be published.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any, Final

from kombu import Message

from mplite_tasks_transport import DeliveryFacts, Outcome, Publication, ReplyError

from ..app import MPLite
from ..context import Job, running
from ..errors import BadArguments, MPLiteError, NotSerializable, RetriesExhausted, UndecodableMessage, UnknownTask
from ..failures import Failure
from ..message import Header, TaskMessage, read_arguments
from ..retry import RetryTask
from ..states import State
from ..task import Task
from ..topology import dead_queue
from .attempts import end_forked_child, longer_history, summary, wait_before_next
from .letters import dead_letter
from .settlement import Settlement

__all__ = ["Executor", "Settlement"]

logger = logging.getLogger("mplite_tasks.worker")

#: Why a message is a dead letter, in its header ``x-dead-reason``.
_REASONS: Final[Mapping[type[MPLiteError], str]] = {
    UnknownTask: "unknown-task",
    BadArguments: "bad-arguments",
    UndecodableMessage: "undecodable",
}


class Executor:
    """Runs the messages of one app. Never raises for anything that a message or a task does."""

    def __init__(self, app: MPLite) -> None:
        self._app = app

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

    def instead(self, message: Message, settlement: Settlement, error: ReplyError) -> Settlement:
        """Return what is told when the broker refuses a settlement: that the task has failed."""
        id = message.headers.get("id")
        failure = Outcome(id, State.FAILURE, Failure.of(error).encode()) if isinstance(id, str) else None
        return Settlement(failure, settlement.outcome_ttl)

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
            end_forked_child(pid, exc)
            return self._failed(request, task, exc, began)
        finally:
            running.reset(token)
        end_forked_child(pid, None)
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
        wait = None
        if may_retry:
            wait = wait_before_next(
                task.declared.retry,
                error,
                retries=request.retries,
                elapsed=time.time() - first,
                of=f"task {request.task}",
            )
        cause = error.__cause__ if isinstance(error, RetryTask) else error
        if cause is None:
            cause = error if wait is not None else RetriesExhausted()
        failure = Failure.of(cause, retries=request.retries, skip_frames=1 if cause is error else 0)
        if wait is not None:
            logger.warning("Task %s[%s] is run again in %.3g s: %s", request.task, request.id, wait, summary(failure))
            outcome = Outcome(request.id, State.RETRY, failure.encode(), final=False)
            return self._settlement(task, outcome, self._next_attempt(request, wait, first, failure))
        logger.error(
            "Task %s[%s] failed after %.3f s: %s\n%s",
            *(request.task, request.id, time.time() - began, summary(failure), failure.traceback.rstrip()),
        )
        return self._settlement(task, Outcome(request.id, State.FAILURE, failure.encode()))

    @staticmethod
    def _next_attempt(request: TaskMessage, wait: float, first: float, failure: Failure) -> Publication:
        history = longer_history(request.headers.get(Header.HISTORY), failure)
        headers = {**request.headers, Header.BEGAN: first, Header.HISTORY: history}
        return request.copy(retries=request.retries + 1, delay=wait, eta=None, headers=headers).publication()

    def _expired(self, request: TaskMessage, task: Task[Any, Any]) -> Settlement:
        logger.warning("Task %s[%s] had expired and was not started", request.task, request.id)
        return self._settlement(task, Outcome(request.id, State.EXPIRED))

    def _refuse(self, message: Message, queue: str, id: str | None, error: MPLiteError) -> Settlement:
        name = message.headers.get(Header.TASK)
        logger.error("Task %s[%s] goes to %s: %s", name, id, dead_queue(queue), error)
        letter = dead_letter(
            message,
            queue,
            reason=_REASONS[type(error)],
            error=str(error),
            headers={"x-dead-task": name if isinstance(name, str) else None},
            properties={} if id is None else {"correlation_id": id},
        )
        outcome = None if id is None else Outcome(id, State.FAILURE, Failure.of(error).encode())
        return Settlement(outcome, self._app.result_ttl, (letter,))

    def _settlement(self, task: Task[Any, Any], outcome: Outcome, *publish: Publication) -> Settlement:
        ttl = self._app.result_ttl if task.declared.result_ttl is None else task.declared.result_ttl
        return Settlement(None if task.declared.ignore_result else outcome, ttl, publish)


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default
