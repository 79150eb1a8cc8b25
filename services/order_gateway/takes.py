"""Whether a market takes an order now, as far as can be said without its book. Pure.

The book decides; what is refused here already is refused with the numbers in question.
"""

from typing import Final

from services.errors import Reason, Rejected
from services.market_rules import MarketRules, MarketState
from services.order_gateway.model import Placement
from services.units import Market

CLOSED_TO_ORDERS: Final = {MarketState.HALTED: Reason.MARKET_HALTED, MarketState.CLOSED: Reason.MARKET_CLOSED}
"""States in which a market takes cancels only."""


def check_state(market: Market, state: MarketState) -> None:
    """Refuses (MARKET_HALTED, MARKET_CLOSED) any order in a market that takes cancels only."""
    reason = CLOSED_TO_ORDERS.get(state)
    if reason is not None:
        raise Rejected(reason, f"{market.symbol} is {state.name} and takes cancels only", "market")


def check_rules(placement: Placement, rules: MarketRules) -> None:
    """Refuses what is beyond the market's rules.

    Raises:
        Rejected: SIGNATURE_REQUIRED, QUANTITY_TOO_SMALL, QUANTITY_TOO_LARGE, NOTIONAL_TOO_LARGE.
    """
    market, lots = placement.market, placement.quantity_lots
    if rules.signed_orders and (placement.terms is None or not placement.terms.signed):
        what = f"{market.symbol} takes orders only as their account's wallet has signed them"
        raise Rejected(Reason.SIGNATURE_REQUIRED, what, "signature")
    if lots < rules.quantity_min_lots:
        least = market.format_quantity(rules.quantity_min_lots)
        raise Rejected(Reason.QUANTITY_TOO_SMALL, f"quantity is below {least}", "quantity")
    if 0 < rules.quantity_max_lots < lots:
        most = market.format_quantity(rules.quantity_max_lots)
        raise Rejected(Reason.QUANTITY_TOO_LARGE, f"quantity is above {most}", "quantity")
    if not rules.notional_max:
        return
    most = f"{market.quote.format(rules.notional_max)} {market.quote.symbol}"
    if placement.limit and market.quote_amount(placement.price_ticks, lots) > rules.notional_max:
        raise Rejected(Reason.NOTIONAL_TOO_LARGE, f"price x quantity is above {most}", "quantity")
    if (placement.budget or 0) > rules.notional_max:
        raise Rejected(Reason.NOTIONAL_TOO_LARGE, f"quote_budget is above {most}", "quote_budget")
