"""What ``mplite-worker`` says when it is started wrongly: one line on standard error, and status 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mplite_tasks import MPLite
from tests.support.workers import worker


def run(cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mplite_tasks.cli.worker", *options]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("import no_such_thing_at_all\n")
    (tmp_path / "quitting.py").write_text("raise SystemExit('no')\n")
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nfrom mplite_tasks import MPLite\napp = MPLite('threaded')\n"
        "threading.Thread(target=time.sleep, args=(60,), name='poller', daemon=True).start()\n"
    )
    (tmp_path / "pigeons.py").write_text("from mplite_tasks import MPLite\napp = MPLite('x', broker='pigeon://loft')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "Missing option '-A'"),
        (("-A", "nowhere"), "-A nowhere: there is no module 'nowhere'"),
        (("-A", "no where"), "-A no where: not a name like proj"),
        (("-A", "empty"), "the module empty has no MPLite app"),
        (("-A", "empty:app"), "empty has no MPLite app at 'app'"),
        (("-A", "x", "-c", "0"), "Invalid value for '-c'"),
        (("-A", "x", "-Q", "a,,b"), "'a,,b' is not a list like q1,q2"),
        (("-A", "x", "-l", "loud"), "'loud' is not one of"),
        (("-A", "x", "--nothing"), "No such option"),
        (("-A", "pigeons"), "There is no Kombu transport for a broker URL that begins with 'pigeon'"),
        (("-A", "threaded"), "The app started threads while it was imported: 'poller' (Thread)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(project: Path, options: tuple[str, ...], text: str) -> None:
    done = run(project, *options)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("mplite-worker: ")
    assert text in done.stderr


@pytest.mark.parametrize(
    ("app", "error"), [("broken", "ModuleNotFoundError: No module named 'no_such"), ("quitting", "SystemExit: no")]
)
def test_an_error_in_the_apps_own_code_is_shown_with_its_traceback(project: Path, app: str, error: str) -> None:
    done = run(project, "-A", app)
    assert done.returncode == 2
    assert f'{app}.py", line 1' in done.stderr
    assert error in done.stderr.splitlines()[-1]


def test_a_broker_that_refuses_the_worker_ends_it_with_the_reason(project: Path, broker: object) -> None:
    url = broker.plain_url  # type: ignore[attr-defined]
    (project / "refused.py").write_text(
        f"from mplite_tasks import MPLite\napp = MPLite('refused', {url!r}, transport_options={{'key': 'x' * 32}})\n"
    )
    done = run(project, "-A", "refused", "-c", "2")
    assert done.returncode == 2
    assert "refuses this consumer" in done.stderr
    assert "x" * 32 not in done.stderr


def test_queues_are_listened_to_as_asked(app: MPLite) -> None:
    with worker("tests.acceptance.sample", options=("-Q", "one,two")) as process:
        process.wait_for("queues       one, two")
        result = app.send_task("tests.acceptance.sample.add", [1], queue="two")
        assert result.get(timeout=20) == 1


def test_help_says_what_the_signals_do(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "SIGTERM" in done.stdout
