"""Whether the chain would take an order's signature: judged as its contract will, before the order goes to the book."""

import re

from services.errors import Reason, Rejected
from services.market_rules import MarketRules
from services.order_gateway.chain_domain import ChainDomain
from services.order_gateway.identity.wallet_signature import signer_of_hash
from services.order_gateway.ledger import Ledger
from services.order_gateway.model import Placement, TimeInForce
from services.order_gateway.paging import NS_PER_SECOND
from services.order_gateway.tiers import Schedule
from services.signed_orders import (
    LIFE_SECONDS_MAX,
    SETTLED_WITHIN_SECONDS,
    Authorization,
    SignedOrder,
    of_text,
    order_hash,
)

_WALLET = re.compile(r"0x[0-9a-f]{40}", re.ASCII)


class Signatures:
    """Judges signed orders.

    Args:
        ledger: knows accounts by their wallets, and the journal's time.
        fees: the rates that an order will be stamped with.
        domain: the contract that settles; while it is not known no signed order is taken.
    """

    def __init__(self, ledger: Ledger, fees: Schedule, domain: ChainDomain) -> None:
        self._ledger, self._fees, self._domain = ledger, fees, domain

    def check(self, account_id: int, placement: Placement, rules: MarketRules | None) -> None:
        """Refuses a signed order that the chain would not settle, whatever comes of it.

        Raises:
            Rejected: INVALID_SIGNATURE with the field; UNAVAILABLE: the contract is not known yet.
        """
        market = placement.market
        if rules is None or not rules.signed_orders:
            raise _unfit("signature", f"is for markets of signed orders; {market.symbol} is none")
        domain = self._domain.known()
        assert placement.terms is not None, "a signature is a term"
        given = of_text(placement.terms.signed)
        wallet = self._ledger.account_names.get(account_id, "")
        if _WALLET.fullmatch(wallet) is None:
            raise _unfit("signature", "needs an account that a wallet has opened by signing in")
        self._check_times(placement, given)
        rates = self._fees.rates(account_id)
        if max(rates.maker_ppm, rates.taker_ppm) > given.fee_max_ppm:
            what = f"{given.fee_max_ppm} is below the account's rates, {rates.maker_ppm} and {rates.taker_ppm}"
            raise _unfit("signature.fee_max_ppm", what)
        order = SignedOrder(account_id, market.base.symbol, market.quote.symbol, placement.buys, *given[:-1])
        signer = signer_of_hash(order_hash(order, domain), given.signature)
        if signer.lower() != wallet:
            where = f"chain {domain.chain_id}, contract {domain.contract}"
            what = f"is not of {wallet} for this order ({where}): it is of {signer or 'nobody'}"
            raise _unfit("signature.signature", what)

    def _check_times(self, placement: Placement, given: Authorization) -> None:
        """The chain has SETTLED_WITHIN_SECONDS after the order's end; and the order's life has an end."""
        assert placement.terms is not None, "a signature is a term"
        now = self._ledger.time_ns // NS_PER_SECOND
        end = placement.terms.expires_ns // NS_PER_SECOND if placement.time_in_force is TimeInForce.GTD else now
        first, last = end + SETTLED_WITHIN_SECONDS, now + LIFE_SECONDS_MAX + SETTLED_WITHIN_SECONDS - 1
        if given.expires_at < first:
            raise _unfit("signature.expires_at", f"must be {first} or later: a day after the order's end")
        if given.expires_at > last:
            raise _unfit("signature.expires_at", f"must be {last} or earlier: two days from now")


def check_group(placement: Placement) -> None:
    """Refuses (INVALID_SIGNATURE) a signed order among some that belong together: the book resizes these."""
    if placement.terms is not None and placement.terms.signed:
        raise _unfit("signature", "is for single orders")


def _unfit(field: str, what: str) -> Rejected:
    return Rejected(Reason.INVALID_SIGNATURE, f"{field} {what}", field)
