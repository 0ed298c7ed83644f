"""The broker's certificate: brought by who runs it, or made on first use; and the TLS that goes with it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..certificates import endpoint_binding, fingerprint_of, first_certificate
from ..errors import InvalidCertificate, InvalidKey
from ..keys import read_private_file, write_private_file

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

__all__ = ["CERTIFICATE_NAME", "EVERYWHERE", "Identity", "load_identity", "make_certificate", "own_identity_paths"]

#: The names of a certificate that was made here and of its key, in the data directory.
CERTIFICATE_NAME: Final = "certificate.pem"
_KEY_NAME: Final = "certificate-key.pem"

_MAX_BYTES: Final = 1024 * 1024

#: Addresses to listen on that are nobody's name.
EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - nothing is bound to them here

#: Days that a certificate made here is valid. Clients know it by its fingerprint, so it is replaced by hand, not by
#: running out.
_VALID_DAYS: Final = 3650


@dataclass(frozen=True, slots=True)
class Identity:
    """What a broker shows to its TLS clients.

    Parameters:
        context: for the listeners.
        binding: the channel binding of the certificate, which the proofs of the handshake cover.
        fingerprint: of the certificate, for credentials files.
    """

    context: ssl.SSLContext
    binding: bytes
    fingerprint: str


def own_identity_paths(data: Path) -> tuple[Path, Path]:
    """Return the paths of a data directory's own certificate and its key."""
    return data / CERTIFICATE_NAME, data / _KEY_NAME


def load_identity(certificate: Path, key: Path) -> Identity:
    """Return the identity of a certificate (PEM, with its chain behind it) and its private key (PEM, mode 0600).

    Raises:
        InvalidCertificate, InvalidKey: they cannot be used, or do not belong together.
    """
    try:
        own = first_certificate(certificate.read_text(encoding="ascii"))
        read_private_file(key, "certificate's key file", _MAX_BYTES, "it comes with the certificate")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0  # no session is resumed, so a ticket is of no use
        context.load_cert_chain(certificate, key, password=_no_password)
    except (InvalidCertificate, OSError, ValueError) as exc:
        if isinstance(exc, InvalidKey):
            raise
        reason = getattr(exc, "strerror", None) or str(exc)
        raise InvalidCertificate(f"The certificate {certificate} with the key {key} cannot be used: {reason}") from exc
    return Identity(context, endpoint_binding(own), fingerprint_of(own))


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is here to be asked for it.")


def make_certificate(data: Path, hosts: Iterable[str] = ()) -> None:
    """Make a certificate that is signed by itself, unless the data directory has one.

    Parameters:
        hosts: names and addresses to have in it, besides those of the loopback. Clients with the fingerprint do not
            look at them.

    Raises:
        InvalidCertificate: the package cryptography is not installed.
    """
    certificate, key = own_identity_paths(data)
    if certificate.exists() and key.exists():
        return
    named = [host for host in hosts if host not in EVERYWHERE]
    key_text, certificate_text = _self_signed(["localhost", "127.0.0.1", "::1", *named])
    write_private_file(key, key_text)
    write_private_file(certificate, certificate_text)
    with contextlib.suppress(OSError):
        os.chmod(certificate, 0o644)  # noqa: PTH101 - what everybody is shown is no secret


def _self_signed(hosts: list[str]) -> tuple[str, str]:
    try:
        from cryptography import x509  # noqa: PLC0415 - an extra, and 50 ms
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError:
        raise InvalidCertificate(
            "Making a certificate needs the package cryptography: pip install 'mplite-tasks[tls]', or bring a "
            "certificate of your own (--cert FILE --cert-key FILE)."
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "MPLite broker")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # for clocks that are behind
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in dict.fromkeys(hosts)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    key_pem = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key_pem.decode(), certificate.public_bytes(encoding).decode()


def _alternative(host: str) -> GeneralName:
    from cryptography import x509  # noqa: PLC0415 - an extra

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode())
    except (UnicodeError, ValueError):
        raise InvalidCertificate(f"{host!r} is no name or address that a certificate could have.") from None
