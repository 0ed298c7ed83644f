"""Two hosts, each a network namespace, with a broker on one and clients on the other; then the cable is cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.secure import SecureBroker

BROKER, CLIENT = "10.213.77.1", "10.213.77.2"

#: Seconds within which each side notices that the other one's machine is gone; half of it for a busy test machine.
NOTICED_SECONDS = 45.0
PATIENCE = NOTICED_SECONDS + 15

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Hosts:
    """The names of two network namespaces that a cable joins."""

    broker: str
    client: str

    def cut(self) -> None:
        """Lose every packet from now on, without a word to anybody."""
        ip("-n", self.client, "link", "set", "cable", "down")

    def mend(self) -> None:
        """Let packets pass again."""
        ip("-n", self.client, "link", "set", "cable", "up")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


def why_not() -> str:
    """Return why this machine cannot have namespaces made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces are made by root on Linux"
    if shutil.which("ip") is None:
        return "there is no ip command (package iproute2)"
    probe = f"mplite-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"network namespaces cannot be made here: {done.stderr.strip()}"
    ip("netns", "del", probe)
    return ""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    names = Hosts(f"mplite-b-{os.getpid()}", f"mplite-c-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        for name in (names.broker, names.client):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip("-n", names.broker, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", names.client)
        for name, address in ((names.broker, BROKER), (names.client, CLIENT)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names


CONSUMER = """
    import sys, time
    from mplite_tasks_transport import frames
    from mplite_tasks_transport.client import BrokerClient
    from mplite_tasks_transport.errors import ConnectionLost
    from mplite_tasks_transport.url import BrokerURL

    client = BrokerClient.connect(BrokerURL.parse("mplites://"), credentials=sys.argv[1], timeout=20)
    client.call(frames.OpenChannel(0, 1))
    client.call(frames.Qos(0, 1, 1))
    client.call(frames.Consume(0, 1, "tag", "q"))
    print("has", client.drain(20).id, flush=True)
    try:
        client.drain(120)
    except ConnectionLost:
        print("lost", flush=True)
"""

PRODUCER = """
    import sys
    from mplite_tasks_transport import frames
    from mplite_tasks_transport.client import BrokerClient
    from mplite_tasks_transport.url import BrokerURL

    with BrokerClient.connect(BrokerURL.parse("mplites://"), credentials=sys.argv[1], timeout=20) as client:
        client.call(frames.DeclareQueue(0, "q"))
        for number in range(5):
            client.call(frames.Publish(0, "", "q", f"m{number}", number, b"x"))
        print("sent", client.call(frames.DeclareQueue(0, "q", passive=True))[1], flush=True)
"""

PLAIN = """
    import sys
    from mplite_tasks_transport.client import BrokerClient
    from mplite_tasks_transport.errors import InvalidOption
    from mplite_tasks_transport.url import BrokerURL

    url = BrokerURL(sys.argv[1], int(sys.argv[2]), key="a-key-of-sixteen-bytes")
    try:
        BrokerClient.connect(url, timeout=20)
    except InvalidOption as error:
        print("refused", flush=True)
    with BrokerClient.connect(url, timeout=20, allow_plaintext=True):
        print("allowed", flush=True)
"""


def on(host: str, program: str, *words: str) -> subprocess.Popen[str]:
    """Run a program on a host."""
    command = ["ip", "netns", "exec", host, sys.executable, "-c", textwrap.dedent(program), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(host: str, file: str, program: str) -> str:
    with ended(on(host, program, file)) as process:
        return said(process)


WAITING = """
    import sys, time
    from mplite_tasks_transport import frames
    from mplite_tasks_transport.client import BrokerClient
    from mplite_tasks_transport.url import BrokerURL

    with BrokerClient.connect(BrokerURL.parse("mplites://"), credentials=sys.argv[1], timeout=20) as client:
        end = time.monotonic() + float(sys.argv[2])
        started = time.monotonic()
        while time.monotonic() < end:
            counts = client.call(frames.Status(0))["queues"]["q"]
            if counts["held"] == 0:
                break
            time.sleep(0.2)  # only the machine's own clock can tell
        print(counts["waiting"], counts["held"], time.monotonic() - started, flush=True)
"""


def test_two_hosts_share_a_queue_by_tls_and_one_that_is_cut_off_is_noticed_by_both(
    hosts: Hosts, secure_broker: Callable[..., SecureBroker]
) -> None:
    broker = secure_broker(listen=f"mplites://{BROKER}:7879", prefix=("ip", "netns", "exec", hosts.broker))
    file = str(broker.user("ann", "produce", "consume", host=BROKER))
    assert ask(hosts.client, file, PRODUCER) == "sent 5"
    with ended(on(hosts.client, CONSUMER, file)) as consumer:
        assert said(consumer) == "has m4"
        hosts.cut()
        with ended(on(hosts.broker, WAITING, file, str(PATIENCE))) as watcher:
            waiting, held, seconds = said(watcher).split()
        assert (waiting, held) == ("5", "0"), f"the message went not back within {seconds} s"
        assert said(consumer) == "lost"
    hosts.mend()
    with ended(on(hosts.client, CONSUMER, file)) as again:
        assert said(again) == "has m4", "at its old place"


def test_plaintext_between_hosts_needs_a_word_from_each_side(
    hosts: Hosts, secure_broker: Callable[..., SecureBroker], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text("a-key-of-sixteen-bytes")
    prefix = ("ip", "netns", "exec", hosts.broker)
    with pytest.raises(AssertionError, match="--allow-plaintext"):
        secure_broker(("--key-file", str(key)), f"mplite://{BROKER}:7878", prefix)
    secure_broker(("--key-file", str(key), "--allow-plaintext"), f"mplite://{BROKER}:7878", prefix)
    with ended(on(hosts.client, PLAIN, BROKER, "7878")) as client:
        assert [said(client), said(client)] == ["refused", "allowed"]
