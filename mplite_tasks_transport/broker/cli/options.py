"""What the options of ``mplite-broker`` mean: addresses to listen on, sizes in bytes."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from ...errors import InvalidURL
from ...home import prepare_home, served_home
from ...url import DEFAULT_VHOST, SCHEME, TLS_SCHEME, BrokerURL
from .errors import UnusableOptionError

__all__ = ["SIZE", "data_directory", "listen_url"]

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


def data_directory(named: Path | None) -> Path:
    """Return the directory that ``--data`` names, or this user's own for brokers in the foreground, made if needed.

    Raises:
        LocalBrokerError: the user's own cannot be made or used.
        UnusableOptionError: the named one cannot be made.
    """
    if named is None:
        own = served_home()
        prepare_home(own.parent)
        prepare_home(own)
        return own
    try:
        named.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise UnusableOptionError(f"--data: the directory {named} cannot be made: {exc.strerror}.") from exc
    return named


def listen_url(text: str, *, allow_plaintext: bool = False) -> BrokerURL:
    """Return the URL that a ``--listen`` option means, with an address for its host.

    Raises:
        UnusableOptionError: it is none, has parts that make no sense here, or other machines could listen in.
    """
    try:
        url = BrokerURL.parse(text)
    except InvalidURL as exc:
        raise UnusableOptionError(f"--listen: {exc}") from exc
    if url.key is not None or url.user is not None:
        raise UnusableOptionError("--listen: no user or key here, where other users can read it: give --key-file FILE.")
    if url.host is None:
        what = f"is the local broker, which starts by itself (mplite broker start); name an address, such as {SCHEME}"
        raise UnusableOptionError(
            f"--listen: {url} {what}://127.0.0.1:7878/."
            if url.is_local
            else f"--listen: {url} names no address; give one, such as {TLS_SCHEME}://0.0.0.0:7879/."
        )
    if url.vhost != DEFAULT_VHOST:
        raise UnusableOptionError(f"--listen: {url} names a vhost, but a broker serves all of them; leave it out.")
    address, loopback = _resolve(url.host, url)
    if not (loopback or url.is_secure or allow_plaintext):
        raise UnusableOptionError(
            f"--listen: {url} can be reached from other machines, and everything would be sent in the clear: listen on "
            f"{TLS_SCHEME}://, on {SCHEME}://127.0.0.1:{url.address[1]}/ behind a tunnel, or, where nobody else can "
            "listen, add --allow-plaintext."
        )
    return replace(url, host=address)


def _resolve(host: str, url: BrokerURL) -> tuple[str, bool]:
    """Return the address of a host, and whether it is this machine's loopback."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise UnusableOptionError(f"--listen: the host of {url} is not known: {exc.strerror}.") from exc
    addresses = [str(address[0]) for *_, address in found]
    loopback = all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
    # "localhost" may be two addresses, and a port that is picked would be another one on each.
    return min(addresses, key=lambda address: ":" in address), loopback
