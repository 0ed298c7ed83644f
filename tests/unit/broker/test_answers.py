"""How much the answers of a client count that it has not read yet."""

from __future__ import annotations

import pytest

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.core import Core


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda r: frames.ViewList(r, "q", frames.Half.QUEUE), id="a part of the dict"),
        pytest.param(lambda r: frames.Get(r, 1, "q"), id="one message"),
    ],
)
def test_an_answer_counts_with_the_payloads_in_it(ask: object) -> None:
    core = Core()
    session = core.open_session("/")
    core.apply(session, frames.DeclareQueue(1, "q"))
    core.apply(session, frames.OpenChannel(2, 1))
    core.apply(session, frames.Publish(3, "", "q", "id", 0, b"x" * 100_000))
    core.finish_turn()
    before = session.out_bytes

    core.apply(session, ask(4))  # type: ignore[operator]

    assert 100_000 < session.out_bytes - before < 101_000
