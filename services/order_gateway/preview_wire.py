"""What an order would come to, as clients see it."""

from clearbook.v1 import order_service_pb2 as pb

from services.order_gateway.model import Placement
from services.order_gateway.preview import Previewed

FILLS_MAX = 1_000
"""In an answer, the first ones: more might not fit into a message."""


def previewed(found: Previewed, placement: Placement) -> pb.PreviewOrderResponse:
    """The answer to PreviewOrder."""
    market, shown = placement.market, found.preview
    received = market.base if placement.buys else market.quote
    lots = sum(fill.quantity_lots for fill in shown.fills)
    quote = sum(market.quote_amount(fill.price_ticks, fill.quantity_lots) for fill in shown.fills)
    # In base units of the quote asset for one whole of the base asset, rounded down.
    average = quote * 10**market.base.decimals // market.base_amount(lots) if lots else 0
    return pb.PreviewOrderResponse(
        state=shown.state.value,  # type: ignore[arg-type]  # the numbers are the proto's
        cancel_cause=shown.cause.value,  # type: ignore[arg-type]
        fills=[
            pb.PreviewFill(price=market.format_price(ticks), quantity=market.format_quantity(fill_lots))
            for ticks, fill_lots in shown.fills[:FILLS_MAX]
        ],
        filled_quantity=market.format_quantity(lots),
        filled_quote=market.quote.format(quote),
        average_price=market.quote.format(average) if lots else "",
        fee=received.format(shown.fee),
        fee_asset=received.symbol,
        price=market.format_price(shown.price_ticks) if placement.limit else "",
        quote_budget=market.quote.format(found.budget) if found.budget else "",
        needed=found.asset.format(found.needed),
        locked=found.asset.format(shown.lock),
        locked_asset=found.asset.symbol,
        journal_sequence=found.sequence,
    )
