"""The transport: what Kombu makes of ``mplite://``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amqp import exceptions as amqp
from kombu.transport import base
from kombu.utils.url import as_url, parse_url

from .._version import __version__
from ..client import BrokerClient
from ..errors import InvalidURL, LocalBrokerError, ProtocolError
from ..keys import load_key
from ..tls import TLSOptions
from ..url import DEFAULT_PORT, DEFAULT_TLS_PORT, SCHEME, TLS_SCHEME, BrokerURL
from .channel import Channel
from .connection import Connection

__all__ = ["SecureTransport", "Transport"]


class Transport(base.Transport):  # type: ignore[misc]  # Kombu has no types
    """Kombu's transport for a MPLite broker.

    Transport options, all optional:
        key, key_file: the secret for TCP, or a file that holds it; otherwise the URL's password, the credentials',
            ``MPLITE_KEY`` or ``MPLITE_KEY_FILE``.
        credentials: a credentials file; otherwise ``MPLITE_CREDENTIALS``.
        allow_plaintext: whether another machine may be talked to without TLS (no).
        home: the local broker's home; otherwise ``MPLITE_HOME`` or the user's state directory.
        autostart: whether the local broker may be started (yes).
        confirm_publish: whether a publish waits for the broker's confirm (yes).

    Kombu's option ``ssl`` (Celery's ``broker_use_ssl``) asks for TLS, as ``mplites://`` does, and may be a mapping of
    ``ca_certs``, ``certfile``, ``keyfile``, ``server_hostname`` and ``fingerprint``.

    Others are left to whom they are for: Kombu and Celery pass some to every transport.
    """

    can_parse_url = True
    default_port = DEFAULT_PORT
    driver_type = "mplite"
    driver_name = "mplite"

    connection_errors = (amqp.ConnectionError, ProtocolError, LocalBrokerError)
    channel_errors = (amqp.ChannelError,)
    recoverable_connection_errors = (amqp.RecoverableConnectionError,)
    #: None: what the broker refuses once it refuses again, and Kombu would repeat it without a pause.
    recoverable_channel_errors: tuple[type[Exception], ...] = ()

    implements = base.Transport.implements.extend(
        asynchronous=True,
        batch_publish=True,
        exchange_type=frozenset({"direct", "topic", "fanout", "headers"}),
        heartbeats=False,
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)

    def driver_version(self) -> str:
        """Return the version of this package."""
        return __version__

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """Nothing: a missing host means the local broker, and an explicit one never does."""
        return {}

    def establish_connection(self) -> Connection:
        """Connect. Errors are those of :meth:`BrokerClient.connect`, and InvalidURL or InvalidKey before that."""
        client = self.client
        options = client.transport_options or {}
        url = url_of(client)
        home = options.get("home")
        broker = BrokerClient.connect(
            url,
            key=None if url.is_local else _key(options),
            timeout=client.connect_timeout or None,
            autostart=bool(options.get("autostart", True)),
            home=None if home is None else Path(home),
            credentials=None if url.is_local else options.get("credentials"),
            tls=TLSOptions.of(client.ssl),
            allow_plaintext=bool(options.get("allow_plaintext", False)),
        )
        return Connection(client, broker, confirm_publish=bool(options.get("confirm_publish", True)))

    def verify_connection(self, connection: Connection) -> bool:
        """Return whether a connection can be used, as far as is known."""
        return connection.connected

    def close_connection(self, connection: Connection) -> None:
        """Close a connection when the broker has read everything that was sent."""
        connection.close()

    def _collect(self, connection: Connection | None) -> None:
        """Let go of a connection without a word to the broker; Kombu asks for it after a loss and in a fork."""
        if connection is not None:
            connection.collect()

    def create_channel(self, connection: Connection) -> Channel:
        """Open a channel."""
        return connection.channel()

    def close_channel(self, channel: Channel) -> None:
        """Close a channel."""
        channel.close()

    def drain_events(self, connection: Connection, timeout: float | None = None, **kwargs: Any) -> None:
        """Handle the next event. Raises ``socket.timeout`` when there is none in time; 0 never blocks."""
        connection.drain_events(timeout)

    def register_with_event_loop(self, connection: Connection, loop: Any) -> None:
        """Have a hub handle a connection's events as they come."""
        connection.watch(loop)

    def unregister_from_event_loop(self, connection: Connection, loop: Any) -> None:
        """Take a connection out of a hub."""
        connection.unwatch()

    def on_readable(self, connection: Connection, loop: Any) -> None:
        """Handle what can be read."""
        connection.on_readable(loop)

    def as_uri(self, uri: str | None, include_password: bool = False, mask: str = "**") -> str:
        """Return the URL to show: without the key unless ``include_password``, and ``mplite://`` as itself."""
        try:
            url = BrokerURL.parse(uri) if uri and "://" in uri else url_of(self.client)
        except InvalidURL:
            # It cannot be taken apart, so no part of it is known not to be the key: connecting says what is wrong.
            return f"{str(uri).partition('://')[0]}://{mask}"
        if not include_password or url.key is None:
            return str(url) if mask == "**" else str(url).replace(":**@", f":{mask}@" if mask else "@")
        return str(as_url(url.scheme, _bracketed(url.host), url.port, url.user, url.key, _path(url.vhost)))


class SecureTransport(Transport):
    """Kombu's transport for ``mplites://``: the same, by TLS."""

    default_port = DEFAULT_TLS_PORT


def _key(options: dict[str, Any]) -> bytes | None:
    """Return the key that the options have; what else there may be is looked up when the address is known."""
    if options.get("key") is None and options.get("key_file") is None:
        return None
    return load_key(options.get("key"), options.get("key_file"))


def url_of(client: Any) -> BrokerURL:
    """Return the URL that a :class:`kombu.Connection` means.

    Kombu leaves a first URL as it is, in ``hostname``. When it has switched to another one, it has taken that apart.
    """
    hostname = client.hostname
    if hostname and "://" in hostname:
        url = BrokerURL.parse(hostname)
        password = client.password() if callable(client.password) else client.password
        return url if url.is_local or url.key is not None or not password else url.with_key(password)
    alternate = _alternate(client)
    if alternate is not None:
        return alternate
    scheme = _scheme(client)
    if not hostname:
        return BrokerURL(vhost=client.virtual_host or "/", user=client.userid or None, scheme=scheme)
    password = client.password() if callable(client.password) else client.password
    return BrokerURL(
        host=hostname,
        port=client.port or None,
        vhost=client.virtual_host or "/",
        user=client.userid or None,
        key=password or None,
        scheme=scheme,
    )


def _scheme(client: Any) -> str:
    return TLS_SCHEME if client.transport_cls in (TLS_SCHEME, SecureTransport) else SCHEME


def _alternate(client: Any) -> BrokerURL | None:
    """Return the failover URL that Kombu's fields came from.

    A URL without port or vhost leaves the fields of the one before it, so the fields alone may name a broker that
    nobody meant.
    """
    for strict in (True, False):
        for text in client.alt:
            if not isinstance(text, str) or not text.startswith(f"{_scheme(client)}://"):
                continue
            fields = parse_url(text)
            names = ("hostname", "userid", "password", "port", "virtual_host")
            if all(
                fields[name] == getattr(client, name) or (not strict and fields[name] is None and name in names[3:])
                for name in names
            ):
                return BrokerURL.parse(text)
    return None


def _bracketed(host: str | None) -> str | None:
    return f"[{host}]" if host is not None and ":" in host else host


def _path(vhost: str) -> str | None:
    return None if vhost == "/" else vhost
