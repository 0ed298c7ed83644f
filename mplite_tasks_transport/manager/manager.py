"""``MPLiteManager``: a queue as two manager dicts and a lock."""

from __future__ import annotations

import os
from multiprocessing import ProcessError, managers
from multiprocessing.process import current_process
from types import TracebackType
from typing import Any, NoReturn, Protocol, cast

from .. import frames
from ..keys import load_key
from ..limits import LOCK_LEASE_SECONDS, MAX_LOCK_LEASE_SECONDS
from ..tls import TLSOptions
from ..url import DEFAULT_VHOST, BrokerURL
from .adapter import SERIALIZER, QueueToken
from .address import BrokerAddress, remember_key
from .link import close_link, link_to
from .views import ensure_queue

__all__ = ["MPLiteManager", "QueueLock"]

#: The stock class whose values can be pickled only on their way to a child that is being spawned.
_AuthenticationString = type(current_process().authkey)


class QueueLock(Protocol):
    """What a stock ``AcquirerProxy`` does, which has no types of its own."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock. Returns whether this thread has it now."""

    def release(self) -> None:
        """Give the lock back. Raises :class:`RuntimeError` if this thread does not have it."""

    def __enter__(self) -> bool:
        """Take the lock."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Give the lock back."""


class MPLiteManager(managers.BaseManager):
    """Hands out a queue's two dicts and its lock as stock ``multiprocessing`` proxies, after :meth:`connect`.

    ::

        with MPLiteManager() as manager:
            index, queue, lock = manager.shared_index("q"), manager.shared_queue("q"), manager.lock("q")
            with lock:
                ordered = sorted(index.items(), key=lambda item: (-item[1][0], item[1][1]))
                if ordered:
                    id = ordered[0][0]
                    index.pop(id)
                    payload = queue.pop(id)

    The proxies can be pickled and used in threads, forked and spawned processes; each thread has a connection of its
    own, and a lock and a message of which one half was written or popped belong to the thread. ``docs/dicts.md`` says
    what each operation means. Ordinary consumers, workers and ``PriorityQueue`` may use the same queue meanwhile.

    Parameters:
        address: ``None`` for the local broker, which is started if it does not run; a broker URL; or host and port.
        authkey: the broker's key for TCP, 16 bytes or more. ``None`` means the URL's, the credentials', or that of
            ``MPLITE_KEY`` or ``MPLITE_KEY_FILE``; never a random one, and not ``multiprocessing``'s own. In a pickled
            proxy there is no key, unless it is on its way to a child that is being spawned.
        vhost: the part of the broker that is used, if the URL names none.
        lock_timeout: seconds that a lock may be held before the broker takes it back, at most an hour.
        autostart: whether the local broker may be started.
        connect_timeout: seconds for connecting and the handshake.
        reconnect: seconds for which a lost broker is looked for before the error is raised.
        credentials: a credentials file.
        tls: how to check the broker's certificate.
        allow_plaintext: whether another machine may be talked to without TLS.

    It is no server: ``start`` and ``get_server`` raise. The broker is started by itself or by ``mplite broker``.
    """

    def __init__(
        self,
        address: str | BrokerURL | tuple[str, int] | None = None,
        authkey: bytes | None = None,
        *,
        vhost: str = DEFAULT_VHOST,
        lock_timeout: float = LOCK_LEASE_SECONDS,
        autostart: bool = True,
        connect_timeout: float = 5.0,
        reconnect: float = 30.0,
        credentials: str | os.PathLike[str] | None = None,
        tls: TLSOptions | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        if not 0 < lock_timeout <= MAX_LOCK_LEASE_SECONDS:
            raise ValueError(f"lock_timeout is more than 0 and at most {MAX_LOCK_LEASE_SECONDS:g} seconds.")
        url = _url_of(address, vhost)
        given = authkey if authkey is not None else url.key
        key = None if given is None else load_key(given)
        self._broker = BrokerAddress(
            url.with_key(None),
            key is not None,
            autostart,
            connect_timeout,
            reconnect,
            None if credentials is None else os.fspath(credentials),
            tls,
            allow_plaintext,
        )
        self._lock_timeout = lock_timeout
        if key is not None:
            remember_key(self._broker, key)
        super().__init__(self._broker, key or b"", SERIALIZER)  # type: ignore[arg-type]  # any value that hashes
        self._authkey = _AuthenticationString(key or b"")

    def __repr__(self) -> str:
        return f"<MPLiteManager {self._broker}>"

    def __enter__(self) -> MPLiteManager:
        self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def connect(self) -> None:
        """Make sure that the broker answers.

        Raises:
            BrokerUnreachable: nobody answers. HandshakeRefused: the key is wrong. LocalBrokerError: the local broker
                cannot be started.
        """
        link_to(self._broker, self._authkey).call(frames.Ping(0))
        self._state.value = managers.State.STARTED  # type: ignore[attr-defined]  # not in typeshed

    def close(self) -> None:
        """End this thread's connection: its locks are free, what it had half written or half popped is undone.

        Proxies still work: they connect again.
        """
        close_link(self._broker)

    def shared_index(self, queue: str) -> managers.DictProxy[str, Any]:
        """Return the dict of id to ``(priority, posted_at)`` of a queue, which is declared if it does not exist.

        ``posted_at`` is in microseconds since the epoch, by the broker's clock. An integer, the priority, may be
        assigned (which is why the values have no type here), or such a pair.
        """
        return cast("managers.DictProxy[str, Any]", self._proxy(managers.DictProxy, "shared_index", queue))

    def shared_queue(self, queue: str) -> managers.DictProxy[str, Any]:
        """Return the dict of id to payload of a queue, which is declared if it does not exist.

        Payloads are JSON data or bytes; what others wrote is read if it is JSON, text or binary.
        """
        return cast("managers.DictProxy[str, Any]", self._proxy(managers.DictProxy, "shared_queue", queue))

    def lock(self, queue: str) -> QueueLock:
        """Return the lock of a queue: while a thread has it, nobody else takes a message out, by hand or otherwise.

        It works as ``threading.Lock`` does, but for two things: only the thread that has it can give it back, and it is
        taken back after ``lock_timeout``; the next call of its thread about the queue then raises
        :class:`StaleDelivery`.
        """
        make = managers.AcquirerProxy  # type: ignore[attr-defined]  # not in typeshed
        return cast("QueueLock", self._proxy(make, "lock", queue))

    def start(self, *args: Any, **kwds: Any) -> NoReturn:
        """Refuse: the server is the broker."""
        raise ProcessError("The server of an MPLiteManager is the broker, which runs already: call connect().")

    def get_server(self) -> NoReturn:
        """Refuse: the server is the broker."""
        raise ProcessError("The server of an MPLiteManager is the broker: start it with `mplite broker`.")

    def _proxy(self, make: Any, kind: str, queue: str) -> Any:
        if self._state.value != managers.State.STARTED:  # type: ignore[attr-defined]  # not in typeshed
            raise ProcessError(f"{self!r} is not connected: call connect() first.")
        if not isinstance(queue, str):
            raise TypeError(f"The name of a queue is text, not {queue!r}.")
        if not queue:
            raise ValueError("The name of the queue is empty.")
        ensure_queue(link_to(self._broker, self._authkey), queue)
        token = QueueToken(kind, self._broker, queue, self._lock_timeout)
        return make(token, SERIALIZER, manager=self, authkey=self._authkey, exposed=make._exposed_)


def _url_of(address: str | BrokerURL | tuple[str, int] | None, vhost: str) -> BrokerURL:
    if isinstance(address, tuple):
        return BrokerURL(address[0], address[1], vhost)
    url = address if isinstance(address, BrokerURL) else BrokerURL.parse(address or "mplite://")
    if vhost in (DEFAULT_VHOST, url.vhost):
        return url
    if url.vhost != DEFAULT_VHOST:
        raise ValueError(f"{url} names another vhost than vhost={vhost!r}.")
    return BrokerURL(url.host, url.port, vhost, url.user, url.key, url.scheme)
