"""Broker URLs: where a broker is, as a value that never shows its key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from .errors import InvalidURL
from .limits import MAX_NAME_BYTES

__all__ = ["DEFAULT_PORT", "DEFAULT_TLS_PORT", "DEFAULT_VHOST", "SCHEME", "TLS_SCHEME", "BrokerURL"]

#: The schemes of broker URLs: in the clear, and by TLS.
SCHEME: Final = "mplite"
TLS_SCHEME: Final = "mplites"

#: The TCP ports of a broker whose URL names a host and no port: in the clear, and by TLS.
DEFAULT_PORT: Final = 7878
DEFAULT_TLS_PORT: Final = 7879

#: The vhost of a URL that names none.
DEFAULT_VHOST: Final = "/"

_USERINFO: Final = re.compile(r"//.*@", re.DOTALL)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class BrokerURL:
    """Where a broker is, and which vhost of it is meant.

    ``str()`` and ``repr()`` never show the key. Without a host it is the local broker, which its home directory
    identifies (:func:`mplite_tasks_transport.local.ensure_running`) and which prints as ``mplite://``. ``mplites://``
    without a host is the broker of the credentials file (:mod:`mplite_tasks_transport.credentials`).

    Parameters:
        host: name or address, without brackets; ``None`` for the local broker, or that of the credentials.
        port: TCP port, 0 to 65,535, where 0 asks a listening broker to pick one; ``None`` for :data:`DEFAULT_PORT`, or
            :data:`DEFAULT_TLS_PORT` with TLS.
        vhost: the part of the broker that is used, ``/`` by default.
        user: the name to come under; ``None`` for the broker's default.
        key: the secret that both sides prove to have; not needed by the local broker.
        scheme: ``mplite``, or ``mplites`` for TLS.

    Raises:
        InvalidURL: the parts contradict each other or a limit.
    """

    host: str | None = None
    port: int | None = None
    vhost: str = DEFAULT_VHOST
    user: str | None = None
    key: str | None = field(default=None, repr=False)
    scheme: str = SCHEME

    def __post_init__(self) -> None:
        if self.scheme not in (SCHEME, TLS_SCHEME):
            raise InvalidURL(f"{self} is not a broker URL: it has to begin with {SCHEME}:// or {TLS_SCHEME}://.")
        if self.host == "":
            raise InvalidURL("The host is empty: give a name or an address, or None for the local broker.")
        if self.host is None and self.port is not None:
            raise InvalidURL(f"{self} has port {self.port} and no host: write {self.scheme}://127.0.0.1:{self.port}/.")
        if self.port is not None and not 0 <= self.port <= 65_535:
            raise InvalidURL(f"{self} has port {self.port}: ports go from 0 to 65535.")
        for what, name in (("vhost", self.vhost), ("user", self.user)):
            if name is not None and not 0 < len(name.encode()) <= MAX_NAME_BYTES:
                raise InvalidURL(f"The {what} of {self} has to have 1 to {MAX_NAME_BYTES} bytes.")

    @classmethod
    def parse(cls, text: str) -> BrokerURL:
        """Return the URL that a text says.

        ``mplite://`` is the local broker, ``mplite:///proj`` its vhost ``proj``, ``mplite://host:port/proj`` a broker
        over TCP, ``mplite://user:key@host`` one that wants a key, ``mplites://…`` the same by TLS. User, key and vhost
        are percent-decoded; IPv6 addresses stand in brackets; a path of ``/`` or ``//`` is the vhost ``/``.

        Raises:
            InvalidURL: with a text that says what to change and does not show the key.
        """
        shown = _USERINFO.sub("//**@", text)
        if _UNPRINTABLE.search(text):
            raise InvalidURL(
                f"The broker URL {shown!r} has a space or control character: write it as %20 and the like."
            )
        if "://" not in text:
            raise InvalidURL(f"{shown!r} is not a broker URL: it has to begin with {SCHEME}://.")
        if _BAD_ESCAPE.search(text):
            raise InvalidURL(f"The broker URL {shown} has a % without two hexadecimal digits: a % itself is %25.")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise _bad_authority(shown) from None
        if "@" in parts.path:  # a key with a slash in it, rather than a vhost
            raise _bad_authority(shown)
        _refuse_options(parts, shown)
        if not parts.hostname and parts.password is not None:
            raise InvalidURL(
                f"The broker URL {shown} has a key and no host: the local broker, {SCHEME}://, needs none, and "
                f"{TLS_SCHEME}:// takes it from the credentials file."
            )
        return cls(
            host=unquote(parts.hostname) if parts.hostname else None,
            port=port,
            vhost=_vhost(parts.path),
            user=unquote(parts.username) if parts.username else None,
            key=unquote(parts.password) if parts.password else None,
            scheme=parts.scheme,
        )

    @property
    def is_local(self) -> bool:
        """Whether it is the local broker, found by its home directory and started on demand."""
        return self.host is None and not self.is_secure

    @property
    def is_secure(self) -> bool:
        """Whether it is reached by TLS."""
        return self.scheme == TLS_SCHEME

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to. Raises :class:`InvalidURL` where there is none."""
        if self.is_local:
            raise InvalidURL(f"{self} is the local broker: it has no TCP address.")
        if self.host is None:
            raise InvalidURL(
                f"{self} names no host: give one, or the credentials file that has it (option credentials, or "
                "MPLITE_CREDENTIALS)."
            )
        return self.host, (DEFAULT_TLS_PORT if self.is_secure else DEFAULT_PORT) if self.port is None else self.port

    def with_key(self, key: str | None) -> BrokerURL:
        """Return the same URL with this key."""
        return replace(self, key=key)

    def __str__(self) -> str:
        text = f"{self.scheme}://"
        if self.user is not None or self.key is not None:
            text += quote(self.user or "", safe="") + (":**" if self.key is not None else "") + "@"
        if self.host is not None:
            text += f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            text += f":{self.port}"
        if self.vhost != DEFAULT_VHOST:
            return f"{text}/{quote(self.vhost, safe='')}"
        return text if self.host is None and self.user is None and self.key is None else f"{text}/"


def _bad_authority(shown: str) -> InvalidURL:
    return InvalidURL(
        f"The broker URL {shown} has a bad host or port. IPv6 addresses stand in brackets; / ? # @ : in a user, key or "
        "vhost are written as %2F %3F %23 %40 %3A."
    )


def _vhost(path: str) -> str:
    """Return the vhost that a path names: what follows its first slash, percent-decoded."""
    return unquote(path.removeprefix("/")) or DEFAULT_VHOST


def _refuse_options(parts: SplitResult, shown: str) -> None:
    if parts.query or parts.fragment:
        what = "query" if parts.query else "fragment"
        raise InvalidURL(
            f"The broker URL {shown} has a {what}: options are given as transport_options, not in the URL. "
            "A ? or # in a key or vhost is written as %3F or %23."
        )
