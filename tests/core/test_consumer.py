"""The consumer's state, action by action: no server, no clock."""

from __future__ import annotations

import pytest

from elkmq._core.actions import Block, Deliver, Expired, Full, GiveBack, Open, Read, Recover, Signal, Take, Tend
from elkmq._core.consumer import ConsumerState, consumer_name
from elkmq._core.entry import Entry, Taken

NOW = 1000.0
SERVER = 5_000_000


def entry(number, lane=b"0", **fields):
    return Entry(lane, b"%d-0" % number, {b"event": b"{}", b"v": b"1", **{k.encode(): v for k, v in fields.items()}})


def taken(*entries, state="", next_event=-1, plain=False, now=SERVER, lanes=(b"r", b"0"), **more):
    return Taken(now, state, lanes, next_event, False, list(entries), plain=plain, **more)


def opened(prefetch=2, lease=10.0):
    state = ConsumerState(prefetch=prefetch, lease=lease)
    assert state.next_action(NOW) == Open()
    state.opened(SERVER, NOW, NOW)
    return state


def delivered(state, now=NOW):
    action = state.next_action(now)
    assert isinstance(action, Deliver), action
    state.handing = None  # it is a delivery now
    return action.entry


def test_names_are_never_used_twice():
    assert len({consumer_name() for _ in range(100)}) == 100


def test_from_the_beginning_to_the_first_wait():
    state = ConsumerState(prefetch=3, lease=10)
    assert not state.registered
    assert state.next_action(NOW) == Open()
    assert state.next_action(NOW) == Open()
    state.opened(SERVER, NOW, NOW)
    assert state.registered
    assert state.next_action(NOW) == Take(3, b"")
    state.taken(taken(), NOW)
    assert state.next_action(NOW) == Block(3)
    state.was_read([])
    assert state.next_action(NOW) == Block(3)


def test_what_was_taken_is_delivered_in_order_and_held_until_it_is_settled():
    state = opened(prefetch=2)
    state.taken(taken(entry(1), entry(2)), NOW)
    assert [delivered(state).id, delivered(state).id] == [b"1-0", b"2-0"]
    assert state.next_action(NOW) == Full()
    assert state.holding
    state.settled((b"0", b"1-0"))
    assert state.next_action(NOW) == Take(1, b"")
    state.settled((b"0", b"1-0"))
    state.settled((b"0", b"2-0"))
    assert not state.holding
    assert state.next_action(NOW) == Take(2, b"")


def test_a_batch_asks_for_no_more_than_that():
    state = opened(prefetch=10)
    state.batch = 4
    assert state.next_action(NOW) == Take(4, b"")


def test_after_an_answer_the_next_look_is_a_take_again():
    state = opened()
    state.taken(taken(entry(1)), NOW)
    state.settled((b"0", delivered(state).id))
    assert state.next_action(NOW) == Take(2, b"")


def test_on_a_queue_without_settings_lanes_are_read_at_once():
    state = opened()
    state.taken(taken(plain=True), NOW)
    state.look_again()
    assert state.next_action(NOW) == Take(2, b"")
    state.taken(taken(entry(1), plain=True), NOW)
    state.settled((b"0", delivered(state).id))
    assert state.next_action(NOW) == Read(2)
    assert state.next_action(NOW, patient=True) == Block(2)
    state.was_read([entry(2)])
    assert delivered(state).id == b"2-0"
    assert state.next_action(NOW) == Read(1)
    state.was_read([])
    assert state.next_action(NOW) == Block(1)


def test_a_wake_token_makes_the_next_look_a_take_that_passes_it_on():
    state = opened()
    state.taken(taken(plain=True), NOW)
    state.was_read([Entry(b"w", b"7-0", {b"wake": b"2"})])
    assert state.next_action(NOW, patient=True) == Take(2, b"7-0")
    state.taken(taken(plain=True), NOW)
    assert state.next_action(NOW) == Block(2)


def test_a_wake_token_that_came_with_an_entry_is_passed_on_before_the_entry_is_worked_on():
    state = opened(prefetch=1)
    state.taken(taken(plain=True), NOW)
    state.asked_anew()
    assert state.next_action(NOW) == Read(1)
    state.was_read([Entry(b"w", b"7-0", {b"wake": b"2"}), entry(1)])
    assert state.next_action(NOW) == Take(0, b"7-0")
    state.taken(taken(), NOW)
    assert delivered(state) == entry(1)


