"""Kombu connections by URL: what is shown, copied, compared, pickled and switched to."""

from __future__ import annotations

import pickle
from copy import copy

import pytest
from kombu import Connection

import mplite_tasks_transport  # noqa: F401 - makes mplite:// known
from mplite_tasks_transport.errors import InvalidURL
from mplite_tasks_transport.transport.transport import url_of
from mplite_tasks_transport.url import BrokerURL

KEY = "a-secret-of-enough-bytes"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mplite://", "mplite://"),
        ("mplite:///proj", "mplite:///proj"),
        (f"mplite://:{KEY}@h:1/v", "mplite://:**@h:1/v"),
        (f"mplite://me:{KEY}@[::1]:1/", "mplite://me:**@[::1]:1/"),
    ],
)
def test_a_url_is_shown_as_itself_without_its_key(url: str, shown: str) -> None:
    connection = Connection(url)
    assert connection.as_uri() == shown
    assert KEY not in repr(connection)
    assert url_of(connection) == BrokerURL.parse(url)


def test_the_key_is_shown_on_request_only() -> None:
    connection = Connection(f"mplite://me:{KEY}@h:1/v")
    assert connection.as_uri(include_password=True) == f"mplite://me:{KEY}@h:1/v"
    assert connection.as_uri(mask="##") == "mplite://me:##@h:1/v"


@pytest.mark.parametrize("url", ["mplite://", "mplite:///proj", f"mplite://:{KEY}@h:1/v"])
def test_clones_copies_and_pickles_mean_the_same_broker(url: str) -> None:
    connection = Connection(url, transport_options={"confirm_publish": False})
    for twin in (connection.clone(), copy(connection), pickle.loads(pickle.dumps(connection))):
        assert url_of(twin) == url_of(connection)
        assert twin.transport_options == {"confirm_publish": False}
        assert twin.__eqhash__() == connection.__eqhash__()


def test_a_failover_url_is_what_was_written_though_kombu_takes_it_apart() -> None:
    urls = ["mplite://a:1/one", "mplite://b:2", "mplite://", f"mplite://:{KEY}@c/th%20ree"]
    connection = Connection(";".join(urls))
    for url in [*urls, *urls]:
        assert url_of(connection) == BrokerURL.parse(url)
        assert KEY not in repr(connection)
        connection.maybe_switch_next()


def test_a_connection_that_was_switched_is_copied_as_it_is() -> None:
    connection = Connection("mplite://a:1/one;mplite://b:2/two")
    connection.maybe_switch_next()
    assert url_of(connection.clone()) == BrokerURL.parse("mplite://b:2/two")


def test_parts_instead_of_a_url_mean_the_same() -> None:
    connection = Connection("h", transport="mplite", port=1, userid="me", password=KEY, virtual_host="v")
    assert url_of(connection) == BrokerURL("h", 1, "v", "me", KEY)
    assert connection.as_uri() == "mplite://me:**@h:1/v"
    assert url_of(Connection(None, transport="mplite")) == BrokerURL()


def test_a_bad_url_can_be_shown_and_fails_when_it_is_used() -> None:
    connection = Connection(f"mplite://:{KEY}@h:1/v?x=1")
    assert KEY not in repr(connection)
    with pytest.raises(InvalidURL, match="transport_options"):
        connection.connect()


def test_the_first_hostname_given_apart_from_its_password_gets_it() -> None:
    assert url_of(Connection("mplite://h:1/", password=lambda: KEY)).key == KEY


@pytest.mark.parametrize("include_password", [False, True])
def test_a_url_that_cannot_be_taken_apart_is_shown_without_any_part_of_its_key(include_password: bool) -> None:
    shown = Connection("mplite://:sec/ret-key@host:7878/").as_uri(include_password=include_password)
    assert shown == "mplite://**"
