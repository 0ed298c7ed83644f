"""The app of the acceptance tests. What its tasks did is written to files, one line each, so that nothing is missed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tenacity

from mplite_tasks import MPLite, Retry, RetryTask, current_job

app = MPLite("sample", patience=20)

QUICKLY = Retry(
    stop=tenacity.stop_after_attempt(3),
    wait=tenacity.wait_fixed(0.1),
    retry=tenacity.retry_if_exception_type(ConnectionError),
)


class OutOfStock(Exception):
    """An error with a constructor of its own."""

    def __init__(self, article: str) -> None:
        super().__init__(f"no {article} left")


class Opaque(Exception):
    """An error that is no plain data."""


def note(path: str, line: object) -> None:
    """Append a line to a file, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task
def fail(kind: str) -> None:
    match kind:
        case "value":
            raise ValueError("not this one", 7)
        case "file":
            raise FileNotFoundError(2, "No such file or directory", "/nowhere")
        case "own":
            raise OutOfStock("soap")
        case "opaque":
            raise Opaque(object())
        case "exit":
            sys.exit(3)


@app.task(retry=QUICKLY)
def flaky(path: str, failures: int) -> int:
    job = current_job()
    assert job is not None
    note(path, job.retries)
    if job.retries < failures:
        raise ConnectionError("not yet")
    return job.retries


@app.task
def ask_again(path: str) -> str:
    job = current_job()
    assert job is not None
    note(path, job.retries)
    try:
        {}["busy"]
    except KeyError as exc:
        raise RetryTask(countdown=0.05) from exc


@app.task
def record(path: str, line: Any) -> None:
    note(path, line)


@app.task
def hold(path: str, fifo: str) -> str:
    """Note the start, wait until somebody writes to the fifo, note the end."""
    note(path, "start")
    text = Path(fifo).read_text()
    note(path, "end")
    return text


@app.task
def leave_child(path: str, how: str) -> None:
    """Start a process that outlives this one, note both, and wait for ever; the second run returns."""
    if Path(path).exists():
        note(path, f"again {os.getpid()}")
        return
    if how == "fork":
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    else:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False).pid
    note(path, f"first {os.getpid()} {child}")
    time.sleep(60)


@app.task
def die() -> None:
    os.kill(os.getpid(), 9)


@app.task(ignore_result=True)
def forgetful() -> int:
    return 1


@app.task
def unsendable() -> Any:
    return {"answer": [1, object()]}


@app.task
def process_group() -> int:
    return os.getpgrp()


@app.task
def huge() -> str:
    return "x" * (70 * 1024 * 1024)


@app.task
def forks_and_returns(path: str) -> str:
    """Fork; both processes return from the function."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return f"child {os.waitstatus_to_exitcode(status)}"
    note(path, "child")
    return "the child must not be heard"


@app.task
def terminate(path: str) -> int:
    """Start a process and end it at once, as ``multiprocessing`` does: by SIGTERM."""
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join()
    note(path, process.exitcode)
    return int(process.exitcode or 0)
