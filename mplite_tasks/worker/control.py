"""What supervisor and template tell each other: JSON lines over a socket pair.

The end of the stream means that the other process is gone.
"""

from __future__ import annotations

import contextlib
import socket

import msgspec

__all__ = ["Control", "Failed", "Note", "Ready", "Start", "Stop"]


class Start(msgspec.Struct, frozen=True, tag="start"):
    """Supervisor to template, once: import this app or handler and fork so many consumers.

    Parameters:
        app: what ``-A`` says; or ``module:function``.
        concurrency: number of consumers; 0 for what the handler says.
        queues: what they listen to; empty means those of the app or handler.
        level: of the log.
        is_handler: whether it is a handler.
        broker: URL of its broker, without a key; ``None`` for what it says itself.
        retries: how often it is retried; ``None`` for what it says itself.
    """

    app: str
    concurrency: int
    queues: tuple[str, ...]
    level: str
    is_handler: bool = False
    broker: str | None = None
    retries: int | None = None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Template to supervisor: the app is there and its consumers are forked."""

    app: str
    broker: str
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    concurrency: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Template to supervisor: this worker cannot work, and starting it again would not help.

    Parameters:
        text: one line.
        detail: a traceback of the app's own code, or nothing.
    """

    text: str
    detail: str = ""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Supervisor to template: finish what runs and end; or end now, and the jobs go back."""

    now: bool = False


Note = Start | Ready | Failed | Stop

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Note] = msgspec.json.Decoder(Note)


class Control:
    """One end of the socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        #: Whether the other end is gone.
        self.ended = False

    @classmethod
    def pair(cls) -> tuple[Control, Control]:
        """Return both ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._sock.fileno()

    def send(self, note: Note) -> None:
        """Say something. If the other end is gone, nobody hears it, and ``ended`` will say so on the next receive."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(_encoder.encode(note) + b"\n")

    def receive(self) -> list[Note]:
        """Return what has arrived, waiting for something; nothing once the other end is gone."""
        while not self.ended:
            try:
                data = self._sock.recv(65536)
            except ConnectionResetError:
                data = b""
            self.ended = not data
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            if lines:
                return [_decoder.decode(line) for line in lines]
        return []

    def close(self) -> None:
        """Close this end."""
        self._sock.close()
