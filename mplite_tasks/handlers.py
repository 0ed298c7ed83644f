"""Handlers: a plain function that is called with each message of some queues. No app, no tasks, no results.

``register_handler`` runs one in threads of this process; ``mplite handle module:function`` in processes of its own.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar

from mplite_tasks_transport import DEFAULT_MAX_DELIVERIES

from .app import BROKER_VARIABLE, DEFAULT_BROKER
from .errors import BadOption, InvalidHandler
from .options import check_queue
from .received import BODY_CONTENT_TYPES
from .retry import Retry, as_retry
from .topology import Topology
from .worker.source import BrokerSource, check_broker, check_source

if TYPE_CHECKING:
    from .registration import Registration

__all__ = ["Handler", "HandlerOptions", "handler", "register_handler"]

P = ParamSpec("P")
R = TypeVar("R")

#: Handlers that may run at once in one process or under one command: each has a connection of its own.
MAX_CONCURRENCY: Final = 1000


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """How a handler gets its messages.

    Parameters:
        queues: the names of the queues, or one name. The best message of all of them is handled next.
        concurrency: messages that are handled at a time. Default 1.
        broker: Kombu's URL. Default: ``$MPLITE_BROKER``, else ``mplite://``, the local broker.
        retry: a :class:`Retry` policy, or a number of retries. Default: none.
        max_deliveries: handlers that may die with one message before it is a dead letter. Default 5.
        transport_options: Kombu's, such as ``{"key_file": …}``.
    """

    queues: tuple[str, ...] = ()
    concurrency: int = 1
    broker: str | None = field(default=None, repr=False)
    retry: Retry | None = None
    max_deliveries: int = DEFAULT_MAX_DELIVERIES
    transport_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def checked(
        cls,
        queues: str | Sequence[str],
        concurrency: int,
        broker: str | None,
        retry: Retry | int | None,
        max_deliveries: int,
        transport_options: Mapping[str, Any] | None,
    ) -> HandlerOptions:
        """Return options whose values are possible.

        Raises :class:`BadOption`, and :class:`InvalidURL` for a broker URL that cannot be used.
        """
        names = [queues] if isinstance(queues, str) else list(queues)
        if not _is_count(concurrency) or concurrency > MAX_CONCURRENCY:
            raise BadOption(f"concurrency={concurrency!r} is not an integer of 1 to {MAX_CONCURRENCY}.")
        if not _is_count(max_deliveries):
            raise BadOption(f"max_deliveries={max_deliveries!r} is not an integer of 1 or more.")
        if broker is not None:
            check_broker(broker)
        return cls(
            tuple(dict.fromkeys(check_queue(name) for name in names)),
            concurrency,
            broker,
            as_retry(retry),
            max_deliveries,
            dict(transport_options or {}),
        )


class Handler(Generic[P, R]):
    """A function with the options of a handler: what ``@handler(...)`` makes. Calling it calls the function.

    It is called with the message's decoded body: plain JSON types, text, or bytes. If it has a second parameter that
    must be given, or that is named ``message``, that is the :class:`ReceivedMessage`. What it returns is not looked
    at: when it has returned, the message is settled.

    Raises :class:`InvalidHandler` for what is not a function of one or two such parameters.
    """

    def __init__(self, function: Callable[P, R], options: HandlerOptions) -> None:
        self.wants_message = _wants_message(function)
        functools.update_wrapper(self, function)
        self.function = function
        self.options = options
        self.name = _name_of(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here."""
        return self.function(*args, **kwargs)

    def start(self) -> Registration:
        """Begin to handle messages, in threads of this process, as :func:`register_handler` does.

        Raises :class:`BadOption` if the handler has no queues, or a broker's URL that no broker can have.
        """
        from .registration import Registration  # noqa: PLC0415 - it needs this module

        if not self.options.queues:
            raise BadOption(f"The handler {self.name} listens to no queue; give queues=[...].")
        check_source(self.source())
        return Registration(self)

    def source(self) -> BrokerSource:
        """Return where the messages come from."""
        options = self.options
        return BrokerSource(
            options.broker or os.environ.get(BROKER_VARIABLE) or DEFAULT_BROKER,
            Topology(options.max_deliveries, adopt=True),
            BODY_CONTENT_TYPES,
            options.transport_options,
        )

    def __repr__(self) -> str:
        return f"<Handler {self.name} of {', '.join(self.options.queues) or 'no queue'}>"


def register_handler(
    function: Callable[..., object],
    queues: str | Sequence[str],
    concurrency: int = 1,
    *,
    broker: str | None = None,
    retry: Retry | int | None = None,
    max_deliveries: int = DEFAULT_MAX_DELIVERIES,
    transport_options: Mapping[str, Any] | None = None,
) -> Registration:
    """Call a function with each message of some queues, from now until :meth:`Registration.stop`.

    ::

        registration = register_handler(print, queues=["orders"], concurrency=4)

    ``concurrency`` threads of this process do that, each with a connection of its own that holds one message at a
    time: the best one of all the queues. A queue that does not exist is made, with a queue ``<name>.dead`` for its
    dead letters; one that exists is used as it is. A message is settled when the function has returned; if this
    process dies before, the message goes back to its place and is handled again. A broker that is lost is looked for
    until it is back, and what is running meanwhile is not handled twice.

    If the function raises, the message is handled again as ``retry`` says, waiting in the broker; else it becomes a
    dead letter, with the reason and the error in its headers. A body that is no JSON, text or bytes is one at once.
    Nothing is ever unpickled.

    Parameters: those of :class:`HandlerOptions`, and the function: see :class:`Handler`.

    Raises :class:`InvalidHandler`, :class:`BadOption` or :class:`InvalidURL`. It does not wait for the broker: what
    the broker refuses is logged, and raised by :meth:`Registration.join`.
    """
    options = HandlerOptions.checked(queues, concurrency, broker, retry, max_deliveries, transport_options)
    return Handler(function, options).start()


def handler(
    queues: str | Sequence[str] = (),
    concurrency: int = 1,
    *,
    broker: str | None = None,
    retry: Retry | int | None = None,
    max_deliveries: int = DEFAULT_MAX_DELIVERIES,
    transport_options: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Declare a function as a handler. Nothing runs yet: ``.start()`` and ``mplite handle`` begin.

    ::

        @handler(queues=["orders"], concurrency=4, retry=3)
        def ship(order): ...

        ship.start()

    Parameters: those of :class:`HandlerOptions`. Without ``queues``, ``mplite handle`` needs ``-Q``.

    Raises as :func:`register_handler` does.
    """
    if callable(queues):
        raise InvalidHandler("The decorator needs its parentheses: @handler(queues=[...]).")
    options = HandlerOptions.checked(queues, concurrency, broker, retry, max_deliveries, transport_options)
    return lambda function: Handler(function, options)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{name}"


def _wants_message(function: Callable[..., Any]) -> bool:
    """Return whether a handler takes the message's facts besides its body."""
    if not callable(function):
        raise InvalidHandler(f"{function!r} is not a function.")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise InvalidHandler(
            f"{function!r} is asynchronous or a generator; a handler is a plain function (it may call asyncio.run)."
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin that does not tell
        return False
    positional = [p for p in signature.parameters.values() if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    second = positional[1] if len(positional) > 1 else None
    wanted = second is not None and (second.default is second.empty or second.name == "message")
    try:
        signature.bind(*range(2 if wanted else 1))
    except TypeError as exc:
        raise InvalidHandler(
            f"{function!r} cannot be called with a message's body, or with body and message: {exc}."
        ) from exc
    return wanted
