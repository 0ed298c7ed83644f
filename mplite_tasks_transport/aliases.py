"""Makes ``mplite://`` known to Kombu: importing this module registers the transport's alias.

Kombu has no plug-in point for transports; its table of aliases is what its own transports are found by. Nothing here
may need ``kombu.serialization``: this module is imported in the middle of the import of that one.
"""

from __future__ import annotations

from typing import Final

from kombu.transport import TRANSPORT_ALIASES

__all__ = ["ALIASES", "register"]

#: The schemes of broker URLs and the transport that serves them.
ALIASES: Final = {
    "mplite": "mplite_tasks_transport.transport:Transport",
    "mplites": "mplite_tasks_transport.transport:SecureTransport",
}


def register() -> None:
    """Add the aliases to Kombu's table. A second call changes nothing."""
    TRANSPORT_ALIASES.update(ALIASES)


register()
