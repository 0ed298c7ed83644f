"""Fixtures for all tests, and what holds for all of them: no real broker is touched, a missing server is said."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.brokers import broker, local_home, make_broker, short_directory
from .support.secure import secure_broker

__all__ = ["broker", "local_home", "make_broker", "secure_broker", "short_directory"]

#: The servers that tests may need: marker and port on the loopback.
SERVERS = {"redis": 6379, "rabbitmq": 5672}

#: Variables of the person who runs the tests that must not reach a broker or a client of a test.
PERSONAL = ("MPLITE_KEY", "MPLITE_KEY_FILE", "MPLITE_CREDENTIALS")


@pytest.fixture(scope="session", autouse=True)
def _keep_off_the_real_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let no test find or start the local broker of the person who runs it (``local_home`` gives one of its own)."""
    home = tmp_path_factory.mktemp("no-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLITE_HOME", str(home))
        patch.setenv("MPLITE_AUTOSTART", "0")
        for name in PERSONAL:
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(autouse=True)
def _need_servers(request: pytest.FixtureRequest) -> None:
    """Skip a test whose server is missing on a person's machine; fail it in continuous integration."""
    for name, port in SERVERS.items():
        if request.node.get_closest_marker(name) is not None and not _answers(port):
            text = f"no {name} server on 127.0.0.1:{port}"
            if os.environ.get("CI", "").lower() == "true":
                pytest.fail(text)
            pytest.skip(text)


@functools.cache
def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0):
            return True
    except OSError:
        return False
