"""What requests for market data ask for, checked."""

from typing import TypeVar

from clearbook.v1 import book_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.book.publisher.asked import Asked
from services.book.publisher.pace import Pace
from services.errors import Reason, Rejected
from services.units import Market

DEPTH_DEFAULT_LEVELS = 20
DEPTH_LEVELS_MAX = 5_000
MARKETS_MAX = 100
"""Named by one request for tickers."""

_PACES = {
    pb.CONFLATION_UNSPECIFIED: Pace.EACH,
    pb.CONFLATION_100_MILLISECONDS: Pace.TENTH,
    pb.CONFLATION_1_SECOND: Pace.SECOND,
}
_PATIENT = {pb.SLOW_READER_UNSPECIFIED: True, pb.SLOW_READER_CONFLATE: True, pb.SLOW_READER_DISCONNECT: False}
_DETAILS = {pb.BOOK_DETAIL_UNSPECIFIED, pb.BOOK_DETAIL_L1, pb.BOOK_DETAIL_L2, pb.BOOK_DETAIL_L3}

T = TypeVar("T")


def within(value: int, maximum: int, field: str) -> int:
    """A whole number from 0 on. Raises Rejected(INVALID_FIELD)."""
    if not 0 <= value <= maximum:
        raise Rejected(Reason.INVALID_FIELD, f"{field} must be 0 to {maximum}, not {value}", field)
    return value


def pace(conflation: int) -> Pace:
    """How often. Raises Rejected(INVALID_FIELD)."""
    return _known(_PACES, conflation, "conflation")


def patient(slow_reader: int) -> bool:
    """Whether a slow reader is borne with. Raises Rejected(INVALID_FIELD)."""
    return _known(_PATIENT, slow_reader, "slow_reader")


def nanoseconds(time: Timestamp) -> int:
    """Since 1970. Raises Rejected(INVALID_FIELD) for what is no time since then."""
    if time.seconds < 0 or not 0 <= time.nanos < 10**9 or time.seconds >= 2**33:
        raise Rejected(Reason.INVALID_FIELD, "a time must be from 1970 to 2242", "time")
    return time.ToNanoseconds()


def book(request: pb.GetOrderBookRequest, market: Market) -> Asked:
    """A book as it is now. Raises Rejected(INVALID_FIELD)."""
    depth = within(request.depth, DEPTH_LEVELS_MAX, "depth") or DEPTH_DEFAULT_LEVELS
    return _asked(request, market, depth, Pace.EACH)


def book_stream(request: pb.StreamOrderBookRequest, market: Market) -> Asked:
    """A book that is followed. Raises Rejected(INVALID_FIELD)."""
    depth = within(request.depth, DEPTH_LEVELS_MAX, "depth")
    asked = _asked(request, market, depth, pace(request.conflation))
    if asked.orders and depth:
        raise Rejected(Reason.INVALID_FIELD, "L3 is of the whole book: depth must be 0", "depth")
    if request.resume_from_sequence and not asked.whole:
        message = (
            "resume_from_sequence needs each change of the whole L2 book: no detail, depth, price_group, conflation"
        )
        raise Rejected(Reason.INVALID_FIELD, message, "resume_from_sequence")
    return asked


def _asked(
    request: pb.GetOrderBookRequest | pb.StreamOrderBookRequest, market: Market, depth: int, often: Pace
) -> Asked:
    if request.detail not in _DETAILS:
        raise Rejected(Reason.INVALID_FIELD, f"detail must be one of {', '.join(pb.BookDetail.keys()[1:])}", "detail")
    orders = request.detail == pb.BOOK_DETAIL_L3
    group_ticks = 1
    if request.price_group:
        if orders:
            raise Rejected(Reason.INVALID_FIELD, "L3 has no price_group", "price_group")
        group_ticks = market.price_ticks(request.price_group, "price_group")
    return Asked(1 if request.detail == pb.BOOK_DETAIL_L1 else depth, orders, group_ticks, often)


def _known(
    table: "dict[int, T] | dict[pb.Conflation.ValueType, T] | dict[pb.SlowReader.ValueType, T]", value: int, field: str
) -> T:
    for number, meaning in table.items():
        if number == value:
            return meaning
    raise Rejected(Reason.INVALID_FIELD, f"{field} is none of its kinds: {value}", field)
