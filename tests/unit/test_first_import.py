"""Whatever a program imports first, ``mplite://`` is known when Kombu's serializers or our package have been loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPEN = """
from kombu import Connection
connection = Connection("mplite://")
assert connection.transport.driver_type == "mplite", connection.transport
assert connection.as_uri() == "mplite://", connection.as_uri()
"""

#: First imports that load ``kombu.serialization``, and with it our entry point.
BY_ENTRY_POINT = [
    "import kombu.serialization",
    "import kombu.messaging",
    "from kombu import Connection, Queue",
    "from kombu import Producer, Connection",
    "import kombu.message",
    "import kombu.compat",
    "import kombu.pools",
    "import kombu.simple",
    "import kombu.mixins",
    "import kombu.transport.base",
    "import kombu.transport.virtual",
    "import celery; celery.Celery(broker='mplite://').connection_for_read().transport",
    "from celery import Celery",
]

#: First imports that do not: then our own package has to be imported as well, before or after.
BY_PACKAGE = [
    "import kombu; import mplite_tasks_transport",
    "from kombu import Connection; import mplite_tasks_transport",
    "import kombu.transport; import mplite_tasks_transport",
    "import kombu.connection; import mplite_tasks_transport",
    "import mplite_tasks_transport",
    "import mplite_tasks_transport.serializer",
    "import mplite_tasks_transport.aliases",
    "import mplite_tasks_transport.transport",
    "from mplite_tasks_transport import features_for",
    "from mplite_tasks import MPLite",
]


@pytest.mark.parametrize("first", BY_ENTRY_POINT + BY_PACKAGE)
def test_mplite_urls_are_known_after_the_first_import(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", first + OPEN], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_neither_the_client_nor_kombus_serializers() -> None:
    code = (
        "import sys, mplite_tasks_transport\n"
        "loaded = [name for name in ('mplite_tasks_transport.client', 'kombu.serialization') if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_is_listed() -> None:
    import mplite_tasks_transport as package

    for name in package.__all__:
        assert getattr(package, name) is not None, name
    assert set(package.__all__) <= set(dir(package))
    assert not hasattr(package, "no_such_name")
