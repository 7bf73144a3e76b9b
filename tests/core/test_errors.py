"""The error tree, and what becomes of the errors of real servers, of redis-py and of the scripts."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import re
import socket
import traceback

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from elkmq import errors
from elkmq.errors import (
    AuthenticationError,
    DequeueError,
    EmptyQueue,
    EnqueueError,
    EventQueueError,
    FormatTooNew,
    InvalidEvent,
    InvalidOption,
    LeaseLost,
    QueueFull,
    ServerConnectionError,
    ServerError,
    ServerOutOfMemory,
    ServerReadOnly,
    ServerTooOld,
    TimeoutExpired,
    WrongKeyType,
    translate,
)
from tests.servers import free_port

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "translate"]
FATE = "it is not known whether the event was enqueued"
SECRET = "s3cret-word"
ONCE = Retry(NoBackoff(), 0)


def translated(exc: Exception, **more) -> EventQueueError:
    return translate(exc, server="127.0.0.1:6379/0", doing="enqueue the event", fate=FATE, **more)


def failure(call) -> EventQueueError:
    """What a failing call's error becomes, raised as callers raise it."""
    with pytest.raises(Exception) as first:
        call()
    with pytest.raises(EventQueueError) as second:
        raise translated(first.value) from first.value
    return second.value


def eval_(client: redis.Redis, source: str, *keys: str):
    return lambda: client.eval(source, len(keys), *keys)


def is_one_sentence(error: EventQueueError) -> bool:
    return re.fullmatch(r"could not enqueue the event: [^;]+; [^;]+; [^;]+\.", str(error)) is not None


# -- the tree


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = {}
    above = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: \((\w+)\))?", line)
        if found:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            bases = [above[depth - 1]] if depth else []
            drawn[found[2]] = bases + ([found[3]] if found[3] else [])
    assert drawn == {kind.__name__: [base.__name__ for base in kind.__bases__] for kind in CLASSES}


def test_every_class_is_exported():
    defined = [
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, EventQueueError)
    ]
    assert set(defined) == set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_a_runtime_error_with_its_own_words(kind):
    error = kind("could not do it; nothing was changed; try again.")
    assert isinstance(error, RuntimeError)
    assert str(error) == "could not do it; nothing was changed; try again."
    assert kind.__doc__
    assert kind.__doc__ not in {other.__doc__ for other in CLASSES if other is not kind}
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (kind, str(error))


def test_the_connection_error_is_python_s_too():
    assert issubclass(ServerConnectionError, ConnectionError)
    assert not issubclass(TimeoutExpired, OSError)  # no response in time is not the server's failure


def test_a_full_queue_is_a_refused_enqueue():
    assert issubclass(QueueFull, EnqueueError)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_our_own_errors_pass_unchanged(kind):
    error = kind("x")
    assert translated(error) is error


# -- real servers


def test_a_refused_connection():
    client = redis.Redis(port=free_port(), retry=ONCE)
    error = failure(client.ping)
    assert type(error) is ServerConnectionError
    assert "127.0.0.1:6379/0 cannot be reached: " in str(error)
    assert "refused" in str(error)
    assert "connecting to" not in str(error)  # the address is there already
    assert "nothing was changed" in str(error)
    assert is_one_sentence(error)


def test_a_missing_unix_socket():
    error = failure(redis.Redis(unix_socket_path="/nowhere/s", retry=ONCE).ping)
    assert type(error) is ServerConnectionError
    assert "nothing was changed" in str(error)


async def test_a_refused_connection_under_asyncio():
    client = redis.asyncio.Redis(port=free_port())
    with pytest.raises(Exception) as caught:
        await client.ping()
    await client.aclose()
    assert type(translated(caught.value)) is ServerConnectionError
    assert "nothing was changed" in str(translated(caught.value))


def test_a_server_that_hangs(make_server):
    server = make_server()
    client = server.client(socket_timeout=0.2, retry=ONCE)
    client.ping()
    server.pause()
    error = failure(client.ping)
    server.resume()
    assert type(error) is ServerConnectionError
    assert f"did not answer in time; {FATE};" in str(error)
    assert is_one_sentence(error)


async def test_a_server_that_hangs_under_asyncio(make_server):
    server = make_server()
    client = redis.asyncio.Redis(port=server.port, socket_timeout=0.2)
    await client.ping()
    server.pause()
    with pytest.raises(Exception) as caught:
        await client.ping()
    server.resume()
    await client.aclose()
    assert f"did not answer in time; {FATE};" in str(translated(caught.value))


