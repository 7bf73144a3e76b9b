"""The program: its commands, and what becomes of every way in which one can end."""

from __future__ import annotations

import logging
import os
import sys

import click

from elkmq import EventQueueError, __version__
from elkmq._core import sending
from elkmq.cli.chaos import chaos
from elkmq.cli.common import Group, examples
from elkmq.cli.dead import dead
from elkmq.cli.demo import demo
from elkmq.cli.events import enqueue, listen, request
from elkmq.cli.queues import log, pause, purge, resume, settings
from elkmq.cli.stats import stats

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "elkmq demo                                see it work: processes, requests, a crash",
        "elkmq enqueue jobs resize cat.png         put an event on the queue 'jobs'",
        "elkmq listen jobs                         print events as they come",
        "elkmq request jobs greet Ada --timeout 5  ask, and print the response",
        "elkmq stats jobs --watch                  look at it",
        "elkmq dead list jobs                      what was given up, and why",
    ),
)
@click.version_option(__version__, prog_name="elkmq", message="%(prog)s %(version)s")
def cli() -> None:
    """Work with ElkMQ's queues.

    Without --url a private server is started on a data folder, and stopped when its last user is gone.
    """


for command in (demo, chaos, stats, enqueue, listen, request, dead, purge, pause, resume, settings, log):
    cli.add_command(command)


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; whatever goes wrong is one sentence on stderr."""
    _set_up()
    try:
        result = cli.main(arguments, prog_name="elkmq", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "elkmq"
        return _complain(f"{error.format_message().rstrip('.')}; `{path} --help` shows how it is used.", 2)
    except click.ClickException as error:
        return _complain(error.format_message(), 1)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except EventQueueError as error:
        # What is a ValueError as well was found before anything was sent: the call was wrong.
        return _complain(str(error), 2 if isinstance(error, ValueError) else 1)
    except BrokenPipeError:
        # Whoever read the output has gone; what is left in the buffer would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _complain(f"{error.filename or 'reading or writing'}: {error.strerror or error}.", 1)
    except Exception as error:
        if os.environ.get("ELKMQ_TRACEBACK"):
            raise
        return _complain(
            f"unexpected {type(error).__name__}: {error}; this is a bug of ElkMQ; ELKMQ_TRACEBACK=1 shows where.", 1
        )
    return result if isinstance(result, int) else 0


def _set_up() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # an odd locale is no reason to fail
    handler = logging.StreamHandler()
    handler.setFormatter(_Brief("elkmq: %(message)s"))
    handler.addFilter(_Outages())
    logger = logging.getLogger("elkmq")
    if not logger.handlers:
        logger.addHandler(handler)
        logger.propagate = False
        sending.log.setLevel(logging.INFO)  # who waits for a server wants to know


class _Brief(logging.Formatter):
    """The message alone: the exception behind it is for programmers."""

    def format(self, record: logging.LogRecord) -> str:
        return self.formatMessage(_with_message(record))


class _Outages(logging.Filter):
    """Lets what is said about a server that is out of reach pass once per outage, however many connections say it."""

    def __init__(self) -> None:
        super().__init__()
        self._down: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is news."""
        if record.msg not in (sending.UNREACHED, sending.REACHED):
            return True
        server: str = record.__dict__["server"]
        down = record.msg == sending.UNREACHED
        if down == (server in self._down):
            return False
        (self._down.add if down else self._down.discard)(server)
        return True


def _with_message(record: logging.LogRecord) -> logging.LogRecord:
    record.message = record.getMessage()
    return record


def _complain(sentence: str, status: int) -> int:
    click.echo(f"elkmq: {sentence}", err=True)
    return status
