"""A recorded feed as the engine's commands: how each of its levels comes, changes and goes, and what trades. Pure.

The plan of `clearbook replay` says which orders: one a level, all of one account, and the takers' of another. A level
that changes is a ReplaceOrder here, where the plan cancels and places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from services.book import model as m
from services.cli.mirror_plan import Cancel, Plan, Rest, Steps, Take
from services.cli.recorded import Step
from services.command_ids import command_id_of
from services.units import FIRST_USER_ACCOUNT, format_fixed

GATEWAY = 1
MIRROR, TAKER = FIRST_USER_ACCOUNT, FIRST_USER_ACCOUNT + 1
ASSET_DECIMALS = 18
MAKER_FEE_PPM, TAKER_FEE_PPM = 1_000, 2_000


class Resting(NamedTuple):
    """The mirror's order at a level."""

    order_id: int
    lots: int
    traded_lots: int


class RealFlow:
    """A recording's commands, step by step, for an engine that has had none but `opening`.

    Attributes:
        feed: the recording.
        decimals: each market's steps.
        market_ids: each market's id in the engine.
    """

    def __init__(self, feed: list[Step]) -> None:
        self.feed = feed
        self.decimals: dict[str, Steps] = defaultdict(Steps)
        for step in feed:
            self.decimals[step.market].see(step)
        self.market_ids = {name: market_id for market_id, name in enumerate(self.decimals, 1)}
        self._plans = {name: Plan(decimals) for name, decimals in self.decimals.items()}
        self._numbers = count(1)
        self._resting: dict[tuple[int, bool, int], Resting] = {}
        """The mirror's orders by market, side and price."""

    def opening(self) -> Iterator[m.Command]:
        """The session, the markets and the two accounts."""
        symbols = sorted({symbol for name in self.market_ids for symbol in name.split("-")})
        bodies: list[m.CommandBody] = [m.LeaderStarted(1, "real flow"), m.OpenSession(GATEWAY)]
        bodies += [m.CreateAsset(m.Asset(0, symbol, ASSET_DECIMALS)) for symbol in symbols]
        for name, decimals in self.decimals.items():
            base, quote = (symbols.index(symbol) + 1 for symbol in name.split("-"))
            tick, lot = format_fixed(1, decimals.price), format_fixed(1, decimals.quantity)
            bodies.append(m.CreateMarket(m.Market(0, name, base, quote, tick, lot)))
        bodies += [m.OpenAccount("mirror"), m.OpenAccount("taker")]
        return (m.Command(0, body) for body in bodies)

    def commands(self, step: Step) -> Iterator[m.Command]:
        """What one step of the feed asks for. Steps come in the feed's order, each once."""
        market_id, phases = self.market_ids[step.market], self._plans[step.market].phases(step)
        for number, phase in enumerate(phases, 1):
            following = phases[number] if number < len(phases) else []
            anew = {(item.buys, item.price) for item in following if isinstance(item, Rest)}
            for item in phase:
                if not (isinstance(item, Cancel) and (item.buys, item.price) in anew):
                    command_id = command_id_of(GATEWAY, 1, next(self._numbers))
                    yield m.Command(command_id, self._body(command_id, market_id, item))

    def _body(self, command_id: int, market_id: int, item: Cancel | Rest | Take) -> m.CommandBody:
        level = market_id, item.buys, item.price
        if isinstance(item, Cancel):
            return m.CancelOrder(MIRROR, self._resting.pop(level).order_id)
        if isinstance(item, Take):
            self._trade((market_id, not item.buys, item.price), item.quantity)
            return _limit(TAKER, market_id, item, m.TIME_IN_FORCE_IOC)
        before = self._resting.get(level)
        if before is None:
            self._resting[level] = Resting(command_id, item.quantity, 0)
            return _limit(MIRROR, market_id, item, m.TIME_IN_FORCE_GTC)
        lots = before.traded_lots + item.quantity
        self._resting[level] = before._replace(lots=lots)
        return m.ReplaceOrder(MIRROR, before.order_id, quantity_lots=lots)

    def _trade(self, level: tuple[int, bool, int], lots: int) -> None:
        maker = self._resting.pop(level)
        traded_lots = maker.traded_lots + lots
        if traded_lots < maker.lots:
            self._resting[level] = maker._replace(traded_lots=traded_lots)


def _limit(account_id: int, market_id: int, item: Rest | Take, time_in_force: int) -> m.PlaceOrder:
    side = m.SIDE_BUY if item.buys else m.SIDE_SELL
    place = (account_id, market_id, side, m.ORDER_TYPE_LIMIT, time_in_force, False, item.price, item.quantity)
    return m.PlaceOrder(*place, maker_fee_ppm=MAKER_FEE_PPM, taker_fee_ppm=TAKER_FEE_PPM)
