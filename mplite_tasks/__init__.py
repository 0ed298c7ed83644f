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
    from .options import CallOptions, TaskOptions
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
    "InvalidTask",
    "Job",
    "MPLite",
    "MPLiteError",
    "NotSerializable",
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
]

_MODULES = {
    "MPLite": "app",
    "Job": "context",
    "current_job": "context",
    "CallOptions": "options",
    "TaskOptions": "options",
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
