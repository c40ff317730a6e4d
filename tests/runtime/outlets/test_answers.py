"""What peers answer, in pieces of any size: taken or refused as it would be in one."""

from __future__ import annotations

import socket
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")

from ssn_edge_runtime.outlets.mqtt_client import BrokerWords
from ssn_edge_runtime.outlets.peer import PeerError
from ssn_edge_runtime.outlets.webhook import LONGEST_HEAD, read_status

ACKNOWLEDGED = st.binary(min_size=2, max_size=2).map(lambda mid: b"\x40\x02" + mid)
SOUND = st.builds(
    lambda code, rest: b"\x20\x02\x00" + bytes([code]) + b"".join(rest),
    st.integers(0, 255),
    st.lists(st.one_of(ACKNOWLEDGED, st.just(b"\xd0\x00")), max_size=20),
)
LIKELY = st.lists(st.sampled_from([0x20, 0x40, 0xD0, 0, 2, 3, 0x30, 0xFF]), max_size=40).map(bytes)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted(each % (len(data) + 1) for each in cuts)
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def is_taken(parts: list[bytes]) -> bool:
    words = BrokerWords()
    try:
        for each in parts:
            words.hear(each)
    except ConnectionError:
        return False
    return True


@given(SOUND, st.lists(st.integers(0, 200), max_size=5))
def test_all_that_a_sound_broker_says_is_heard(said: bytes, cuts: list[int]) -> None:
    assert is_taken(pieces(said, cuts))


@given(st.one_of(LIKELY, st.binary(max_size=40)), st.lists(st.integers(0, 200), max_size=5))
def test_a_broker_s_words_count_the_same_in_pieces(said: bytes, cuts: list[int]) -> None:
    assert is_taken(pieces(said, cuts)) == is_taken([said])


@given(SOUND, st.binary(min_size=1, max_size=8))
def test_a_second_welcome_and_what_is_no_acknowledgement_are_refused(
    said: bytes, more: bytes
) -> None:
    is_more = more[0] in (0x40, 0xD0) and (len(more) < 2 or more[1] == (more[0] == 0x40) * 2)
    assert is_more or not is_taken([said + more])


def status_of(*parts: bytes) -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in parts:
            theirs.sendall(each)
        theirs.shutdown(socket.SHUT_WR)
        return read_status(ours, monotonic() + 20)


@given(st.integers(200, 599), st.sampled_from([b"", b" OK", b" \xff\x00"]), st.booleans())
def test_a_status_is_read_behind_interim_ones(status: int, words: bytes, has_interim: bool) -> None:
    head = b"HTTP/1.1 %d%s\r\na: b\r\n\r\n" % (status, words)
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 100\n\n" * has_interim
    assert status_of(interim + head + b"HTTP/1.1 500 body\r\n\r\n") == status


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "hangs up"),
        (b"HTTP/1.1 200 OK\r\n", "hangs up"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "hangs up"),
        (b"HTTP/2 200 OK\r\n\r\n", "not as HTTP"),
        (b"HTTP/1.1 0200 OK\r\n\r\n", "not as HTTP"),
        (b"HTTP/1.1 200OK\r\n\r\n", "not as HTTP"),
        (b"HTTP/1.1 600 OK\r\n\r\n", "not as HTTP"),
        (b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "not as HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (LONGEST_HEAD // 6), "a head of more than"),
    ],
)
def test_what_is_no_answer(said: bytes, message: str) -> None:
    with pytest.raises(PeerError, match=message):
        status_of(said)


def test_who_says_nothing_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(TimeoutError):
            read_status(ours, monotonic() + 0.2)
