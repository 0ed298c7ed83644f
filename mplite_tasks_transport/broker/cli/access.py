"""``mplite broker credentials|users|rotate-key|retire-key|remove-user``: who may come in from other machines."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import click

from ...certificates import fingerprint_of, first_certificate
from ...credentials import Credentials, write_credentials
from ...errors import InvalidCertificate
from ...home import served_home
from ...limits import MAX_NAME_BYTES
from ...url import DEFAULT_TLS_PORT, DEFAULT_VHOST, TLS_SCHEME, BrokerURL
from ..identity import EVERYWHERE, make_certificate, own_identity_paths
from ..roles import Role
from ..users import ANY_VHOST, User, change_users, users_path
from .errors import UnusableOptionError, one_line_errors

__all__ = ["access_commands"]

#: What a user is given who is made without saying: enough for sending tasks and for working on them.
_DEFAULT_ROLES: Final = frozenset({Role.PRODUCE, Role.CONSUME})

_DEFAULT_USER: Final = "mplite"

_data = click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path),
    callback=lambda context, parameter, value: value or served_home(),
    help="The broker's data directory, as for mplite-broker --data; by default the same as there.",
)
_host = click.option(
    "--host",
    metavar="NAME[:PORT]",
    required=True,
    help=f"Where the other machines find the broker; port {DEFAULT_TLS_PORT} by default.",
)
_cert = click.option(
    "--cert",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The broker's certificate, if it is not the one that is made in the data directory.",
)
_by_authority = click.option(
    "--by-authority",
    is_flag=True,
    help="Have clients check the certificate by the system's authorities and the host's name, not by its fingerprint.",
)
_vhost = click.option(
    "--vhost", default=DEFAULT_VHOST, show_default=True, help="The vhost that the credentials are for."
)
_file = click.argument("file", type=click.Path(path_type=Path))


@click.command("credentials")
@_data
@_host
@click.option("--user", default=_DEFAULT_USER, show_default=True, help="The user, who is made if there is none.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([role.value for role in Role]),
    help="What the user may do; may be given several times. By default, for a new user: produce and consume.",
)
@click.option(
    "--allow-vhost",
    "vhosts",
    multiple=True,
    help="A vhost that the user may enter; several are possible. By default all.",
)
@_vhost
@_cert
@_by_authority
@_file
def credentials_command(
    data: Path,
    host: str,
    user: str,
    roles: tuple[str, ...],
    vhosts: tuple[str, ...],
    vhost: str,
    cert: Path | None,
    by_authority: bool,
    file: Path,
) -> None:
    """Write FILE, which is all that another machine needs: address, user, secret and certificate fingerprint.

    FILE holds a secret: copy it by a safe way, and name it there in MPLITE_CREDENTIALS. A running broker that was
    started with the same --data knows the user at once.
    """
    with one_line_errors():
        url = _address(host, vhost)
        _check_name("user", user)
        for name in vhosts:
            _check_name("vhost", name)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        fingerprint = None if by_authority else _fingerprint(data, cert, url)
        with change_users(users_path(data)) as users:
            known = users.get(user)
            found = known or User(_DEFAULT_ROLES).with_new_key()
            users[user] = found = User(frozenset(map(Role, roles)) or found.roles, vhosts or found.vhosts, found.keys)
            if not found.may_enter(url.vhost):
                raise UnusableOptionError(
                    f"User {user} may not enter vhost {url.vhost}: add --allow-vhost {url.vhost}."
                )
            write_credentials(file, Credentials(url, user, found.keys[0], fingerprint))
        words = ", ".join(sorted(role.value for role in found.roles))
        click.echo(f"Wrote {file} for user {user} ({words}){'' if known else ', who is new'}.")


@click.command("rotate-key")
@_data
@_host
@_vhost
@_cert
@_by_authority
@click.argument("user")
@_file
def rotate_key_command(
    data: Path, host: str, vhost: str, cert: Path | None, by_authority: bool, user: str, file: Path
) -> None:
    """Give USER a new key and write FILE with it. The key before it stays valid until retire-key, or the next one."""
    with one_line_errors():
        url = _address(host, vhost)
        with _changed(data) as users:
            users[user] = changed = _known(users, user).with_new_key()
            fingerprint = None if by_authority else _fingerprint(data, cert, url)
            write_credentials(file, Credentials(url, user, changed.keys[0], fingerprint))
        click.echo(f"Wrote {file} with a new key of user {user}. The old one is valid until: mplite broker retire-key.")


@click.command("retire-key")
@_data
@click.argument("user")
def retire_key_command(data: Path, user: str) -> None:
    """Refuse all keys of USER but the newest, from the next connection on."""
    with one_line_errors():
        with _changed(data) as users:
            before = _known(users, user)
            users[user] = before.without_old_keys()
        click.echo(f"User {user} has one valid key; {len(before.keys) - 1} retired.")


@click.command("remove-user")
@_data
@click.argument("user")
def remove_user_command(data: Path, user: str) -> None:
    """Refuse USER from the next connection on. Connections that are open stay open until the broker restarts."""
    with one_line_errors():
        with _changed(data) as users:
            _known(users, user)
            del users[user]
        click.echo(f"User {user} is removed.")


@click.command("users")
@_data
def users_command(data: Path) -> None:
    """List the users: roles, vhosts and number of valid keys."""
    with one_line_errors():
        path = users_path(data)
        if not path.exists():
            click.echo(f"There are no users in {data}.")
            return
        with change_users(path) as users:
            for name, user in sorted(users.items()):
                roles = ",".join(sorted(role.value for role in user.roles))
                where = "all vhosts" if ANY_VHOST in user.vhosts else " ".join(user.vhosts)
                click.echo(f"{name}  {roles}  {where}  keys: {len(user.keys)}")


def _known(users: dict[str, User], name: str) -> User:
    if name not in users:
        raise UnusableOptionError(f"There is no user {name}; there are: {', '.join(sorted(users)) or 'none'}.")
    return users[name]


def _changed(data: Path) -> contextlib.AbstractContextManager[dict[str, User]]:
    """Return what changes the users that there are; a directory that has none is most likely another one."""
    if not users_path(data).exists():
        raise UnusableOptionError(f"There are no users in {data}: name the broker's directory by --data.")
    return change_users(users_path(data))


def _check_name(what: str, name: str) -> None:
    """Refuse a name that no handshake could carry."""
    if not 0 < len(name.encode(errors="surrogateescape")) <= MAX_NAME_BYTES:
        raise UnusableOptionError(f"The name of a {what} has 1 to {MAX_NAME_BYTES} bytes.")
    if not name.isprintable():
        raise UnusableOptionError(f"The name of a {what} has no control characters, and {name!r} has.")


def _address(host: str, vhost: str) -> BrokerURL:
    bare = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    if "/" in bare or "@" in bare:
        raise UnusableOptionError(f"--host: {host!r} is no name or address, with :PORT if need be, and nothing else.")
    url = BrokerURL.parse(f"{TLS_SCHEME}://{bare}/")
    if url.host in EVERYWHERE or url.port == 0:
        raise UnusableOptionError(
            f"--host: {host} is for listening; name what the other machines reach the broker by, such as "
            f"broker.example:{DEFAULT_TLS_PORT}."
        )
    _check_name("vhost", vhost)
    return BrokerURL(host=url.host, port=url.address[1], vhost=vhost, scheme=TLS_SCHEME)


def _fingerprint(data: Path, cert: Path | None, url: BrokerURL) -> str:
    if cert is None:
        make_certificate(data, [url.address[0]])
        cert = own_identity_paths(data)[0]
    try:
        return fingerprint_of(first_certificate(cert.read_text(encoding="ascii")))
    except (InvalidCertificate, ValueError) as exc:
        raise InvalidCertificate(f"{cert}: {exc}") from exc


#: The commands of this module.
access_commands: Final = (
    credentials_command,
    rotate_key_command,
    retire_key_command,
    remove_user_command,
    users_command,
)
