"""What stock proxies talk to: an entry among the serializers of ``multiprocessing.managers`` that speaks our frames.

A stock proxy sends ``(ident, method, args, kwds)`` over a connection and reads ``(kind, result)`` back. Here that is
answered in the process itself, by frames to the broker: nothing of it is pickled.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import managers
from typing import Any, Final, NoReturn

from .address import BrokerAddress
from .link import Link, link_to
from .lock import LOCK_METHODS, LockView
from .views import DICT_METHODS, IndexView, QueueView

__all__ = ["SERIALIZER", "Kind", "QueueToken", "Referent"]

#: The name under which the stock classes find this module.
SERIALIZER: Final = "mplite"


@dataclass(frozen=True, slots=True)
class Referent:
    """What a proxy stands for: its token's id.

    Parameters:
        kind: ``shared_index``, ``shared_queue`` or ``lock``.
        queue: the queue's name.
        lease: seconds that the lock may be held.
        serial: tells this proxy from others: the stock class ends a thread's connection with the last id.
    """

    kind: str
    queue: str
    lease: float
    serial: str


class QueueToken(managers.Token):
    """A stock token that makes who unpickles a proxy import this module, and has an id of its own there."""

    __slots__ = ()

    def __init__(self, kind: str, address: BrokerAddress, queue: str, lease: float) -> None:
        # The stock classes look at address and id only to tell one from another.
        serial = uuid.uuid4().hex
        super().__init__(kind, address, Referent(kind, queue, lease, serial))  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        referent: Any = self.id
        return QueueToken, (referent.kind, self.address, referent.queue, referent.lease)


class Kind:
    """What a kind of referent answers: how its view is made, and the view's methods by the names of the proxy's."""

    def __init__(self, view: Callable[[Link, Referent], Any], methods: dict[str, Callable[..., Any]]) -> None:
        self.view = view
        self.methods = methods


_KINDS: Final = {
    "shared_index": Kind(lambda link, referent: IndexView(link, referent.queue), DICT_METHODS),
    "shared_queue": Kind(lambda link, referent: QueueView(link, referent.queue), DICT_METHODS),
    "lock": Kind(lambda link, referent: LockView(link, referent.queue, referent.lease), LOCK_METHODS),
}

#: What the stock classes ask of the manager itself. References are not counted: a queue outlives its proxies.
_ANSWERED_HERE: Final = frozenset({"incref", "decref", "accept_connection", "dummy"})


class ProxyConnection:
    """The end of a connection as a stock proxy knows it. It is cheap: the link behind it is the thread's."""

    def __init__(self, address: BrokerAddress, authkey: bytes | None) -> None:
        self._address = address
        self._authkey = authkey
        self._reply: tuple[str, Any] | None = None

    def send(self, request: tuple[Referent | None, str, tuple[Any, ...], dict[str, Any]]) -> None:
        """Do what a proxy asks, and keep the answer for :meth:`recv`."""
        referent, method, args, kwds = request
        try:
            self._reply = ("#RETURN", self._answer(referent, method, args, kwds))
        except Exception as exc:
            self._reply = ("#ERROR", exc)

    def recv(self) -> tuple[str, Any]:
        """Return the answer to what was sent last. It is not kept: an error refers back to here by its traceback."""
        reply, self._reply = self._reply, None
        return reply or ("#ERROR", EOFError("Nothing was asked."))

    def close(self) -> None:
        """Do nothing: the thread's link serves other proxies, and those that come."""

    def _answer(self, referent: Referent | None, method: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
        if referent is None:
            if method in _ANSWERED_HERE:
                return None
            raise AttributeError(f"A broker of mplite has no manager method {method!r}.")
        kind = _KINDS[referent.kind]
        call = kind.methods.get(method)
        if call is None:
            raise AttributeError(f"{referent.kind} of queue {referent.queue!r} has no method {method!r}.")
        return call(kind.view(link_to(self._address, self._authkey), referent), *args, **kwds)


def _connect(address: BrokerAddress, *, authkey: bytes | None = None) -> ProxyConnection:
    return ProxyConnection(address, authkey)


def _refuse_to_listen(*args: Any, **kwds: Any) -> NoReturn:
    raise NotImplementedError("The server of these proxies is the broker: start it with `mplite broker`.")


managers.listener_client[SERIALIZER] = (_refuse_to_listen, _connect)  # type: ignore[attr-defined]  # not in typeshed
