"""The local broker: found by its home, started once by whoever needs it, guarded by a lock."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from mplite_tasks_transport import home as home_module
from mplite_tasks_transport import local
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.errors import BrokerUnreachable, LocalBrokerError
from mplite_tasks_transport.frames import DeclareQueue, Ping, Publish, Status
from mplite_tasks_transport.home import (
    BrokerInfo,
    hold_lock,
    is_running,
    local_home,
    log_path,
    prepare_home,
    read_info,
    socket_path,
    write_info,
)
from mplite_tasks_transport.local import ensure_running, running, stop
from mplite_tasks_transport.url import BrokerURL

LOCAL = BrokerURL()


def connect() -> BrokerClient:
    return BrokerClient.connect(LOCAL)


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        assert ended.poll(30_000), f"process {pid} did not end"
    finally:
        os.close(descriptor)


# The home


def test_the_home_is_the_one_that_the_environment_names(tmp_path: Path) -> None:
    assert local_home({"MPLITE_HOME": str(tmp_path)}) == tmp_path


def test_a_relative_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert local_home({"MPLITE_HOME": "here"}) == tmp_path / "here"


def test_else_the_home_is_in_the_state_directory_by_host() -> None:
    assert local_home({"XDG_STATE_HOME": "/state"}) == Path("/state/mplite") / socket.gethostname()


@pytest.mark.parametrize("state", [{}, {"XDG_STATE_HOME": "relative"}])
def test_a_state_directory_that_is_unset_or_relative_is_the_default_one(
    state: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/somebody")

    assert local_home(state) == Path("/somebody/.local/state/mplite") / socket.gethostname()


def test_a_home_that_is_made_is_for_this_user_only(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"

    prepare_home(home)
    prepare_home(home)

    assert home.stat().st_mode & 0o777 == 0o700


def test_a_home_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(LocalBrokerError, match="chmod 700"):
        prepare_home(tmp_path)


def test_a_home_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(LocalBrokerError, match="another user"):
        prepare_home(tmp_path)


def test_a_home_that_cannot_be_made_is_said_in_one_line_that_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MPLITE_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.delenv("MPLITE_AUTOSTART")

    with pytest.raises(LocalBrokerError, match="MPLITE_HOME") as caught:
        ensure_running()

    assert "\n" not in str(caught.value)


def test_the_socket_is_in_the_home_if_its_path_fits(short_directory: Path) -> None:
    assert socket_path(short_directory) == short_directory / "broker.sock"


def test_a_long_home_has_its_socket_in_a_private_directory(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_directory))
    home = short_directory / ("h" * 100)

    path = socket_path(home)

    assert path.parent.parent == short_directory
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert socket_path(home) == path
    assert socket_path(home.with_name("g" * 100)) != path


@pytest.mark.parametrize("trap", ["open", "link", "file"])
def test_a_private_directory_that_somebody_else_may_have_made_is_refused(
    short_directory: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_directory))
    directory = short_directory / f"mplite-{os.geteuid()}"
    if trap == "open":
        directory.mkdir()
        directory.chmod(0o755)
    elif trap == "link":
        elsewhere = short_directory / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        directory.symlink_to(elsewhere)
    else:
        directory.touch()

    with pytest.raises(LocalBrokerError, match=str(directory)):
        socket_path(short_directory / ("h" * 100))


# What a broker says about itself, and its lock


def test_what_is_written_is_read(tmp_path: Path) -> None:
    info = BrokerInfo("/some/socket", 12, "1.2.3", 1.5, ("mplite://127.0.0.1:1/",))

    write_info(tmp_path, info)

    assert read_info(tmp_path) == info
    assert (tmp_path / "broker.json").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["broker.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"socket": 1}', '{"listen": null}'])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, content: str) -> None:
    assert read_info(tmp_path) is None
    (tmp_path / "broker.json").write_text(content)

    assert read_info(tmp_path) is None


def test_the_lock_is_held_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "_LOCK_PATIENCE", 0.0)
    assert not is_running(tmp_path)

    with hold_lock(tmp_path) as first, hold_lock(tmp_path) as second:
        assert (first, second) == (True, False)
        assert is_running(tmp_path)

    assert not is_running(tmp_path)


# Start and stop


def test_the_first_client_starts_the_broker_and_the_next_one_finds_it(local_home: Path) -> None:
    assert running() is None

    with connect() as first:
        pid = first.call(Status(0))["pid"]
    with connect() as second:
        assert second.call(Status(0))["pid"] == pid

    info = running()
    assert info is not None
    assert (info.pid, info.socket) == (pid, str(local_home / "broker.sock"))
    assert ensure_running() == info


def test_nothing_in_the_home_can_be_read_by_others(local_home: Path) -> None:
    ensure_running()

    modes = {path.name: path.stat().st_mode & 0o077 for path in (local_home, *local_home.iterdir())}

    assert set(modes.values()) == {0}, modes


def test_twenty_processes_at_once_start_one_broker(local_home: Path) -> None:
    program = "from mplite_tasks_transport.local import ensure_running; print(ensure_running().pid)"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(20)
    ]

    pids = Counter(process.communicate(timeout=60)[0] for process in processes)

    assert len(pids) == 1, pids
    assert [process.returncode for process in processes] == [0] * 20
    assert log_path(local_home).read_text().count("listens on") == 1


def test_the_caller_keeps_no_child_and_no_descriptor(local_home: Path) -> None:
    program = """
