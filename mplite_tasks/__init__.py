"""MPLite: a task framework with strict priorities. ``from mplite_tasks import MPLite`` is where to start.

The names below are loaded when they are first used, so that a process that only supervises stays small.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import MPLite
    from .context import Job, current_job
    from .errors import (
        AppNotFound,
        BadArguments,
        BadOption,
        BrokerUnavailable,
        ForkRefused,
        HandlerNotFound,
        InvalidHandler,
        InvalidTask,
        MPLiteError,
        NotSerializable,
        RemoteTraceback,
        ResultIgnored,
        ResultTimeout,
        RetriesExhausted,
        TaskError,
        TaskExpired,
        UndecodableMessage,
        UnknownTask,
    )
    from .handlers import Handler, HandlerOptions, handler, register_handler
    from .options import CallOptions, TaskOptions
    from .received import ReceivedMessage
    from .registration import Registration
    from .result import Result
    from .retry import Retry, RetryTask
    from .signature import Signature
    from .states import State
    from .task import Sender, Task

__all__ = [
    "AppNotFound",
    "BadArguments",
    "BadOption",
    "BrokerUnavailable",
    "CallOptions",
    "ForkRefused",
    "Handler",
    "HandlerNotFound",
    "HandlerOptions",
    "InvalidHandler",
    "InvalidTask",
    "Job",
    "MPLite",
    "MPLiteError",
    "NotSerializable",
    "ReceivedMessage",
    "Registration",
    "RemoteTraceback",
    "Result",
    "ResultIgnored",
    "ResultTimeout",
    "RetriesExhausted",
    "Retry",
    "RetryTask",
    "Sender",
    "Signature",
    "State",
    "Task",
    "TaskError",
    "TaskExpired",
    "TaskOptions",
    "UndecodableMessage",
    "UnknownTask",
    "current_job",
    "handler",
    "register_handler",
]

_MODULES = {
    "MPLite": "app",
    "Job": "context",
    "current_job": "context",
    "Handler": "handlers",
    "HandlerOptions": "handlers",
    "handler": "handlers",
    "register_handler": "handlers",
    "CallOptions": "options",
    "TaskOptions": "options",
    "ReceivedMessage": "received",
    "Registration": "registration",
    "Result": "result",
    "Retry": "retry",
    "RetryTask": "retry",
    "Signature": "signature",
    "State": "states",
    "Sender": "task",
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
