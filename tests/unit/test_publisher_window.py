"""The window, its readers and the tape: small rings, every edge."""

from itertools import pairwise

import pytest

from services.book.publisher.events import Trade
from services.book.publisher.once import Once
from services.book.publisher.tape import Print, Tape
from services.book.publisher.window import Message, Reader, Window


def message(sequence: int, previous: int | None = None) -> Message:
    return Message(sequence, sequence - 1 if previous is None else previous, Once(lambda: b"%d" % sequence))


def window(lag_max: int, appended: int, start: int = 0, changes: int = 0) -> Window:
    """One change a message."""
    made = Window(lag_max, start, changes)
    for sequence in range(start + 1, start + appended + 1):
        made.append(message(sequence))
    return made


def taken(reader: Reader, n: int = 100) -> list[int] | None:
    messages = reader.take(n)
    return None if messages is None else [message.sequence for message in messages]


@pytest.mark.parametrize(
    ("lag_max", "changes", "appended", "start", "tail"),
    [
        (3, 0, 0, 0, 0),
        (3, 0, 2, 0, 0),
        (3, 0, 3, 0, 0),
        (3, 0, 4, 0, 1),
        (3, 0, 10, 0, 7),
        (3, 0, 0, 5, 0),
        (3, 0, 5, 5, 2),
        (2, 4, 6, 0, 0),
        (2, 4, 7, 0, 1),
        (2, 4, 20, 9, 14),
    ],
)
def test_what_a_window_holds(lag_max: int, changes: int, appended: int, start: int, tail: int) -> None:
    made = window(lag_max, appended, start, changes)
    assert (made.tail, made.head) == (tail, appended)
    for position in range(made.tail, made.head + 1):
        everything = [each.sequence for each in made.read(position, 100)]
        assert everything == list(range(start + position + 1, start + made.head + 1))
        assert made.read(position, 2) == made.read(position, 100)[:2]
        assert made.position_of(start + position) == position
    assert made.position_of(start + tail - 1) is None
    assert made.position_of(start + appended + 1) is None
    with pytest.raises(AssertionError):
        made.read(made.tail - 1, 1)


def test_messages_of_many_changes_are_kept_by_changes_and_entered_between_them_only() -> None:
    made, ends = Window(lag_max=2, sequence=0, changes=10), [4, 5, 12, 13, 20, 28, 29]
    for previous, sequence in pairwise([0, *ends]):
        made.append(message(sequence, previous))
    # Two messages may still be waited for, which lead on from 20: the last ten changes up to there begin behind 10.
    assert [each.sequence for each in made.read(made.tail, 100)] == [12, 13, 20, 28, 29]
    found = {sequence: made.position_of(sequence) for sequence in (4, 5, 6, 12, 13, 14, 28, 29, 30)}
    assert found == {4: None, 5: 2, 6: None, 12: 3, 13: 4, 14: None, 28: 6, 29: 7, 30: None}


def test_a_message_is_made_once_and_only_if_somebody_asks() -> None:
    made = iter([b"first", b"second"])
    once = Once(lambda: next(made))
    assert (once.data, once.data, next(made)) == (b"first", b"first", b"second")
    Once(lambda: next(made))


def test_a_reader_that_keeps_up_sees_everything_once() -> None:
    made = window(4, 2)
    reader = Reader(made, made.head, lag_max=2)
    assert taken(reader) == []
    for sequence in range(3, 30):
        made.append(message(sequence))
        assert taken(reader) == [sequence]


def test_a_reader_may_lag_so_far_and_no_further() -> None:
    made = window(10, 5)
    reader = Reader(made, 5, lag_max=3)
    for sequence in (6, 7, 8):
        made.append(message(sequence))
    assert taken(reader, 1) == [6]
    made.append(message(9))
    assert taken(reader, 1) == [7]
    made.append(message(10))
    made.append(message(11))
    assert taken(reader) is None
    reader.skip()
    assert taken(reader) == []
    made.append(message(12))
    assert taken(reader) == [12]


def test_who_resumes_may_be_further_behind_until_it_has_caught_up() -> None:
    made = window(3, 13, changes=10)
    reader = Reader(made, 3, lag_max=3)
    for sequence in (14, 15, 16):
        made.append(message(sequence))
    assert taken(reader, 11) == list(range(4, 15))  # 13 were waiting: within what it began with, and 3 more
    assert taken(reader, 1) == [15]
    for sequence in (17, 18, 19):
        made.append(message(sequence))
    assert taken(reader) is None  # it had caught up: from then on it is a reader like any other


def test_who_resumes_and_does_not_read_falls_out() -> None:
    made = window(3, 13, changes=10)
    reader = Reader(made, 3, lag_max=3)
    for sequence in range(14, 18):
        made.append(message(sequence))
    assert taken(reader) is None


def trade(trade_id: int, sequence: int) -> Trade:
    return Trade(trade_id, sequence, 100, 1, True, trade_id, 0)


def printed(*trades: Trade) -> Print:
    return Print(trades, Once(bytes))


def tape(capacity: int, *commands: int, last_trade_id: int = 0) -> Tape:
    """Each command with so many trades."""
    made = Tape(capacity, last_trade_id)
    for sequence, count in enumerate(commands, 1):
        first = made.last_trade_id + 1
        made.append(printed(*(trade(first + i, sequence) for i in range(count))))
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
        tape(2, 1).append(printed(trade(3, 2)))
