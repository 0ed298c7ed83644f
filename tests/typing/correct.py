"""What type checkers must accept, with the types that they must see."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from mplite_tasks import MPLite, Result, Retry, Sender, Signature, Task

app = MPLite("typed")


@app.task
def add(x: int, y: int = 0, *, label: str = "") -> int:
    return x + y


@app.task(priority=5, queue="mail", retry=Retry(), result_ttl=timedelta(hours=1))
def send(to: str) -> bytes:
    return to.encode()


@app.task()
def nothing() -> None: ...


def checks() -> None:
    assert_type(add(1, 2), int)
    assert_type(add.delay(1, y=2, label="x"), Result[int])
    assert_type(add.delay(1, 2, priority=9), Result[int])
    assert_type(add.options(priority=9).delay(1, 2), Result[int])
    assert_type(add.delay(1).get(timeout=1.5), int)
    assert_type(send.delay("a").get(), bytes)
    assert_type(nothing.delay().get(), None)
    assert_type(add.s(1), Signature[int])
    assert_type(add.si(1, 2), Signature[int])
    assert_type(add.si(1, 2).set(priority=3).delay(), Result[int])
    assert_type(app.send_many([add.s(1), add.s(2)]), list[Result[int]])
    assert_type(add.delay_many([(1, 2)]), list[Result[int]])
    assert_type(add.apply_async((1, 2), priority=3, countdown=1), Result[int])
    assert_type(app.send_task("elsewhere", [1]), Result[Any])
    sender: Sender[[str], bytes] = send.options(queue="fast")
    task: Task[[str], bytes] = send
    wider: Result[object] = add.delay(1)
    print(sender, task, wider)
