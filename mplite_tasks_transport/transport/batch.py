"""A batch of publishes: sent without waiting for each, confirmed together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.exceptions import BatchPublishError

from ..errors import ReplyError, TransportError
from ..frames import Publish

if TYPE_CHECKING:
    from .channel import Channel
    from .outgoing import Outgoing

__all__ = ["PublishBatch"]


class PublishBatch:
    """What :meth:`kombu.Producer.batch` collects publishes in.

    Parameters:
        channel: where they are published.
        max_size: publishes that are collected before they are sent by themselves.
    """

    def __init__(self, channel: Channel, max_size: int) -> None:
        self.channel = channel
        self.max_size = max_size
        self._frames: list[Publish] = []
        self._failure: BaseException | None = None
        self._ended = ""

    def publish(self, message: Outgoing, **kwargs: Any) -> None:
        """Add a message. Raises :class:`BatchPublishError` if the batch is full and could not be sent."""
        self._check()
        self._frames.append(self.channel.publish_frame(message, **kwargs))
        if len(self._frames) >= self.max_size:
            self.flush()

    def flush(self) -> None:
        """Send what was collected, and return when the broker has confirmed all of it.

        Raises:
            BatchPublishError: the broker did not take all, or it is in doubt; the batch cannot be used any more.
                Messages that were given a ``mplite_id`` can be published again: they are kept once.
        """
        self._check()
        waiting, self._frames = self._frames, []
        if not waiting:
            return
        try:
            self.channel.connection_in_use().broker.call_many(waiting)
        except (TransportError, TimeoutError) as exc:
            self._failure = exc
            refused = isinstance(exc, ReplyError)
            what = "was refused" if refused else "is in doubt"
            raise BatchPublishError(f"A batch of {len(waiting)} publishes {what}: {exc}") from exc
        except BaseException as exc:
            self._failure = exc
            raise

    def discard(self) -> None:
        """Drop what was not sent yet."""
        self._frames.clear()
        self._ended = "aborted"

    def close(self) -> None:
        """End the batch. What was not flushed is not sent."""
        self._frames.clear()
        self._ended = self._ended or "closed"

    def _check(self) -> None:
        if self._ended:
            raise RuntimeError(f"The publish batch is {self._ended}.")
        if self._failure is not None:
            raise BatchPublishError("The publish batch failed before; begin another one.") from self._failure
