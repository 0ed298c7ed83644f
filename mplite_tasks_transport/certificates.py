"""Certificates, as much of them as a connection needs: their fingerprint, and the hash that a handshake is bound to.

The standard library checks chains and names; it does not say how a certificate is signed, which RFC 5929 needs. So a
few bytes of DER are read here. Nothing is trusted for what this module finds in a certificate.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from typing import Final

from .errors import InvalidCertificate

__all__ = ["endpoint_binding", "fingerprint_of", "first_certificate", "same_fingerprint"]

_BLOCK: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")

_SEQUENCE: Final = 0x30
_OBJECT_IDENTIFIER: Final = 0x06

#: The signature algorithms whose hash is not SHA-256, by their encoded object identifiers. MD5 and SHA-1 are replaced
#: by SHA-256 (RFC 5929, 4.1), which also stands for the algorithms that RFC 5929 leaves undefined, such as Ed25519.
_HASHES: Final = {
    bytes.fromhex("2a864886f70d01010c"): "sha384",  # sha384WithRSAEncryption
    bytes.fromhex("2a864886f70d01010d"): "sha512",  # sha512WithRSAEncryption
    bytes.fromhex("2a864886f70d01010e"): "sha224",  # sha224WithRSAEncryption
    bytes.fromhex("2a8648ce3d040301"): "sha224",  # ecdsa-with-SHA224
    bytes.fromhex("2a8648ce3d040303"): "sha384",  # ecdsa-with-SHA384
    bytes.fromhex("2a8648ce3d040304"): "sha512",  # ecdsa-with-SHA512
}


def first_certificate(pem: str) -> bytes:
    """Return the first certificate of a PEM file's text, as DER. It is the one that a server shows as its own.

    Raises:
        InvalidCertificate: there is none.
    """
    match = _BLOCK.search(pem)
    if match is None:
        raise InvalidCertificate("There is no certificate (-----BEGIN CERTIFICATE-----) in it.")
    try:
        return ssl.PEM_cert_to_DER_cert(match[0])
    except ValueError as exc:
        raise InvalidCertificate(f"The certificate in it cannot be read: {exc}.") from exc


def fingerprint_of(certificate: bytes) -> str:
    """Return ``sha256:`` and the hexadecimal SHA-256 of a certificate (DER), as ``openssl x509`` has it."""
    return f"sha256:{hashlib.sha256(certificate).hexdigest()}"


def same_fingerprint(certificate: bytes, expected: str) -> bool:
    """Return whether a certificate (DER) is the one of a fingerprint, with or without colons, in upper or lower case.

    Raises:
        InvalidCertificate: the expected text is no SHA-256 fingerprint.
    """
    digits = expected.strip().lower().removeprefix("sha256:").removeprefix("sha256 fingerprint=").replace(":", "")
    if not _FINGERPRINT.fullmatch(f"sha256:{digits}"):
        raise InvalidCertificate(f"{expected!r} is no fingerprint: it has to be sha256: and 64 hexadecimal digits.")
    return hmac.compare_digest(fingerprint_of(certificate), f"sha256:{digits}")


def endpoint_binding(certificate: bytes) -> bytes:
    """Return the channel binding ``tls-server-end-point`` (RFC 5929) of a server's certificate (DER).

    Raises:
        InvalidCertificate: it is no certificate.
    """
    return hashlib.new(_HASHES.get(_signature_algorithm(certificate), "sha256"), certificate).digest()


def _signature_algorithm(certificate: bytes) -> bytes:
    """Return the object identifier of the algorithm that the issuer signed with: the field after the signed part."""
    try:
        whole, _ = _content(certificate, 0, _SEQUENCE)
        _, after_signed = _content(whole, 0, _SEQUENCE)
        algorithm, _ = _content(whole, after_signed, _SEQUENCE)
        return _content(algorithm, 0, _OBJECT_IDENTIFIER)[0]
    except (IndexError, ValueError):
        raise InvalidCertificate("What the peer showed is no X.509 certificate.") from None


def _content(data: bytes, start: int, tag: int) -> tuple[bytes, int]:
    """Return what a DER element holds, and where the next one begins."""
    if data[start] != tag:
        raise ValueError
    size, begin = data[start + 1], start + 2
    if size & 0x80:
        digits = size & 0x7F
        size, begin = int.from_bytes(data[begin : begin + digits], "big"), begin + digits
    if begin + size > len(data):
        raise ValueError
    return data[begin : begin + size], begin + size
