"""No secret is in a log, a repr, an error, a process list or on the wire."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kombu import Connection

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.journal import MemoryJournal
from mplite_tasks_transport.broker.server import BrokerConfig
from mplite_tasks_transport.broker.users import Guard, User, UserBook, users_path
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.errors import TransportError
from mplite_tasks_transport.handshake import BrokerHandshake, ClientHandshake
from mplite_tasks_transport.keys import new_key
from mplite_tasks_transport.url import BrokerURL

from ..support.secure import SecureBroker


def command_lines() -> str:
    """Return what the process list shows of every process."""
    shown = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            shown.append(process.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return "\n".join(shown)


def test_a_secret_is_shown_by_nothing_that_knows_it(
    secure_broker: Callable[..., SecureBroker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = new_key()
    key_file = tmp_path / "key"
    key_file.touch(0o600)
    key_file.write_text(key)
    broker = secure_broker(("--listen", "mplite://127.0.0.1:0", "--key-file", str(key_file)))
    plain = next(url for url in broker.urls if not url.is_secure)
    secrets = {broker.credentials().secret, key, new_key()}
    shown = []
    for secret in secrets:
        for url in (
            plain.with_key(secret),
            BrokerURL("localhost", broker.port, user="root", key=secret, scheme="mplites"),
            BrokerURL("127.0.0.1", 1, key=secret),
            BrokerURL("host.invalid", key=secret, scheme="mplites"),
        ):
            shown += [str(url), repr(url)]
            try:
                with BrokerClient.connect(url, timeout=5) as client:
                    shown += [repr(client), repr(client.call(frames.Status(0)))]
            except TransportError as error:
                shown += [str(error), repr(error), repr(error.__cause__)]
            options = {"key": secret}
            with Connection(str(url).replace(":**@", "@"), transport_options=options, connect_timeout=5) as connection:
                try:
                    connection.transport.establish_connection().close()
                except TransportError as error:
                    shown += [str(error), repr(error)]
                shown += [repr(connection), connection.as_uri()]
    with broker.connect(broker.user("root")) as client:
        shown += [repr(client), repr(vars(client)["url"]), command_lines()]
    shown += [broker.errors, caplog.text]
    assert broker.stop() == 0
    for secret in secrets:
        assert not [text for text in shown if secret in text]


def test_the_values_that_hold_a_secret_do_not_show_it(tmp_path: Path) -> None:
    secret = new_key()
    path = users_path(tmp_path)
    path.touch(0o600)
    path.write_text(json.dumps({"users": {"ann": {"roles": [], "vhosts": ["*"], "keys": [secret]}}}))
    book = UserBook(path)
    for value in (
        User(keys=(secret,)),
        book,
        book.get("ann"),
        Guard(secret.encode(), book),
        BrokerConfig(None, (), MemoryJournal(), secret.encode()),
        ClientHandshake(vhost="/", key=secret.encode()),
        BrokerHandshake(pid=1, key=secret.encode()),
    ):
        assert secret not in repr(value)
    hello = ClientHandshake(vhost="/", key=secret.encode())
    assert secret.encode() not in hello.hello()


def test_commands_print_no_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from mplite_tasks.cli import main; main()", "broker"]
    data, file = ["--data", str(tmp_path / "data")], str(tmp_path / "file")
    printed = ""
    for words in (
        ["credentials", *data, "--host", "h", file],
        ["rotate-key", *data, "--host", "h", "mplite", file],
        ["users", *data],
        ["retire-key", *data, "mplite"],
    ):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=True, timeout=60)
        printed += done.stdout + done.stderr
    for kept in (file, users_path(tmp_path / "data")):
        assert Path(kept).stat().st_mode & 0o077 == 0
    for word in Path(file).read_text().replace('"', " ").replace(",", " ").split():
        if len(word) == 43:
            assert word not in printed
            break
    else:
        raise AssertionError("the file has no secret to look for")


def test_nothing_off_the_wire_is_ever_unpickled(
    secure_broker: Callable[..., SecureBroker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pickle that would leave a file behind goes through every place where bytes of a peer are read."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (Path.touch, (tmp_path / "executed",))

    bomb = pickle.dumps(Bomb())
    broker = secure_broker()
    with broker.connect() as client:
        client.call(frames.DeclareQueue(0, "q"))
        client.call(frames.Publish(0, "", "q", "id", 1, bomb))
        client.call(frames.StoreResult(0, frames.ResultRecord("r", "SUCCESS", bomb)))
        client.call(frames.ViewSet(0, "q", frames.Half.QUEUE, "id", 0, bomb))
        client.call(frames.GetResult(0, "r"))
        client.call(frames.OpenChannel(0, 1))
        assert client.call(frames.Get(0, 1, "q"))
        sock = client.sock
        assert sock is not None
        sock.send(len(bomb).to_bytes(4, "big") + bomb)
        with pytest.raises(TransportError):
            client.drain(20)
    broker.connect().close()
    assert not (tmp_path / "executed").exists()
