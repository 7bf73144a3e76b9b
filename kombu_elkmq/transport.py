"""``elkmq://`` for Kombu: what opens and closes sessions, and tells Kombu and Celery what they can do."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from kombu.transport import base

from elkmq.errors import AuthenticationError
from kombu_elkmq import errors, signals, urls
from kombu_elkmq.channel import Channel
from kombu_elkmq.cluster import ClusterSession
from kombu_elkmq.loop import Loop
from kombu_elkmq.session import Session


class Management(base.Management):
    """What `Connection.manager` offers."""

    def get_bindings(self) -> list[dict[str, str]]:
        """All bindings, as RabbitMQ's management plugin names them."""
        session = self.transport.client.connection
        return [
            {"destination": each.destination, "source": each.source, "routing_key": each.key}
            for each in session.routes.bindings()
        ]


class Transport(base.Transport):
    """ElkMQ."""

    can_parse_url = True
    default_port: Any = 6379
    driver_type = "redis"
    """Celery decides by it: events fan out, mingle and gossip are on, ``worker_disable_prefetch`` works."""
    driver_name = "elkmq"
    polling_interval = None
    supports_batch_publish = True
    connection_errors: Any = errors.CONNECTION_ERRORS
    channel_errors: Any = errors.CHANNEL_ERRORS
    recoverable_connection_errors = errors.RECOVERABLE_CONNECTION_ERRORS
    recoverable_channel_errors = errors.RECOVERABLE_CHANNEL_ERRORS
    implements = base.Transport.implements.extend(
        asynchronous=True,
        batch_publish=True,
        heartbeats=False,  # they go on in a thread of their own
        exchange_type=frozenset(["direct", "topic", "fanout", "headers"]),
    )
    Management = Management
    tls = False

    def __init__(self, client: Any, **_: Any) -> None:
        self.client: Any = client
        urls.take_apart(client)

    def driver_version(self) -> str:
        """ElkMQ's release."""
        return metadata.version("elkmq")

    def establish_connection(self) -> Session:
        """Connect, in one attempt.

        :raises EventQueueError: it cannot be reached, or (`LoginRefused`) lets nobody in with this user and password
        """
        signals.listen()
        endpoint, options = urls.endpoint_of(self.client, tls=self.tls)
        session = (ClusterSession if endpoint.cluster else Session)(self.client, endpoint, options)
        try:
            session.connect()
        except AuthenticationError as error:
            raise errors.LoginRefused(*error.args) from error
        return session

    def close_connection(self, connection: Session) -> None:
        """Acknowledge, hand back, hang up."""
        connection.close()

    def create_channel(self, connection: Session) -> Channel:
        """A channel."""
        return connection.channel()

    def close_channel(self, channel: Channel) -> None:
        """Close a channel."""
        channel.close()

    def drain_events(self, connection: Session, timeout: float | None = None, **_: Any) -> None:
        """Hand out one message; raises `socket.timeout` where none comes in time."""
        connection.drain_events(timeout)

    def register_with_event_loop(self, connection: Session, loop: Any) -> None:
        """Let an event loop hand out messages."""
        connection.join(Loop(connection, loop))

    def unregister_from_event_loop(self, connection: Session, loop: Any) -> None:
        """Do not any more."""
        connection.leave_loop()

    def verify_connection(self, connection: Session) -> bool:
        """Whether the connection can be used, as far as is known, or has something to say first."""
        return connection.connected or connection.owes_news

    def _collect(self, connection: Session | None) -> None:
        """Drop a connection that failed, or is a forked parent's: without a word to the server."""
        if connection is not None:
            connection.detach()

    def qos_semantics_matches_spec(self, connection: Session) -> bool:
        """No: as with RabbitMQ, a prefetch that is to hold for a channel is set with ``global``.

        Here it holds for the channel in any case, and a change reaches consumers that run. Celery changes it after a lost
        connection (``worker_enable_prefetch_count_reduction``) only where it is told so.
        """
        return False

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """The url, as it may be shown."""
        return urls.as_uri(self.client, include_password=include_password, mask=mask)

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """Where Kombu knows of nothing else."""
        return {
            "hostname": "localhost",
            "port": None if "://" in str(self.client.hostname or "") else self.default_port,
        }


class SecureTransport(Transport):
    """ElkMQ over TLS."""

    tls = True


# A worker loads this before it forks its pool, and opens its connection after that; the tasks' results are in the children.
signals.listen()