import os
from mplite_tasks_transport.local import ensure_running

before = len(os.listdir("/proc/self/fd"))
ensure_running()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("descriptors more:", len(os.listdir("/proc/self/fd")) - before)
"""

    output = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, timeout=60).stdout

    assert output == b"descriptors more: 0\n"


def test_the_broker_does_not_keep_the_output_of_the_program_that_started_it(local_home: Path) -> None:
    program = "from mplite_tasks_transport.local import ensure_running; ensure_running(); print('done')"

    output = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True, timeout=60).stdout

    assert output == b"done\n"  # and run() came to the end of the pipe
    assert running() is not None


@pytest.mark.parametrize("value", ["0", "no", "FALSE"])
def test_the_environment_can_forbid_the_start(local_home: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MPLITE_AUTOSTART", value)

    with pytest.raises(LocalBrokerError, match="mplite broker start"):
        ensure_running()

    assert not local_home.exists()


def test_a_client_can_forbid_the_start_and_then_finds_a_broker_that_runs(local_home: Path) -> None:
    with pytest.raises((LocalBrokerError, BrokerUnreachable)):
        BrokerClient.connect(LOCAL, autostart=False)
    assert not local_home.exists()

    ensure_running()

    with BrokerClient.connect(LOCAL, autostart=False) as client:
        client.call(Ping(0))


def test_a_broker_that_was_killed_is_replaced_and_has_what_was_confirmed(local_home: Path) -> None:
    with connect() as client:
        client.call(DeclareQueue(0, "q"))
        client.call(Publish(0, "", "q", "id", 5, b"payload"))
        pid = client.call(Status(0))["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)
    assert read_info(local_home) is not None  # it could not tidy up

    with connect() as client:
        status = client.call(Status(0))

    assert status["pid"] != pid
    assert status["queues"]["q"]["waiting"] == 1


def test_a_home_with_a_long_path_works(short_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = short_directory / ("long" * 25)
    monkeypatch.setenv("TMPDIR", str(short_directory))
    monkeypatch.delenv("MPLITE_AUTOSTART")
    info = ensure_running(home)
    monkeypatch.setenv("TMPDIR", "/nowhere")  # a client may have another one

    try:
        assert Path(info.socket).parent.parent == short_directory
        with BrokerClient.connect(LOCAL, home=home) as client:
            client.call(Ping(0))
    finally:
        assert stop(home)


def test_stopping_ends_the_process_and_leaves_no_trace_of_it(local_home: Path) -> None:
    pid = ensure_running().pid

    assert stop()

    wait_for_end(pid)
    assert not is_running(local_home)
    assert read_info(local_home) is None
    assert not (local_home / "broker.sock").exists()
    assert not stop()


def test_a_broker_that_cannot_start_is_said_with_its_log_and_the_last_line_of_it(local_home: Path) -> None:
    prepare_home(local_home)
    (local_home / "journal.sqlite").write_text("my diary" * 100)

    with pytest.raises(LocalBrokerError) as caught:
        ensure_running()

    assert str(log_path(local_home)) in str(caught.value)
    assert "journal.sqlite is not a journal" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (local_home / "journal.sqlite").read_text() == "my diary" * 100


def test_a_long_log_is_put_aside_once(local_home: Path) -> None:
    prepare_home(local_home)
    log_path(local_home).write_bytes(b"x" * (local._LOG_BYTES + 1))

    ensure_running()

    assert log_path(local_home).stat().st_size < 1000
    assert (local_home / "broker.log.1").stat().st_size == local._LOG_BYTES + 1


def test_a_second_broker_for_the_same_home_leaves_quietly(local_home: Path) -> None:
    pid = ensure_running().pid
    command = [sys.executable, "-m", "mplite_tasks_transport.broker.cli", "--local", str(local_home)]

    second = subprocess.run(command, capture_output=True, timeout=60, check=False)

    assert (second.returncode, second.stdout, second.stderr) == (0, b"", b"")
    info = running()
    assert info is not None
    assert info.pid == pid


def test_a_broker_that_nobody_needs_ends_by_itself(local_home: Path) -> None:
    prepare_home(local_home)
    command = [sys.executable, "-m", "mplite_tasks_transport.broker.cli", "--local", str(local_home)]

    done = subprocess.run([*command, "--idle-seconds", "0.05"], capture_output=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert read_info(local_home) is None
