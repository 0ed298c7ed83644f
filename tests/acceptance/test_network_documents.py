"""``docs/howto-network.md``, done as it says, and the tables of ``docs/security.md`` and ``docs/protocol.md``."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mplite_tasks_transport import frames, limits
from mplite_tasks_transport.broker.roles import Role, refused_frames
from tests.support.documents import Block, Reader, blocks_of
from tests.support.proxy import Proxy
from tests.support.secure import Authority
from tests.support.workers import ROOT

HOW_TO = [block for block in blocks_of("docs/howto-network.md") if block.language != "text"]
SECURITY = (ROOT / "docs" / "security.md").read_text()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def follow(
    local_home: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Do what a section says, on this machine and on a port that is free, and return what it printed."""

    def on_this_machine(block: Block, number: int) -> Block:
        text = re.sub(r"--host broker\.example(:\d+)?", f"--host localhost:{number}", block.text)
        text = text.replace("broker.example", "localhost").replace("0.0.0.0", "127.0.0.1")
        return Block(block.heading, block.language, re.sub(r":(7878|7879|8443)\b", f":{number}", text))

    # Where OpenSSL finds the authorities of the system; a test that needs one puts it there.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Reader.in_(tmp_path) as reader:

        def do(heading: str, *, client_port: int | None = None) -> str:
            blocks = [b for b in HOW_TO if b.heading == heading and b.language in {"console", "python"}]
            assert blocks, f"no section {heading!r}"
            numbers = [client_port or port if "export" in block.text else port for block in blocks]
            return "".join(reader.follow(on_this_machine(b, n)) for b, n in zip(blocks, numbers, strict=True))

        yield do


def test_two_machines_share_a_queue_as_the_how_to_says(follow: Callable[..., str]) -> None:
    printed = follow("A queue between two machines")
    assert "who is new" in printed
    assert printed.endswith("5\njobs\n")


def test_users_and_keys_change_as_the_how_to_says(follow: Callable[..., str]) -> None:
    assert "web  produce  all vhosts  keys: 1\n" in follow("A user who may only send")
    assert "1 retired" in follow("Change a key while everything runs")


def test_an_own_certificate_is_used_as_the_how_to_says(follow: Callable[..., str], tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    files.certificate.rename(tmp_path / "fullchain.pem")
    files.key.rename(tmp_path / "privkey.pem")
    (tmp_path / "privkey.pem").chmod(0o600)
    assert follow("Bring your own certificate").endswith("jobs\n")


def test_one_port_is_enough_as_the_how_to_says(follow: Callable[..., str], port: int) -> None:
    assert f"Listening on mplites://127.0.0.1:{port}/" in follow("Behind a firewall: one port")


def test_a_tunnel_is_enough_as_the_how_to_says(follow: Callable[..., str], port: int) -> None:
    """The tunnel itself is a proxy here: there is no second machine to log in to."""
    with Proxy(port) as tunnel:
        assert follow("Behind a firewall: an SSH tunnel", client_port=tunnel.port).endswith("jobs\n")


def test_the_tunnel_of_the_how_to_is_one_that_ssh_understands() -> None:
    (command,) = (block.text for block in HOW_TO if block.language == "sh")
    try:
        done = subprocess.run(
            ["ssh", "-G", "-F", "none", *command.split()[1:]], capture_output=True, text=True, check=False, timeout=30
        )
    except FileNotFoundError:
        pytest.skip("there is no ssh command")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^localforward \[?127\.0\.0\.1\]?:7878 \[?127\.0\.0\.1\]?:7878$", done.stdout, re.MULTILINE)


def test_the_table_of_roles_is_the_one_of_the_broker() -> None:
    section = SECURITY.partition("## Roles")[2].partition("\n## ")[0]
    written = {
        request: frozenset(map(Role, roles.split(" or ")))
        for roles, requests in re.findall(r"^\| ((?:produce|consume|manage)[a-z ]*) \| (.*) \|$", section, re.MULTILINE)
        for request in requests.split(", ")
    }
    everything = {frame.__name__ for frame in refused_frames(())}
    assert set(written) == everything
    for role in Role:
        allowed = everything - {frame.__name__ for frame in refused_frames([role])}
        assert allowed == {request for request, roles in written.items() if role in roles}, role


def test_every_request_has_a_place_in_the_table_of_roles() -> None:
    from mplite_tasks_transport.broker import roles

    assert set(roles._NEEDED) == set(frames.Request.__args__)


@pytest.mark.parametrize("document", ["security.md", "protocol.md"])
@pytest.mark.parametrize(
    "value",
    [
        limits.MAX_CONNECTIONS,
        limits.MAX_CONNECTIONS_PER_ADDRESS,
        limits.MAX_UNAUTHENTICATED,
        limits.MAX_HANDSHAKE_BYTES,
        limits.MAX_VHOSTS,
        limits.MAX_QUEUES,
        limits.MAX_CHANNELS,
        limits.MAX_CONSUMERS,
    ],
)
def test_each_number_of_the_tables_of_limits_is_the_one_of_the_broker(document: str, value: int) -> None:
    table = (ROOT / "docs" / document).read_text().partition("## Limits")[2]
    assert re.search(rf"\b{value:,}\b", table)
