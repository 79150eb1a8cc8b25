"""Pages and their tokens: what leads on, and what is refused."""

from __future__ import annotations

import base64

import pytest
from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as order_pb
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.errors import Rejected
from services.order_gateway import history_wire
from services.order_gateway.account import PostingKind
from services.order_gateway.paging import NEWEST, Page, Span, instant
from services.units import INT64_MAX

numbers = st.integers(0, INT64_MAX)


def field_of(caught: pytest.ExceptionInfo[Rejected]) -> tuple[str, str]:
    return caught.value.reason.name, caught.value.field


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (500, 500)])
def test_sizes(asked: int, size: int) -> None:
    page = Page.of(asked, "")
    assert (page.size, page.limit, page.after) == (size, size + 1, NEWEST)


@pytest.mark.parametrize("wrong", [-1, 501, 2**31 - 1])
def test_wrong_sizes(wrong: int) -> None:
    with pytest.raises(Rejected) as caught:
        Page.of(wrong, "")
    assert field_of(caught) == ("INVALID_FIELD", "page_size")


@given(numbers, numbers, st.integers(1, 500))
def test_a_token_leads_on_whatever_the_size(sequence: int, tie: int, size: int) -> None:
    token = Page.of(7, "", "orders", None, Span()).token((sequence, tie))
    assert Page.of(size, token, "orders", None, Span()).after == (sequence, tie)


def test_only_a_full_page_has_a_next() -> None:
    page = Page.of(2, "")
    assert page.next_token(2, (5, 1)) == ""
    assert Page.of(2, page.next_token(3, (5, 1))).after == (5, 1)


ASKED = ("orders", 7, False, Span(1, 2))
OTHERS = [
    ("executions", 7, False, Span(1, 2)),
    ("orders", 8, False, Span(1, 2)),
    ("orders", None, False, Span(1, 2)),
    ("orders", 7, True, Span(1, 2)),
    ("orders", 7, False, Span(1, 3)),
    ("orders", 7, False, Span(None, 2)),
    ("orders", 7, False),
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_with_other_filters_it_is_refused(other: tuple[object, ...]) -> None:
    token = Page.of(1, "", *ASKED).token((3, 4))
    with pytest.raises(Rejected) as caught:
        Page.of(1, token, *other)
    assert field_of(caught) == ("INVALID_FIELD", "page_token")


GOOD = Page.of(1, "").token((3, 4))
BEYOND = base64.urlsafe_b64encode(base64.urlsafe_b64decode(GOOD + "==")[:-16] + b"\xff" * 16).decode().rstrip("=")
GARBAGE = [
    *("x", "é", "MS4x", "a" * 10_000, "====", "\0", " ", GOOD[:-1], GOOD + "A", GOOD + "=", GOOD + "\n", " " + GOOD),
    *(GOOD[:5] + "+" + GOOD[6:], BEYOND, GOOD.lower() if GOOD.lower() != GOOD else GOOD.upper()),
]


@pytest.mark.parametrize("token", GARBAGE)
def test_garbage_is_refused(token: str) -> None:
    assert Page.of(1, GOOD).after == (3, 4)
    with pytest.raises(Rejected) as caught:
        Page.of(1, token)
    assert field_of(caught) == ("INVALID_FIELD", "page_token")


@given(st.text())
def test_no_text_breaks_it(token: str) -> None:
    try:
        page = Page.of(1, token)
    except Rejected as rejected:
        assert rejected.field == "page_token"  # noqa: PT017 - whatever is refused
    else:
        assert not token or page.token(page.after) == token


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (0, 0, 0),
        (1, 999_999_999, 1_999_999_999),
        (-1, 5, 0),
        (253_402_300_799, 0, INT64_MAX),
        (0, 10**9, None),
        (0, -1, None),
    ],
)
def test_times(seconds: int, nanos: int, expected: int | None) -> None:
    if expected is not None:
        assert instant(seconds, nanos, "start_time") == expected
        return
    with pytest.raises(Rejected) as caught:
        instant(seconds, nanos, "start_time")
    assert field_of(caught) == ("INVALID_FIELD", "start_time")


def test_spans() -> None:
    assert history_wire.span(order_pb.ListOrdersRequest()) == Span()
    asked = account_pb.ListTransfersRequest(start_time=Timestamp(seconds=3), end_time=Timestamp(nanos=7))
    assert history_wire.span(asked) == Span(3 * 10**9, 7)
    with pytest.raises(Rejected) as caught:
        history_wire.span(order_pb.ListExecutionsRequest(end_time=Timestamp(nanos=-1)))
    assert field_of(caught) == ("INVALID_FIELD", "end_time")


def test_kinds_of_entries_are_those_of_the_proto() -> None:
    names = {f"LEDGER_ENTRY_KIND_{kind.name}": kind.value for kind in PostingKind}
    assert names.items() <= dict(account_pb.LedgerEntryKind.items()).items()
    assert [history_wire.entry_kind(number) for number in (0, 3)] == [None, PostingKind.TRANSFER]
    with pytest.raises(Rejected) as caught:
        history_wire.entry_kind(99)
    assert field_of(caught) == ("INVALID_FIELD", "kind")
