"""The dictionary of keys (elkmq/keys.py), its Lua twin, and what is really there after everything was used."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from elkmq import keys
from tests.scripts.rig import Rig, outgoing
from tests.scripts.test_all_or_nothing import SCENES

ROW = re.compile(r"^``(NAME|PREFIXelkmq)\(([^)]*)\)`` +(\w+) ", re.MULTILINE)


def dictionary(owner: str) -> dict[str, str]:
    """Ending -> type, by the table in the docstring; a family such as ``once:KEY`` as ``once:``."""
    rows = ROW.findall(keys.__doc__ or "")
    return {re.sub(r"[A-Z]+$", "", ending): kind for name, ending, kind in rows if name == owner}


def families(endings: set[str]) -> set[str]:
    """The endings, those of a family by the family."""
    return {
        re.sub(r"^(event_stream:)\d+$|^((?:enqueued|dequeued|once|replies):).*$", r"\1\2", ending) for ending in endings
    }


def test_everything_in_use_is_in_the_dictionary_and_everything_in_the_dictionary_is_used(server, name):
    kinds: dict[str, str] = {}
    known = dictionary("NAME")

    def look(q: Rig) -> None:
        for ending in q.names():
            (family,) = families({ending.decode()})
            kinds[family] = q.client.type(q.key(ending.decode())).decode()

    for i, scene in enumerate(SCENES.values()):
        q = Rig(server, f"{name}-{i}")
        call = scene(q)
        look(q)
        q.run(call)
        look(q)
        if i == 0:
            q.configure(serve_elkmq01=1)
            q.put(outgoing())
            look(q)
        q.close()
    assert kinds == known


def test_the_tables_and_the_names_that_a_queue_cannot_have_are_the_same():
    known = dictionary("NAME") | dictionary("PREFIXelkmq")
    assert {ending for ending in known if ":" not in ending} == set(keys._OWN_ENDINGS)
    assert {ending for ending in known if ending.endswith(":")} == set(keys._OWN_FAMILIES)
    for ending in known:
        assert keys.looks_like_a_key(f"foo({ending}x)" if ending.endswith(":") else f"foo({ending})")


def test_the_scripts_name_no_key_that_is_not_in_the_dictionary():
    folder = Path(str(resources.files("elkmq") / "lua"))
    named: set[str] = set()
    for path in folder.rglob("*.lua"):
        source = re.sub(r"^\s*--.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
        named |= set(re.findall(r"\bkey\('([a-z_0-9]+:?[a-z]*)'", source))
        named |= set(re.findall(r"'\(([a-z_0-9]+:?)", source))
        for listed in re.findall(r"for _, ending in ipairs\(\{(.*?)\}\)", source, re.DOTALL):
            named |= set(re.findall(r"'(\w+)'", listed))
    known = set(dictionary("NAME") | dictionary("PREFIXelkmq"))
    assert named <= known
    assert {"event_stream", "settings", "enqueued:", "exchange:"} <= named


def test_a_dropped_queue_lets_go_of_every_key_it_owns():
    source = (resources.files("elkmq") / "lua" / "include" / "drop.lua").read_text("utf-8")
    (listed,) = re.findall(r"for _, ending in ipairs\(\{(.*?)\}\)", source, re.DOTALL)
    owned = {
        ending for ending in dictionary("NAME") if not ending.startswith("event_stream") and not ending.endswith(":")
    }
    assert set(re.findall(r"'(\w+)'", listed)) == owned


def test_python_s_and_lua_s_names_are_the_same(q: Rig):
    names = keys.QueueKeys(q.keys.name, prefix="pre-")
    q.client.xgroup_create(names.lane(0), "elkmq", mkstream=True)
    prefixed = Rig(q.server, q.keys.name)
    prefixed.keys = names
    prefixed.verbs = type(q.verbs)(names)
    event = outgoing(priority=3)
    prefixed.put(event)
    prefixed.run(prefixed.verbs.claim("k", "me", 1000))
    for key in (names.lane(3), names.mark(event.unique), names.once("k"), names.of("settings")):
        assert q.client.exists(key), key
    assert q.names() == set()
    prefixed.close()
