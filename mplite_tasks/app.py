"""The app: what a program's tasks have in common, and the way to their broker."""

from __future__ import annotations

import functools
import inspect
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

import kombu
from kombu import serialization

from mplite_tasks_transport import DEFAULT_MAX_DELIVERIES

from .durations import seconds
from .encoding import Encoded, accepted_content_types, check_serializer, encode
from .errors import BadOption, InvalidTask, UnknownTask
from .gateway import Gateway
from .message import TaskMessage
from .options import CallOptions, TaskOptions, check_queue
from .pool import DEFAULT_POOL_SIZE, LinkPool
from .result import Result
from .retry import Retry
from .signature import Signature
from .task import Task
from .topology import Topology

__all__ = ["DEFAULT_BROKER", "MPLite"]

P = ParamSpec("P")
R = TypeVar("R")

#: The local broker, which starts by itself.
DEFAULT_BROKER: Final = "mplite://"

#: The environment variable that names the broker where the program does not.
BROKER_VARIABLE: Final = "MPLITE_BROKER"

#: Seconds for which a caller tries again to reach a broker: a restart of ours takes about one.
DEFAULT_PATIENCE: Final = 15.0


class MPLite:
    """A set of tasks and their broker.

    ::

        app = MPLite("proj")

        @app.task(priority=5)
        def add(x: int, y: int) -> int:
            return x + y

        add.delay(2, 3, priority=9).get(timeout=10)

    Nothing is connected until something is sent. It may be used by many threads, and after a fork.

    Parameters:
        name: of the app, and of its queue.
        broker: Kombu's URL of the broker. Default: ``$MPLITE_BROKER``, else ``mplite://``, the local one.
        queue: where tasks wait that name no other queue. Default: the app's name.
        serializer: Kombu's name of the serializer of arguments and results. Default ``mplite-json``.
        result_ttl: seconds, or a timedelta, that results are kept. Default: what the broker says, a day.
        include: modules with further tasks that a worker imports.
        max_deliveries: consumers that may die with one message before it is a dead letter. Default 5.
        transport_options: Kombu's, such as ``{"key_file": …}``.
        pool_size: connections that the callers of one process may have. Default 10.
        patience: seconds for which a caller tries again to reach the broker. Default 15.

    Raises :class:`BadOption` for a value that an option cannot have.
    """

    def __init__(
        self,
        name: str,
        broker: str | None = None,
        *,
        queue: str | None = None,
        serializer: str = "mplite-json",
        result_ttl: float | timedelta | None = None,
        include: Sequence[str] = (),
        max_deliveries: int = DEFAULT_MAX_DELIVERIES,
        transport_options: Mapping[str, Any] | None = None,
        pool_size: int = DEFAULT_POOL_SIZE,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        if max_deliveries < 1 or pool_size < 1:
            raise BadOption("max_deliveries= and pool_size= must be 1 or more.")
        self.name = name
        self.queue = check_queue(name if queue is None else queue)
        self.serializer = check_serializer(serializer)
        self.result_ttl = None if result_ttl is None else seconds("result_ttl", result_ttl)
        self.include = tuple(include)
        self.topology = Topology(max_deliveries)
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._pool = LinkPool(
            broker or os.environ.get(BROKER_VARIABLE) or DEFAULT_BROKER,
            topology=self.topology,
            transport_options=dict(transport_options or {}),
            size=pool_size,
            patience=seconds("patience", patience),
        )
        self.gateway = Gateway(self._pool)

    # -- declaring tasks

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        priority: int = 0,
        queue: str | None = None,
        retry: Retry | int | None = None,
        ignore_result: bool = False,
        result_ttl: float | timedelta | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a task of a function: ``@app.task``, or ``@app.task(priority=5, retry=3)``.

        See :class:`TaskOptions` for the options.

        Raises :class:`InvalidTask` for an option that does not exist, a name that is taken, or a function that cannot
        be a task; :class:`BadOption` for a value that an option cannot have.
        """
        if function is not None:
            return self._declare(function, TaskOptions())
        declared = TaskOptions.declared(options)
        return lambda function: self._declare(function, declared)

    def _declare(self, function: Callable[P, R], options: TaskOptions) -> Task[P, R]:
        if not callable(function) or isinstance(function, type | Task):
            raise InvalidTask(f"{function!r} is not a function; decorate a function with @app.task.")
        if _is_asynchronous(function):
            raise InvalidTask(f"{function!r} is asynchronous; a task is a plain function (it may call asyncio.run).")
        name = options.name or self._name_of(function)
        existing = self._tasks.get(name)
        if existing is not None and not _is_same_definition(existing.function, function):
            raise InvalidTask(f"There is a task {name!r} already; give one of the two another name=.")
        task = self._tasks[name] = Task(self, function, name, options)
        return task

    def _name_of(self, function: Callable[..., Any]) -> str:
        qualname = getattr(function, "__qualname__", None)
        if qualname is None:
            raise InvalidTask(f"{function!r} has no name of its own; give it one with name=.")
        module = self.name if function.__module__ == "__main__" else function.__module__
        return f"{module}.{qualname}"

    @property
    def tasks(self) -> Mapping[str, Task[Any, Any]]:
        """The tasks by name."""
        return dict(self._tasks)

    def find_task(self, name: str) -> Task[Any, Any]:
        """Return a task by its name. Raises :class:`UnknownTask`, naming those that there are."""
        task = self._tasks.get(name)
        if task is None:
            known = ", ".join(sorted(self._tasks)) or "none"
            raise UnknownTask(f"The app {self.name} knows no task {name!r}. Import its module. It knows: {known}.")
        return task

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues of the app: its own, then those that its tasks name."""
        named = (task.declared.queue for task in self._tasks.values())
        return tuple(dict.fromkeys([self.queue, *(queue for queue in named if queue is not None)]))

    @property
    def packages(self) -> frozenset[str]:
        """Top-level packages of the tasks' functions: where the type of a task's exception may be imported from."""
        return frozenset(str(task.function.__module__).partition(".")[0] for task in self._tasks.values())

    # -- sending

    def signature(self, call: Mapping[str, Any]) -> Signature[Any]:
        """Return the call that :meth:`Signature.as_dict` wrote."""
        options = CallOptions.from_dict(call.get("options", {}))
        args, kwargs = tuple(call.get("args", ())), dict(call.get("kwargs", {}))
        return Signature(call["task"], args, kwargs, options, bool(call.get("immutable", False)), self)

    def send(self, signature: Signature[R]) -> Result[R]:
        """Send a call, and return its result to be. Raises as :meth:`Task.delay` does."""
        self.gateway.publish((message := self._message(signature)).publication())
        return self._result_of(message)

    def send_many(self, signatures: Iterable[Signature[R]]) -> list[Result[R]]:
        """Send many calls, pipelined, and return their results to be, in the same order.

        All are in the broker's queues when this returns. Nothing is sent if one of them cannot be. If it raises a
        connection error, some may have been sent.
        """
        messages = [self._message(signature) for signature in signatures]
        self.gateway.publish_many([message.publication() for message in messages])
        return [self._result_of(message) for message in messages]

    def send_task(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Result[Any]:
        """Send a task by its name, for programs that do not have its function. Options: see :class:`CallOptions`."""
        return self.send(Signature(name, tuple(args), dict(kwargs or {}), CallOptions(**options), app=self))

    def result(self, id: str) -> Result[Any]:
        """Return the result of a task by its id."""
        return Result(self, id)

    def _message(self, signature: Signature[Any]) -> TaskMessage:
        task = self._tasks.get(signature.task)
        declared = TaskOptions() if task is None else task.declared
        args, kwargs = signature.args, signature.kwargs
        named: Callable[[], Mapping[str, Any]] = functools.partial(dict[str, Any], kwargs, args=args)
        if task is not None:
            task.arguments.check(args, kwargs)
            named = functools.partial(task.arguments.named, args, kwargs)
        body = encode([args, kwargs], self.serializer, of=f"Task {signature.task}", named=named)
        call = signature.options
        return TaskMessage(
            id=call.id or uuid.uuid4().hex,
            task=signature.task,
            queue=call.queue or declared.queue or self.queue,
            body=body,
            priority=declared.priority if call.priority is None else call.priority,
            delay=call.delay(),
            eta=call.eta_epoch(),
            expires=call.expires_epoch(),
            headers=call.headers,
        )

    def _result_of(self, message: TaskMessage) -> Result[Any]:
        task = self._tasks.get(message.task)
        ignored = task is not None and task.declared.ignore_result
        return Result(self, message.id, task=message.task, ignored=ignored)

    # -- values on the wire

    @property
    def accepted_content_types(self) -> frozenset[str]:
        """The content types that a worker decodes."""
        return accepted_content_types(self.serializer)

    def pack(self, value: Any, *, of: str) -> bytes:
        """Return a task's return value as bytes. Raises :class:`NotSerializable`."""
        return encode(value, self.serializer, of=of, named=lambda: {"its return value": value}).body

    def unpack(self, value: bytes) -> Encoded:
        """Return what :meth:`pack` made, to be decoded."""
        return Encoded(value, serialization.registry.name_to_type[self.serializer], "utf-8")

    # -- the broker

    def connection(self) -> kombu.Connection:
        """Return a new Kombu connection to the app's broker, not yet connected."""
        return self._pool.connection()

    @property
    def broker_url(self) -> str:
        """The broker's URL, without its password."""
        return self._pool.shown_url()

    def close(self) -> None:
        """Close the connections of this process. The app can be used again; it then opens new ones."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MPLite {self.name} at {self.broker_url}: {len(self._tasks)} tasks>"


def _is_asynchronous(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _is_same_definition(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether this is a function of a module that was imported twice, as ``python -m`` can do."""
    first, second = getattr(one, "__code__", None), getattr(other, "__code__", None)
    return (
        first is not None
        and second is not None
        and one.__module__ != other.__module__
        and (first.co_filename, first.co_firstlineno) == (second.co_filename, second.co_firstlineno)
    )
