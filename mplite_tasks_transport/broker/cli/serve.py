"""``mplite-broker``: a broker in the foreground; and, hidden, the local broker that clients start."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import click

from ..._version import __version__
from ...home import hold_lock, journal_path
from ...keys import KEY_FILE_ENV, load_key, new_key, read_key_file, write_private_file
from ...limits import LOCAL_IDLE_SECONDS
from ...url import BrokerURL
from ..identity import Identity, load_identity, make_certificate, own_identity_paths
from ..journal import Durability, Journal, MemoryJournal, SQLiteJournal
from ..process import raise_file_limit
from ..server import BrokerConfig, serve
from ..users import UserBook, users_path
from .errors import UnusableOptionError, one_line_errors
from .local import run_local
from .options import SIZE, data_directory, listen_url

__all__ = ["mplite_broker"]

_WINDOWS: Final = {
    Durability.OS: "what was confirmed survives kill -9 of the broker, but not a power cut (--durability fsync does).",
    Durability.FSYNC: "what was confirmed is on the disk, and survives a power cut.",
    Durability.MEMORY: "nothing is kept: everything ends with this process.",
}


_DURABILITY: Final = click.Choice([str(each) for each in Durability])

_HELP: Final = {
    "listen": "Address to listen on: mplite://127.0.0.1:7878, or by TLS mplites://0.0.0.0:7879; port 0 picks one and "
    "says which. May be given several times.",
    "data": "Directory of the journal, the key and the users; it is made if needed. By default one of this user's.",
    "durability": "What a confirmed message survives: kill -9 of the broker (os), a power cut too (fsync), "
    "nothing (memory).",
    "key-file": f"File with the key of clients that come without a name; by default the one that {KEY_FILE_ENV} names, "
    "else one in the data directory, which is made unless there are users. "
    "Clients with a name are those of mplite broker credentials.",
    "cert": "File with the certificate (PEM) for TLS; by default one that is made in the data directory.",
    "cert-key": "File with the certificate's private key (PEM).",
    "plaintext": "Let other machines connect without TLS, where everybody in between can read and change everything.",
    "memory-limit": "Bytes of messages, such as 512M, above which publishers wait. By default 40% of the memory.",
    "network": "Let the data directory be on another machine's disk, where the journal can be damaged.",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mplite-broker")
@click.option("--listen", "urls", metavar="URL", multiple=True, help=_HELP["listen"])
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help=_HELP["data"])
@click.option("--durability", type=_DURABILITY, default=str(Durability.OS), show_default=True, help=_HELP["durability"])
@click.option("--key-file", metavar="FILE", type=click.Path(path_type=Path), help=_HELP["key-file"])
@click.option("--cert", metavar="FILE", type=click.Path(path_type=Path), help=_HELP["cert"])
@click.option("--cert-key", metavar="FILE", type=click.Path(path_type=Path), help=_HELP["cert-key"])
@click.option("--allow-plaintext", is_flag=True, help=_HELP["plaintext"])
@click.option("--memory-limit", metavar="SIZE", type=SIZE, help=_HELP["memory-limit"])
@click.option("--allow-network-filesystem", is_flag=True, help=_HELP["network"])
@click.option("--local", "home", type=click.Path(path_type=Path), hidden=True)
@click.option("--detach", is_flag=True, hidden=True)
@click.option("--idle-seconds", type=click.FloatRange(min=0), default=LOCAL_IDLE_SECONDS, hidden=True)
def mplite_broker(
    urls: tuple[str, ...],
    data: Path | None,
    durability: str,
    key_file: Path | None,
    cert: Path | None,
    cert_key: Path | None,
    allow_plaintext: bool,
    memory_limit: int | None,
    allow_network_filesystem: bool,
    home: Path | None,
    detach: bool,
    idle_seconds: float,
) -> NoReturn:
    """Run a broker in the foreground until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    raise_file_limit()
    with one_line_errors(2):
        if home is not None:
            sys.exit(run_local(home, idle_seconds=idle_seconds, memory_limit=memory_limit, detach=detach))
        if not urls:
            raise UnusableOptionError("Say where to listen: --listen mplite://127.0.0.1:7878/.")
        listen = [listen_url(url, allow_plaintext=allow_plaintext) for url in urls]
        level = Durability(durability)
        if level is Durability.MEMORY and data is not None:
            raise UnusableOptionError("--durability memory keeps nothing in a --data directory; leave one of them out.")
        data = data_directory(data)

        def run(journal: Journal) -> int:
            key = load_key(key_file=key_file) or _own_key(data)
            secure = any(url.is_secure for url in listen)
            config = BrokerConfig(
                unix_path=None,
                tcp=tuple(url.address for url in listen if not url.is_secure),
                journal=journal,
                key=key,
                memory_limit=memory_limit,
                tls=tuple(url.address for url in listen if url.is_secure),
                identity=_identity(data, cert, cert_key, [url.address[0] for url in listen]) if secure else None,
                users=UserBook(users_path(data)),
            )
            return asyncio.run(serve(config, lambda ready: _announce(ready, level)))

        sys.exit(_with_journal(level, data, allow_network_filesystem, run))


def _own_key(data: Path) -> bytes | None:
    """Return the key in the data directory, which is made for a broker that nobody could use without."""
    path = data / "key"
    if not path.exists():
        if users_path(data).exists():
            return None
        write_private_file(path, new_key() + "\n")
    click.echo(f"Clients need the key in {path}: name it in {KEY_FILE_ENV}")
    return read_key_file(path)


def _identity(data: Path, cert: Path | None, cert_key: Path | None, hosts: list[str]) -> Identity:
    """Return the certificate that the options name, or the data directory's own, which is made if needed."""
    if (cert is None) != (cert_key is None):
        raise UnusableOptionError("--cert and --cert-key belong together; give both.")
    if cert is not None and cert_key is not None:
        return load_identity(cert, cert_key)
    make_certificate(data, hosts)
    return load_identity(*own_identity_paths(data))


def _with_journal(level: Durability, data: Path, allow_network_filesystem: bool, run: Callable[[Journal], int]) -> int:
    """Run the broker with the journal that the options say, having the data directory for itself."""
    if level is Durability.MEMORY:
        return run(MemoryJournal())
    with hold_lock(data) as held:
        if not held:
            raise UnusableOptionError(f"Another broker uses the data directory {data}: stop it, or name another one.")
        journal = SQLiteJournal(journal_path(data), level, allow_network_filesystem=allow_network_filesystem)
        try:
            return run(journal)
        finally:
            journal.close()


def _announce(urls: list[BrokerURL], level: Durability) -> None:
    for url in urls:
        click.echo(f"Listening on {url}")
    click.echo(f"Durability {level}: {_WINDOWS[level]}")
    sys.stdout.flush()