def test_a_connection_that_breaks(make_server):
    server = make_server()
    client = server.client(retry=ONCE)
    connection = client.connection_pool.get_connection()
    server.kill()
    connection.send_command("PING", check_health=False)
    error = failure(connection.read_response)
    assert type(error) is ServerConnectionError
    assert f"the connection to 127.0.0.1:6379/0 broke: Connection closed by server; {FATE};" in str(error)


@pytest.mark.parametrize("raised", [TimeoutError(), asyncio.TimeoutError()], ids=["Python", "asyncio"])
def test_other_timeouts(raised):
    assert f"did not answer in time; {FATE};" in str(translated(raised))


@pytest.mark.parametrize(
    "raised",
    [
        ConnectionResetError(104, "reset"),
        EOFError(),
        asyncio.IncompleteReadError(b"", 5),
        OSError(5, "x"),
        redis.exceptions.ClusterError("TTL exhausted"),
    ],
    ids=repr,
)
def test_other_breakdowns(raised):
    assert f"broke: {str(raised) or type(raised).__name__}; {FATE};" in str(translated(raised))


def test_a_wanted_a_wrong_and_an_unwanted_password(make_server):
    server = make_server(password=SECRET)
    wanted = failure(redis.Redis(port=server.port, retry=ONCE).ping)
    assert (type(wanted), "wants a password" in str(wanted)) == (AuthenticationError, True)
    wrong = failure(redis.Redis(port=server.port, password="wr0ng-word", retry=ONCE).ping)
    assert (type(wrong), "refused the user or password" in str(wrong)) == (AuthenticationError, True)
    open_ = make_server()
    unwanted = failure(redis.Redis(port=open_.port, password=SECRET, protocol=2, retry=ONCE).ping)
    assert type(unwanted) is AuthenticationError
    for error in (wanted, wrong, unwanted):
        assert is_one_sentence(error)
        shown = "".join(traceback.format_exception(error))
        assert SECRET not in shown.replace(f'"{SECRET}"', "")
        assert "wr0ng-word" not in shown.replace('password="wr0ng-word"', "")


def test_the_password_that_a_reply_quotes_is_cut_out(server, make_server):
    without_hello = make_server(server.binary, options={"rename-command": 'HELLO ""'})
    connection = without_hello.client(retry=ONCE, protocol=2).connection_pool.get_connection()
    connection.send_command("HELLO", "3", "AUTH", "default", SECRET, check_health=False)
    with pytest.raises(redis.ResponseError, match="args beginning with") as caught:
        connection.read_response()
    if server.binary.version < (9,):  # Valkey 9 no longer quotes it
        assert SECRET in str(caught.value)
    error = translated(caught.value)
    assert type(error) is ServerTooOld
    assert SECRET not in str(error)
    assert SECRET not in str(caught.value)  # it is shown too, as the cause
    assert "unknown command 'HELLO'" in str(error).replace("`", "'")


def test_the_payload_that_a_pipeline_quotes_is_cut_out(fast_server, name):
    with fast_server.client() as client, client.pipeline(transaction=False) as pipe:
        client.set(name, "x")
        pipe.xadd(name, {"event": "OOM private words"})
        with pytest.raises(redis.ResponseError) as caught:
            pipe.execute()
    error = translated(caught.value)
    assert type(error) is WrongKeyType
    assert "private" not in str(error) + str(caught.value)


def test_a_missing_permission(server, make_server):
    server = make_server(
        server.binary, acl=["user default on nopass ~* +@all -xadd", f"user app on >{SECRET} ~mine* +@all"]
    )
    client = server.client()
    for error in (
        failure(lambda: client.xadd("s", {"a": "b"})),
        failure(eval_(client, "return redis.call('XADD', 's', '*', 'a', 'b')")),
        failure(lambda: redis.Redis(port=server.port, username="app", password=SECRET).get("other")),
    ):
        assert type(error) is AuthenticationError
        assert "the ACL of 127.0.0.1:6379/0 does not permit it: " in str(error)
        assert SECRET not in str(error)
        assert is_one_sentence(error)


def test_a_key_of_another_type(server, name):
    with server.client() as client:
        client.set(name, "x")
        for error in (
            failure(lambda: client.xadd(name, {"a": "b"})),
            failure(eval_(client, "return redis.call('XADD', KEYS[1], '*', 'a', 'b')", name)),
        ):
            assert type(error) is WrongKeyType
            assert FATE in str(error)
            assert "choose another queue name" in str(error)
            assert is_one_sentence(error)


