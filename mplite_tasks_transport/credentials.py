"""Credentials: the one file that another machine needs to reach a broker. ``mplite broker credentials`` writes it.

It is JSON with the broker's URL (``url``), a user's name (``user``) and secret (``secret``), and the fingerprint of the
broker's certificate (``fingerprint``) where that is to be believed without an authority. Whoever has the file may do
what the user may: it has mode 0600 and is refused when others can read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from .certificates import same_fingerprint
from .errors import InvalidCertificate, InvalidKey, InvalidURL
from .keys import load_key, read_private_file, write_private_file
from .url import BrokerURL

__all__ = ["CREDENTIALS_ENV", "Credentials", "find_credentials", "read_credentials", "write_credentials"]

#: The environment variable that names a credentials file.
CREDENTIALS_ENV: Final = "MPLITE_CREDENTIALS"

_MAX_BYTES: Final = 64 * 1024
_FIELDS: Final = ("url", "user", "secret", "fingerprint")
_HOW_TO_MAKE_ONE: Final = "make it on the broker's machine: mplite broker credentials --data DIR --host NAME FILE"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach a broker, as whom, and how to know it.

    Parameters:
        url: address and vhost, without user and key.
        user: the name to come under.
        secret: the user's key.
        fingerprint: of the broker's certificate; ``None`` to have it checked by the authorities.
    """

    url: BrokerURL
    user: str
    secret: str = field(repr=False)
    fingerprint: str | None = None

    def apply(self, url: BrokerURL) -> BrokerURL:
        """Return a URL with user and key, and with the address and vhost of these where it has none of its own."""
        target = self.url if url.host is None else url
        return replace(
            target,
            vhost=self.url.vhost if url.vhost == BrokerURL().vhost else url.vhost,
            user=url.user or self.user or None,
            key=url.key or self.secret,
        )


def find_credentials(
    url: BrokerURL,
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Credentials | None:
    """Return the credentials that are meant for a URL, ``None`` if there are none.

    Parameters:
        path: a credentials file, which is used whatever host the URL names; else the one that ``MPLITE_CREDENTIALS``
            names, which is used for its own broker only: for its own host and port, and for ``mplites://``.
        environ: where the variable is looked up; ``os.environ`` by default.

    Raises:
        InvalidKey: the file cannot be used; the text never shows the secret.
    """
    if path is not None:
        return read_credentials(path)
    named = (os.environ if environ is None else environ).get(CREDENTIALS_ENV)
    if not named or url.is_local:
        return None
    found = read_credentials(named)
    return found if url.host is None or url.address == found.url.address else None


def read_credentials(path: str | os.PathLike[str]) -> Credentials:
    """Return the credentials in a file.

    Raises:
        InvalidKey: it cannot be read, others can read it, or something in it is missing or wrong.
    """
    file = Path(path)
    data = read_private_file(file, "credentials file", _MAX_BYTES, _HOW_TO_MAKE_ONE)
    try:
        fields = json.loads(data)
    except ValueError:
        fields = None  # the error would quote the file
    if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) for name in _FIELDS[:3]):
        raise InvalidKey(f"The credentials file {file} is not JSON with url, user and secret; {_HOW_TO_MAKE_ONE}")
    try:
        url = BrokerURL.parse(fields["url"])
        load_key(fields["secret"])
        fingerprint = fields.get("fingerprint")
        if fingerprint is not None:
            same_fingerprint(b"", str(fingerprint))
    except (InvalidURL, InvalidKey, InvalidCertificate) as exc:
        raise InvalidKey(f"The credentials file {file} cannot be used: {exc}") from None
    if url.host is None or url.key is not None:
        raise InvalidKey(f"The credentials file {file} has a url without a host, or with a key in it.")
    return Credentials(url, fields["user"], fields["secret"], fingerprint)


def write_credentials(path: str | os.PathLike[str], credentials: Credentials) -> None:
    """Write a credentials file with mode 0600, whole or not at all.

    Raises :class:`OSError` if it cannot be written.
    """
    fields: dict[str, Any] = {
        "url": str(replace(credentials.url, user=None, key=None)),
        "user": credentials.user,
        "secret": credentials.secret,
    }
    if credentials.fingerprint is not None:
        fields["fingerprint"] = credentials.fingerprint
    write_private_file(Path(path), json.dumps(fields, indent=2) + "\n")
