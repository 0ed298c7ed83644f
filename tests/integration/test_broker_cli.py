"""``mplite-broker`` and ``mplite broker …``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mplite_tasks_transport import __version__
from mplite_tasks_transport.broker.cli import broker_commands
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.errors import HandshakeRefused
from mplite_tasks_transport.frames import DeclareQueue, Publish, Status
from mplite_tasks_transport.home import hold_lock, is_running, prepare_home
from mplite_tasks_transport.keys import new_key, read_key_file
from mplite_tasks_transport.url import BrokerURL

from ..support.brokers import BrokerProcess

MakeBroker = Callable[..., BrokerProcess]

LISTEN = ("--listen", "mplite://127.0.0.1:0/")


def mplite_broker(*options: str) -> subprocess.CompletedProcess[str]:
    """Run ``mplite-broker`` to its end, which comes at once where the options are refused."""
    command = [sys.executable, "-m", "mplite_tasks_transport.broker.cli", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def mplite_broker_local(*words: str) -> Result:
    """Run ``mplite broker …`` in this process."""
    return CliRunner().invoke(broker_commands, list(words), catch_exceptions=False)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(new_key())
    return str(path)


# mplite-broker


def test_a_broker_says_where_it_listens_and_what_a_confirm_means(broker: BrokerProcess) -> None:
    assert broker.lines[0] == f"Listening on mplite://127.0.0.1:{broker.port}/"
    assert broker.lines[1].startswith("Durability os: ")
    assert "kill -9" in broker.lines[1]
    assert "power cut" in broker.lines[1]
    assert len(broker.lines) == 2


@pytest.mark.parametrize(("durability", "words"), [("fsync", "survives a power cut"), ("memory", "nothing is kept")])
def test_each_durability_is_named_with_its_window(make_broker: MakeBroker, durability: str, words: str) -> None:
    broker = make_broker(durability)

    assert broker.lines[1].startswith(f"Durability {durability}: ")
    assert words in broker.lines[1]
    with BrokerClient.connect(broker.broker_url) as client:
        assert client.call(Status(0))["durability"] == durability


def test_several_addresses_can_be_listened_on(make_broker: MakeBroker) -> None:
    broker = make_broker(options=LISTEN)

    urls = [line.removeprefix("Listening on ") for line in broker.lines[:2]]

    assert len(set(urls)) == 2
    for url in urls:
        with BrokerClient.connect(BrokerURL.parse(url).with_key(broker.key)) as client:
            assert client.call(Status(0))["pid"] == broker.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(broker: BrokerProcess, number: signal.Signals) -> None:
    with BrokerClient.connect(broker.broker_url):
        os.kill(broker.pid, number)

        assert broker.wait() == 0

    assert broker.errors == ""


@pytest.mark.parametrize("durability", ["os", "fsync"])
@pytest.mark.parametrize("crash", [True, False])
def test_what_was_confirmed_is_there_after_a_restart(make_broker: MakeBroker, durability: str, crash: bool) -> None:
    broker = make_broker(durability)
    with BrokerClient.connect(broker.broker_url) as client:
        client.call(DeclareQueue(0, "q"))
        for number in range(20):
            client.call(Publish(0, "", "q", str(number), number, b"payload"))
    if crash:
        broker.kill()
        broker.start()
    else:
        broker.restart()

    with BrokerClient.connect(broker.broker_url) as client:
        assert client.call(DeclareQueue(0, "q", passive=True))[1] == 20


def test_a_client_without_the_key_is_refused(broker: BrokerProcess) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        BrokerClient.connect(broker.broker_url.with_key(new_key()))

    assert broker.key not in str(caught.value)


def test_the_memory_limit_is_taken(make_broker: MakeBroker) -> None:
    broker = make_broker(options=("--memory-limit", "64MiB"))

    with BrokerClient.connect(broker.broker_url) as client:
        assert client.call(Status(0))["memory"]["limit"] == 64 * 2**20


def test_two_brokers_do_not_share_a_data_directory(broker: BrokerProcess, key_file: str) -> None:
    data = str(broker.directory / "data")

    refused = mplite_broker(*LISTEN, "--key-file", key_file, "--data", data)

    assert refused.returncode == 2
    assert f"Another broker uses the data directory {data}" in refused.stderr


def test_an_address_that_is_taken_is_said_in_one_line(broker: BrokerProcess, key_file: str, tmp_path: Path) -> None:
    options = ("--listen", broker.plain_url, "--key-file", key_file, "--data", str(tmp_path / "data"))

    refused = mplite_broker(*options)

    assert refused.returncode == 2
    assert "address already in use" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ((), "--listen mplite://127.0.0.1:7878/"),
        (("--listen", "redis://127.0.0.1"), "begin with mplite://"),
        (("--listen", "mplite://"), "mplite broker start"),
        (("--listen", "mplite://0.0.0.0:7878"), "--allow-plaintext"),
        (("--listen", "mplite://[::]:7878"), "--allow-plaintext"),
        (("--listen", "mplite://127.0.0.1:0/proj"), "serves all of them"),
        (("--listen", "mplite://host.invalid:1"), "is not known"),
        ((*LISTEN, "--key-file", "KEY", "--data", "/dev/null/data"), "cannot be made"),
        ((*LISTEN, "--key-file", "/none"), "No such file"),
        ((*LISTEN, "--key-file", "KEY", "--durability", "memory", "--data", "d"), "leave one of them out"),
        ((*LISTEN, "--key-file", "KEY", "--memory-limit", "lots"), "256M"),
        ((*LISTEN, "--key-file", "KEY", "--memory-limit", "0"), "is not a size"),
    ],
)
def test_options_that_make_no_broker_are_refused_in_one_line_with_a_remedy(
    options: tuple[str, ...], remedy: str, key_file: str
) -> None:
    refused = mplite_broker(*(key_file if option == "KEY" else option for option in options))

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("Error: ")
    assert refused.stderr.count("\n") == 1
    assert remedy in refused.stderr


def test_a_broker_that_is_told_only_where_to_listen_has_a_directory_and_a_key_of_its_own(local_home: Path) -> None:
    command = [sys.executable, "-m", "mplite_tasks_transport.broker.cli", *LISTEN]
    key_file = local_home / "served" / "key"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"Clients need the key in {key_file}: name it in MPLITE_KEY_FILE\n"
            url = process.stdout.readline().removeprefix("Listening on ").strip()
            with BrokerClient.connect(BrokerURL.parse(url), key=read_key_file(key_file)) as client:
                assert client.connected
            second = mplite_broker(*LISTEN)
            assert "Another broker uses the data directory" in second.stderr
        finally:
            process.terminate()
    assert process.returncode == 0


def test_a_key_in_an_address_is_refused_and_not_repeated() -> None:
    refused = mplite_broker("--listen", "mplite://:a-very-secret-key-of-mine@127.0.0.1:0/")

    assert refused.returncode == 2
    assert "--key-file" in refused.stderr
    assert "secret" not in refused.stderr


def test_a_damaged_journal_is_said_in_one_line(tmp_path: Path, key_file: str) -> None:
    (tmp_path / "journal.sqlite").write_text("my diary\n" * 100)

    refused = mplite_broker(*LISTEN, "--key-file", key_file, "--data", str(tmp_path))

    assert refused.returncode == 2
    assert "is not a journal" in refused.stderr
    assert refused.stderr.count("\n") == 1


# mplite broker …


def test_status_says_that_nothing_runs_as_init_scripts_do(local_home: Path) -> None:
    plain, as_json = mplite_broker_local("status"), mplite_broker_local("status", "--json")

    assert (plain.exit_code, plain.stdout) == (3, f"No local broker runs in {local_home}.\n")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (3, {"running": False, "home": str(local_home)})
    assert not local_home.exists()


def test_start_starts_it_once_even_where_clients_may_not(local_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLITE_AUTOSTART", "0")

    first, second = mplite_broker_local("start"), mplite_broker_local("start")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.stdout.startswith(f"The local broker has started: version {__version__}, pid ")
    assert second.stdout.startswith("The local broker runs already: ")
    assert first.stdout.partition(": ")[2] == second.stdout.partition(": ")[2]


def test_status_shows_the_broker_and_its_queues(local_home: Path) -> None:
    with BrokerClient.connect(BrokerURL()) as client:
        client.call(DeclareQueue(0, "proj.default"))
        client.call(Publish(0, "", "proj.default", "id", 0, b"payload"))

    plain, as_json = mplite_broker_local("status"), mplite_broker_local("status", "--json")

    assert (plain.exit_code, as_json.exit_code) == (0, 0)
    facts = json.loads(as_json.stdout)
    assert facts["running"] is True
    assert facts["version"] == __version__
    assert facts["address"] == str(local_home / "broker.sock")
    assert facts["durability"] == "os"
    assert facts["queues"]["proj.default"]["waiting"] == 1
    for shown in (__version__, str(facts["pid"]), facts["address"], "uptime", "os", "proj.default", "waiting"):
        assert shown in plain.stdout


def test_status_of_another_vhost_shows_its_queues_only(local_home: Path) -> None:
    with BrokerClient.connect(BrokerURL(vhost="proj")) as client:
        client.call(DeclareQueue(0, "mine"))

    assert "mine" in mplite_broker_local("status", "--vhost", "proj").stdout
    assert "No queues." in mplite_broker_local("status").stdout
    assert is_running(local_home)


def test_a_broker_that_cannot_be_asked_is_status_4(local_home: Path) -> None:
    prepare_home(local_home)

    with hold_lock(local_home):
        result = mplite_broker_local("status")

    assert result.exit_code == 4
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_restart_and_stop_replace_and_end_the_process(local_home: Path) -> None:
    first = mplite_broker_local("restart").stdout
    second = mplite_broker_local("restart").stdout

    stopped, again = mplite_broker_local("stop"), mplite_broker_local("stop")

    assert first != second
    assert (stopped.exit_code, stopped.stdout) == (0, "The local broker has ended.\n")
    assert (again.exit_code, again.stdout) == (0, f"No local broker runs in {local_home}.\n")
    assert not is_running(local_home)


def test_a_home_that_cannot_be_used_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MPLITE_HOME", str(tmp_path / "file" / "home"))

    result = mplite_broker_local("start")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "MPLITE_HOME" in result.stderr
    assert result.stderr.count("\n") == 1
