"""Brokers by TLS for tests: their users, certificates of every kind, and connections that are not honest."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mplite_tasks_transport.broker.cli import broker_commands
from mplite_tasks_transport.client import BrokerClient
from mplite_tasks_transport.credentials import Credentials, read_credentials
from mplite_tasks_transport.url import BrokerURL

__all__ = ["Authority", "PemFiles", "SecureBroker", "access", "secure_broker"]

PATIENCE = 30.0

_LISTENING = re.compile(r"Listening on (mplites?://\S+:\d+/)")


def access(*words: str) -> str:
    """Run ``mplite broker …`` in this process and return what it printed."""
    done = CliRunner().invoke(broker_commands, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


class SecureBroker:
    """A broker in a process of its own that listens by TLS, with a user who may do everything.

    Parameters:
        directory: where its data and error output are.
        options: further options of the command line; a second ``--listen`` among them.
        listen: where it listens.
        prefix: a command that runs the broker, such as ``ip netns exec NAME``.
    """

    def __init__(
        self,
        directory: Path,
        options: Sequence[str] = (),
        listen: str = "mplites://127.0.0.1:0",
        prefix: Sequence[str] = (),
    ) -> None:
        self.data = directory / "data"
        self.directory = directory
        self.urls: list[BrokerURL] = []
        self._command = [
            *prefix,
            *(sys.executable, "-m", "mplite_tasks_transport.broker.cli"),
            *("--listen", listen, "--data", str(self.data), *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._drafts = 0

    def start(self) -> SecureBroker:
        """Start it and return when it listens."""
        if not self.data.exists():
            self.user("root", "produce", "consume", "manage", host="localhost:1")
        with (self.directory / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self._process.stdout is not None
        said, deadline = b"", time.monotonic() + PATIENCE
        while b"Durability" not in said:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 65_536) if ready else b""
            if not chunk:
                self.clean_up()
                raise AssertionError(f"The broker did not start: {said.decode()}{self.errors}")
            said += chunk
        self.urls = [BrokerURL.parse(text) for text in _LISTENING.findall(said.decode())]
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def errors(self) -> str:
        """What it wrote to its error output."""
        return (self.directory / "stderr").read_text()

    @property
    def port(self) -> int:
        """The port of the TLS listener."""
        return next(url.address[1] for url in self.urls if url.is_secure)

    def file(self) -> Path:
        """Return a path for a file that is not there yet."""
        self._drafts += 1
        return self.directory / f"credentials{self._drafts}.json"

    def user(self, name: str, *roles: str, vhosts: Sequence[str] = (), vhost: str = "/", host: str = "") -> Path:
        """Make a user, or credentials for one who is there, and return the credentials file."""
        file = self.file()
        words = [word for role in roles for word in ("--role", role)]
        words += [word for each in vhosts for word in ("--allow-vhost", each)]
        where = host or f"localhost:{self.port}"
        access(
            "credentials",
            "--data",
            str(self.data),
            "--host",
            where,
            "--user",
            name,
            "--vhost",
            vhost,
            *words,
            str(file),
        )
        return file

    def rotate(self, name: str) -> Path:
        """Give a user a new key and return the credentials file with it."""
        file = self.file()
        access("rotate-key", "--data", str(self.data), "--host", f"localhost:{self.port}", name, str(file))
        return file

    def credentials(self, name: str = "root") -> Credentials:
        """Return the credentials of a user."""
        return read_credentials(self.user(name))

    def connect(self, file: Path | None = None) -> BrokerClient:
        """Connect as a user does with a credentials file; as the one who may do everything by default."""
        return BrokerClient.connect(BrokerURL.parse("mplites://"), credentials=file or self.user("root"), timeout=20)

    def clean_up(self) -> None:
        """Kill it if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def stop(self) -> int:
        """End it with SIGTERM and return its exit status."""
        assert self._process is not None
        self._process.terminate()
        status = self._process.wait(PATIENCE)
        self.clean_up()
        return status


@pytest.fixture
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SecureBroker]]:
    """Start any number of brokers by TLS; the arguments are those of :class:`SecureBroker` after the directory."""
    made: list[SecureBroker] = []

    def make(*arguments: object, **named: object) -> SecureBroker:
        made.append(SecureBroker(tmp_path_factory.mktemp("secure"), *arguments, **named))  # type: ignore[arg-type]
        return made[-1].start()

    yield make
    for process in made:
        process.clean_up()


@dataclass(frozen=True)
class PemFiles:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates as a test wants them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test authority")])
        self._number = 0
        self.certificate = directory / "ca.pem"
        self.certificate.write_bytes(self._sign(self._key.public_key(), self._name, [], 30, ca=True))

    def issue(
        self,
        hosts: Sequence[str] = ("localhost", "127.0.0.1"),
        days: int = 30,
        hash: hashes.HashAlgorithm | None = None,
    ) -> PemFiles:
        """Return a certificate for these hosts that is valid for so many days more; negative ones have passed."""
        self._number += 1
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Server {self._number}")])
        files = PemFiles(self._directory / f"{self._number}.pem", self._directory / f"{self._number}-key.pem")
        files.certificate.write_bytes(self._sign(key.public_key(), name, hosts, days, hash=hash))
        files.key.touch(0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        name: x509.Name,
        hosts: Sequence[str],
        days: int,
        ca: bool = False,
        hash: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1 + 2 * abs(days)))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_alternative, hosts))), critical=False)
        return builder.sign(self._key, hash or hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
