"""What a handler's consumer does with one message, without any I/O: message in, settlement out."""

from __future__ import annotations

import logging
import os
import time
import uuid
from dataclasses import replace
from typing import Any, Final

from kombu import Message

from mplite_tasks_transport import DeliveryFacts, Publication, ReplyError

from ..errors import RetriesExhausted, UndecodableMessage
from ..failures import Failure
from ..handlers import Handler
from ..received import HandlerHeader, ReceivedMessage, read_body
from ..retry import RetryTask
from ..topology import dead_queue
from .attempts import end_forked_child, longer_history, summary, wait_before_next
from .letters import dead_letter
from .settlement import Settlement

__all__ = ["HandlerExecutor"]

logger = logging.getLogger("mplite_tasks.worker")

#: Characters of a traceback in the header ``x-dead-traceback``: its end, where the error is.
MAX_TRACEBACK_CHARS: Final = 4000

_TRACEBACK: Final = "x-dead-traceback"


class HandlerExecutor:
    """Runs messages through one handler. Never raises for anything that a message or the handler does."""

    def __init__(self, handler: Handler[..., Any]) -> None:
        self._handler = handler

    def run(self, message: Message, facts: DeliveryFacts) -> Settlement:
        """Call the handler with a message and return what the broker is to be told."""
        received = ReceivedMessage.read(message, facts)
        limit = self._handler.options.max_deliveries
        if received.deliveries is not None and received.deliveries >= limit:
            # A queue that we did not declare may have no limit of its own.
            text = f"{received.deliveries} handlers died with it; max_deliveries is {limit}."
            return self._bury(message, received, "delivery-limit", text)
        try:
            body = read_body(message)
        except UndecodableMessage as exc:
            return self._bury(message, received, "undecodable", str(exc))
        return self._attempt(message, received, body)

    def instead(self, message: Message, settlement: Settlement, error: ReplyError) -> Settlement:
        """Return a dead letter without its traceback, which may be what made it too large; then give up."""
        smaller = [
            replace(letter, headers={**letter.headers, _TRACEBACK: ""})
            for letter in settlement.publish
            if letter.headers.get(_TRACEBACK)
        ]
        if not smaller:
            raise error
        return Settlement(publish=tuple(smaller))

    def _attempt(self, message: Message, received: ReceivedMessage, body: Any) -> Settlement:
        name = self._handler.name
        logger.debug("Handler %s: message [%s] started", name, received.id)
        began = time.time()
        pid = os.getpid()
        try:
            if self._handler.wants_message:
                self._handler.function(body, received)
            else:
                self._handler.function(body)
        except BaseException as exc:  # a handler that calls sys.exit() ends this attempt, and not the consumer
            end_forked_child(pid, exc)
            return self._failed(message, received, exc, began)
        end_forked_child(pid, None)
        logger.info("Handler %s: message [%s] handled in %.3f s", name, received.id, time.time() - began)
        return Settlement()

    def _failed(self, message: Message, received: ReceivedMessage, error: BaseException, began: float) -> Settlement:
        name = self._handler.name
        first = message.headers.get(HandlerHeader.BEGAN)
        first = float(first) if isinstance(first, int | float) else began
        wait = wait_before_next(
            self._handler.options.retry,
            error,
            retries=received.retries,
            elapsed=time.time() - first,
            of=f"handler {name}",
        )
        cause = error.__cause__ if isinstance(error, RetryTask) else error
        if cause is None:
            cause = error if wait is not None else RetriesExhausted()
        failure = Failure.of(cause, retries=received.retries, skip_frames=1 if cause is error else 0)
        if wait is not None:
            logger.warning(
                "Handler %s: message [%s] is handled again in %.3g s: %s", name, received.id, wait, summary(failure)
            )
            return Settlement(publish=(_again(message, received, wait, first, failure),))
        return self._bury(message, received, "failed", summary(failure), failure.traceback)

    def _bury(
        self, message: Message, received: ReceivedMessage, reason: str, error: str, traceback: str = ""
    ) -> Settlement:
        logger.error(
            "Handler %s: message [%s] goes to %s: %s%s",
            *(self._handler.name, received.id, dead_queue(received.queue), error),
            f"\n{traceback.rstrip()}" if traceback else "",
        )
        headers: dict[str, Any] = {"x-dead-id": received.id, "x-dead-retries": received.retries}
        if traceback:
            headers[_TRACEBACK] = traceback[-MAX_TRACEBACK_CHARS:]
        letter = dead_letter(
            message, received.queue, reason=reason, error=error, headers=headers, properties=received.properties
        )
        return Settlement(publish=(replace(letter, priority=received.priority),))


def _again(message: Message, received: ReceivedMessage, wait: float, first: float, failure: Failure) -> Publication:
    """Return the message as it is published for its next attempt: with its id, and with what was tried so far."""
    return Publication(
        queue=received.queue,
        id=received.id or uuid.uuid4().hex,
        body=message.body if isinstance(message.body, bytes) else str(message.body).encode(),
        content_type=message.content_type or "application/data",
        content_encoding=message.content_encoding or "utf-8",
        priority=received.priority,
        headers={
            **received.headers,
            HandlerHeader.RETRIES: received.retries + 1,
            HandlerHeader.BEGAN: first,
            HandlerHeader.HISTORY: longer_history(message.headers.get(HandlerHeader.HISTORY), failure),
        },
        properties=received.properties,
        delay=wait,
    )
