"""``BrokerFeatures``: what a task framework needs beyond the words of Kombu and AMQP, for each transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .generic import GenericFeatures
from .mplite import MPLiteFeatures
from .port import BrokerFeatures, DeliveryFacts, Feature, Outcome, Publication

if TYPE_CHECKING:
    from kombu import Connection

__all__ = [
    "BrokerFeatures",
    "DeliveryFacts",
    "Feature",
    "GenericFeatures",
    "MPLiteFeatures",
    "Outcome",
    "Publication",
    "features_for",
]


def features_for(connection: Connection) -> BrokerFeatures:
    """Return what the broker of a Kombu connection can do.

    It does not connect. Keep the result for as long as the connection is used, over reconnections too.
    """
    if connection.get_transport_cls().driver_type == "mplite":
        return MPLiteFeatures(connection)
    return GenericFeatures(connection)
