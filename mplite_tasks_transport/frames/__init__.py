"""Every frame of the protocol, as typed values. ``docs/protocol.md`` says what each does and what it answers.

A frame is a msgpack array whose first element is the frame's number and whose second, in what a client sends, is the
request id ``r``: 0 wants no answer, any other number is answered by exactly one :class:`Ok` or :class:`Failed` with
the same ``r``. New fields are added at the end, with a default, so that a peer of a lower minor version is understood.
Times are microseconds since the epoch by the broker's clock.
"""

from __future__ import annotations

from .broker import (
    AcquireLock,
    Identify,
    Ping,
    ReleaseLock,
    Status,
    StopWaiting,
)
from .pushes import (
    Blocked,
    ConsumerCancelled,
    Deliver,
    Failed,
    Goodbye,
    Ok,
    Returned,
    Unblocked,
)
from .results import (
    ForgetResults,
    GetResult,
    ResultRecord,
    StoreResult,
    WaitResult,
)
from .topology import (
    BindQueue,
    CancelConsumer,
    CloseChannel,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    OpenChannel,
    PurgeQueue,
    UnbindQueue,
)
from .traffic import (
    Ack,
    CancelMessage,
    Credit,
    Get,
    Position,
    Publish,
    Qos,
    Recover,
    Reject,
    Reprioritise,
    Settle,
    Started,
)
from .views import (
    AcquireQueueLock,
    Half,
    ReleaseQueueLock,
    ViewClear,
    ViewCount,
    ViewGet,
    ViewList,
    ViewPop,
    ViewSet,
    WaitDrained,
)

__all__ = [
    "Ack",
    "AcquireLock",
    "AcquireQueueLock",
    "BindQueue",
    "Blocked",
    "CancelConsumer",
    "CancelMessage",
    "CloseChannel",
    "Consume",
    "ConsumerCancelled",
    "Credit",
    "DeclareExchange",
    "DeclareQueue",
    "DeleteExchange",
    "DeleteQueue",
    "Deliver",
    "Failed",
    "ForgetResults",
    "Get",
    "GetResult",
    "Goodbye",
    "Half",
    "Identify",
    "Ok",
    "OpenChannel",
    "Ping",
    "Position",
    "Publish",
    "PurgeQueue",
    "Push",
    "Qos",
    "Recover",
    "Reject",
    "ReleaseLock",
    "ReleaseQueueLock",
    "Reprioritise",
    "Request",
    "ResultRecord",
    "Returned",
    "Settle",
    "Started",
    "Status",
    "StopWaiting",
    "StoreResult",
    "UnbindQueue",
    "Unblocked",
    "ViewClear",
    "ViewCount",
    "ViewGet",
    "ViewList",
    "ViewPop",
    "ViewSet",
    "WaitDrained",
    "WaitResult",
]

Request = (
    OpenChannel
    | CloseChannel
    | DeclareExchange
    | DeleteExchange
    | DeclareQueue
    | DeleteQueue
    | BindQueue
    | UnbindQueue
    | PurgeQueue
    | Publish
    | Consume
    | CancelConsumer
    | Qos
    | Credit
    | Ack
    | Reject
    | Recover
    | Get
    | Started
    | Settle
    | StoreResult
    | WaitResult
    | GetResult
    | ForgetResults
    | StopWaiting
    | CancelMessage
    | Reprioritise
    | Position
    | AcquireLock
    | ReleaseLock
    | Status
    | Ping
    | Identify
    | ViewCount
    | ViewList
    | ViewGet
    | ViewSet
    | ViewPop
    | ViewClear
    | AcquireQueueLock
    | ReleaseQueueLock
    | WaitDrained
)

Push = Ok | Failed | Deliver | Returned | ConsumerCancelled | Blocked | Unblocked | Goodbye
