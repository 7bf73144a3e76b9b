"""What Kombu loads by the entry point ``kombu.serializers``, to learn of the scheme ``elkmq://`` without an import.

Kombu looks for no transports among entry points, but whenever its serializers are set up, as Celery does at once, it
loads this module and unpacks `SERIALIZER` into its registry. An exception on the way would break ``import kombu`` for
every program in the environment, so nothing gets out.
"""

from __future__ import annotations

import logging

try:
    from kombu_elkmq import register

    register()
except Exception:
    logging.getLogger(__name__).exception("ElkMQ could not register elkmq:// with Kombu; import kombu_elkmq by hand")

SERIALIZER = (None, None, "application/x-elkmq")
"""Encoder, decoder and content type: with neither of the first two, nothing is ever serialized by it."""
