"""The errors of the transport: one root, and one class for each thing that a caller can act on.

Errors that reach Kombu programs are also the py-amqp classes that such programs already catch: a missing queue is
``amqp.exceptions.NotFound``, a lost connection is a ``RecoverableConnectionError``. Reply codes are AMQP 0-9-1's
where it has one (section 1.4 of its generated documentation), and listed in ``docs/protocol.md``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from amqp import exceptions as amqp

__all__ = [
    "AccessRefused",
    "BrokerBusy",
    "BrokerUnreachable",
    "ChannelNotOpen",
    "Code",
    "ConnectionLost",
    "ContentTooLarge",
    "FeatureNotSupported",
    "HandshakeRefused",
    "InvalidCertificate",
    "InvalidKey",
    "InvalidOption",
    "InvalidURL",
    "JournalError",
    "LocalBrokerError",
    "NoRoute",
    "NotFound",
    "PreconditionFailed",
    "ProtocolError",
    "ReplyError",
    "ResourceLocked",
    "StaleDelivery",
    "TooManyConnections",
    "TransportError",
    "VersionMismatch",
    "reply_error",
]


class Code(IntEnum):
    """Reply codes on the wire. The number is for ever; the name may be improved."""

    CONTENT_TOO_LARGE = 311
    NO_ROUTE = 312
    CONNECTION_FORCED = 320
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    STALE = 409
    FRAME_TOO_LARGE = 501
    BAD_FORMAT = 502
    COMMAND_INVALID = 503
    CHANNEL_NOT_OPEN = 504
    VERSION_MISMATCH = 505
    LIMIT_REACHED = 506
    NOT_ALLOWED = 530
    INTERNAL_ERROR = 541


class TransportError(Exception):
    """Something about the broker or the way to it failed."""


class InvalidURL(TransportError, ValueError):
    """The broker URL cannot be used as it is."""


class InvalidKey(TransportError, ValueError):
    """The key, or the file that should hold it, cannot be used as it is. The text never shows the key."""


class InvalidOption(TransportError, ValueError):
    """An option of the connection cannot be used as it is."""


class InvalidCertificate(TransportError, ValueError):
    """The peer's certificate, or the file that should hold one, is not what it has to be."""


class ProtocolError(TransportError):
    """The peer sent bytes that the protocol does not allow; the connection cannot go on."""

    def __init__(self, text: str, code: Code = Code.BAD_FORMAT) -> None:
        super().__init__(text)
        self.code = code


class JournalError(TransportError):
    """The broker's journal cannot be opened, read or written."""


class LocalBrokerError(TransportError):
    """The local broker cannot be started, found or stopped."""


class FeatureNotSupported(TransportError, NotImplementedError):
    """The transport in use has no way to do what was asked; the text names the alternative."""


class _AMQPTextError(TransportError):
    """What our errors that double as py-amqp's share: ``str()`` is the text, ``reply_code`` the number."""

    #: The code on the wire.
    code: Code = Code.INTERNAL_ERROR

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.reply_text = text
        self.reply_code = int(self.code)
        self.method_sig = None
        self.method_name = ""

    def __str__(self) -> str:
        return self.reply_text

    def __reduce__(self) -> tuple[type[_AMQPTextError], tuple[str]]:
        return type(self), (self.reply_text,)


class BrokerUnreachable(_AMQPTextError, amqp.RecoverableConnectionError):  # type: ignore[misc]
    """No broker answers at the address."""

    code = Code.CONNECTION_FORCED


class ConnectionLost(_AMQPTextError, amqp.RecoverableConnectionError):  # type: ignore[misc]
    """The connection to the broker ended while it was in use; what was not confirmed is in doubt."""

    code = Code.CONNECTION_FORCED


class TooManyConnections(BrokerUnreachable):
    """The broker has as many connections as it takes, in all or from this address; try again later."""

    code = Code.LIMIT_REACHED


class HandshakeRefused(_AMQPTextError, amqp.IrrecoverableConnectionError):  # type: ignore[misc]
    """The broker refused the connection: wrong or missing key, or a user that it does not know."""

    code = Code.ACCESS_REFUSED


class VersionMismatch(_AMQPTextError, amqp.IrrecoverableConnectionError):  # type: ignore[misc]
    """Client and broker speak different major versions of the protocol."""

    code = Code.VERSION_MISMATCH


class ReplyError(_AMQPTextError, amqp.ChannelError):  # type: ignore[misc]
    """The broker answered a request with an error code."""


class ContentTooLarge(ReplyError, amqp.ContentTooLarge):  # type: ignore[misc]
    """The message is larger than a frame may be."""

    code = Code.CONTENT_TOO_LARGE


class NoRoute(ReplyError):
    """No queue is bound for the message's exchange and routing key, and it was published as mandatory."""

    code = Code.NO_ROUTE


class AccessRefused(ReplyError, amqp.AccessRefused):  # type: ignore[misc]
    """The user may not do this."""

    code = Code.ACCESS_REFUSED


class NotFound(ReplyError, amqp.NotFound):  # type: ignore[misc]
    """The queue, exchange, message or result that was named does not exist."""

    code = Code.NOT_FOUND


class ResourceLocked(ReplyError, amqp.ResourceLocked):  # type: ignore[misc]
    """The queue is exclusive to another connection, or another holder has the lock."""

    code = Code.RESOURCE_LOCKED


class PreconditionFailed(ReplyError, amqp.PreconditionFailed):  # type: ignore[misc]
    """The request contradicts the state of the broker, such as a second declaration with other properties."""

    code = Code.PRECONDITION_FAILED


class StaleDelivery(ReplyError):
    """The delivery is no longer held by this channel: it was settled before, or went back to its queue."""

    code = Code.STALE


class ChannelNotOpen(ReplyError):
    """The channel was never opened, or is closed."""

    code = Code.CHANNEL_NOT_OPEN


class BrokerBusy(ReplyError, amqp.RecoverableChannelError):  # type: ignore[misc]
    """A limit of the broker is reached; try again later."""

    code = Code.LIMIT_REACHED


_BY_CODE: Final[dict[int, type[ReplyError]]] = {
    error.code: error
    for error in (
        ContentTooLarge,
        NoRoute,
        AccessRefused,
        NotFound,
        ResourceLocked,
        PreconditionFailed,
        StaleDelivery,
        ChannelNotOpen,
        BrokerBusy,
    )
}


def reply_error(code: int, text: str) -> ReplyError:
    """Return the exception for an error reply, of the class that its code has, else :class:`ReplyError`."""
    known = _BY_CODE.get(code)
    if known is not None:
        return known(text)
    error = ReplyError(text)
    error.reply_code = code
    return error
