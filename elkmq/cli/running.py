"""A program run for each event: ``elkmq listen --run``."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess

import click

from elkmq import Delivery, LeaseLost, ServiceEvent
from elkmq._core.serving import FAILURE, backoff, failure

log = logging.getLogger("elkmq")

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds, as a `Service`'s."""


class ProgramFailed(Exception):
    """The program ended with another status than 0."""


class Runner:
    """Handles deliveries by a program. Raises: click.UsageError: there is no such program."""

    def __init__(self, command: str) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise click.UsageError(f"--run {command!r} cannot be read ({error})") from None
        if not self._command or shutil.which(self._command[0]) is None:
            raise click.UsageError(f"--run: there is no program {command!r} to run")

    def handle(self, delivery: Delivery) -> None:
        """Run the program for one delivery and settle it by how that ended."""
        try:
            output, error = self._run(delivery)
            if error is None:
                self._succeeded(delivery, output)
            elif delivery.awaited:
                delivery.respond(FAILURE, failure(error))
            else:
                log.warning("%s; %s is tried again", error, delivery.id)
                delay = backoff(delivery.failed, FIRST_RETRY, LONGEST_RETRY)
                delivery.requeue(delay=delay, failed=True, error=str(error))
        except LeaseLost as lost:
            log.warning("%s", lost)

    def _run(self, delivery: Delivery) -> tuple[str | None, Exception | None]:
        event = delivery.event
        environment = {
            **os.environ,
            "ELKMQ_ACTION": event.action.replace("\0", ""),  # an environment cannot hold it
            "ELKMQ_UUID": str(event.uuid),
            "ELKMQ_FAILED": str(delivery.failed),
        }
        # In a session of its own, Ctrl-C does not reach it: what runs may finish. Its output is ours only as a response.
        ended = subprocess.run(
            self._command,
            input=(event.payload or "").encode(),
            stdout=subprocess.PIPE if delivery.awaited else None,
            env=environment,
            start_new_session=True,
            check=False,
        )
        if ended.returncode:
            return None, ProgramFailed(f"{self._command[0]} ended with status {ended.returncode}")
        try:
            return (ended.stdout or b"").decode(), None
        except UnicodeDecodeError:
            return None, ProgramFailed(f"what {self._command[0]} printed is not UTF-8")

    def _succeeded(self, delivery: Delivery, output: str | None) -> None:
        event = delivery.event
        if delivery.ours and not delivery.awaited:
            delivery.ack()
        else:
            delivery.complete(response=ServiceEvent.create_response(event, event.action, output))
