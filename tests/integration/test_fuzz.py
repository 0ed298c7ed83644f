"""A hundred thousand frames that are almost right, before and after the handshake. ``make fuzz`` goes on for longer."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from ..support.fuzz import AfterTheHandshake, BeforeTheHandshake

FRAMES = 50_000


@pytest.fixture
def seed() -> int:
    """A seed that is shown when the test fails: python -m tests.support.fuzz SECONDS SEED does the same again."""
    picked = random.SystemRandom().randrange(2**32)
    print(f"seed {picked}")
    return picked


def test_no_mutated_handshake_gets_a_stranger_in(seed: int) -> None:
    fuzzer = BeforeTheHandshake(seed)
    fuzzer.run(FRAMES)
    assert fuzzer.frames >= FRAMES


def test_no_mutated_request_harms_the_broker_or_another_client(seed: int) -> None:
    fuzzer = AfterTheHandshake(seed)
    fuzzer.run(FRAMES)
    assert fuzzer.accepted > FRAMES // 10, "some mutations are still requests"
    assert fuzzer.closed > FRAMES // 10
    assert fuzzer.refused > FRAMES // 100


def test_memory_stays_flat_while_strangers_try(seed: int) -> None:
    fuzzer = BeforeTheHandshake(seed)
    fuzzer.run(1000)
    tracemalloc.start()
    try:
        fuzzer.run(3000)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 2**20
