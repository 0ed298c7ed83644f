"""What the options of ``mplite-broker`` mean: addresses to listen on, sizes in bytes."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any, Final

import click

from ...errors import InvalidURL
from ...url import DEFAULT_VHOST, SCHEME, BrokerURL
from .errors import UnusableOptionError

__all__ = ["SIZE", "listen_address"]

_SIZE: Final = re.compile(r"(\d+)\s*(?:([KMGT])I?)?B?", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class _Size(click.ParamType[int]):
    """A number of bytes: 268435456, 256M and 256MiB are the same."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = _SIZE.fullmatch(str(value).strip())
        size = int(match[1]) * _UNITS[(match[2] or "").upper()] if match else 0
        if size < 1:
            raise UnusableOptionError(f"{value!r} is not a size: give bytes as in 268435456, 256M or 2G.")
        return size


#: The type of options that take a number of bytes.
SIZE: Final = _Size()


def listen_address(text: str) -> tuple[str, int]:
    """Return the address and port that a ``--listen`` URL means.

    Raises:
        UnusableOptionError: it is no URL of this machine's loopback, or has parts that make no sense here.
    """
    try:
        url = BrokerURL.parse(text)
    except InvalidURL as exc:
        raise UnusableOptionError(f"--listen: {exc}") from exc
    if url.key is not None or url.user is not None:
        raise UnusableOptionError("--listen: no user or key here, where other users can read it: give --key-file FILE.")
    if url.host is None:
        raise UnusableOptionError(
            f"--listen: {url} is the local broker, which starts by itself (mplite broker start); "
            f"name an address, such as {SCHEME}://127.0.0.1:7878/."
        )
    if url.vhost != DEFAULT_VHOST:
        raise UnusableOptionError(f"--listen: {url} names a vhost, but a broker serves all of them; leave it out.")
    host, port = url.address
    return _loopback(host, url), port


def _loopback(host: str, url: BrokerURL) -> str:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise UnusableOptionError(f"--listen: the host of {url} is not known: {exc.strerror}.") from exc
    addresses = [str(address[0]) for *_, address in found]
    if not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        raise UnusableOptionError(
            f"--listen: {url} can be reached from other machines, which would read everything, as TLS is not available "
            f"yet: listen on {SCHEME}://127.0.0.1:{url.address[1]}/."
        )
    # "localhost" may be two addresses, and a port that is picked would be another one on each.
    return min(addresses, key=lambda address: ":" in address)
