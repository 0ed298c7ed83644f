"""``mplites://``: who is believed, what is refused before a byte is sent, and that everything else works as before."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from kombu import Connection, Consumer, Exchange, Producer, Queue

from mplite_tasks_transport import BrokerClient, BrokerURL, TransportError, frames
from mplite_tasks_transport.broker.identity import make_certificate
from mplite_tasks_transport.certificates import endpoint_binding, fingerprint_of, first_certificate
from mplite_tasks_transport.credentials import CREDENTIALS_ENV, Credentials, read_credentials, write_credentials
from mplite_tasks_transport.errors import (
    BrokerUnreachable,
    ConnectionLost,
    HandshakeRefused,
    InvalidCertificate,
    InvalidKey,
    InvalidOption,
    InvalidURL,
)
from mplite_tasks_transport.handshake import BrokerHandshake, ClientHandshake
from mplite_tasks_transport.keys import new_key
from mplite_tasks_transport.limits import MAX_HANDSHAKE_BYTES
from mplite_tasks_transport.protocol import FrameReader
from mplite_tasks_transport.tls import TLSOptions

from ..support.secure import Authority, SecureBroker

MakeBroker = Callable[..., SecureBroker]

BIG = 20_000_000


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(new_key())
    return path


def url_with_key(broker: SecureBroker, host: str = "localhost", name: str = "root") -> BrokerURL:
    known = broker.credentials(name)
    return BrokerURL(host, broker.port, user=known.user, key=known.secret, scheme="mplites")


# The credentials file


def test_a_credentials_file_is_all_that_a_client_needs(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    with broker.connect() as client:
        client.call(frames.DeclareQueue(0, "q"))
        client.call(frames.Publish(0, "", "q", "id", 7, os.urandom(BIG)))
        client.call_many([frames.Publish(0, "", "q", str(n), 1, b"x" * 1000) for n in range(3000)])
        client.call(frames.OpenChannel(0, 1))
        client.call(frames.Consume(0, 1, "t", "q", no_ack=True))
        first, *others = [client.drain(20) for _ in range(3001)]
        assert isinstance(first, frames.Deliver)
        assert len(first.payload) == BIG
        assert [each.id for each in others if isinstance(each, frames.Deliver)] == [str(n) for n in range(3000)]
        assert client.url.address == ("localhost", broker.port)
        with pytest.raises(TimeoutError):
            client.drain(0)


def test_the_environment_names_the_credentials_of_its_own_broker_only(
    secure_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = secure_broker()
    monkeypatch.setenv(CREDENTIALS_ENV, str(broker.user("root")))
    for url in ("mplites://", "mplites:///proj", f"mplites://localhost:{broker.port}/"):
        with BrokerClient.connect(BrokerURL.parse(url)) as client:
            assert client.call(frames.Status(0))["vhost"] == ("proj" if "proj" in url else "/")
    with pytest.raises(InvalidCertificate, match="not to be believed"):  # another name: not the credentials' broker
        BrokerClient.connect(BrokerURL.parse(f"mplites://127.0.0.1:{broker.port}/"))


def test_kombu_uses_credentials_the_ssl_option_and_the_scheme(
    secure_broker: MakeBroker, authority: Authority, tmp_path: Path
) -> None:
    files = authority.issue()
    broker = secure_broker(("--cert", str(files.certificate), "--cert-key", str(files.key)))
    file = tmp_path / "by-authority.json"
    known = broker.credentials()
    write_credentials(file, Credentials(BrokerURL("localhost", broker.port, scheme="mplites"), "root", known.secret))
    full = f"root:{known.secret}@localhost:{broker.port}/"
    ca = {"ca_certs": str(authority.certificate), "cert_reqs": ssl.CERT_REQUIRED}
    queue = Queue("q", Exchange(""), "q")
    for url, options, option in (
        ("mplites://", {"credentials": str(file)}, ca),
        (f"mplites://{full}", {}, ca),
        (f"mplite://{full}", {}, ca),
    ):
        with Connection(url, transport_options=options, ssl=option) as connection:
            assert known.secret not in repr(connection)
            assert known.secret not in connection.as_uri()
            channel = connection.channel()
            Producer(channel).publish({"n": 1}, routing_key="q", declare=[queue])
            got: list[object] = []
            with Consumer(channel, [queue], callbacks=[lambda body, _, got=got: got.append(body)], no_ack=True):
                connection.drain_events(timeout=10)
            assert got == [{"n": 1}]
    with pytest.raises(InvalidOption, match="protects nobody"):
        Connection(f"mplites://{full}", ssl={"cert_reqs": ssl.CERT_NONE}).connect()
    with pytest.raises(InvalidOption, match="ciphers is not known"):
        Connection(f"mplites://{full}", ssl={"ciphers": "NULL"}).connect()
    with pytest.raises(InvalidOption, match=r"none\.pem cannot be used"):
        Connection(f"mplites://{full}", ssl={"ca_certs": "none.pem"}).connect()


def test_a_kombu_failover_url_may_have_tls(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    urls = f"mplite://127.0.0.1:1/;mplites://localhost:{broker.port}/"
    with Connection(urls, transport_options={"credentials": str(broker.user("root"))}) as connection:
        connection.ensure_connection(max_retries=3, interval_start=0)
        assert connection.connected
        assert connection.as_uri().startswith("mplites://")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "not JSON"),
        ("[]", "not JSON"),
        ('{"url": "mplites://h/", "user": "u"}', "not JSON with url, user and secret"),
        ('{"url": "mplites://", "user": "u", "secret": "a-secret-of-many-bytes"}', "without a host"),
        ('{"url": "amqp://h/", "user": "u", "secret": "a-secret-of-many-bytes"}', "begin with"),
        ('{"url": "mplites://h/", "user": "u", "secret": "short"}', "16 to 4096"),
        ('{"url": "mplites://h/", "user": "u", "secret": "a-secret-of-many-bytes", "fingerprint": "x"}', "fingerprint"),
    ],
)
def test_a_credentials_file_that_cannot_be_used_is_refused_without_its_secret(
    tmp_path: Path, text: str, remedy: str
) -> None:
    file = tmp_path / "file.json"
    file.touch(0o600)
    file.write_text(text)
    with pytest.raises(InvalidKey, match=remedy) as caught:
        read_credentials(file)
    assert "a-secret" not in str(caught.value)
    file.chmod(0o640)
    with pytest.raises(InvalidKey, match="chmod 600"):
        read_credentials(file)


def test_credentials_show_their_secret_nowhere(tmp_path: Path) -> None:
    credentials = Credentials(BrokerURL("h", scheme="mplites"), "u", "a-secret-of-many-bytes")
    assert "a-secret" not in repr(credentials)
    assert "a-secret" not in repr(credentials.apply(BrokerURL.parse("mplites://")))
    write_credentials(tmp_path / "file", credentials)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert read_credentials(tmp_path / "file") == credentials


def test_tls_without_a_host_and_without_credentials_says_what_is_missing() -> None:
    with pytest.raises(InvalidURL, match="MPLITE_CREDENTIALS"):
        BrokerClient.connect(BrokerURL.parse("mplites://"))


# Certificates


def test_a_certificate_is_checked_by_its_authority_name_and_dates(
    secure_broker: MakeBroker, authority: Authority
) -> None:
    trusting = TLSOptions(ca_certs=str(authority.certificate))
    bad = {
        "hostname mismatch": authority.issue(hosts=("elsewhere.example",)),
        "expired": authority.issue(days=-1),
    }
    good = authority.issue(hash=hashes.SHA512())
    broker = secure_broker(("--cert", str(good.certificate), "--cert-key", str(good.key)))
    url = url_with_key(broker)
    with BrokerClient.connect(url, tls=trusting):
        pass
    with pytest.raises(InvalidCertificate, match="not to be believed"):
        BrokerClient.connect(url)  # the system's authorities do not know it
    for reason, files in bad.items():
        other = secure_broker(("--cert", str(files.certificate), "--cert-key", str(files.key)))
        with pytest.raises(InvalidCertificate, match=f"(?i){reason}") as caught:
            BrokerClient.connect(url_with_key(other), tls=trusting)
        assert str(url.key) not in str(caught.value)


def test_a_certificate_that_is_not_the_one_of_the_fingerprint_is_refused(secure_broker: MakeBroker) -> None:
    broker, impostor = secure_broker(), secure_broker()
    known = broker.credentials()
    url = BrokerURL("localhost", impostor.port, user="root", key=known.secret, scheme="mplites")
    with pytest.raises(InvalidCertificate, match="not the one of the fingerprint"):
        BrokerClient.connect(url, tls=TLSOptions(fingerprint=known.fingerprint))


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [
        (hashes.SHA224(), "sha224"),
        (hashes.SHA256(), "sha256"),
        (hashes.SHA384(), "sha384"),
        (hashes.SHA512(), "sha512"),
    ],
)
def test_the_binding_is_the_hash_that_the_certificate_is_signed_with(
    authority: Authority, algorithm: hashes.HashAlgorithm, name: str
) -> None:
    certificate = first_certificate(authority.issue(hash=algorithm).certificate.read_text())
    assert endpoint_binding(certificate) == hashlib.new(name, certificate).digest()
    assert (
        fingerprint_of(certificate)
        == "sha256:" + x509.load_der_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()
    )
    for size in range(0, len(certificate), 7):
        with pytest.raises(InvalidCertificate):
            endpoint_binding(certificate[:size])


def test_old_tls_is_refused_by_the_broker(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", broker.port)) as sock, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(sock)


# In the clear


def test_the_clear_and_tls_do_not_mix(secure_broker: MakeBroker, key_file: Path) -> None:
    broker = secure_broker(("--listen", "mplite://127.0.0.1:0", "--key-file", str(key_file)))
    plain = next(url.address[1] for url in broker.urls if not url.is_secure)
    key = key_file.read_text()
    with BrokerClient.connect(BrokerURL("127.0.0.1", plain, key=key)) as client:
        assert client.call(frames.Ping(0))
    with pytest.raises(TransportError):
        BrokerClient.connect(BrokerURL("127.0.0.1", broker.port, key=key), timeout=5)
    with pytest.raises(BrokerUnreachable):
        BrokerClient.connect(BrokerURL("127.0.0.1", plain, key=key, scheme="mplites"), timeout=5)
    with broker.connect() as client:
        assert client.call(frames.Ping(0))


def test_nothing_is_sent_in_the_clear_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = BrokerURL("127.0.0.1", listener.getsockname()[1], key="a-secret-of-many-bytes")
        monkeypatch.setattr(socket.socket, "getpeername", lambda _: ("192.0.2.1", 1))
        with pytest.raises(InvalidOption, match="allow_plaintext"):
            BrokerClient.connect(url, timeout=5)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(100) == b""


def test_ipv6_and_several_listeners_at_once(secure_broker: MakeBroker) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine's loopback has no IPv6")
    broker = secure_broker(("--listen", "mplites://[::1]:0"))
    known = broker.credentials()
    hosts = {url.host: url for url in broker.urls}
    assert set(hosts) == {"127.0.0.1", "::1"}
    for host, url in hosts.items():
        with BrokerClient.connect(
            BrokerURL(host, url.port, user="root", key=known.secret, scheme="mplites"),
            tls=TLSOptions(fingerprint=known.fingerprint),
        ) as client:
            assert client.call(frames.Ping(0))


# Who is in between


class Relay:
    """Ends the TLS of a victim with a certificate that it has, and passes everything on by another TLS."""

    def __init__(self, certificate: Path, key: Path, target: int) -> None:
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(certificate, key)
        self._client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client.check_hostname, self._client.verify_mode = False, ssl.CERT_NONE
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.passed = bytearray()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(20)
        self._listener.close()

    def _run(self) -> None:
        accepted, _ = self._listener.accept()
        with (
            self._server.wrap_socket(accepted, server_side=True) as victim,
            self._client.wrap_socket(socket.create_connection(("127.0.0.1", self._target))) as broker,
        ):
            for source, sink in ((victim, broker), (broker, victim), (victim, broker), (broker, victim)):
                data = source.recv(16_384)
                self.passed += data
                sink.sendall(data)


def test_a_handshake_that_is_relayed_by_tls_gets_nobody_in(secure_broker: MakeBroker, authority: Authority) -> None:
    broker = secure_broker()
    impostor = authority.issue()
    relay = Relay(impostor.certificate, impostor.key, broker.port)
    known = broker.credentials()
    try:
        with pytest.raises(HandshakeRefused, match="Access refused"):
            BrokerClient.connect(
                BrokerURL("localhost", relay.port, user="root", key=known.secret, scheme="mplites"),
                tls=TLSOptions(ca_certs=str(authority.certificate)),  # the victim believes the one in between
                timeout=10,
            )
    finally:
        relay.close()
    assert relay.passed
    assert known.secret.encode() not in relay.passed


@pytest.mark.parametrize(("ours", "theirs"), [(b"a", b"b"), (b"a", b""), (b"", b"b")])
def test_a_proof_over_another_certificate_or_over_none_is_refused_by_both_sides(ours: bytes, theirs: bytes) -> None:
    key = b"k" * 32

    def body(data: bytes | object) -> bytes:
        assert isinstance(data, bytes)
        return FrameReader(MAX_HANDSHAKE_BYTES).feed(data)[0]

    client = ClientHandshake(vhost="/", key=key, binding=ours)
    broker = BrokerHandshake(pid=1, key=key, binding=theirs)
    proof = client.receive(body(broker.receive(body(client.hello()))))
    with pytest.raises(HandshakeRefused):
        broker.receive(body(proof))
    accomplice = BrokerHandshake(pid=1, key=key, binding=theirs)
    victim = ClientHandshake(vhost="/", key=key, binding=ours)
    victim.receive(body(accomplice.receive(body(victim.hello()))))
    helper = ClientHandshake(vhost="/", key=key, binding=theirs)
    helper._hello = victim._hello
    proof = helper.receive(accomplice._challenge)
    with pytest.raises(HandshakeRefused, match="does not know the key"):
        victim.receive(body(accomplice.receive(body(proof))))


# What a TLS connection has to share with others


def test_a_forked_child_closes_its_copy_without_a_word(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    with broker.connect() as client:
        pid = os.fork()
        if not pid:
            try:
                client.call(frames.Ping(0))
            except ConnectionLost:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert client.call(frames.Ping(0))


def test_a_tls_connection_that_is_lost_is_said_and_a_new_one_goes_on(secure_broker: MakeBroker) -> None:
    broker = secure_broker()
    client = broker.connect()
    assert broker.stop() == 0
    with pytest.raises(ConnectionLost, match="shutting down"):
        client.call(frames.Ping(0))


def test_a_client_by_tls_that_does_not_read_holds_up_nobody_and_gets_everything_when_it_does(
    secure_broker: MakeBroker,
) -> None:
    broker = secure_broker()
    number, size = 400, 100_000
    with broker.connect() as slow, broker.connect() as other:
        slow.call(frames.DeclareQueue(0, "q"))
        slow.call(frames.OpenChannel(0, 1))
        slow.call(frames.Consume(0, 1, "t", "q", no_ack=True))
        other.call_many([frames.Publish(0, "", "q", str(n), 1, bytes(size)) for n in range(number)])
        waiting = other.call(frames.DeclareQueue(0, "q", passive=True))[1]
        assert waiting > number // 2, "the broker keeps them where they wait, not in what is to be sent"
        got = [slow.drain(20) for _ in range(number)]
        assert [each.id for each in got if isinstance(each, frames.Deliver)] == [str(n) for n in range(number)]


def test_making_a_certificate_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(InvalidCertificate, match=r"pip install 'mplite-tasks\[tls\]'"):
        make_certificate(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--cert", "CERT"), "belong together"),
        (("--cert", "CERT", "--cert-key", "OTHER"), "cannot be used"),
        (("--cert", "KEY", "--cert-key", "KEY"), "no certificate"),
        (("--cert", "none.pem", "--cert-key", "KEY"), "No such file"),
        (("--cert", "CERT", "--cert-key", "OPEN"), "chmod 600"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_said_in_one_line(
    authority: Authority, tmp_path: Path, key_file: Path, options: tuple[str, ...], remedy: str
) -> None:
    files, other = authority.issue(), authority.issue()
    opened = tmp_path / "open.pem"
    opened.write_bytes(files.key.read_bytes())
    opened.chmod(0o644)
    names = {"CERT": files.certificate, "KEY": files.key, "OTHER": other.key, "OPEN": opened}
    command = [sys.executable, "-m", "mplite_tasks_transport.broker.cli", "--listen", "mplites://127.0.0.1:0"]
    command += ["--key-file", str(key_file), "--durability", "memory", *(str(names.get(o, o)) for o in options)]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode in {1, 2}
    assert remedy in failed.stderr
    assert failed.stderr.count("\n") == 1