def test_an_unknown_command(server):
    with server.client() as client:
        for error in (
            failure(lambda: client.execute_command("NOSUCH", "private words")),
            failure(eval_(client, "return redis.call('NOSUCH', 'private words')")),
        ):
            assert type(error) is ServerTooOld
            assert "private" not in str(error)
            assert "use Redis 6.0 or Valkey 8 or newer" in str(error)
            assert is_one_sentence(error)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ("ELKMQ_LEASE_LOST 5-0 is another's", LeaseLost, "the lease was lost: 5-0 is another's; nothing was changed"),
        ("ELKMQ_CONSUMER_GONE c1", LeaseLost, "declared dead: c1; its deliveries went back to the queue"),
        ("ELKMQ_QUEUE_FULL it holds 5", QueueFull, "full: it holds 5; the event is not in the queue"),
        ("ELKMQ_FORMAT it has 2", FormatTooNew, "laid out this queue: it has 2; nothing was changed; upgrade"),
        ("ELKMQ_WRONG_KEY q(x)", WrongKeyType, "of another type: q(x)"),
        ("ELKMQ_SERVES_ORIGINAL yes", DequeueError, "set to serve consumers of elk-mq 0.1; nothing was changed"),
        ("ELKMQ_SETTINGS_DIFFER max_length 5", InvalidOption, "another value of this setting: max_length 5; nothing"),
        ("ELKMQ_BAD_SETTING ttl is x", InvalidOption, "cannot be set so: ttl is x; nothing was changed; correct it"),
        ("ELKMQ_TOO_MANY_FIELDS it has 9", InvalidEvent, "can hold: it has 9; nothing was enqueued; put them into"),
        ("ELKMQ_WHAT_EVER is this", ServerError, f"answered: ELKMQ_WHAT_EVER is this; {FATE}"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("how", ["error('{}', 0)", "return redis.error_reply('{}')", "error({{err='{}'}})"])
def test_the_scripts_errors(server, reply, kind, words, how):
    if server.binary.version < (7,) and "err=" in how:
        pytest.skip("error() takes tables from Redis 7.0 on")
    with server.client() as client:
        error = failure(eval_(client, how.format(reply.replace("'", "\\'"))))
    assert type(error) is kind
    assert words in str(error)
    assert "user_script" not in str(error)
    assert is_one_sentence(error)


def test_a_script_that_fails_by_itself(server):
    with server.client() as client:
        error = failure(eval_(client, "local x = nil; return x.y"))
        other = translate(
            redis.ResponseError("ERR odd"), server="s", doing="enqueue", fate=FATE, otherwise=EnqueueError
        )
    assert type(error) is ServerError
    assert f"; {FATE}; " in str(error)
    assert "attempt to index" in str(error)
    assert type(other) is EnqueueError
    assert str(other) == f"could not enqueue: s answered: odd; {FATE}; read the server's log."


@pytest.mark.parametrize("in_script", [False, True], ids=["command", "script"])
def test_a_server_out_of_memory(server, make_server, in_script):
    full = make_server(server.binary, maxmemory="1")
    with full.client() as client:
        call = eval_(client, "return redis.call('SET', 'k', 'v')") if in_script else lambda: client.set("k", "v")
        error = failure(call)
    assert type(error) is ServerOutOfMemory
    assert "out of memory (maxmemory); nothing was changed; raise maxmemory" in str(error)


@pytest.mark.parametrize("in_script", [False, True], ids=["command", "script"])
def test_a_read_only_replica(server, make_server, in_script):
    primary = make_server(server.binary)
    replica = make_server(server.binary, replica_of=primary)
    replica.wait_until_in_sync()
    with replica.client() as client:
        call = eval_(client, "return redis.call('SET', 'k', 'v')") if in_script else lambda: client.set("k", "v")
        error = failure(call)
    assert type(error) is ServerReadOnly
    assert "is a read-only replica; nothing was changed; connect to the primary" in str(error)


def test_a_server_with_too_few_replicas(make_server):
    with make_server(options={"min-replicas-to-write": "1"}).client() as client:
        error = failure(lambda: client.set("k", "v"))
    assert (type(error), "too few replicas" in str(error)) == (ServerReadOnly, True)


def test_a_replica_that_lost_its_primary(make_server):
    primary = make_server()
    replica = make_server(replica_of=primary, options={"replica-serve-stale-data": "no"})
    replica.wait_until_in_sync()
    primary.kill()
    with replica.client(retry=ONCE) as client:
        errors_ = []
        while not errors_:  # it answers until it notices
            try:
                client.get("k")
            except redis.RedisError as exc:
                errors_.append(translated(exc))
    assert type(errors_[0]) is ServerConnectionError
    assert "has lost its primary; nothing was changed; try again in a moment" in str(errors_[0])


def test_no_such_database(fast_server):
    error = failure(redis.Redis(port=fast_server.port, db=9999, retry=ONCE).ping)
    assert type(error) is InvalidOption
    assert "has no such database; nothing was changed; correct the number" in str(error)


def test_too_many_clients(make_server):
    server = make_server(options={"maxclients": "1"})
    first = server.client()
    first.ping()
    held = first.connection_pool.get_connection()
    error = failure(server.client(retry=ONCE).ping)
    held.disconnect()
    assert type(error) is ServerConnectionError
    assert "nothing was changed" in str(error)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ("LOADING Redis is loading the dataset in memory", ServerConnectionError, "is still loading its data"),
        ("BUSY Redis is busy running a script. You can only ...", ServerConnectionError, "busy with another program's"),
        ("CLUSTERDOWN Hash slot not served", ServerConnectionError, "the cluster is down: Hash slot not served"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", ServerConnectionError, "moving the queue's slot"),
        ("ASK 3999 127.0.0.1:6381", ServerConnectionError, "moving the queue's slot"),
        (
            "ERR Attempted to access a non local key in a cluster node script: on @user_script:26.",
            ServerConnectionError,
            "moving the queue's slot",
        ),
        ("MOVED 3999 127.0.0.1:6381", ServerConnectionError, "with another node"),
        ("CROSSSLOT Keys in request don't hash to the same slot", ServerError, "different slots"),
        ("MISCONF Redis is configured to save RDB snapshots, but ...", ServerReadOnly, "cannot save to disk"),
        ("NOPROTO unsupported protocol version", ServerTooOld, "is too old"),
        ("DENIED Redis is running in protected mode because ...", AuthenticationError, "is in protected mode"),
        ("NOAUTH Authentication required.", AuthenticationError, "wants a password"),
        ("NOAUTH HELLO must be called with the client already authenticated", AuthenticationError, "wants a password"),
        ("ERR wrong number of arguments for 'auth' command", AuthenticationError, "refused the login"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_replies_that_are_hard_to_provoke_as_redis_py_reads_them(reply, kind, words):
    from redis._parsers.base import BaseParser

    error = translated(BaseParser.parse_error(reply))
    assert type(error) is kind
    assert words in str(error)
    assert "nothing was changed" in str(error)
    assert is_one_sentence(error)


def test_a_pool_without_a_free_connection(fast_server):
    pool = redis.ConnectionPool.from_url(fast_server.url, max_connections=1)
    held = pool.get_connection()
    error = failure(redis.Redis(connection_pool=pool, retry=ONCE).ping)
    pool.release(held)
    assert type(error) is ServerConnectionError
    assert "nothing was changed" in str(error)


def test_sentinels_that_know_of_no_primary():
    from redis.sentinel import Sentinel

    error = failure(lambda: Sentinel([("127.0.0.1", free_port())]).discover_master("mymaster"))
    assert type(error) is ServerConnectionError
    assert "nothing was changed" in str(error)


@pytest.mark.parametrize(
    "raised",
    [
        ConnectionRefusedError(111, "no"),
        FileNotFoundError(2, "no"),
        socket.gaierror(-2, "no such name"),
        redis.exceptions.RedisClusterException("no node"),
    ],
    ids=repr,
)
def test_python_s_own_errors_of_connecting(raised):
    assert f"cannot be reached: {raised}; nothing was changed" in str(translated(raised))


def test_a_name_with_several_addresses_that_all_refuse():
    error = translated(
        OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] Connect ...")
    )
    assert "cannot be reached: " in str(error)
    assert "nothing was changed" in str(error)


def test_a_cluster_that_cannot_be_reached():
    from redis.cluster import RedisCluster

    error = failure(lambda: RedisCluster(host="127.0.0.1", port=free_port()))
    assert type(error) is ServerConnectionError


def test_a_foreign_text_is_kept_short():
    assert len(str(translated(redis.ResponseError("x" * 5000)))) < 400


def test_an_empty_fate_leaves_no_gap():
    error = translate(TimeoutError(), server="s", doing="look", fate="")
    assert str(error) == "could not look: s did not answer in time; check server and network, then try again."


def test_nothing_to_hand_out_is_told_from_a_failure():
    assert not issubclass(EmptyQueue, DequeueError)
