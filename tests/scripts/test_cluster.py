"""On a Cluster every verb stays in its queue's slot."""

from __future__ import annotations

from elkmq.keys import QueueKeys
from tests.scripts.rig import Rig, outgoing
from tests.scripts.test_all_or_nothing import SCENES
from tests.servers import Server


def test_every_verb_runs_on_the_node_of_its_queue(make_cluster, name):
    cluster = make_cluster()
    for i, scene in enumerate(SCENES.values()):
        keys = QueueKeys(f"{name}-{i}", cluster=True)
        q = Rig(node_of(cluster.nodes, keys.lane(0)), keys.base.decode())
        q.keys = keys
        q.verbs = type(q.verbs)(keys)
        q.run(scene(q))
        q.put(outgoing(), outgoing(priority=9))
        assert q.stats().enqueued >= 1
        slots = {q.client.execute_command("CLUSTER", "KEYSLOT", q.key(ending.decode())) for ending in q.names()}
        assert len(slots) == 1
        q.close()


def node_of(nodes: list[Server], key: bytes) -> Server:
    """The node that holds a key."""
    with nodes[0].client() as client:
        slot = int(client.execute_command("CLUSTER", "KEYSLOT", key))
    return nodes[slot * len(nodes) // 16384]
