"""Where a consumer takes its messages from: a broker, and how its queues are declared there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import kombu
from kombu.utils.url import parse_url

from mplite_tasks_transport import BrokerURL

from ..app import BROKER_VARIABLE
from ..errors import BadOption
from ..topology import Topology

__all__ = ["BrokerSource", "Source", "check_broker", "check_source"]


class Source(Protocol):
    """What a consumer needs to know of its broker. An app is one."""

    @property
    def topology(self) -> Topology:
        """How queues are declared."""

    @property
    def accepted_content_types(self) -> Collection[str]:
        """The content types that are decoded."""

    @property
    def broker_url(self) -> str:
        """The broker's URL, without its password."""

    def connection(self) -> kombu.Connection:
        """Return a new Kombu connection, not yet connected."""

    def close(self) -> None:
        """Close what this process has open besides the connections that were asked for."""


def check_broker(url: str) -> None:
    """Raise :class:`InvalidURL` if a part of a broker's URL (``;`` is between them) can be none of ours."""
    for part in url.split(";"):
        if part.startswith("mplite"):
            BrokerURL.parse(part)


def check_source(source: Source) -> None:
    """Raise :class:`BadOption` if no broker can have the URL that a source has. Nothing is connected."""
    try:
        connection = source.connection()
        for url in connection.alt or [connection.hostname]:
            if url and "://" in url:
                parse_url(url)  # reads the port, which is where a key that was not written as it should be ends up
                check_broker(url)
    except BadOption:
        raise
    except ValueError:  # its text may quote the password
        raise BadOption(
            f"The broker's URL ({BROKER_VARIABLE}, or what the program says) has a bad host or port. IPv6 addresses "
            "stand in brackets; / ? # @ : in a user, key or password are written as %2F %3F %23 %40 %3A."
        ) from None


@dataclass(frozen=True, slots=True)
class BrokerSource:
    """A broker by its URL, for consumers that belong to no app.

    Parameters:
        url: Kombu's URL.
        transport_options: Kombu's.
    """

    url: str = field(repr=False)
    topology: Topology
    accepted_content_types: frozenset[str]
    transport_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def broker_url(self) -> str:
        """The broker's URL, without its password."""
        return str(self.connection().as_uri())

    def connection(self) -> kombu.Connection:
        """Return a new Kombu connection, not yet connected.

        Raises :class:`BadOption` for a kind of broker that Kombu does not know, or whose library is missing.
        """
        try:
            return kombu.Connection(self.url, transport_options=dict(self.transport_options))
        except (KeyError, ImportError) as exc:
            scheme = self.url.partition("://")[0]
            raise BadOption(
                f"There is no Kombu transport for a broker URL that begins with {scheme!r}: {exc.args[0]}."
            ) from exc

    def close(self) -> None:
        """Do nothing: nothing is open besides the connections that were asked for."""
