"""The window, its readers and the tape: small rings, every edge."""

import pytest

from services.book.publisher.fold import Trade
from services.book.publisher.tape import Print, Tape
from services.book.publisher.window import Message, Reader, Window


def window(capacity: int, appended: int, head: int = 0) -> Window:
    made = Window(capacity, head)
    for sequence in range(head + 1, head + appended + 1):
        made.append(Message(sequence, sequence - 1, b"%d" % sequence))
    return made


def taken(reader: Reader, n: int = 100) -> list[int] | None:
    messages = reader.take(n)
    return None if messages is None else [message.sequence for message in messages]


@pytest.mark.parametrize(
    ("capacity", "appended", "head", "tail"),
    [(3, 0, 0, 0), (3, 2, 0, 0), (3, 3, 0, 0), (3, 4, 0, 1), (3, 10, 0, 7), (3, 0, 5, 5), (3, 2, 5, 5), (3, 5, 5, 7)],
)
def test_what_a_window_holds(capacity: int, appended: int, head: int, tail: int) -> None:
    made = window(capacity, appended, head)
    assert (made.tail, made.head) == (tail, head + appended)
    for position in range(made.tail, made.head + 1):
        everything = [message.sequence for message in made.read(position, 100)]
        assert everything == list(range(position + 1, made.head + 1))
        assert made.read(position, 2) == made.read(position, 100)[:2]
    with pytest.raises(AssertionError):
        made.read(made.tail - 1, 1)


def test_a_reader_that_keeps_up_sees_everything_once() -> None:
    made = window(4, 2)
    reader = Reader(made, made.head, lag_max=2)
    assert taken(reader) == []
    for sequence in range(3, 30):
        made.append(Message(sequence, sequence - 1, b""))
        assert taken(reader) == [sequence]


def test_a_reader_may_lag_so_far_and_no_further() -> None:
    made = window(10, 5)
    reader = Reader(made, 5, lag_max=3)
    for sequence in (6, 7, 8):
        made.append(Message(sequence, sequence - 1, b""))
    assert taken(reader, 1) == [6]
    made.append(Message(9, 8, b""))
    assert taken(reader, 1) == [7]
    made.append(Message(10, 9, b""))
    made.append(Message(11, 10, b""))
    assert taken(reader) is None
    reader.skip()
    assert taken(reader) == []
    made.append(Message(12, 11, b""))
    assert taken(reader) == [12]


def test_who_resumes_may_be_further_behind_until_it_has_caught_up() -> None:
    made = window(10 + 3, 13)
    reader = Reader(made, 3, lag_max=3)
    for sequence in (14, 15, 16):
        made.append(Message(sequence, sequence - 1, b""))
    assert taken(reader, 11) == list(range(4, 15))  # 13 were waiting: within what it began with, and 3 more
    assert taken(reader, 1) == [15]
    for sequence in (17, 18, 19):
        made.append(Message(sequence, sequence - 1, b""))
    assert taken(reader) is None  # it had caught up: from then on it is a reader like any other


def test_who_resumes_and_does_not_read_falls_out() -> None:
    made = window(10 + 3, 13)
    reader = Reader(made, 3, lag_max=3)
    for sequence in range(14, 18):
        made.append(Message(sequence, sequence - 1, b""))
    assert taken(reader) is None


def trade(trade_id: int, sequence: int) -> Trade:
    return Trade(trade_id, sequence, 100, 1, True, trade_id, 0)


def tape(capacity: int, *commands: int, last_trade_id: int = 0) -> Tape:
    """Each command with so many trades."""
    made = Tape(capacity, last_trade_id)
    for sequence, count in enumerate(commands, 1):
        first = made.last_trade_id + 1
        made.append(Print([trade(first + i, sequence) for i in range(count)], b""))
    return made


@pytest.mark.parametrize(
    ("made", "tail", "last"),
    [
        (tape(2), 0, 0),
        (tape(2, last_trade_id=9), 9, 9),
        (tape(2, 1, 2), 0, 3),
        (tape(2, 1, 2, 3), 1, 6),
        (tape(2, 4, 1, 1, last_trade_id=9), 13, 15),
    ],
)
def test_what_a_tape_holds(made: Tape, tail: int, last: int) -> None:
    assert (made.tail, made.last_trade_id) == (tail, last)
    for position in range(tail, last + 1):
        prints = made.after(position, 100)
        ids = [each.trade_id for entry in prints for each in entry.trades if each.trade_id > position]
        assert ids == list(range(position + 1, last + 1))
        assert all(entry.last_trade_id > position for entry in prints)
        assert made.after(position, 1) == prints[:1]
    ids = [each.trade_id for each in made.newest(2**63, 100)]
    assert ids == list(range(last, tail, -1))
    assert [each.trade_id for each in made.newest(last, 2)] == ids[1:3]
    with pytest.raises(AssertionError):
        made.after(tail - 1, 1)


def test_a_gap_in_the_trades_is_an_assertion() -> None:
    with pytest.raises(AssertionError):
        tape(2, 1).append(Print([trade(3, 2)], b""))
