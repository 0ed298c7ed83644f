"""Users: what each role may do, which vhosts somebody may enter, and keys that change while the broker runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mplite_tasks_transport import frames
from mplite_tasks_transport.broker.cli import broker_commands
from mplite_tasks_transport.broker.users import UserBook, change_users, users_path
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.credentials import read_credentials
from mplite_tasks_transport.errors import AccessRefused, Code, HandshakeRefused, InvalidKey
from mplite_tasks_transport.url import BrokerURL

from ..support.secure import SecureBroker, access

MakeBroker = Callable[..., SecureBroker]

RESULT = frames.ResultRecord("id", "SUCCESS", b"1")


def refused(client: BrokerClient, frame: frames.Request) -> str:
    """Return why the broker refuses, with the code that it has to have; nothing if it does not."""
    try:
        client.call(frame)
    except AccessRefused as error:
        assert error.reply_code == Code.ACCESS_REFUSED
        return str(error)
    return ""


def test_each_role_may_do_what_it_is_for_and_nothing_else(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    with (
        broker.connect(broker.user("ann", "produce")) as ann,
        broker.connect(broker.user("bob", "consume")) as bob,
        broker.connect(broker.user("eve", "manage")) as eve,
    ):
        publish = frames.Publish(0, "", "q", "id", 1, b"x")
        for client in (ann, bob, eve):
            assert not refused(client, frames.DeclareQueue(0, "q"))
            assert not refused(client, frames.OpenChannel(0, 1))
            assert not refused(client, frames.Status(0))
        assert not refused(ann, publish)
        for client in (bob, eve):
            assert "Publish needs the role produce" in refused(client, publish)
        for client in (ann, eve):
            assert "Consume needs the role consume" in refused(client, frames.Consume(0, 1, "t", "q"))
            assert "Get needs the role consume" in refused(client, frames.Get(0, 1, "q"))
            assert "ViewPop needs the role consume" in refused(client, frames.ViewPop(0, "q", frames.Half.INDEX, "id"))
        for client in (ann, bob):
            assert "PurgeQueue needs the role manage" in refused(client, frames.PurgeQueue(0, "q"))
            assert "DeleteQueue needs the role manage" in refused(client, frames.DeleteQueue(0, "q"))
        assert "needs the role manage or produce" in refused(bob, frames.CancelMessage(0, "q", "id"))
        delivery = bob.call(frames.Get(0, 1, "q"))
        number = delivery[2]
        follow_up = frames.Publish(0, "", "q", "next", 1, b"x")
        assert "Publish needs the role produce" in refused(bob, frames.Settle(0, 1, number, RESULT, [follow_up]))
        assert not refused(bob, frames.Settle(0, 1, number, RESULT))
        assert not refused(eve, frames.PurgeQueue(0, "q"))
        bob.send(publish)  # wants no answer: the refusal comes by itself
        with pytest.raises(AccessRefused):
            bob.drain(10)


def test_a_user_enters_the_vhosts_that_are_theirs_and_learns_nothing_of_others(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    file = broker.user("ann", "produce", vhosts=["one", "two"], vhost="one")
    for name in ("", "/one", "/two"):
        with BrokerClient.connect(BrokerURL.parse(f"mplites://{name}"), credentials=file) as client:
            assert client.call(frames.Status(0))["vhost"] == (name.strip("/") or "one")
            client.call(frames.DeclareQueue(0, f"of-{name.strip('/') or 'one'}"))
    texts = set()
    for name in ("three", "one/x"):
        with pytest.raises(HandshakeRefused) as caught:
            BrokerClient.connect(BrokerURL(vhost=name, scheme="mplites"), credentials=file)
        texts.add(str(caught.value).partition(": ")[2])
    stranger = BrokerURL("localhost", broker.port, "one", "nobody", "a-key-of-sixteen-bytes", "mplites")
    with pytest.raises(HandshakeRefused) as caught:
        BrokerClient.connect(stranger, credentials=file)
    texts.add(str(caught.value).partition(": ")[2])
    assert len(texts) == 1
    with BrokerClient.connect(BrokerURL.parse("mplites:///two"), credentials=file) as client:
        assert list(client.call(frames.Status(0))["queues"]) == ["of-two"]


def test_two_keys_are_valid_at_a_time_and_change_without_a_restart(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    first = broker.user("ann", "produce")
    with broker.connect(first) as working:
        second = broker.rotate("ann")
        for file in (first, second):
            broker.connect(file).close()
        third = broker.rotate("ann")
        for file in (second, third):
            broker.connect(file).close()
        with pytest.raises(HandshakeRefused):
            broker.connect(first)
        assert "1 retired" in access("retire-key", "--data", str(broker.data), "ann")
        broker.connect(third).close()
        with pytest.raises(HandshakeRefused):
            broker.connect(second)
        access("remove-user", "--data", str(broker.data), "ann")
        with pytest.raises(HandshakeRefused):
            broker.connect(third)
        assert working.call(frames.Ping(0)), "who is in stays in"
    assert "root" in access("users", "--data", str(broker.data))


def test_a_users_file_that_was_damaged_changes_nothing_and_is_logged(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    file, path = broker.user("ann", "produce"), users_path(broker.data)
    broker.connect(file).close()
    good = path.read_text()
    path.write_text(good[:-20])
    broker.connect(file).close()
    path.write_text(good)
    path.chmod(0o644)
    broker.connect(file).close()
    path.chmod(0o600)
    broker.connect(file).close()
    assert "The users stay as they were" in broker.errors
    path.unlink()
    with pytest.raises(HandshakeRefused):
        broker.connect(file)
    assert read_credentials(file).secret not in broker.errors


def test_the_key_file_is_for_who_comes_without_a_name(make_broker: Callable[..., object]) -> None:
    broker = make_broker()
    url = BrokerURL("127.0.0.1", broker.port, key=broker.key)  # type: ignore[attr-defined]
    with BrokerClient.connect(url) as client:
        client.call(frames.DeclareQueue(0, "q"))
        assert client.call(frames.PurgeQueue(0, "q")) == 0
    with pytest.raises(HandshakeRefused):
        BrokerClient.connect(BrokerURL("127.0.0.1", broker.port, user="ann", key=broker.key))  # type: ignore[attr-defined]


def test_a_book_is_read_again_only_when_its_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    access("credentials", "--data", str(data), "--host", "h", "--user", "ann", str(tmp_path / "ann"))
    book = UserBook(users_path(data))
    monkeypatch.setattr(Path, "open", None)
    started = time.perf_counter()
    assert all(book.get("ann") for _ in range(1000))
    assert book.get("bob") is None
    assert time.perf_counter() - started < 30, "a look is a stat"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"users": []}',
        '{"users": {"": {"roles": [], "vhosts": [], "keys": []}}}',
        '{"users": {"ann": {"roles": ["king"], "vhosts": [], "keys": []}}}',
        '{"users": {"ann": {"roles": [], "vhosts": [], "keys": ["short"]}}}',
        '{"users": {"ann": {"roles": []}}}',
    ],
)
def test_a_users_file_that_is_none_is_refused_without_what_it_says(tmp_path: Path, text: str) -> None:
    path = users_path(tmp_path)
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(InvalidKey) as caught:
        UserBook(path)
    assert "king" not in str(caught.value)
    with pytest.raises(InvalidKey), change_users(path):
        pass
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("rotate-key", "--host", "h", "nobody", "FILE"), "There is no user nobody; there are: ann."),
        (("retire-key", "nobody"), "There is no user nobody"),
        (("remove-user", "nobody"), "There is no user nobody"),
        (("credentials", "--host", "h h", "FILE"), "space"),
        (("credentials", "--host", "h", "--user", "", "FILE"), "1 to 255 bytes"),
        (("credentials", "--host", "h", "--user", "a\nb", "FILE"), "no control characters"),
        (("credentials", "--host", "h", "--vhost", "a\nb", "FILE"), "no control characters"),
        (("credentials", "--host", "h", "--allow-vhost", "", "FILE"), "1 to 255 bytes"),
        (("credentials", "--host", "http://h", "FILE"), "no name or address"),
        (("credentials", "--host", "ann@h", "FILE"), "no name or address"),
        (("credentials", "--host", "0.0.0.0", "FILE"), "is for listening"),
        (("credentials", "--host", "::", "FILE"), "is for listening"),
        (("credentials", "--host", "h:0", "FILE"), "is for listening"),
        (("credentials", "--host", "h", "--allow-vhost", "a", "FILE"), "--allow-vhost /"),
        (("credentials", "--host", "h", "--cert", "none.pem", "FILE"), "No such file"),
        (("credentials", "--host", "h", "/none/FILE"), "No such file"),
    ],
)
def test_commands_about_users_fail_with_one_line(tmp_path: Path, words: tuple[str, ...], remedy: str) -> None:
    access("credentials", "--data", str(tmp_path), "--host", "h", "--user", "ann", str(tmp_path / "ann"))
    before = users_path(tmp_path).read_text()
    command, *others = (str(tmp_path / "file") if word == "FILE" else word for word in words)
    failed = CliRunner().invoke(broker_commands, [command, "--data", str(tmp_path), *others])
    assert failed.exit_code in {1, 2}
    assert remedy in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert users_path(tmp_path).read_text() == before
    (key,) = json.loads(before)["users"]["ann"]["keys"]
    assert key not in failed.output


@pytest.mark.parametrize(
    "words", [("rotate-key", "--host", "h", "ann", "f"), ("retire-key", "ann"), ("remove-user", "ann")]
)
def test_a_directory_without_users_is_said_to_be_one_and_left_alone(tmp_path: Path, words: tuple[str, ...]) -> None:
    failed = CliRunner().invoke(broker_commands, [words[0], "--data", str(tmp_path), *words[1:]])
    assert failed.exit_code == 2
    assert failed.stderr == f"Error: There are no users in {tmp_path}: name the broker's directory by --data.\n"
    assert list(tmp_path.iterdir()) == []
