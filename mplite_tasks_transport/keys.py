"""Keys: the secret that a broker and its clients prove to each other over TCP, and where it comes from."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import InvalidKey

__all__ = [
    "HOW_TO_MAKE_A_KEY_FILE",
    "KEY_ENV",
    "KEY_FILE_ENV",
    "MAX_KEY_BYTES",
    "MIN_KEY_BYTES",
    "load_key",
    "new_key",
    "read_key_file",
    "read_private_file",
    "write_private_file",
]

#: The environment variable that holds a key, and the one that names a file with a key.
KEY_ENV: Final = "MPLITE_KEY"
KEY_FILE_ENV: Final = "MPLITE_KEY_FILE"

#: Bytes of a key: 16 random ones cannot be guessed, and nobody has a reason for more than a page.
MIN_KEY_BYTES: Final = 16
MAX_KEY_BYTES: Final = 4096

HOW_TO_MAKE_A_KEY_FILE: Final = (
    "make one with: (umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > FILE)"
)


def new_key() -> str:
    """Return a new key: 32 random bytes, as 43 characters that need no quoting in a URL or a shell."""
    return secrets.token_urlsafe(32)


def load_key(
    key: str | bytes | None = None,
    key_file: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> bytes | None:
    """Return the key from the first place that has one, ``None`` if none has.

    Parameters:
        key: the key itself, as from a URL's password.
        key_file: a file that holds it (:func:`read_key_file`).
        environ: where ``MPLITE_KEY`` and then ``MPLITE_KEY_FILE`` are looked up; ``os.environ`` by default.

    Raises:
        InvalidKey: the key is too short or its file cannot be used; the text never shows the key.
    """
    env = os.environ if environ is None else environ
    if key is not None:
        return _checked(key.encode() if isinstance(key, str) else key, "The key")
    if key_file is not None:
        return read_key_file(key_file)
    if env.get(KEY_ENV):
        return _checked(env[KEY_ENV].encode(), f"The key in {KEY_ENV}")
    if env.get(KEY_FILE_ENV):
        return read_key_file(env[KEY_FILE_ENV])
    return None


def read_key_file(path: str | os.PathLike[str]) -> bytes:
    """Return the key in a file, without the newline at its end.

    Raises:
        InvalidKey: it cannot be read, others can read it, or the key is too short or too long.
    """
    file = Path(path)
    data = read_private_file(file, "key file", MAX_KEY_BYTES + 2, HOW_TO_MAKE_A_KEY_FILE)
    return _checked(data.removesuffix(b"\n").removesuffix(b"\r"), f"The key in {file}")


def read_private_file(file: Path, what: str, limit: int, remedy: str) -> bytes:
    """Return the first bytes of a file with a secret in it.

    Parameters:
        what: what the file is, for errors.
        limit: how many bytes are read.
        remedy: how to make one, for errors.

    Raises:
        InvalidKey: it cannot be read, is no regular file, or others can open it.
    """
    try:
        with file.open("rb") as stream:
            _refuse_readable_by_others(file, what, os.fstat(stream.fileno()), remedy)
            return stream.read(limit)
    except OSError as exc:
        raise InvalidKey(f"The {what} {file} cannot be read: {exc.strerror}; {remedy}") from exc


def write_private_file(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole: a reader sees the old or the new one, and never a part.

    Raises :class:`OSError` if it cannot be written.
    """
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        exc.filename = os.fspath(file)  # which is what the caller knows
        raise
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _refuse_readable_by_others(file: Path, what: str, status: os.stat_result, remedy: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidKey(f"The {what} {file} is not a regular file; {remedy}")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidKey(
            f"The {what} {file} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}): run chmod 600 {file}"
        )


def _checked(key: bytes, what: str) -> bytes:
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise InvalidKey(
            f"{what} has {len(key)} bytes; it has to have {MIN_KEY_BYTES} to {MAX_KEY_BYTES}: {HOW_TO_MAKE_A_KEY_FILE}"
        )
    return key
