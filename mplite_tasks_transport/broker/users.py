"""Users: who may come in over TCP, with which keys, to which vhosts and in which roles. They are kept in a file.

The file is JSON, of mode 0600, and has the keys themselves: both sides compute with them. It is looked at (a ``stat``)
at each handshake, and read again when it has changed, so that users and keys change without a restart.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..errors import InvalidKey
from ..keys import load_key, new_key, read_private_file, write_private_file
from ..limits import MAX_NAME_BYTES
from .roles import ALL_ROLES, Role
from .throttle import Throttle

__all__ = ["MAX_KEYS", "Guard", "User", "UserBook", "change_users", "users_path"]

log = logging.getLogger("mplite.broker")

#: Keys of a user that are valid at a time: the new one, and the old one until each machine has the new one.
MAX_KEYS: Final = 2

#: Bytes of the file: some ten thousand users.
_MAX_BYTES: Final = 4 * 1024 * 1024

_HOW_TO_MAKE_ONE: Final = "mplite broker credentials makes it, with a user in it"

#: The vhost that means all of them.
ANY_VHOST: Final = "*"


@dataclass(frozen=True, slots=True)
class User:
    """One user.

    Parameters:
        roles: what they may do.
        vhosts: where; ``*`` among them means everywhere.
        keys: what they prove to have, the newest first.
    """

    roles: frozenset[Role] = ALL_ROLES
    vhosts: tuple[str, ...] = (ANY_VHOST,)
    keys: tuple[str, ...] = field(default=(), repr=False)

    def may_enter(self, vhost: str) -> bool:
        """Return whether a vhost is theirs to use."""
        return ANY_VHOST in self.vhosts or vhost in self.vhosts

    def with_new_key(self) -> User:
        """Return the same user with a new key; the one before it stays valid, earlier ones don't."""
        return replace(self, keys=(new_key(), *self.keys)[:MAX_KEYS])

    def without_old_keys(self) -> User:
        """Return the same user with the newest key only."""
        return replace(self, keys=self.keys[:1])


def users_path(data: Path) -> Path:
    """Return the path of the file with the users of a data directory."""
    return data / "users.json"


@contextlib.contextmanager
def change_users(path: Path) -> Iterator[dict[str, User]]:
    """Give the users to be changed, and write them back unless something is raised. Changes wait for each other.

    Raises:
        InvalidKey: there is a file and it cannot be used.
    """
    descriptor = os.open(path.with_name(".users.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        users = _read(path) if path.exists() else {}
        yield users
        fields = {
            name: {
                "roles": sorted(role.value for role in user.roles),
                "vhosts": list(user.vhosts),
                "keys": list(user.keys),
            }
            for name, user in sorted(users.items())
        }
        write_private_file(path, json.dumps({"users": fields}, indent=2) + "\n")
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, User]:
    data = read_private_file(path, "users file", _MAX_BYTES, _HOW_TO_MAKE_ONE)
    try:
        fields = json.loads(data)
        return {name: _user(name, user) for name, user in fields["users"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        # What went wrong would quote the file.
        raise InvalidKey(f'The users file {path} is not JSON as it has to be: {{"users": {{NAME: …}}}}.') from None


def _user(name: str, fields: Mapping[str, Any]) -> User:
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise ValueError
    keys = tuple(str(key) for key in fields["keys"])
    for key in keys:
        load_key(key)
    roles = frozenset(Role(role) for role in fields["roles"])
    return User(roles, tuple(str(vhost) for vhost in fields["vhosts"]), keys[:MAX_KEYS])


class UserBook:
    """The users of a broker, as the file has them now.

    Raises:
        InvalidKey: the file cannot be used. Once it could, a later one that cannot be used changes nothing but is
            logged; one that is removed leaves nobody.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._say_unusable = Throttle(log, logging.ERROR)
        self._seen = self._look()
        self._users = {} if self._seen is None else _read(path)

    def get(self, name: str) -> User | None:
        """Return a user by name."""
        seen = self._look()
        if seen != self._seen and self._reload(gone=seen is None):
            self._seen = seen
        return self._users.get(name)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0)
        return status.st_ino, status.st_size, status.st_ctime_ns

    def _reload(self, *, gone: bool) -> bool:
        """Read the file again, and return whether it could be used; otherwise it is tried again at the next look."""
        if gone:
            self._users = {}
            log.warning("The users file %s is gone: its users are refused.", self._path)
            return True
        try:
            self._users = _read(self._path)
        except InvalidKey as error:
            self._say_unusable("The users stay as they were: %s", error)
            return False
        log.info("Read the users again: %d.", len(self._users))
        return True


@dataclass(frozen=True, slots=True)
class Guard:
    """Who gets in over TCP.

    Parameters:
        key: the key of the user without a name, who may do everything.
        book: the users with names.
    """

    key: bytes | None = field(default=None, repr=False)
    book: UserBook | None = None

    def keys_of(self, user: str, vhost: str) -> Sequence[bytes]:
        """Return the keys with which a user may enter a vhost; none for somebody who may not."""
        if not user:
            return () if self.key is None else (self.key,)
        found = None if self.book is None else self.book.get(user)
        return () if found is None or not found.may_enter(vhost) else tuple(key.encode() for key in found.keys)

    def roles_of(self, user: str) -> Iterable[Role]:
        """Return the roles of a user who has proved a key."""
        if not user:
            return ALL_ROLES
        found = None if self.book is None else self.book.get(user)
        return () if found is None else found.roles
