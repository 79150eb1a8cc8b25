"""Whose turn it is, which number is due, how much is in flight: as a table of steps."""

import pytest

from services.book.engine import Session as Known
from services.book.sessions import WINDOW_COMMANDS, Sessions
from services.errors import Reason, Rejected


def id_of(gateway: int, epoch: int, number: int) -> int:
    return gateway << 56 | epoch << 36 | number


def attempt(sessions: Sessions, ids: list[int]) -> str:
    try:
        sessions.of(ids[0]).take(ids)
    except Rejected as refused:
        return refused.reason.name
    return "taken"


def ids(gateway: int, epoch: int, first: int, count: int = 1) -> list[int]:
    return [id_of(gateway, epoch, first + n) for n in range(count)]


@pytest.mark.parametrize(
    ("command_ids", "outcome"),
    [
        (ids(1, 3, 11), "taken"),
        (ids(1, 3, 11, 100), "taken"),
        (ids(127, 1, 1), "taken"),
        (ids(1, 3, 10), "OUT_OF_SEQUENCE"),
        (ids(1, 3, 12), "OUT_OF_SEQUENCE"),
        (ids(1, 3, 0), "OUT_OF_SEQUENCE"),
        ([*ids(1, 3, 11), *ids(1, 3, 13)], "OUT_OF_SEQUENCE"),
        ([*ids(1, 3, 11), *ids(127, 1, 1)], "OUT_OF_SEQUENCE"),
        (ids(1, 2, 11), "SESSION_SUPERSEDED"),
        (ids(1, 4, 1), "OUT_OF_SEQUENCE"),
        (ids(2, 1, 1), "OUT_OF_SEQUENCE"),
        ([0], "OUT_OF_SEQUENCE"),
        ([-1], "OUT_OF_SEQUENCE"),
        (ids(1, 3, 11, WINDOW_COMMANDS), "taken"),
        (ids(1, 3, 11, WINDOW_COMMANDS + 1), "OVERLOADED"),
    ],
)
def test_after_a_restart(command_ids: list[int], outcome: str) -> None:
    sessions = Sessions({1: Known(1, 3, 10), 127: Known(127, 1, 0)})
    assert attempt(sessions, command_ids) == outcome


def test_a_refused_request_counts_nothing_in() -> None:
    sessions = Sessions({1: Known(1, 1, 0)})
    assert attempt(sessions, [*ids(1, 1, 1), *ids(1, 1, 3)]) == "OUT_OF_SEQUENCE"
    assert attempt(sessions, ids(1, 1, 1, 2)) == "taken"
    assert sessions.of(id_of(1, 1, 1)).in_flight == 2


def test_a_command_may_take_several_numbers() -> None:
    sessions = Sessions({1: Known(1, 1, 0)})
    session = sessions.of(id_of(1, 1, 1))
    session.take(ids(1, 1, 1) + ids(1, 1, 4), [3, 1])
    with pytest.raises(Rejected):
        session.take(ids(1, 1, 6))
    session.take(ids(1, 1, 5))
    assert session.in_flight == 3


def test_the_window_opens_again() -> None:
    sessions = Sessions({1: Known(1, 1, 0)})
    assert attempt(sessions, ids(1, 1, 1, WINDOW_COMMANDS)) == "taken"
    assert attempt(sessions, ids(1, 1, WINDOW_COMMANDS + 1)) == "OVERLOADED"
    sessions.of(id_of(1, 1, 1)).in_flight -= 1
    assert attempt(sessions, ids(1, 1, WINDOW_COMMANDS + 1)) == "taken"


def test_a_newer_session_ends_the_older() -> None:
    sessions = Sessions({1: Known(1, 1, 5)})
    older = sessions.of(id_of(1, 1, 6))
    sessions.supersede(1)
    assert older.ending.is_set()
    assert attempt(sessions, ids(1, 1, 6)) == "SESSION_SUPERSEDED"
    sessions.opened(1, 2)
    assert attempt(sessions, ids(1, 1, 6)) == "SESSION_SUPERSEDED"
    assert attempt(sessions, ids(1, 2, 1)) == "taken"
    sessions.opened(1, 1)  # told late
    assert attempt(sessions, ids(1, 2, 2)) == "taken"


def test_of_two_that_open_at_once_the_first_never_speaks() -> None:
    """Its commands would come behind the second's SessionOpened, where the engine expects none of them."""
    sessions = Sessions({})
    with sessions.opening(1), sessions.opening(1):
        sessions.opened(1, 1)
        assert attempt(sessions, ids(1, 1, 1)) == "SESSION_SUPERSEDED"
    with sessions.opening(1):
        sessions.opened(1, 2)
    assert attempt(sessions, ids(1, 2, 1)) == "taken"
    assert attempt(sessions, ids(1, 1, 1)) == "SESSION_SUPERSEDED"


@pytest.mark.parametrize(
    ("opens", "gateway", "answer"),
    [
        (2, 1, "SESSION_SUPERSEDED"),  # two gateways would spend the same funds twice
        (1, 99, "SESSION_SUPERSEDED"),
        (100, 1, "taken"),  # a settler spends nobody's funds
        (1, 100, "taken"),
        (101, 100, "taken"),
    ],
)
def test_gateways_share_one_seat_and_settlers_have_their_own(opens: int, gateway: int, answer: str) -> None:
    sessions = Sessions({gateway: Known(gateway, 1, 0)})
    with sessions.opening(opens):
        assert attempt(sessions, ids(gateway, 1, 1)) == answer
        sessions.opened(opens, 1)
    assert attempt(sessions, ids(opens, 1, 1)) == "taken"


def test_of_two_gateways_that_open_at_once_the_first_never_speaks() -> None:
    sessions = Sessions({})
    with sessions.opening(1), sessions.opening(2):
        sessions.opened(1, 1)
        assert attempt(sessions, ids(1, 1, 1)) == "SESSION_SUPERSEDED"


def test_closing_ends_all_and_the_first_reason_stays() -> None:
    sessions = Sessions({1: Known(1, 1, 0), 102: Known(102, 1, 0)})
    superseded = sessions.of(id_of(102, 1, 1))
    sessions.supersede(102)
    sessions.close()
    assert attempt(sessions, ids(1, 1, 1)) == "CLOSING"
    assert superseded.refusal.reason is Reason.SESSION_SUPERSEDED
