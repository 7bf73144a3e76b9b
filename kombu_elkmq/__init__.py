"""ElkMQ as a transport of Kombu: ``broker_url = "elkmq://host:6379/0"`` is all that a Celery app changes.

Kombu has no entry point for transports. Importing this package adds the schemes to Kombu's table; the distribution's
``kombu.serializers`` entry point (`kombu_elkmq._entry_point`) makes Kombu import it when its serializers are set up, which
Celery does at its start. A program on plain Kombu that opens an ``elkmq://`` connection before it serializes anything
writes ``import kombu_elkmq`` once. The transport itself is loaded when a connection first names it.
"""

from __future__ import annotations

__all__ = ["SCHEMES", "register"]

SCHEMES = {
    "elkmq": "kombu_elkmq.transport:Transport",
    "elkmqs": "kombu_elkmq.transport:SecureTransport",
    "elkmq+socket": "kombu_elkmq.transport:Transport",
    "elkmq+unix": "kombu_elkmq.transport:Transport",
    "elkmq+sentinel": "kombu_elkmq.transport:Transport",
    "elkmqs+sentinel": "kombu_elkmq.transport:SecureTransport",
    "elkmq+cluster": "kombu_elkmq.transport:Transport",
    "elkmqs+cluster": "kombu_elkmq.transport:SecureTransport",
}
"""Every url scheme and where its transport is, as Kombu writes it."""


def register() -> None:
    """Make the schemes known to Kombu. Called on import; again, or by hand, it changes nothing.

    It runs during Kombu's own import: it must stay light.
    """
    from kombu.transport import TRANSPORT_ALIASES

    TRANSPORT_ALIASES.update(SCHEMES)


register()
