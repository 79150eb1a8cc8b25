"""The signature that comes with an order: judged field by field, and kept as journals tell it."""

import re

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Reason, Rejected
from services.fees import PPM
from services.order_gateway.model import Terms, TimeInForce, Trigger
from services.signed_orders import AMOUNT_MAX, SIGNATURE_BYTES, TIME_MAX, Authorization, text_of
from services.units import Market

_SIGNATURE = re.compile(rf"0x[0-9a-fA-F]{{{2 * SIGNATURE_BYTES}}}", re.ASCII)
_ENDS = frozenset({TimeInForce.GTD, TimeInForce.IOC, TimeInForce.FOK})


def signed(
    request: pb.PlaceOrderRequest, market: Market, time_in_force: TimeInForce, asked: Terms, quantity_lots: int
) -> str:
    """What the wallet signed, if it signed this order.

    Raises:
        Rejected: INVALID_FIELD, INVALID_SIGNATURE with the field.
    """
    given = request.signature
    _check_plain(request, time_in_force, asked)
    if _SIGNATURE.fullmatch(given.signature) is None:
        raise Rejected(
            Reason.INVALID_FIELD,
            f"signature.signature must be 0x and {2 * SIGNATURE_BYTES} hexadecimal digits: r, s, v",
            "signature.signature",
        )
    if given.fee_max_ppm > PPM:
        raise Rejected(Reason.INVALID_FIELD, f"signature.fee_max_ppm is above {PPM}", "signature.fee_max_ppm")
    if not 0 < given.expires_at <= TIME_MAX:
        raise Rejected(Reason.INVALID_FIELD, "signature.expires_at is no time that can be", "signature.expires_at")
    base_amount = market.base_amount(quantity_lots)
    quote_amount = market.quote_amount(market.price_ticks(request.price), quantity_lots)
    if max(base_amount, quote_amount) > AMOUNT_MAX:
        raise _unfit("quantity", "is more than the chain multiplies: below 2^128 base units")
    return text_of(
        Authorization(
            base_amount,
            quote_amount,
            given.fee_max_ppm,
            given.expires_at,
            request.client_order_id,
            bytes.fromhex(given.signature[2:]),
        )
    )


def _check_plain(request: pb.PlaceOrderRequest, time_in_force: TimeInForce, asked: Terms) -> None:
    """Refuses what the signed fields do not say: what an order would do must be what its wallet signed."""
    if not request.client_order_id:
        raise _unfit("client_order_id", "is missing: it is part of what is signed")
    if request.type != pb.ORDER_TYPE_LIMIT:
        raise _unfit("type", "must be ORDER_TYPE_LIMIT: a signed order has a price")
    if time_in_force not in _ENDS:
        raise _unfit("time_in_force", "must be GTD, IOC or FOK: a signed order has an end")
    for field, is_set in (
        ("trigger", asked.trigger is not Trigger.NONE),
        ("display_quantity", asked.display_lots != 0),
        ("min_quantity", asked.minimum_lots != 0),
        ("post_only_mode", asked.reprice),
    ):
        if is_set:
            raise _unfit(field, "is not part of what is signed: a signed order has none")


def _unfit(field: str, what: str) -> Rejected:
    return Rejected(Reason.INVALID_SIGNATURE, f"{field} {what}", field)
