"""What callers ask of the broker: publish, and results; each goes on over a connection that is lost on the way.

An operation in doubt is simply done again. That is safe for each of them: a publication keeps its id, and the broker
keeps an id once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from mplite_tasks_transport import FeatureNotSupported, NoRoute, Outcome, Publication

from .errors import BrokerUnavailable
from .pool import Link, LinkPool

__all__ = ["Gateway"]

T = TypeVar("T")

#: Times that one operation is tried on connections that are lost while it runs. A broker that falls over each time is
#: more likely to fall over this operation than to need another try.
MAX_ATTEMPTS: Final = 8

#: Mean of the pause, in seconds, before a new connection is used after one was lost.
PAUSE_SECONDS: Final = 0.05


class Gateway:
    """The broker as the callers of an app see it. Safe for use by many threads, and after a fork."""

    def __init__(self, pool: LinkPool) -> None:
        self._pool = pool

    def publish(self, publication: Publication) -> None:
        """Publish one message and return when the broker has confirmed it."""
        self._do(lambda link: link.publish(publication))

    def publish_many(self, publications: Sequence[Publication]) -> None:
        """Publish all, pipelined where the broker can, and return when all are confirmed."""

        def publish_all(link: Link) -> None:
            for queue in {publication.queue for publication in publications}:
                link.declare(queue)
            try:
                link.features.publish_many(publications)
            except NoRoute:  # somebody deleted a queue after it was declared; the ids keep what was taken from doubling
                link.declare_again()
                link.features.publish_many(publications)
            except FeatureNotSupported:
                for publication in publications:
                    link.publish(publication)

        if publications:
            self._do(publish_all)

    def outcome(self, id: str) -> Outcome | None:
        """Return what the broker knows of a task now."""
        return self._do(lambda link: link.features.outcome(id))

    def wait_outcome(self, id: str, timeout: float | None) -> Outcome | None:
        """Wait for the final outcome; ``None`` when ``timeout`` seconds have passed. The broker tells, nobody polls.

        Raises :class:`NoLinkInTime` if there was no connection to ask over for so long.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        return self._do(lambda link: link.features.wait_outcome(id, left()), attempts=None, left=left)

    def forget(self, ids: Sequence[str]) -> int:
        """Drop outcomes. Returns how many there were."""
        return self._do(lambda link: link.features.forget(ids))

    def _do(
        self,
        operation: Callable[[Link], T],
        *,
        attempts: int | None = MAX_ATTEMPTS,
        left: Callable[[], float | None] = lambda: None,
    ) -> T:
        attempt = 0
        while True:
            attempt += 1
            lost: tuple[type[BaseException], ...] = ()
            try:
                with self._pool.link(left()) as link:
                    lost = link.lost_errors
                    return operation(link)
            except lost as exc:
                if attempts is not None and attempt >= attempts:
                    raise BrokerUnavailable(
                        f"The connection to the broker at {self._pool.shown_url()} was lost {attempt} times: {exc}"
                    ) from exc
            time.sleep(random.uniform(0, 2 * PAUSE_SECONDS))  # noqa: S311 - jitter, no secret
