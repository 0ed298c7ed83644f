"""What a queue object has got and not done, across its connections."""

from __future__ import annotations

import pytest

from mplite_tasks_transport.errors import StaleDelivery
from mplite_tasks_transport.frames import Ack, CloseChannel, Reject
from mplite_tasks_transport.priority_queue.intake import CHANNEL
from mplite_tasks_transport.priority_queue.ledger import Ledger

from .test_intake import delivery


def ledger_of(*tags: int) -> Ledger:
    ledger = Ledger()
    for tag in tags:
        ledger.add(delivery(tag))
    return ledger


def test_the_oldest_is_done_first_and_none_is_a_value_error() -> None:
    ledger = ledger_of(1, 2)
    for tag in (1, 2):
        item = ledger.begin()
        ack = item.ack()
        assert isinstance(ack, Ack) and (ack.channel, ack.delivery, ack.credit) == (CHANNEL, tag, False)
        ledger.end(item)
    with pytest.raises(ValueError, match="too many times"):
        ledger.begin()


def test_an_ack_that_could_not_be_sent_leaves_its_item_the_oldest() -> None:
    ledger = ledger_of(1, 2)
    item = ledger.begin()
    ledger.fail(item)
    assert ledger.begin() is item


def test_items_that_a_new_connection_took_over_are_acked_by_their_stamps() -> None:
    ledger = ledger_of(1, 2)
    assert ledger.resume([2, 1]) == []
    ack = ledger.begin().ack()
    assert ack is not None and (ack.channel, ack.delivery) == (0, 1)


def test_what_the_broker_holds_for_us_and_nobody_here_got_goes_back() -> None:
    (back,) = ledger_of(1).resume([1, 7])
    assert isinstance(back, Reject) and (back.channel, back.delivery, back.requeue) == (0, 7, True)


def test_an_item_that_is_not_held_any_more_was_done_if_its_ack_was_sent_and_else_went_back() -> None:
    ledger = ledger_of(1, 2)
    in_doubt = ledger.begin()
    in_doubt.ack()
    ledger.resume([])
    assert in_doubt.ack() is None
    with pytest.raises(StaleDelivery, match="went back"):
        ledger.begin().ack()


def test_an_ack_in_doubt_of_an_item_that_is_still_held_is_sent_again() -> None:
    ledger = ledger_of(1)
    item = ledger.begin()
    item.ack()
    ledger.resume([1])
    ack = item.ack()
    assert ack is not None and (ack.channel, ack.delivery) == (0, 1)


def test_at_the_end_everything_goes_back_whichever_connection_it_came_by() -> None:
    ledger = ledger_of(1, 2)
    ledger.resume([1])
    ledger.add(delivery(3))
    back = ledger.give_back()
    assert isinstance(back[0], Reject) and (back[0].channel, back[0].delivery) == (0, 1)
    assert [type(each) for each in back] == [Reject, CloseChannel]
    assert len(ledger) == 0
