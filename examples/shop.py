"""A Celery app for the examples beside it: ``celery -A shop worker``."""

from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("shop", broker=os.environ.get("ELKMQ_URL", "redis://127.0.0.1").replace("redis", "elkmq", 1))


@app.task(name="shop.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="shop.greet")
def greet(name: str) -> str:
    return f"Hello, {name}!"


@app.task(name="shop.divide")
def divide(x: float, y: float) -> float:
    return x / y


@app.task(name="shop.slow")
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "done"
