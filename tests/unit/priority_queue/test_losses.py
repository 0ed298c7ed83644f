"""How often one call looks for another connection."""

from __future__ import annotations

import pytest

from mplite_tasks_transport.errors import ConnectionLost
from mplite_tasks_transport.priority_queue import line
from mplite_tasks_transport.priority_queue.line import Losses


def test_a_call_that_ends_every_connection_at_once_pauses_and_gives_up() -> None:
    losses, error = Losses(), ConnectionLost("it was closed")
    pauses = []
    with pytest.raises(ConnectionLost, match="it was closed"):
        while len(pauses) < 1000:
            losses.begin()
            pauses.append(losses.pause(error))
    assert pauses[0] == 0.0, "a restart of the broker costs no time"
    assert len(pauses) == 10
    assert all(0.0 <= pause <= 0.5 for pause in pauses)


def test_connections_that_lived_for_a_while_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(line.time, "monotonic", lambda: now)
    losses = Losses()
    for _ in range(100):
        losses.begin()
        now += 2.0
        assert losses.pause(ConnectionLost("again")) == 0.0
