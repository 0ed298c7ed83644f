"""A consumer: takes one message, runs it, settles it, and so on until it is told to stop."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from typing import Final

import tenacity
from kombu import Message

from mplite_tasks_transport import (
    ContentTooLarge,
    LocalBrokerError,
    NoRoute,
    NotFound,
    ReplyError,
    StaleDelivery,
    TransportError,
)

from ..pool import lost_errors
from .exits import Exit
from .session import Session
from .settlement import Executes, Settlement
from .source import Source
from .stopping import StopIdle, Stopping

__all__ = ["Consumer"]

logger = logging.getLogger("mplite_tasks.worker")

#: Seconds for which a consumer that is to stop tries to reach the broker to settle the job that it has finished.
LAST_SETTLE_SECONDS: Final = 10.0


class Consumer:
    """What one forked process does, or one thread of a handler.

    Parameters:
        queues: what it listens to; the broker decides the order over all of them.
        stop: how it is told to stop.
        executor: what it does with a message.
    """

    def __init__(self, source: Source, queues: Sequence[str], stop: Stopping, executor: Executes) -> None:
        self._source = source
        self._queues = queues
        self._stop = stop
        self._identity = uuid.uuid4().hex
        self._executor = executor
        self._session: Session | None = None
        #: What the broker refused, if :meth:`run` returned for that.
        self.refusal: BaseException | None = None
        connection = source.connection()
        self._lost = lost_errors(connection)
        self._refused: tuple[type[BaseException], ...] = (
            *connection.connection_errors,
            *connection.channel_errors,
            TransportError,
        )

    def run(self) -> int:
        """Consume until told to stop. Returns the exit status of a process that does nothing else."""
        try:
            while not self._stop.requested:
                self._one()
        except StopIdle:
            logger.debug("The consumer stops while it waits")
        except self._refused as exc:
            self.refusal = exc
            logger.critical("The broker at %s refuses this consumer: %s", self._source.broker_url, exc)
            return Exit.HOPELESS
        finally:
            self._close()
            self._source.close()
        return Exit.DONE

    def _one(self) -> None:
        """Wait for one message, run it and settle it; or lose the connection."""
        try:
            with self._stop.idle():
                session = self._session or self._connect()
                session.consume()
                message = session.next(self._stop.drain)
        except self._lost as exc:
            logger.warning("The connection to the broker was lost: %s", exc)
            self._close()
            return
        facts = session.facts(message)
        with self._stop.running(lambda: self._give_back(message)):
            settlement = self._executor.run(message, facts)
        self._settle(message, facts.posted_at, settlement)

    def _settle(self, message: Message, posted_at: int | None, settlement: Settlement) -> None:
        """Settle a message, over as many new connections as that takes."""
        session = self._session
        missing = 0  # times that a queue was not there: somebody may have deleted one
        while session is not None:
            try:
                if missing == 1:
                    session.declare_again()
                session.settle(message, settlement, more=not self._stop.requested)
            except StaleDelivery:
                logger.info("A job's message had been settled before, or has gone back to its queue meanwhile")
            except (ContentTooLarge, NoRoute, NotFound) as exc:
                missing += 1
                if isinstance(exc, ContentTooLarge) or not settlement.publish or missing > 1:
                    settlement = self._instead(message, settlement, exc)
                continue
            except self._lost as exc:
                logger.warning("The connection to the broker was lost while a job was being settled: %s", exc)
                session = self._reconnect(posted_at)
                continue
            return

    def _instead(self, message: Message, settlement: Settlement, error: ReplyError) -> Settlement:
        logger.error("Message [%s] could not be settled: %s", message.headers.get("id"), error)
        return self._executor.instead(message, settlement, error)

    def _reconnect(self, posted_at: int | None) -> Session | None:
        """Connect again to settle a message, ``None`` where that is no use: then the broker delivers it again."""
        resumes = self._session is not None and self._session.resumes
        self._close()
        if not resumes or posted_at is None:
            return None
        try:
            return self._connect(keep=posted_at)
        except self._lost as exc:
            logger.critical("A finished job could not be settled, so it will run again: %s", exc)
            return None

    def _connect(self, keep: int | None = None) -> Session:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(self._lost),
            wait=tenacity.wait_exponential(multiplier=0.05, max=5.0) + tenacity.wait_random(0, 0.2),
            stop=self._stopping_for_too_long,
            before_sleep=self._log_first_failure,
            sleep=self._stop.sleep,
            reraise=True,
        )
        kept = () if keep is None else (keep,)
        self._session = attempts(lambda: Session(self._source, self._queues, self._identity, kept))
        # A local broker that has once been there can be started again, even if that takes more than one try.
        self._lost = (*self._lost, LocalBrokerError)
        logger.info("Connected to the broker at %s", self._source.broker_url)
        return self._session

    def _stopping_for_too_long(self, state: tenacity.RetryCallState) -> bool:
        requested_at = self._stop.requested_at
        return requested_at is not None and time.monotonic() - requested_at > LAST_SETTLE_SECONDS

    def _log_first_failure(self, state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            error = state.outcome.exception()
            logger.warning("The broker at %s cannot be reached; trying on: %s", self._source.broker_url, error)

    def _give_back(self, message: Message) -> None:
        """Give the message of a job back that is broken off; on any trouble the broker does it when we are gone."""
        try:
            message.requeue()
            self._close()
        except self._refused as exc:
            logger.warning("The message of the job that was broken off goes back with its connection: %s", exc)

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
