"""A bench with a queue ``q``, somebody who publishes to it, and somebody who consumes from it."""

from __future__ import annotations

import pytest

from .bench import Bench, Client


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def producer(bench: Bench) -> Client:
    client = bench.client()
    client.declare()
    return client


@pytest.fixture
def consumer(bench: Bench, producer: Client) -> Client:
    client = bench.client()
    client.qos(1)
    client.consume()
    return client
