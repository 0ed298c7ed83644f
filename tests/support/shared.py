"""One broker for all the tests of a module, and a vhost of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from kombu import Connection

from .brokers import BrokerProcess

__all__ = ["connection", "shared_broker", "vhost_url"]


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker over TCP that no test may kill."""
    process = BrokerProcess(tmp_path_factory.mktemp("broker"))
    yield process.start()
    process.clean_up()


@pytest.fixture
def vhost_url(shared_broker: BrokerProcess) -> str:
    """A URL, with the key in it, of a vhost that nobody else uses."""
    return f"{shared_broker.url}{uuid.uuid4().hex}"


@pytest.fixture
def connection(vhost_url: str) -> Iterator[Connection]:
    """A Kombu connection to a vhost of its own."""
    with Connection(vhost_url) as made:
        yield made
