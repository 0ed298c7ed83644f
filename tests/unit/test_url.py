"""Broker URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mplite_tasks_transport.errors import InvalidURL
from mplite_tasks_transport.url import DEFAULT_PORT, BrokerURL

SECRET = "a-key-that-nobody-may-see"


@pytest.mark.parametrize("text", ["mplite://", "mplite:///", "MPLITE://", "mplite:////", "mplite:///%2F"])
def test_a_url_without_a_host_is_the_local_broker_and_prints_as_itself(text: str) -> None:
    url = BrokerURL.parse(text)

    assert url.is_local
    assert url == BrokerURL()
    assert str(url) == "mplite://"


@pytest.mark.parametrize(
    ("text", "vhost"),
    [
        ("mplite:///proj", "proj"),
        ("mplite://h", "/"),
        ("mplite://h/", "/"),
        ("mplite://h//", "/"),
        ("mplite://h/%2F", "/"),
        ("mplite://h/proj", "proj"),
        ("mplite://h/a%2Fb%20c", "a/b c"),
        ("mplite://h/a/b", "a/b"),
        ("mplite://h/caf%C3%A9", "café"),
    ],
)
def test_the_path_names_the_vhost(text: str, vhost: str) -> None:
    assert BrokerURL.parse(text).vhost == vhost


def test_every_part_of_a_tcp_url_is_found_and_percent_decoded() -> None:
    url = BrokerURL.parse("mplite://us%40er:k%3Ae%2Fy@broker.example:1234/proj")

    assert url == BrokerURL("broker.example", 1234, "proj", "us@er", "k:e/y")
    assert url.address == ("broker.example", 1234)


def test_a_url_without_a_port_means_the_default_port() -> None:
    url = BrokerURL.parse("mplite://h/")

    assert url.port is None
    assert url.address == ("h", DEFAULT_PORT)


def test_port_0_is_allowed_for_listening() -> None:
    assert BrokerURL.parse("mplite://127.0.0.1:0").address == ("127.0.0.1", 0)


def test_ipv6_addresses_stand_in_brackets() -> None:
    url = BrokerURL.parse("mplite://[::1]:7000/")

    assert url.address == ("::1", 7000)
    assert str(url) == "mplite://[::1]:7000/"


def test_neither_str_nor_repr_show_the_key() -> None:
    url = BrokerURL.parse(f"mplite://ann:{SECRET}@h:1/proj")

    assert str(url) == "mplite://ann:**@h:1/proj"
    assert SECRET not in repr(url)
    assert url.key == SECRET


def test_with_key_returns_the_same_url_with_that_key() -> None:
    url = BrokerURL.parse("mplite://h:1/proj")

    assert url.with_key(SECRET) == BrokerURL.parse(f"mplite://:{SECRET}@h:1/proj")
    assert url.with_key(SECRET).with_key(None) == url


def test_the_local_broker_has_no_tcp_address() -> None:
    with pytest.raises(InvalidURL, match="local broker"):
        _ = BrokerURL().address


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("mplites://:7879/", "mplites://127.0.0.1:7879"),
        ("redis://h/", "begin with mplite://"),
        ("localhost:7878", "begin with mplite://"),
        ("mplite:/proj", "begin with mplite://"),
        ("", "begin with mplite://"),
        ("mplite://h?heartbeat=1", "transport_options"),
        ("mplite://h/#x", "transport_options"),
        ("mplite://h:port/", "bad host or port"),
        ("mplite://h:65536/", "bad host or port"),
        ("mplite://[::1/", "bad host or port"),
        ("mplite://h/a b", "%20"),
        ("mplite://h/\n", "%20"),
        ("mplite://h/100%", "%25"),
        ("mplite://:7878/", "127.0.0.1:7878"),
        (f"mplite://h/{'v' * 256}", "1 to 255 bytes"),
        (f"mplite://{'u' * 256}@h/", "1 to 255 bytes"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        BrokerURL.parse(text)

    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"mplite://:{SECRET}@/",
        f"mplite://:{SECRET}@h:x/",
        f"mplite://:{SECRET}@h/?a=b",
        f"mplite://:{SECRET}@h/a b",
        f"mplite://:{SECRET}%@h/",
        f"mplites://:{SECRET}@/",
        f"redis://:{SECRET}@h/",
        f"mplite://:1/{SECRET}@h/",
        f"mplite://ann/{SECRET}@h/",
        f"mplite://:1#{SECRET}@h/",
        f"mplite://:1?{SECRET}@h/",
    ],
)
def test_no_error_shows_the_key(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        BrokerURL.parse(text)

    shown = [str(caught.value), repr(caught.value), str(caught.value.__cause__)]
    assert SECRET not in " ".join(shown)


@pytest.mark.parametrize(
    "parts", [{"host": ""}, {"port": 1}, {"host": "h", "port": -1}, {"vhost": ""}, {"scheme": "amqp"}]
)
def test_parts_that_make_no_url_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(InvalidURL):
        BrokerURL(**parts)  # type: ignore[arg-type]  # the point of the test


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@given(
    host=st.sampled_from(["h", "127.0.0.1", "::1", "broker.example"]),
    port=st.none() | st.integers(0, 65_535),
    vhost=names,
    user=st.none() | names,
)
def test_what_a_url_prints_is_the_same_url(host: str, port: int | None, vhost: str, user: str | None) -> None:
    url = BrokerURL(host, port, vhost, user)

    assert BrokerURL.parse(str(url)) == url
