"""What is asked of a market's state, rules and reference price, judged field by field."""

import re
from typing import Any

from clearbook.v1 import admin_service_pb2 as pb
from clearbook.v1 import book_service_pb2 as book_pb

from services.fees import PPM
from services.market_rules import PPM_PER_BASIS_POINT, MarketRules, MarketState
from services.order_gateway.model import SetReferencePrice
from services.order_gateway.money_wire import reason
from services.order_gateway.paging import instant
from services.order_gateway.wire import amount_or_zero, invalid, shown
from services.reference import REFERENCE_AGE_SECONDS_MAX, REFERENCE_SOURCE_CHARACTERS_MAX
from services.units import Market

BAND_BASIS_POINTS_MAX = PPM // PPM_PER_BASIS_POINT - 1
OPEN_ORDERS_MAX = 1_000_000

_SOURCE = re.compile(rf"[ -~]{{1,{REFERENCE_SOURCE_CHARACTERS_MAX}}}", re.ASCII)

_STATES = {state.value: state for state in MarketState}


def state(request: pb.SetMarketStateRequest) -> tuple[MarketState, str]:
    """The state that a market is to have, and why. Callers of before say only whether it is halted, and no reason.

    Raises:
        Rejected: INVALID_FIELD with the field.
    """
    if request.state == book_pb.MARKET_STATE_UNSPECIFIED:
        old = MarketState.HALTED if request.halted else MarketState.OPEN
        return old, reason(request.reason) if request.reason else ""
    if request.halted:
        raise invalid("halted", "is deprecated: say state, and not both")
    found = _STATES.get(request.state)
    if found is None:
        raise invalid("state", f"has no value {request.state}")
    return found, reason(request.reason)


def rules(request: pb.SetMarketRulesRequest, market: Market, now: MarketRules) -> MarketRules:
    """The rules that a market is to have: what the request does not name is as it is `now`.

    Raises:
        Rejected: INVALID_FIELD, INVALID_QUANTITY with the field.
    """
    changes: dict[str, Any] = {}
    for field in ("quantity_min", "quantity_max"):
        if request.HasField(field):  # a name of this very loop
            changes[f"{field}_lots"] = _lots(getattr(request, field), field, market)
    for field in ("notional_min", "notional_max"):
        if request.HasField(field):  # type: ignore[arg-type]
            changes[field] = amount_or_zero(getattr(request, field), field, market.quote)
    if request.HasField("price_band_basis_points"):
        _check_within("price_band_basis_points", request.price_band_basis_points, BAND_BASIS_POINTS_MAX)
        changes["band_ppm"] = request.price_band_basis_points * PPM_PER_BASIS_POINT
    if request.HasField("open_orders_max"):
        _check_within("open_orders_max", request.open_orders_max, OPEN_ORDERS_MAX)
        changes["open_orders_max"] = request.open_orders_max
    if request.HasField("reference_age_max_seconds"):
        _check_within("reference_age_max_seconds", request.reference_age_max_seconds, REFERENCE_AGE_SECONDS_MAX)
        changes["reference_age_max_seconds"] = request.reference_age_max_seconds
    if request.HasField("signed_orders"):
        changes["signed_orders"] = request.signed_orders
    if not changes:
        raise invalid("quantity_min", "is missing, and so are all other rules: at least one must be given")
    asked = now._replace(**changes)
    if 0 < asked.quantity_max_lots < asked.quantity_min_lots:
        raise invalid("quantity_max", "is less than quantity_min")
    if 0 < asked.notional_max < asked.notional_min:
        raise invalid("notional_max", "is less than notional_min")
    return asked


def reference(request: pb.SetReferencePriceRequest, market: Market, now_ns: int) -> SetReferencePrice:
    """What a market's price is elsewhere; seen there now, unless the request says when.

    Raises:
        Rejected: INVALID_PRICE, INVALID_FIELD with the field.
    """
    ticks = market.price_ticks(request.price, "price")
    if _SOURCE.fullmatch(request.source) is None:
        what = f"must be 1 to {REFERENCE_SOURCE_CHARACTERS_MAX} printable ASCII characters, not {shown(request.source)}"
        raise invalid("source", what)
    observed_ns, stamp = now_ns, request.observed_time
    if request.HasField("observed_time"):
        observed_ns = instant(stamp.seconds, stamp.nanos, "observed_time")
        if observed_ns == 0:
            raise invalid("observed_time", "must be after 1970")
    return SetReferencePrice(market.market_id, ticks, request.source, observed_ns)


def _lots(text: str, field: str, market: Market) -> int:
    return 0 if text == "0" else market.quantity_lots(text, field)


def _check_within(field: str, number: int, most: int) -> None:
    if number > most:
        raise invalid(field, f"must be 0 to {most}, not {number}")
