"""What operators do: assets and markets, and the prices elsewhere. (money.py moves money for them.)"""

from services.errors import Reason, Rejected
from services.market_rules import MarketRules, MarketState
from services.order_gateway.ledger import Ledger
from services.order_gateway.model import (
    ChangeMarket,
    CommandBody,
    CreateAsset,
    CreateMarket,
    SetReferencePrice,
)
from services.order_gateway.money import OPERATOR
from services.order_gateway.session import Session, outcome
from services.units import Market


class Admin:
    """AdminService without its wire."""

    def __init__(self, ledger: Ledger, session: Session) -> None:
        self._ledger, self._session = ledger, session

    async def create_asset(self, asked: CreateAsset, seconds: float) -> None:
        """Makes an asset. Raises Rejected: ALREADY_EXISTS if there is another of that symbol."""
        if not self._has_asset(asked):
            try:
                await self._run(asked, seconds)
            except Rejected as rejected:
                if rejected.reason is not Reason.ALREADY_EXISTS or not self._has_asset(asked):
                    raise

    def _has_asset(self, asked: CreateAsset) -> bool:
        known = self._ledger.assets_by_symbol.get(asked.symbol)
        if known is not None and known.decimals != asked.decimals:
            raise Rejected(Reason.ALREADY_EXISTS, f"{known.symbol} exists with {known.decimals} decimals", "decimals")
        return known is not None

    async def create_market(self, asked: Market, seconds: float) -> None:
        """Makes a market. Raises Rejected: ALREADY_EXISTS if there is another of that symbol."""
        if not self._has_market(asked):
            try:
                await self._run(CreateMarket(asked), seconds)
            except Rejected as rejected:
                if rejected.reason is not Reason.ALREADY_EXISTS or not self._has_market(asked):
                    raise

    def _has_market(self, asked: Market) -> bool:
        known = self._ledger.markets_by_symbol.get(asked.symbol)
        if known is None:
            return False
        if (known.tick, known.lot, known.notional_min) != (asked.tick, asked.lot, asked.notional_min):
            raise Rejected(
                Reason.ALREADY_EXISTS,
                f"{known.symbol} exists with tick size {known.format_price(1)}, lot size {known.format_quantity(1)} "
                f"and least notional {known.quote.format(known.notional_min)}",
                "market",
            )
        return True

    async def set_market_state(self, market: Market, state: MarketState, reason: str, seconds: float) -> None:
        """Halts, opens or closes a market, or lets it collect orders; why is journaled."""
        if self._ledger.books[market.market_id].state is not state:
            await self._run(ChangeMarket(market.market_id, state, None, reason), seconds)

    def rules(self, market: Market) -> MarketRules:
        """A market's rules as they are now; those of a market without any say what it was created with."""
        rules = self._ledger.books[market.market_id].rules
        return rules if rules is not None else MarketRules(notional_min=market.notional_min)

    async def set_market_rules(self, market: Market, rules: MarketRules, reason: str, seconds: float) -> None:
        """Gives a market other rules, all of them; why is journaled."""
        if self.rules(market) != rules:
            await self._run(ChangeMarket(market.market_id, None, rules, reason), seconds)

    async def set_reference_price(self, asked: SetReferencePrice, seconds: float) -> None:
        """Says what a market's price is elsewhere. Raises Rejected: REFERENCE_OUTDATED."""
        await self._run(asked, seconds)

    async def _run(self, body: CommandBody, seconds: float) -> None:
        await outcome(self._session.submit(body, OPERATOR), seconds)
