"""The broker of MPLite, its client and its Kombu transport.

Importing this package makes ``mplite://`` known to Kombu; everything else is imported when it is first used. What is
in ``__all__`` is public, the modules are not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from . import aliases as _aliases
from ._version import __version__

if TYPE_CHECKING:
    from .broker.cli import broker_commands
    from .client import BrokerClient
    from .errors import (
        AccessRefused,
        BrokerBusy,
        BrokerUnreachable,
        ChannelNotOpen,
        Code,
        ConnectionLost,
        ContentTooLarge,
        FeatureNotSupported,
        HandshakeRefused,
        InvalidCertificate,
        InvalidKey,
        InvalidOption,
        InvalidURL,
        JournalError,
        LocalBrokerError,
        NoRoute,
        NotFound,
        PreconditionFailed,
        ProtocolError,
        ReplyError,
        ResourceLocked,
        StaleDelivery,
        TooManyConnections,
        TransportError,
        VersionMismatch,
    )
    from .features import BrokerFeatures, DeliveryFacts, Feature, Outcome, Publication, features_for
    from .limits import DEFAULT_MAX_DELIVERIES, MAX_ID_CHARS, MAX_NAME_BYTES, MAX_PRIORITY, MIN_PRIORITY
    from .manager import MPLiteManager
    from .priority_queue import PriorityQueue
    from .priority_queue.aio import AsyncPriorityQueue
    from .url import BrokerURL
    from .values import UnreadableValue

__all__ = [
    "DEFAULT_MAX_DELIVERIES",
    "MAX_ID_CHARS",
    "MAX_NAME_BYTES",
    "MAX_PRIORITY",
    "MIN_PRIORITY",
    "AccessRefused",
    "AsyncPriorityQueue",
    "BrokerBusy",
    "BrokerClient",
    "BrokerFeatures",
    "BrokerURL",
    "BrokerUnreachable",
    "ChannelNotOpen",
    "Code",
    "ConnectionLost",
    "ContentTooLarge",
    "DeliveryFacts",
    "Feature",
    "FeatureNotSupported",
    "HandshakeRefused",
    "InvalidCertificate",
    "InvalidKey",
    "InvalidOption",
    "InvalidURL",
    "JournalError",
    "LocalBrokerError",
    "MPLiteManager",
    "NoRoute",
    "NotFound",
    "Outcome",
    "PreconditionFailed",
    "PriorityQueue",
    "ProtocolError",
    "Publication",
    "ReplyError",
    "ResourceLocked",
    "StaleDelivery",
    "TooManyConnections",
    "TransportError",
    "UnreadableValue",
    "VersionMismatch",
    "__version__",
    "broker_commands",
    "features_for",
]

_aliases.register()

_HOMES: Final = {
    "broker.cli": ("broker_commands",),
    "client": ("BrokerClient",),
    "features": ("BrokerFeatures", "DeliveryFacts", "Feature", "Outcome", "Publication", "features_for"),
    "limits": ("DEFAULT_MAX_DELIVERIES", "MAX_ID_CHARS", "MAX_NAME_BYTES", "MAX_PRIORITY", "MIN_PRIORITY"),
    "manager": ("MPLiteManager",),
    "priority_queue": ("PriorityQueue",),
    "priority_queue.aio": ("AsyncPriorityQueue",),
    "url": ("BrokerURL",),
    "values": ("UnreadableValue",),
}
#: Where each public name is defined; what is not listed is an error.
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOME_OF.get(name, 'errors')}", __name__)
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
