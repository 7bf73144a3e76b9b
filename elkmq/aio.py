"""The queue for asyncio: the names of `elkmq`, with the same behaviour, to be awaited."""

from elkmq._aio.admin import LogEntry
from elkmq._aio.consumer import Consumer
from elkmq._aio.dead import DeadLetter, DeadLetters
from elkmq._aio.delivery import Delivery
from elkmq._aio.effects import Once
from elkmq._aio.queue import EventQueue
from elkmq._aio.service import Service

__all__ = ["Consumer", "DeadLetter", "DeadLetters", "Delivery", "EventQueue", "LogEntry", "Once", "Service"]
