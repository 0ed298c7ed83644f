"""What type checkers must refuse: each line that ends with ``# refused``, and no other."""

from __future__ import annotations

from mplite_tasks import MPLite

app = MPLite("typed")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(priority=5)
def send(to: str) -> None: ...


def checks() -> None:
    add("1")  # refused
    add.delay("1")  # refused
    add.delay(1, z=2)  # refused
    add.delay(1, priority="high")  # refused
    add.options(priority=9).delay("1")  # refused
    add.options(priority=9).delay()  # refused
    add.options(priority="high")  # refused
    add.options(prio=9)  # refused
    add.si("1")  # refused
    send.delay(1)  # refused
    text: str = add.delay(1).get()  # refused
    print(text)
    app.task(retries=3)  # refused
