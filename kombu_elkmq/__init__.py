"""ElkMQ as a Kombu transport, and so as a Celery broker."""

from __future__ import annotations


def register() -> None:
    """Make the scheme ``elkmq://`` known to Kombu. Called when Kombu sets up its serializers, or by hand.

    It may be called any number of times, and during Kombu's own import: it must stay light.
    """
    from kombu.transport import TRANSPORT_ALIASES

    TRANSPORT_ALIASES["elkmq"] = "kombu_elkmq.transport:Transport"
