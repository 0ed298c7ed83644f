"""TLS on a client's side: whom to believe, and a socket that the client uses as it uses any other.

A certificate is checked against the system's authorities and the host's name, or against the ones that are named, or it
has to be the very one whose fingerprint is known. There is no way to check nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .certificates import endpoint_binding, same_fingerprint
from .errors import InvalidCertificate, InvalidOption

__all__ = ["TLSOptions", "TLSSocket", "secure"]

_VERIFY: Final = "cert_reqs"


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """How a client checks its broker, and what it shows of itself.

    Parameters:
        ca_certs: file of the authorities (PEM) to believe; those of the system by default.
        certfile, keyfile: the client's own certificate and its key (PEM), for whoever stands before the broker and
            asks for one; the broker itself does not.
        server_hostname: the name that the certificate has to have; the URL's host by default.
        fingerprint: ``sha256:`` and 64 hexadecimal digits of the one certificate to believe. Authorities, names and
            dates are not looked at then.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    server_hostname: str | None = None
    fingerprint: str | None = None

    @classmethod
    def of(cls, option: Mapping[str, Any] | bool | None) -> TLSOptions | None:
        """Return what Kombu's ``ssl`` option says; ``None`` if it does not ask for TLS.

        Raises:
            InvalidOption: it has a word that means nothing here, or asks for a certificate that is not checked.
        """
        if not option:
            return None
        if option is True:
            return cls()
        words = dict(option)
        required = (ssl.CERT_REQUIRED, "required", "CERT_REQUIRED", None)
        if words.pop(_VERIFY, None) not in required:
            raise InvalidOption(
                "ssl: a certificate that is not checked protects nobody, so cert_reqs has to be ssl.CERT_REQUIRED: "
                "name the authority (ca_certs), or the certificate itself (fingerprint)."
            )
        unknown = sorted(map(str, words.keys() - set(cls.__slots__)))
        if unknown:
            raise InvalidOption(f"ssl: {', '.join(unknown)} is not known; there are {', '.join(cls.__slots__)}.")
        return cls(**{name: None if value is None else str(value) for name, value in words.items()})


class TLSSocket(ssl.SSLSocket):
    """A socket that knows ``MSG_DONTWAIT``: when it is set to not block, it reads and writes as plain ones do so."""

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read into a buffer. Raises :class:`BlockingIOError` when there is nothing yet.

        A buffer of 16 KiB or more takes a whole TLS record, so that nothing is left where no poll can see it.
        """
        try:
            return super().recv_into(buffer, nbytes, flags & ~socket.MSG_DONTWAIT)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def send(self, data: Any, flags: int = 0) -> int:
        """Write what fits. Raises :class:`BlockingIOError` when nothing does."""
        try:
            return super().send(data, flags & ~socket.MSG_DONTWAIT)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None


def secure(sock: socket.socket, host: str, options: TLSOptions) -> tuple[ssl.SSLSocket, bytes]:
    """Speak TLS (1.2 or later) over a connected socket, whose timeout is the handshake's.

    Returns the socket to go on with, and the channel binding of the broker's certificate.

    Raises:
        ssl.SSLError, OSError: no TLS, or a certificate that does not check out.
        InvalidCertificate: it is another certificate than the fingerprint's.
        InvalidOption: a file of the options cannot be used.
    """
    context = _context(options)
    name = options.server_hostname or host
    secured = context.wrap_socket(sock, server_hostname=name)
    try:
        return secured, endpoint_binding(_checked(secured, options))
    except BaseException:
        secured.close()
        raise


def _checked(secured: ssl.SSLSocket, options: TLSOptions) -> bytes:
    """Return the certificate that the broker showed, if it is the one to believe."""
    certificate = secured.getpeercert(binary_form=True)
    if certificate is None:
        raise InvalidCertificate("The broker showed no certificate.")
    if options.fingerprint is not None and not same_fingerprint(certificate, options.fingerprint):
        raise InvalidCertificate(
            "The broker's certificate is not the one of the fingerprint: it was replaced (get new credentials from the "
            "broker's machine), or this is not the broker."
        )
    return certificate


def _context(options: TLSOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = TLSSocket
    what = ""
    try:
        if options.fingerprint is not None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the fingerprint is compared before a byte is sent
        elif options.ca_certs is not None:
            what = options.ca_certs
            context.load_verify_locations(what)
        else:
            context.load_default_certs()
        if options.certfile is not None:
            what = options.certfile
            context.load_cert_chain(what, options.keyfile, password=_no_password)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise InvalidOption(f"ssl: {what} cannot be used: {reason}.") from exc
    return context


def _no_password() -> str:
    raise ValueError("its key has a password")
