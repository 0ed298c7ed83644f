"""The connection as Kombu's transport API wants it: a client, its channels, and the event loop that watches it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from .. import frames
from ..client import BrokerClient
from ..errors import BrokerBusy, NoRoute, TransportError, reply_error
from ..limits import MAX_CHANNELS
from ..payload import decode_payload
from .channel import Channel
from .outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Connection"]


class Connection:
    """An established connection.

    Parameters:
        client: the :class:`kombu.Connection` that it is for.
        broker: the connected client.
        confirm_publish: whether ``basic_publish`` waits for the broker's confirm.
    """

    def __init__(self, client: Any, broker: BrokerClient, *, confirm_publish: bool = True) -> None:
        self.client = client
        self.broker = broker
        self.confirm_publish = confirm_publish
        self.channels: dict[int, Channel] = {}
        self._loop: Any = None
        self._watched: int | None = None

    def __repr__(self) -> str:
        return f"<mplite Connection, {len(self.channels)} channels, {self.broker!r}>"

    @property
    def connected(self) -> bool:
        """Whether it can be used, as far as is known."""
        return self.broker.connected

    @property
    def sock(self) -> socket.socket | None:
        """The socket, ``None`` when it is closed."""
        return self.broker.sock

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self.broker.fileno()

    def channel(self) -> Channel:
        """Open a channel."""
        number = next(self._free_numbers(), None)
        if number is None:
            raise BrokerBusy(f"The connection has {MAX_CHANNELS} channels; close some.")
        channel = Channel(self, number)
        self.channels[number] = channel
        return channel

    def drain_events(self, timeout: float | None = None) -> None:
        """Handle the next event: a delivery, a returned message, the end of a consumer.

        Parameters:
            timeout: seconds to wait; 0 never blocks, ``None`` waits for as long as the connection lives.

        Raises:
            TimeoutError: there was none in time (it is ``socket.timeout``).
            ReplyError: the broker refused an earlier frame whose answer was not waited for.
            ConnectionLost: the connection ended.
        """
        self._handle(self.broker.drain(timeout))

    def returned(self, channel: Channel | None, error: NoRoute, exchange: str, routing_key: str, message: Any) -> None:
        """Give a message that no queue took to the callbacks for it. Raises the error if there are none."""
        channels = [channel] if channel is not None else list(self.channels.values())
        callbacks = [callback for one in channels for callback in one.events.get("basic_return", ())]
        if not callbacks:
            raise error
        for callback in callbacks:
            callback(error, exchange, routing_key, message)

    def close(self) -> None:
        """Close it when the broker has read everything that was sent. What its channels held goes back."""
        self.unwatch()
        self.broker.close()
        self._detach_all()

    def collect(self) -> None:
        """Close it at once, without a word to the broker: for a lost connection, or in a forked child."""
        self.unwatch()
        self.broker.abandon()
        self._detach_all()

    # The event loop

    def watch(self, loop: Any) -> None:
        """Have a :class:`kombu.asynchronous.Hub` handle events as they come.

        An event that was read while a call waited for its answer sits in memory, where no descriptor tells of it. So
        the loop looks at memory on each turn, before it waits.
        """
        self.unwatch()
        self._watched = self.broker.fileno()
        self._loop = loop
        loop.add_reader(self._watched, self.on_readable, loop)
        loop.on_tick.add(self.on_tick)

    def unwatch(self) -> None:
        """Leave the event loop. May be repeated."""
        loop, self._loop = self._loop, None
        watched, self._watched = self._watched, None
        if loop is None or watched is None:
            return
        loop.on_tick.discard(self.on_tick)
        # Another connection may have been given the number of a descriptor that was lost.
        callback, _ = loop.readers.get(watched) or (None, None)
        if callback == self.on_readable:
            loop.remove_reader(watched)

    def on_readable(self, loop: Any) -> None:
        """Read once, and handle all that is in memory then."""
        try:
            self.drain_events(timeout=0)
            while self.broker.events:
                self.drain_events(timeout=0)
        except TimeoutError:
            return

    def on_tick(self) -> None:
        """Handle what is in memory.

        A loss that a call has noticed is raised here as well: its caller may only have logged it, as Celery does with
        a failed ack, and the descriptor that would tell the loop is closed.
        """
        if not self.broker.connected:
            self.unwatch()
        while self.broker.events or not self.broker.connected:
            self.drain_events(timeout=0)

    def _handle(self, event: Any) -> None:
        if isinstance(event, frames.Deliver):
            channel = self.channels.get(event.channel)
            # A channel that was closed holds nothing: the broker has it back.
            if channel is not None:
                channel.deliver(event)
        elif isinstance(event, frames.ConsumerCancelled):
            channel = self.channels.get(event.channel)
            if channel is not None:
                channel.consumer_cancelled(event.consumer)
        elif isinstance(event, frames.Returned):
            self._handle_returned(event)
        else:
            raise TransportError(f"The broker sent {type(event).__name__}, which has no meaning here.")

    def _handle_returned(self, event: frames.Returned) -> None:
        payload = decode_payload(event.payload)
        properties = dict(payload.properties)
        message = Outgoing(
            payload.body,
            properties.pop("priority", None),
            properties.pop("content_type", None),
            properties.pop("content_encoding", None),
            properties.pop("headers", None),
            properties,
        )
        error = reply_error(event.code, event.text)
        if not isinstance(error, NoRoute):
            raise error
        self.returned(None, error, event.exchange, event.routing_key, message)

    def _free_numbers(self) -> Iterator[int]:
        return (number for number in range(1, MAX_CHANNELS + 1) if number not in self.channels)

    def _detach_all(self) -> None:
        for channel in list(self.channels.values()):
            channel.detach()
        self.client = None
