"""Where a proxy's broker is, as a value that can be pickled and never has the key in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing.process import current_process
from typing import Final

from ..credentials import CREDENTIALS_ENV
from ..keys import load_key
from ..tls import TLSOptions
from ..url import BrokerURL

__all__ = ["BrokerAddress", "key_for", "remember_key"]

#: Keys that managers of this process were given. Forked children inherit them; nothing writes them anywhere.
_keys: Final[dict[BrokerAddress, bytes]] = {}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """What a proxy's token knows of its broker.

    Parameters:
        url: the broker and its vhost, without a key.
        keyed: whether the manager was given a key.
        autostart: whether the local broker may be started.
        connect_timeout: seconds for connecting and the handshake.
        reconnect: seconds for which a lost broker is looked for.
        credentials, tls, allow_plaintext: as for :func:`~mplite_tasks_transport.dial.dial`.
    """

    url: BrokerURL
    keyed: bool = False
    autostart: bool = True
    connect_timeout: float = 5.0
    reconnect: float = 30.0
    credentials: str | None = None
    tls: TLSOptions | None = None
    allow_plaintext: bool = False

    def __str__(self) -> str:
        return str(self.url)


def remember_key(address: BrokerAddress, key: bytes) -> None:
    """Keep the key of an address for the proxies of this process and of those that are forked from it."""
    _keys[address] = key


def key_for(address: BrokerAddress, offered: bytes | None) -> bytes | None:
    """Return the key for an address, ``None`` if there is none.

    In this order: the one a manager of this process (or of the one that it was forked from) was given; the one that
    came with a proxy to a spawned child. ``None`` leaves it to :func:`~mplite_tasks_transport.dial.dial` to look into
    the credentials and the environment. The key of ``multiprocessing``'s processes, which is random unless the program
    sets it, is offered by stock proxies that were unpickled: it is used only where a manager was given a key and
    nothing else is known, which is the stock class's own convention.
    """
    remembered = _keys.get(address)
    if remembered is not None:
        return remembered
    of_the_process = bytes(current_process().authkey)
    if offered and bytes(offered) != of_the_process:
        return bytes(offered)
    elsewhere = address.credentials or os.environ.get(CREDENTIALS_ENV) or load_key()
    return of_the_process if address.keyed and offered and not elsewhere else None
