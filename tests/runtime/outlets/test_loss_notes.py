"""How many events a peer that comes and goes can make, and that they account for all of it."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given

from ssn_edge_runtime.outlets.loss_notes import LossNotes, Note
from ssn_edge_runtime.outlets.words import PeerLosses, PeerReport
from ssn_edge_runtime.record import EventKind

EVERY_S = 60.0


class Bench:
    """One peer, counted as its outlet does, and noted as the line does."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.losses = PeerLosses(lambda: self.now_s)
        self.notes = LossNotes("mqtt", "mqtt://broker/l1", "peer", every_s=EVERY_S)
        self.told: list[tuple[float, Note]] = []

    def look(self) -> list[Note]:
        report = self.losses.report
        if report is not None:
            self.notes.see(report)
        due = list(self.notes.notes(self.now_s))
        self.told += [(self.now_s, note) for note in due]
        return due

    def kinds(self) -> list[EventKind]:
        return [kind for _, (kind, _) in self.told]


def test_the_first_loss_is_told_at_once_and_so_is_its_end() -> None:
    bench = Bench()
    assert bench.look() == []
    bench.losses.back()  # it is there from the start
    assert bench.look() == []
    bench.losses.lost("cannot be reached\n(refused)")
    ((kind, detail),) = bench.look()
    assert kind is EventKind.OUTLET_LOST
    assert detail == {
        "outlet": "mqtt",
        "what": "peer",
        "peer": "mqtt://broker/l1",
        "cause": "cannot be reached (refused)",
        "losses": 1,
        "away_s": 0.0,
    }
    bench.now_s += 12.5
    bench.losses.dropped, bench.losses.to_line = 7, 21
    bench.losses.back(waiting=3)
    (_, back), (left_out, messages) = bench.look()
    assert (back["away_s"], back["waiting"], back["dropped"]) == (12.5, 3, 7)
    assert left_out is EventKind.UNDELIVERED
    assert (messages["dropped"], messages["refused"], messages["to_line"]) == (7, 0, 21)
    assert bench.look() == []


def test_a_peer_that_flaps_makes_one_pair_of_events_a_minute_with_all_counted() -> None:
    bench = Bench()
    for _ in range(600):
        bench.losses.lost("no heartbeat")
        bench.look()
        bench.now_s += 0.5
        bench.losses.back()
        bench.look()
        bench.now_s += 0.5
    assert len(bench.told) <= 2 * 11
    bench.now_s += EVERY_S
    bench.look()
    assert sum(int(str(detail["losses"])) for _, (_, detail) in bench.told) == 600
    assert sum(float(str(detail["away_s"])) for _, (_, detail) in bench.told) == 300.0
    assert bench.kinds()[-1] is EventKind.OUTLET_BACK


def test_a_loss_after_a_long_one_is_told_at_once() -> None:
    bench = Bench()
    bench.losses.lost("gone")
    bench.look()
    bench.now_s += 2 * EVERY_S
    bench.losses.back()
    bench.look()
    bench.now_s += 1.0
    bench.losses.lost("gone again")
    assert [kind for kind, _ in bench.look()] == [EventKind.OUTLET_LOST]


def test_counts_of_a_process_that_was_started_again_go_on() -> None:
    notes = LossNotes("mqtt", "broker", "peer", every_s=EVERY_S)
    notes.see(PeerReport(is_lost=True, cause="gone", losses=3, dropped=50))
    told = list(notes.notes(0.0))
    notes.begin_again()
    assert list(notes.notes(EVERY_S)) == []
    notes.see(PeerReport(is_lost=True, cause="gone", losses=1, dropped=8))
    told += notes.notes(2 * EVERY_S)
    assert [detail.get("losses") for kind, detail in told if kind is EventKind.OUTLET_LOST] == [
        3,
        1,
    ]
    assert [detail["dropped"] for kind, detail in told if kind is EventKind.UNDELIVERED] == [50, 8]


REPORTS = st.builds(
    PeerReport,
    is_lost=st.booleans(),
    losses=st.integers(0, 2**52),
    away_ms=st.integers(0, 2**52),
    dropped=st.integers(0, 2**52),
    refused=st.integers(0, 2**52),
)


@given(st.lists(st.tuples(st.one_of(st.none(), REPORTS), st.floats(0, 30)), max_size=200))
def test_whatever_an_outlet_says_no_minute_has_more_than_two_events_of_losses_and_one_of_messages(
    steps: list[tuple[PeerReport | None, float]],
) -> None:
    notes = LossNotes("mqtt", "broker", "peer", every_s=EVERY_S)
    now_s, told = 0.0, []
    for report, later_s in steps:
        now_s += later_s
        if report is None:
            notes.begin_again()
        else:
            notes.see(report)
        told += [(now_s, kind) for kind, _ in notes.notes(now_s)]
    for kind in (EventKind.OUTLET_LOST, EventKind.UNDELIVERED):
        times = [at_s for at_s, each in told if each is kind]
        assert all(b - a >= EVERY_S for a, b in pairwise(times))
    losses = [(at_s, kind) for at_s, kind in told if kind is not EventKind.UNDELIVERED]
    for place, (at_s, _) in enumerate(losses):
        within = [each for each, _ in losses[place:] if each - at_s < EVERY_S]
        assert len(within) <= 3  # an end, and the next pair


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=100))
def test_after_a_quiet_minute_the_journal_says_how_it_is(steps: list[tuple[bool, float]]) -> None:
    bench = Bench()
    count, is_away = 0, False
    for goes, later_s in steps:
        bench.now_s += later_s
        if goes:
            count += not is_away
            bench.losses.lost("gone")
        else:
            bench.losses.back()
        is_away = goes
        bench.look()
    bench.now_s += 2 * EVERY_S
    bench.look()
    assert sum(int(str(detail["losses"])) for _, (_, detail) in bench.told) == count
    assert (bench.kinds()[-1:] == [EventKind.OUTLET_LOST]) == is_away
