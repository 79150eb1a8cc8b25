"""What must hold after anything that may happen: the invariants of journal, ledger, market data and chain.

Independent of the code under test where it matters: the journal is read through StreamEvents and folded again here, in
plain dictionaries, by rules written down once more.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from clearbook.internal.v1 import journal_pb2 as journal
from clearbook.internal.v1 import matching_service_pb2 as matching
from clearbook.internal.v1 import matching_service_pb2_grpc as matching_grpc
from clearbook.v1 import account_service_pb2 as accounts
from clearbook.v1 import book_service_pb2 as market_data
from clearbook.v1 import order_service_pb2 as orders
from clearbook.v1 import settlement_service_pb2 as settlements
from web3 import AsyncHTTPProvider, AsyncWeb3

from services.errors import Reason
from services.runtime import rpc
from services.settler.contract import Chain, SettlementContract, account_key, load_abi
from services.units import FEES_ACCOUNT, OUTSIDE_ACCOUNT, PPM, FixedPoint
from tests.suite import user

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.faults.witness import Answer, BookWatcher, Witness
    from tests.suite import Clients, Suite

SETTLED_SECONDS_MAX = 180.0
CAUGHT_UP_SECONDS_MAX = 60.0


@dataclass
class Naive:
    """Everything that the journal says, folded slowly and plainly."""

    names: dict[str, int] = field(default_factory=dict)
    assets: dict[int, journal.Asset] = field(default_factory=dict)
    markets: dict[int, journal.Market] = field(default_factory=dict)
    total: Counter[tuple[int, int]] = field(default_factory=Counter)
    open: dict[int, journal.Order] = field(default_factory=dict)
    remaining: dict[int, int] = field(default_factory=dict)
    locks: dict[int, int] = field(default_factory=dict)
    withdrawals: dict[int, journal.RequestWithdrawal] = field(default_factory=dict)
    """Those that wait."""
    placed: dict[tuple[int, str], list[journal.OrderPlaced]] = field(default_factory=lambda: defaultdict(list))
    placed_at: dict[int, int] = field(default_factory=dict)
    canceled: set[int] = field(default_factory=set)
    """Orders that were canceled on request."""
    leaders: list[int] = field(default_factory=list)
    journal_sequence: int = 0
    settlement_sequence: int = 0
    trade_ids: Counter[int] = field(default_factory=Counter)
    market_sequences: Counter[int] = field(default_factory=Counter)
    trades: int = 0

    def apply(self, event: journal.Event) -> None:
        """One event, and the invariants after it."""
        assert event.journal_sequence == self.journal_sequence + 1, "a gap in the journal"
        self.journal_sequence += 1
        kind = event.WhichOneof("kind")
        body = getattr(event, kind or "")
        fold = getattr(self, f"_{kind}", None)
        market = fold(body) if fold else None
        if event.market_sequence:
            assert market is not None
            self.market_sequences[market] += 1
            assert event.market_sequence == self.market_sequences[market], "a gap in a market's sequence"

    def _leader_started(self, _body: journal.LeaderStarted) -> None:
        self.leaders.append(self.journal_sequence)

    def _asset_created(self, body: journal.AssetCreated) -> None:
        self.assets[body.asset.asset_id] = body.asset
        self._settles(body.settlement_sequence)

    def _market_created(self, body: journal.MarketCreated) -> None:
        self.markets[body.market.market_id] = body.market

    def _account_opened(self, body: journal.AccountOpened) -> None:
        assert body.name not in self.names, "an account opened twice"
        self.names[body.name] = body.account_id

    def _deposited(self, body: journal.Deposited) -> None:
        if body.settlement_sequence:
            self._settles(body.settlement_sequence)
        credited = body.credited_account_id or body.deposit.account_id
        self._move(OUTSIDE_ACCOUNT, credited, body.asset_id, int(body.deposit.amount))

    def _transferred(self, body: journal.Transferred) -> None:
        transfer = body.transfer
        self._settles(body.settlement_sequence)
        self._move(transfer.from_account_id, transfer.to_account_id, transfer.asset_id, int(transfer.amount))

    def _withdrawal_requested(self, body: journal.WithdrawalRequested) -> None:
        self.withdrawals[body.withdrawal.withdrawal_id] = body.withdrawal.request

    def _withdrawal_approved(self, body: journal.WithdrawalApproved) -> None:
        self._settles(body.settlement_sequence)
        asked = self._waited(body.withdrawal)
        self._move(asked.account_id, OUTSIDE_ACCOUNT, asked.asset_id, int(asked.amount))

    def _withdrawal_canceled(self, body: journal.WithdrawalCanceled) -> None:
        self._waited(body.withdrawal)

    def _waited(self, withdrawal: journal.Withdrawal) -> journal.RequestWithdrawal:
        asked = self.withdrawals.pop(withdrawal.withdrawal_id)
        assert asked == withdrawal.request, "a withdrawal changed on its way"
        return asked

    def _order_canceled(self, body: journal.OrderCanceled) -> int:
        self._end(body.order.order_id)
        self.canceled.add(body.order.order_id)
        assert body.order.lock_remaining == "0"
        return body.order.market_id

    def _order_placed(self, body: journal.OrderPlaced) -> int:
        order = body.order
        self.placed[order.account_id, order.client_order_id].append(body)
        self.placed_at[order.order_id] = self.journal_sequence
        for trade in body.trades:
            self._trade(order, trade)
        assert sum(trade.quantity_lots for trade in body.trades) == order.filled_lots <= order.quantity_lots
        if order.state == journal.ORDER_STATE_OPEN:
            self.open[order.order_id] = order
            self.remaining[order.order_id] = order.quantity_lots - order.filled_lots
            self.locks[order.order_id] = int(order.lock_remaining)
            assert self.locks[order.order_id] == self._lock(order), "a wrong lock"
            assert self.remaining[order.order_id] > 0, "an order of nothing rests"
        self._uncrossed(order.market_id)
        return order.market_id

    def _trade(self, taker: journal.Order, trade: journal.Trade) -> None:
        maker, market = self.open[trade.maker_order_id], self.markets[taker.market_id]
        self.trades += 1
        self.trade_ids[taker.market_id] += 1
        assert trade.trade_id == self.trade_ids[taker.market_id], "a gap in trade ids"
        self._settles(trade.settlement_sequence)
        assert maker.account_id != taker.account_id, "a self-trade"
        assert trade.price_ticks == maker.price_ticks
        buys = taker.side == journal.SIDE_BUY
        if taker.type == journal.ORDER_TYPE_LIMIT:
            assert (taker.price_ticks - trade.price_ticks) * (1 if buys else -1) >= 0, "worse than the limit"
        base, quote = int(trade.base_amount), int(trade.quote_amount)
        assert base > 0
        assert quote > 0
        taker_gets, maker_gets = (base, quote) if buys else (quote, base)
        assert int(trade.taker_fee) == _fee(taker_gets, taker.taker_fee_ppm)
        assert int(trade.maker_fee) == _fee(maker_gets, maker.maker_fee_ppm)
        buyer, seller = (taker, maker) if buys else (maker, taker)
        taker_asset, maker_asset = (
            (market.base_asset_id, market.quote_asset_id) if buys else (market.quote_asset_id, market.base_asset_id)
        )
        self._reduce(trade)
        # All four legs, then the check: a taker may pay with what the same trade frees.
        self.total[seller.account_id, market.base_asset_id] -= base
        self.total[buyer.account_id, market.base_asset_id] += base
        self.total[buyer.account_id, market.quote_asset_id] -= quote
        self.total[seller.account_id, market.quote_asset_id] += quote
        self._move(taker.account_id, FEES_ACCOUNT, taker_asset, int(trade.taker_fee))
        self._move(maker.account_id, FEES_ACCOUNT, maker_asset, int(trade.maker_fee))
        for account in (buyer.account_id, seller.account_id):
            for asset in (market.base_asset_id, market.quote_asset_id):
                assert self.total[account, asset] >= 0, "a negative balance"

    def _reduce(self, trade: journal.Trade) -> None:
        self.remaining[trade.maker_order_id] -= trade.quantity_lots
        assert self.remaining[trade.maker_order_id] == trade.maker_remaining_lots >= 0, "overfilled"
        self.locks[trade.maker_order_id] = int(trade.maker_lock_remaining)
        assert self.locks[trade.maker_order_id] == self._lock(self.open[trade.maker_order_id]), "a wrong lock"
        if not trade.maker_remaining_lots:
            assert not self.locks[trade.maker_order_id], "a filled order still locks"
            self._end(trade.maker_order_id)

    def _lock(self, order: journal.Order) -> int:
        """What a resting order must set aside: what it may still have to give."""
        market = self.markets[order.market_id]
        tick, lot = FixedPoint.parse(market.tick_size, ""), FixedPoint.parse(market.lot_size, "")
        gives = FixedPoint(self.remaining[order.order_id] * lot.coefficient, lot.decimals)
        if order.side == journal.SIDE_BUY:
            price = order.price_ticks * tick.coefficient
            gives = FixedPoint(gives.coefficient * price, gives.decimals + tick.decimals)
        asset = self.assets[market.quote_asset_id if order.side == journal.SIDE_BUY else market.base_asset_id]
        units = gives.scaled(asset.decimals)
        assert units is not None
        return units

    def _end(self, order_id: int) -> None:
        del self.open[order_id], self.remaining[order_id], self.locks[order_id]

    def _settles(self, sequence: int) -> None:
        self.settlement_sequence += 1
        assert sequence == self.settlement_sequence, "a gap in settlement sequences"

    def _move(self, giver: int, receiver: int, asset: int, amount: int) -> None:
        assert amount >= 0
        self.total[giver, asset] -= amount
        self.total[receiver, asset] += amount
        assert giver == OUTSIDE_ACCOUNT or self.total[giver, asset] >= 0, "a negative balance"

    def _uncrossed(self, market: int) -> None:
        book = [order for order in self.open.values() if order.market_id == market]
        bid = max((order.price_ticks for order in book if order.side == journal.SIDE_BUY), default=0)
        ask = min((order.price_ticks for order in book if order.side == journal.SIDE_SELL), default=bid + 1)
        assert bid < ask, "a crossed book"

    def held(self) -> Counter[tuple[int, int]]:
        """Per account and asset: the sum of the locks of open orders and waiting withdrawals."""
        sums: Counter[tuple[int, int]] = Counter()
        for order_id, order in self.open.items():
            market = self.markets[order.market_id]
            asset = market.quote_asset_id if order.side == journal.SIDE_BUY else market.base_asset_id
            sums[order.account_id, asset] += self.locks[order_id]
        for asked in self.withdrawals.values():
            sums[asked.account_id, asked.asset_id] += int(asked.amount)
        return sums

    def levels(self, market: int, side: journal.Side.ValueType) -> dict[int, int]:
        """Price to quantity of the resting orders."""
        found: Counter[int] = Counter()
        for order_id, order in self.open.items():
            if order.market_id == market and order.side == side:
                found[order.price_ticks] += self.remaining[order_id]
        return dict(found)


def _fee(received: int, rate_ppm: int) -> int:
    whole, rest = divmod(received * rate_ppm, PPM)
    return whole + (rest > 0)


async def read_journal(suite: Suite) -> Naive:
    """Folds the book's journal from its first event to the last there is now.

    It goes on from its cursor when it was too slow, as every projection does: after a long run there is much to fold.
    """
    naive, asked_ns, incarnation = Naive(), time.time_ns(), ""
    async with rpc.connect(f"127.0.0.1:{suite.plan.book_port}", message_bytes_max=64 << 20) as channel:
        stub = matching_grpc.MatchingServiceStub(channel)
        while True:
            cursor = matching.StreamEventsRequest(
                after_journal_sequence=naive.journal_sequence, incarnation=incarnation
            )
            stream = stub.StreamEvents(cursor)
            try:
                async for message in stream:
                    incarnation = message.incarnation
                    for event in journal.EventBatch.FromString(message.events).events:
                        naive.apply(event)
                    if message.time_ns >= asked_ns:  # the clock is journaled every second: all that was came before
                        stream.cancel()
                        return naive
            except grpc.aio.AioRpcError as error:
                if rpc.rejected_from(error) is not Reason.LAGGED:
                    raise
            else:
                raise AssertionError("the book ended the stream")


def check_answers(naive: Naive, answers: Iterable[Answer]) -> int:
    """Invariants 8 and 9: each answered order is in the journal, once, as answered. Returns how many were looked at."""
    looked = 0
    for answer in answers:
        account = naive.names[answer.trader]
        placed = naive.placed[account, answer.request.client_order_id]
        assert len(placed) == 1, f"{answer.request.client_order_id}: {len(placed)} orders in the journal"
        if answer.response is not None:
            order, response = placed[0].order, answer.response
            assert response.order.order_id == str(order.order_id)
            assert [e.trade_id for e in response.executions] == [t.trade_id for t in placed[0].trades]
        looked += 1
    for key, placed in naive.placed.items():
        assert len(placed) == 1, f"{key} was placed {len(placed)} times"
    return looked


async def check_same_answers(clients: Clients, answers: list[Answer]) -> None:
    """Invariant 9: sent again, an order is answered as before; with other content it is refused."""
    for answer in [answer for answer in answers if answer.response is not None][-50:]:
        assert answer.response is not None
        again = await clients.orders.PlaceOrder(answer.request, metadata=user(answer.trader), timeout=10)
        assert again.order.order_id == answer.response.order.order_id
        assert list(again.executions) == list(answer.response.executions)


async def check_balances(naive: Naive, clients: Clients, names: Iterable[str]) -> None:
    """Invariants 1 to 3: conservation in the journal, and the gateway's balances are the journal's."""
    sums: Counter[int] = Counter()
    for (account, asset), amount in naive.total.items():
        assert amount >= 0 or account == OUTSIDE_ACCOUNT, "a negative balance"
        sums[asset] += amount
    assert not any(sums.values()), "money was made or lost"
    symbols = {asset.symbol: asset for asset in naive.assets.values()}
    held = naive.held()
    for name in names:
        account_id = naive.names[name]
        listed = await clients.accounts.ListBalances(accounts.ListBalancesRequest(), metadata=user(name), timeout=10)
        assert listed.account_id == str(account_id)
        for balance in listed.balances:
            kind = symbols[balance.asset]
            key = (account_id, kind.asset_id)
            texts = (balance.total, balance.available, balance.held)
            listed_units = tuple(FixedPoint.parse(text, "").scaled(kind.decimals) for text in texts)
            expected = (naive.total[key], naive.total[key] - held[key], held[key])
            assert listed_units == expected, f"{name} {balance.asset}"
            assert min(expected) >= 0, f"{name} {balance.asset}"


async def check_books(naive: Naive, clients: Clients, watchers: Iterable[BookWatcher]) -> None:
    """Invariants 4 and 10: the publisher's books, and the books that watchers kept, are the journal's."""
    listed = (await clients.book.ListMarkets(market_data.ListMarketsRequest(), timeout=10)).markets
    published = {market.market: market for market in listed}
    for number, market in naive.markets.items():
        request = market_data.GetOrderBookRequest(market=market.symbol, depth=5000)
        expected = tuple(
            _levels(naive.levels(number, side), published[market.symbol], best_high=side == journal.SIDE_BUY)
            for side in (journal.SIDE_BUY, journal.SIDE_SELL)
        )
        book = await clients.book.GetOrderBook(request, timeout=10)
        assert book.sequence == naive.market_sequences[number]
        sides = ([(level.price, level.quantity) for level in side] for side in (book.bids, book.asks))
        assert tuple(sides) == expected, market.symbol
        for watcher in watchers:
            if watcher.market == market.symbol:
                assert watcher.book.sequence == book.sequence
                assert watcher.book.top(5000) == expected


def _levels(levels: dict[int, int], market: market_data.Market, *, best_high: bool) -> list[tuple[str, str]]:
    tick, lot = FixedPoint.parse(market.tick_size, ""), FixedPoint.parse(market.lot_size, "")
    return [
        (_decimal(ticks * tick.coefficient, tick.decimals), _plain(levels[ticks] * lot.coefficient, lot.decimals))
        for ticks in sorted(levels, reverse=best_high)
    ]


def _decimal(number: int, decimals: int) -> str:
    return f"{number // 10**decimals}.{number % 10**decimals:0{decimals}d}" if decimals else str(number)


def _plain(number: int, decimals: int) -> str:
    text = _decimal(number, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


async def check_settled(naive: Naive, suite: Suite, clients: Clients) -> int:
    """Invariant 11: each entry in one final batch, contract balances are the ledger's. Returns the batches."""
    final: dict[int, settlements.Settlement] = {}
    async with asyncio.timeout(SETTLED_SECONDS_MAX):
        stream = clients.settlements.StreamSettlements(settlements.StreamSettlementsRequest())
        async for message in stream:
            for entry in message.settlements:
                if entry.state == settlements.SETTLEMENT_STATE_FINAL:
                    assert entry.settlement_sequence not in final, "settled twice"
                    final[entry.settlement_sequence] = entry
            if len(final) >= naive.settlement_sequence:
                stream.cancel()
                break
    assert sorted(final) == list(range(1, naive.settlement_sequence + 1))
    await _check_chain(naive, suite, next(iter(final.values())).transaction_hash)
    return len({entry.batch_id for entry in final.values()})