def test_what_came_with_the_news_of_a_pause_goes_back():
    state = opened()
    state.taken(taken(plain=True), NOW)
    state.asked_anew()
    assert state.next_action(NOW) == Read(2)
    state.was_read([Entry(b"w", b"7-0", {b"wake": b"1"}), entry(1)])
    assert state.next_action(NOW) == Take(0, b"7-0")
    state.taken(taken(state="paused"), NOW)
    assert state.next_action(NOW) == GiveBack([entry(1)])


def test_an_entry_of_an_original_client_makes_the_next_look_a_take():
    state = opened(prefetch=3)
    state.taken(taken(plain=True), NOW)
    state.next_action(NOW)
    state.was_read([Entry(b"0", b"1-0", {b"event": b"{}"})])
    delivered(state)
    assert state.next_action(NOW, patient=True) == Take(2, b"")


def test_what_a_read_brought_beyond_what_was_asked_for_goes_back_in_order():
    state = opened(prefetch=1)
    state.taken(taken(), NOW)
    assert state.next_action(NOW) == Block(1)
    state.was_read([entry(1, b"r"), entry(2, b"5"), entry(3)])
    assert state.known() == [(b"r", b"1-0"), (b"0", b"3-0"), (b"5", b"2-0")]
    assert state.next_action(NOW) == GiveBack([entry(2, b"5"), entry(3)])
    assert delivered(state) == entry(1, b"r")
    assert state.next_action(NOW) == Full()


def test_paused_or_standing_by_it_waits_for_a_signal_after_the_last_one_known():
    state = opened()
    for kind in ("paused", "standby"):
        state.taken(taken(state=kind, signal=b"9-0"), NOW)
        assert state.next_action(NOW) == Signal(b"9-0")
        state.look_again()
        assert state.next_action(NOW) == Take(2, b"")


def test_what_is_overdue_is_done_before_it_waits():
    state = opened()
    state.taken(taken(next_event=0), NOW)
    assert state.next_action(NOW) == Tend()
    state.tended(NOW)
    assert state.next_action(NOW) == Take(2, b"")
    state.taken(taken(entry(1), next_event=0), NOW)
    assert delivered(state).id == b"1-0"
    assert state.next_action(NOW) == Take(1, b"")


# -- leases


def test_nothing_is_started_before_the_server_said_that_the_lease_holds():
    state = opened(lease=10.0)
    state.taken(taken(entry(1)), NOW)
    assert state.next_action(NOW + 10.0) == Tend()
    state.tended(NOW + 9.9)
    assert delivered(state, NOW + 19.8).id == b"1-0"


@pytest.mark.parametrize(("late", "expected"), [(9.99, Deliver(entry(1))), (10.0, Tend()), (1e6, Tend())])
def test_a_heartbeat_counts_from_when_it_was_sent(late, expected):
    state = opened(lease=10.0)
    state.heard(NOW + 5)
    state.heard(NOW + 3)  # an answer that was overtaken takes nothing back
    state.taken(taken(entry(1)), NOW)
    assert state.next_action(NOW + 5 + late) == expected


def test_at_hand_gives_nothing_that_next_action_would_not():
    state = opened(prefetch=3, lease=10.0)
    state.taken(taken(*[entry(i) for i in range(1, 6)]), NOW)
    assert list(state.at_hand(5, NOW + 10)) == []
    assert [e.id for e in state.at_hand(2, NOW)] == [b"1-0", b"2-0"]
    assert [e.id for e in state.at_hand(5, NOW)] == [b"3-0"]  # as much as the prefetch allows
    assert list(state.at_hand(5, NOW)) == []
    state.settled((b"0", b"1-0"))
    state.gone(state.name)
    assert list(state.at_hand(5, NOW)) == []


def test_at_hand_leaves_what_may_have_expired_to_next_action():
    state = opened(prefetch=3)
    state.taken(taken(entry(1, ttl=b"1"), entry(2)), NOW)
    assert list(state.at_hand(5, NOW)) == []