def eth_url(suite: Suite) -> str:
    """The node that this suite settles on."""
    return suite.env.get("ETH_TESTNET_URL") or suite.plan.env()["ETH_TESTNET_URL"]


async def _check_chain(naive: Naive, suite: Suite, any_transaction: str) -> None:
    web3 = AsyncWeb3(AsyncHTTPProvider(eth_url(suite)))
    transaction = await web3.eth.get_transaction(any_transaction)  # type: ignore[arg-type]
    await web3.provider.disconnect()
    chain = await Chain.connect(eth_url(suite))
    try:
        contract = await SettlementContract.on(chain, transaction["to"], load_abi(None))
        assert await contract.settled_through(0) == naive.settlement_sequence
        for asset in naive.assets.values():
            token = await contract.token_of(asset.symbol)
            assert token is not None
            for (account, number), amount in naive.total.items():
                if number == asset.asset_id and account != OUTSIDE_ACCOUNT:
                    on_chain = await contract.balance(account_key(account), token)
                    assert on_chain == amount, f"account {account}, {asset.symbol}: chain {on_chain}, ledger {amount}"
    finally:
        await chain.close()


async def check_verified(suite: Suite) -> str:
    """`clearbook verify`: hash chain, replay and snapshots. Returns what it printed."""
    url = suite.env.get("DATABASE_URL") or f"sqlite:///{suite.plan.data / 'book'}.sqlite"
    command = [sys.executable, "-m", "services.cli.main", "verify", "--database-url", url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def check_all(suite: Suite, witness: Witness, watchers: list[BookWatcher]) -> str:
    """All of it, once everything has come to rest. Returns a line of figures."""
    async with suite.clients() as clients:
        settled = await read_journal(suite)
        batches = await check_settled(settled, suite, clients)
        naive = await read_journal(suite)  # now with what settlement has journaled
        looked = check_answers(naive, witness.answers)
        lost = {int(order_id) for order_id in witness.cancels} - naive.canceled
        assert not lost, f"acknowledged cancels that are not in the journal: {sorted(lost)[:5]}"
        await check_same_answers(clients, witness.answers)
        await check_balances(naive, clients, witness.names)
        await _eventually(lambda: check_books(naive, clients, watchers))
        await check_verified(suite)
    assert not witness.refused, witness.refused[:5]
    return (
        f"{looked} answers, {len(witness.cancels)} cancels, {naive.trades} trades, "
        f"{naive.journal_sequence} events, {batches} batches, "
        f"{sum(watcher.resumed for watcher in watchers)} resumptions, {sum(w.snapshots for w in watchers)} snapshots"
    )


async def _eventually(check: object) -> None:
    """A projection may be a moment behind: the last failure within the limit counts."""
    deadline = asyncio.get_running_loop().time() + CAUGHT_UP_SECONDS_MAX
    while True:
        try:
            await check()  # type: ignore[operator]
        except AssertionError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


__all__ = ["check_all", "check_answers", "check_settled", "orders", "read_journal"]