def test_a_lost_lease_drops_everything_and_starts_anew_under_another_name():
    state = opened(prefetch=2)
    state.taken(taken(entry(1), entry(2)), NOW)
    delivered(state)
    name = state.name
    assert state.gone(name)
    assert not state.gone(name)  # it is no news
    assert state.lost(name)
    assert not state.registered
    assert state.next_action(NOW) == Open()
    assert state.name != name
    assert state.lost(name)
    assert not state.lost(state.name)
    assert not state.gone(name)  # of an earlier life
    state.opened(SERVER, NOW, NOW)
    assert state.known() == []
    assert state.next_action(NOW) == Take(2, b"")  # what others have now does not count as held
    state.settled((b"0", b"1-0"))
    assert state.next_action(NOW) == Take(2, b"")


def test_leaving_gives_the_name_to_unregister():
    state = opened()
    name = state.name
    assert state.leave() == name
    assert state.lost(name)
    assert state.next_action(NOW) == Open()
    assert state.name != name


# -- broken connections


def test_after_a_broken_connection_it_asks_for_what_it_never_saw_now_and_once_more_later():
    state = opened(prefetch=3)
    state.taken(taken(entry(1)), NOW)
    delivered(state)
    assert not state.unseen
    state.reconnected(NOW + 11)
    assert state.unseen
    assert state.next_action(NOW) == Recover()
    assert state.known() == [(b"0", b"1-0")]
    state.recovered([entry(2)])
    assert delivered(state).id == b"2-0"
    assert state.next_action(NOW + 10.9) == Take(1, b"")
    assert state.unseen  # the server may not have heard of the end of the read yet
    assert state.next_action(NOW + 11) == Recover()
    state.recovered([])
    assert not state.unseen
    assert state.next_action(NOW + 20) == Take(1, b"")


def test_what_came_twice_because_a_take_was_repeated_goes_back():
    state = opened(prefetch=2)
    state.reconnected(NOW + 11)
    state.taken(taken(entry(3), entry(4)), NOW)
    assert state.next_action(NOW) == Recover()
    state.recovered([entry(1), entry(2)])
    action = state.next_action(NOW)
    assert isinstance(action, GiveBack)
    assert len(action.entries) == 2
    delivered(state)
    delivered(state)
    assert state.next_action(NOW) == Full()


def test_what_nobody_is_going_to_ask_for_goes_back():
    state = opened(prefetch=3)
    state.taken(taken(entry(1), entry(2), entry(3)), NOW)
    delivered(state)
    state.give_back()
    assert state.unseen
    assert state.next_action(NOW) == GiveBack([entry(2), entry(3)])
    assert not state.unseen
    assert state.holding


# -- times to live


def test_what_expired_in_the_buffer_is_given_up():
    state = opened()
    state.taken(taken(entry(1, first=b"%d" % (SERVER - 50), ttl=b"100")), NOW)
    assert state.next_action(NOW + 0.05) == Expired(entry(1, first=b"%d" % (SERVER - 50), ttl=b"100"))
    state.taken(taken(entry(2, first=b"%d" % (SERVER - 50), ttl=b"100")), NOW)
    assert delivered(state, NOW + 0.049).id == b"2-0"


def test_the_servers_clock_is_never_taken_for_ahead_of_what_it_is():
    state = opened()
    assert state.server_time(NOW) == SERVER
    state.taken(taken(now=SERVER + 1000 - 300), NOW + 1)  # a reply that took 0.3 s says less than the first
    assert state.server_time(NOW + 1) == SERVER + 1000
    state.taken(taken(now=SERVER + 2000 + 40), NOW + 2)  # one that says more is believed
    assert state.server_time(NOW + 2) == SERVER + 2040


def test_a_servers_clock_that_was_set_back_is_believed():
    state = opened()
    state.taken(taken(now=SERVER - 3_600_000), NOW + 1)
    assert state.server_time(NOW + 1) == SERVER - 3_600_000
    state.taken(taken(entry(1, first=b"%d" % (SERVER - 3_600_000), ttl=b"1000"), now=SERVER - 3_600_000), NOW + 1)
    assert delivered(state, NOW + 1).id == b"1-0"


def test_a_recovery_hands_out_nothing_whose_acknowledgement_is_on_its_way():
    state = opened(prefetch=2)
    state.taken(taken(entry(1), entry(2)), NOW)
    first, second = delivered(state), delivered(state)
    key = (first.lane, first.id)
    state.settling.add(key)
    state.settled(key)
    assert set(state.known()) == {key, (second.lane, second.id)}
    state.settling.discard(key)
    assert state.known() == [(second.lane, second.id)]
