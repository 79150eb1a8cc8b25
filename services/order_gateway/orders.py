"""Orders: place and look up. What clients ask for, apart from how it travels. (cancels.py ends them.)

Placing is idempotent by (account, client_order_id) while the order is open and for 24 hours of journal time after. A
refusal never uses the id up, be it ours or the book's (a journaled Refused makes no order): the same request may be
sent again and is judged anew.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from services.errors import Reason, Rejected
from services.locks import lock
from services.market_rules import MarketState
from services.order_gateway.budget import insufficient, market_buy_budget
from services.order_gateway.chain_domain import ChainDomain
from services.order_gateway.fees import Rates
from services.order_gateway.ledger import CLIENT_ID_WINDOW_NS, Change, Ledger, Reservation
from services.order_gateway.model import (
    Execution,
    Order,
    OrderPlaced,
    Placed,
    PlaceGroup,
    Placement,
    PlaceOrder,
    Wanted,
    WantedGroup,
)
from services.order_gateway.outcomes import Promise, answer, give
from services.order_gateway.placing import Placing
from services.order_gateway.preview import Moment, Previewed, own_lots, preview
from services.order_gateway.seen import Seen
from services.order_gateway.session import Flight, Session, refusal
from services.order_gateway.signatures import Signatures, check_group
from services.order_gateway.store import Store
from services.order_gateway.takes import check_rules, check_state
from services.order_gateway.tiers import Schedule
from services.records import replaced
from services.units import Asset

SEEN_LOAD_ROWS_MAX = 200_000
"""Of ended orders' client ids, read at the start; if there are more, every new id is looked up for a day."""
MADE_ID_BYTES = 15
PLACED_EXECUTIONS_MAX = 1_000
"""In the answer to a PlaceOrder, the first ones: more might not fit into a message."""


class Begun(NamedTuple):
    """Orders on their way.

    Attributes:
        promises: of each, in their order.
        look_up: while it goes on, none of them has been submitted: what is to come after them waits. None: they have.
    """

    promises: "list[Promise[Placed]]"
    look_up: "asyncio.Task[None] | None"


class _Attempt(Flight):
    """A PlaceOrder on its way, for all who wait for it."""

    __slots__ = ("_orders", "done", "key", "placement")

    def __init__(self, orders: "Orders", key: tuple[int, str], placement: Placement) -> None:
        self._orders = orders
        self.key = key
        self.placement = placement
        self.done = Promise[Placed]()

    def end(self, found: Change | Rejected) -> None:
        """See Flight."""
        self._orders.landed(self, found)


class _Claim:
    """A replace on its way that gives an order a new client_order_id, which nothing else may have."""

    __slots__ = ("done", "order_id")

    def __init__(self, order_id: int) -> None:
        self.order_id = order_id
        self.done = Promise[Placed]()


class Orders:
    """All accounts' orders.

    Args:
        ledger: the fold.
        session: the way into the book.
        store: what memory let go.
        fees: the rates to stamp.
        open_orders_max: of one account.
        domain: the contract that signed orders are signed for.
    """

    def __init__(
        self,
        ledger: Ledger,
        session: Session,
        store: Store,
        fees: Schedule,
        open_orders_max: int,
        domain: ChainDomain,
    ) -> None:
        self._signatures = Signatures(ledger, fees, domain)
        self._ledger, self._session, self._store, self._fees = ledger, session, store, fees
        self._open_orders_max = open_orders_max
        self._attempts: dict[tuple[int, str], _Attempt | _Claim] = {}
        self._placing = Placing()
        self._seen = Seen(CLIENT_ID_WINDOW_NS)
        self._tasks: set[asyncio.Task[None]] = set()

    # Placing.

    async def place(self, account_id: int, wanted: Wanted, seconds: float) -> Placed:
        """Places an order, or finds the one that the same request has placed.

        Args:
            account_id: whose.
            wanted: what, checked.
            seconds: how long to wait for the outcome.

        Raises:
            Rejected: CLIENT_ORDER_ID_REUSED, INSUFFICIENT_FUNDS, EMPTY_BOOK, TOO_MANY_OPEN_ORDERS, what the market does
                not take, OVERLOADED, NOT_TAKEN; DEADLINE, after which the same request finds out.
        """
        (placed,) = self.begin(account_id, [wanted]).promises
        return await answer(placed, seconds)

    def begin(self, account_id: int, several: Sequence[Wanted]) -> Begun:
        """Puts orders on their way, in their order; each will be what `place` returns, or raise what it raises.

        They go to the book in one message, at once unless an id may have been used by an order that memory let go:
        then all of them wait for the database first.
        """
        promises, new, unsure = list["Promise[Placed]"](), list[_Attempt](), list[_Attempt]()
        for wanted in several:
            placement, client_order_id = wanted.placement, wanted.client_order_id
            key = (account_id, client_order_id or f"cb-{secrets.token_hex(MADE_ID_BYTES)}")
            known = self._ledger.order_by_client(key)
            attempt = self._found(key, placement, known)
            if attempt is None:
                attempt = self._attempts[key] = self._attempt(key, placement)
                new.append(attempt)
                if client_order_id and known is None and self._seen.maybe(key, self._ledger.time_ns):
                    unsure.append(attempt)
            promises.append(attempt.done)
        if unsure:
            return Begun(promises, self._spawn(self._look_up(new, unsure)))
        self._fly_all(new)
        return Begun(promises, None)

    def begin_group(self, account_id: int, wanted: WantedGroup, after: "asyncio.Task[None] | None" = None) -> Begun:
        """Puts orders that belong together on their way, as one; each promise is kept as that of `begin`.

        Sent again, each is found by its own client_order_id; where only some are, or others, all are refused.
        They are submitted after the look-up of those before them, if that goes on.
        """
        attempts, found = list[_Attempt](), list[_Attempt]()
        for order in wanted.orders:
            placement, client_order_id = order.placement, order.client_order_id
            key = (account_id, client_order_id or f"cb-{secrets.token_hex(MADE_ID_BYTES)}")
            known = self._found(key, placement, self._ledger.order_by_client(key))
            if known is not None:
                found.append(known)
            attempts.append(self._attempt(key, placement))
        if len(found) == len(attempts):
            return Begun([attempt.done for attempt in found], after)
        keys = {attempt.key for attempt in attempts}
        if found or len(keys) < len(attempts):
            return Begun([self._reused(attempt.key, attempt.placement).done for attempt in attempts], after)
        self._attempts.update((attempt.key, attempt) for attempt in attempts)
        unsure = [attempt for attempt in attempts if self._may_be_stored(attempt.key)]
        promises = [attempt.done for attempt in attempts]
        if unsure or after is not None:
            return Begun(promises, self._spawn(self._look_up_group(attempts, unsure, wanted.has_entry, after)))
        self._fly_group(attempts, has_entry=wanted.has_entry)
        return Begun(promises, None)

    async def _look_up_group(
        self,
        attempts: Sequence[_Attempt],
        unsure: Sequence[_Attempt],
        has_entry: bool,
        after: "asyncio.Task[None] | None",
    ) -> None:
        """As _look_up, of orders that belong together."""
        try:
            if after is not None:
                await asyncio.wait([after])
            stored = await self._stored([attempt.key for attempt in unsure]) if unsure else {}
        except Exception as error:  # whatever it is, it is the answer of everybody who waits
            self._end_all(attempts, error)
            return
        known = {key: order for key, order in stored.items() if self._ledger.holds_client_id(order)}
        if known and len(known) < len(attempts):
            self._end_all(attempts, _id_reused(next(iter(known))[1]))
        elif known:
            for attempt in attempts:
                self._spawn(self._answer_original(known[attempt.key], attempt))
        else:
            self._fly_group(attempts, has_entry=has_entry)

    def _fly_group(self, attempts: Sequence[_Attempt], *, has_entry: bool) -> None:
        """Reserves what the entry needs, or the dearer exit, and submits; what is refused here is answered at once."""
        account_id = attempts[0].key[0]
        try:
            resting = 0
            for attempt in attempts:
                check_group(attempt.placement)
                self._check_market(account_id, attempt.placement, resting)
                resting += attempt.placement.may_stay
            self._check_open(account_id, resting)
            rates = self._fees.rates(account_id)
            first = [self._needs(account_id, attempt.placement) for attempt in attempts[: 1 if has_entry else None]]
            budgets = [budget for _, _, budget in first]
            budgets += [attempt.placement.budget or 0 for attempt in attempts[len(first) :]]
            orders = [
                PlaceOrder(
                    account_id,
                    self._resolved(account_id, attempt.placement),
                    budget,
                    attempt.key[1],
                    rates.maker_ppm,
                    rates.taker_ppm,
                )
                for attempt, budget in zip(attempts, budgets, strict=True)
            ]
            reservation = Reservation(account_id, first[0][0].asset_id, max(needed for _, needed, _ in first))
            command = PlaceGroup(tuple(orders), has_entry)
            self._session.submit_told(command, account_id, reservation, partial(self._group_landed, attempts))
        except Exception as error:  # whatever it is, it is the answer of everybody who waits
            return self._end_all(attempts, error)
        self._placing.count(account_id, attempts[0].placement.market.market_id, len(attempts))
        return None

    def _group_landed(self, attempts: Sequence[_Attempt], found: Change | Rejected) -> None:
        self._placing.count(attempts[0].key[0], attempts[0].placement.market.market_id, -len(attempts))
        refused = found if isinstance(found, Rejected) else refusal(found)
        if isinstance(found, Rejected) or refused is not None:
            assert refused is not None
            return self._end_all(attempts, refused)
        for number, attempt in enumerate(attempts):
            order = found.effects.order(found.command_id + number)
            assert order is not None, f"{found.body} answers a PlaceGroup"
            self._end(
                attempt, Placed(order, tuple(islice(found.effects.traded(order.order_id), PLACED_EXECUTIONS_MAX)))
            )
        return None

    def _end_all(self, attempts: Iterable[_Attempt], error: Exception) -> None:
        for attempt in attempts:
            self._end(attempt, error)

    def _attempt(self, key: tuple[int, str], placement: Placement) -> _Attempt:
        return _Attempt(self, key, placement)

    def _check_market(self, account_id: int, placement: Placement, more: int) -> None:
        """Refuses what the market does not take; `more` orders of the same call may come to rest there before it.

        Raises:
            Rejected: what `check_state` and `check_rules` refuse, TOO_MANY_OPEN_ORDERS.
        """
        market = placement.market
        book = self._ledger.books[market.market_id]
        if book.state is not MarketState.OPEN:
            check_state(market, book.state)
        terms = placement.terms
        if terms is not None and terms.signed:
            self._signatures.check(account_id, placement, book.rules)
        if book.rules is None:
            return
        check_rules(placement, book.rules)
        most = book.rules.open_orders_max
        if not most or not placement.may_stay:
            return
        if book.open_orders.get(account_id, 0) + self._placing.within(account_id, market.market_id) + more >= most:
            what = f"at most {most} orders may be open in {market.symbol}"
            raise Rejected(Reason.TOO_MANY_OPEN_ORDERS, what, "market")

    def _check_open(self, account_id: int, more: int) -> None:
        """Refuses (TOO_MANY_OPEN_ORDERS) so many more orders that may come to rest."""
        if more and self._resting(account_id) + more > self._open_orders_max:
            raise Rejected(Reason.TOO_MANY_OPEN_ORDERS, f"at most {self._open_orders_max} orders may be open")

    def _resting(self, account_id: int) -> int:
        """How many orders the account has open, or may have once those in flight have landed."""
        return len(self._ledger.open_orders(account_id)) + self._placing.of(account_id)

    def _found(self, key: tuple[int, str], placement: Placement, known: Order | None) -> _Attempt | None:
        """What answers a request whose id is taken, as far as memory knows (`known`: the last order under it); None:
        it may be free.
        """
        attempt = self._attempts.get(key)
        if attempt is not None:
            if isinstance(attempt, _Attempt) and attempt.placement == placement:
                return attempt
            return self._reused(key, placement)
        if known is None or not self._ledger.holds_client_id(known):
            return None
        attempt = self._attempt(key, placement)
        self._spawn(self._answer_original(known, attempt))
        return attempt

    def _may_be_stored(self, key: tuple[int, str]) -> bool:
        ledger = self._ledger
        return ledger.order_by_client(key) is None and self._seen.maybe(key, ledger.time_ns)

    def _reused(self, key: tuple[int, str], placement: Placement) -> _Attempt:
        """An attempt that failed: its id is another order's."""
        attempt = self._attempt(key, placement)
        give(attempt.done, _id_reused(key[1]))
        return attempt

    def _end(self, attempt: _Attempt, outcome: Placed | Exception) -> None:
        """All who wait for an attempt hear what came of it; its id is free, or the ledger's to know of."""
        if self._attempts.get(attempt.key) is attempt:
            del self._attempts[attempt.key]
        give(attempt.done, outcome)

    async def _look_up(self, new: Sequence[_Attempt], unsure: Sequence[_Attempt]) -> None:
        """Some ids may have been used by orders that memory let go: the database knows. Then all go on their way."""
        try:
            known = await self._stored([attempt.key for attempt in unsure])
        except Exception as error:  # whatever it is, it is the answer of everybody who waits
            for attempt in new:
                self._end(attempt, error)
            return
        again = {key for key, order in known.items() if self._ledger.holds_client_id(order)}
        for attempt in unsure:
            if attempt.key in again:
                self._spawn(self._answer_original(known[attempt.key], attempt))
        self._fly_all([attempt for attempt in new if attempt.key not in again])

    async def _answer_original(self, order: Order, attempt: _Attempt) -> None:
        try:
            self._end(attempt, await self._original(order, attempt.placement, attempt.key[1]))
        except Exception as error:  # whatever it is, it is the answer of everybody who waits
            self._end(attempt, error)

    def _fly_all(self, attempts: Sequence[_Attempt]) -> None:
        """Reserves and submits; what is refused here is answered at once. All are of one account."""
        if not attempts:
            return
        account_id = attempts[0].key[0]
        rates, room = self._fees.rates(account_id), self._session.room(account_id)
        may_rest = self._open_orders_max - self._resting(account_id)
        ready, resting, here = list[_Attempt](), 0, dict[int, int]()
        for attempt in attempts:
            stays = attempt.placement.may_stay
            try:
                market_id = attempt.placement.market.market_id
                self._check_market(account_id, attempt.placement, here.get(market_id, 0))
                if stays and resting >= may_rest:
                    self._check_open(account_id, resting + 1)
                asset, needed, budget = self._needs(account_id, attempt.placement)
                if len(ready) >= room:
                    self._session.check_room(account_id, len(ready))
                self._equip(attempt, Reservation(account_id, asset.asset_id, needed), budget, rates)
            except Exception as error:  # of this one: the others go all the same
                self._end(attempt, error)
                continue
            ready.append(attempt)
            if stays:
                resting += 1
                here[market_id] = here.get(market_id, 0) + 1
        if ready:
            self._session.launch(account_id, ready)
        for market_id, count in here.items():
            self._placing.count(account_id, market_id, count)

    def _equip(self, attempt: _Attempt, reservation: Reservation, budget: int, rates: Rates) -> None:
        """Sets aside what an order needs, and makes the command."""
        account_id, client_order_id = attempt.key
        self._ledger.reserve(reservation)
        attempt.account_id, attempt.reservation = account_id, reservation
        asked = self._resolved(account_id, attempt.placement)
        attempt.body = PlaceOrder(account_id, asked, budget, client_order_id, rates.maker_ppm, rates.taker_ppm)

    def _resolved(self, account_id: int, placement: Placement) -> Placement:
        """What the book is told, which knows no account's defaults."""
        if placement.terms is None and account_id not in self._ledger.self_trade_modes:
            return placement  # as nearly always
        return placement.resolved(self._ledger.self_trade_mode(account_id))

    def _needs(self, account_id: int, placement: Placement) -> tuple[Asset, int, int]:
        """The asset to set aside, how much of it, and the budget of a market buy (0 for all others).

        Raises:
            Rejected: INSUFFICIENT_FUNDS, EMPTY_BOOK.
        """
        market, buys = placement.market, placement.buys
        asset = market.quote if buys else market.base
        available = self._ledger.balance(account_id, asset.asset_id).available
        budget = placement.budget or 0
        if buys and not placement.limit and placement.budget is None:
            depth = self._ledger.books[market.market_id].depth
            budget = market_buy_budget(market, depth, placement.quantity_lots, available)
        needed = lock(
            buys,
            placement.limit,
            placement.price_ticks,
            placement.quantity_lots,
            budget,
            market.base_per_lot,
            market.quote_per_tick_lot,
        )
        if available < needed:
            raise insufficient(asset, needed, available)
        return asset, needed, budget

    def landed(self, attempt: _Attempt, found: Change | Rejected) -> None:
        """The outcome of an attempt is known."""
        if attempt.placement.may_stay:
            self._placing.count(attempt.key[0], attempt.placement.market.market_id, -1)
        if isinstance(found, Rejected):
            return self._end(attempt, found)
        effects, body = found.effects, found.body
        if isinstance(body, OrderPlaced):
            order: Order | None = body.order
        else:
            if (refused := refusal(found)) is not None:
                return self._end(attempt, refused)
            order = effects.order(found.command_id)
        assert order is not None, f"{body} answers a PlaceOrder"
        taken = tuple(islice(effects.traded(order.order_id), PLACED_EXECUTIONS_MAX)) if effects.executions else ()
        return self._end(attempt, Placed(order, taken))

    async def _original(self, order: Order, placement: Placement, client_order_id: str) -> Placed:
        """What the order's own PlaceOrder was answered.

        Raises:
            Rejected: CLIENT_ORDER_ID_REUSED if this request asks for something else.
        """
        if not placement.describes(order):
            raise _id_reused(client_order_id)
        await self._store.passed(order.event_sequence)
        placed_as = await self._store.placed_as(order)
        if placed_as != client_order_id:
            raise _id_reused(client_order_id)
        taken = await self._store.taken(order)
        placed = replaced(order, client_order_id=placed_as).as_placed(taken, placement.market)
        return Placed(placed, tuple(taken[:PLACED_EXECUTIONS_MAX]))

    def preview(self, account_id: int, placement: Placement) -> Previewed:
        """What would come of an order if it were placed now, and is not.

        Raises:
            Rejected: what `place` would refuse it for, but for what only the book knows.
        """
        self._check_market(account_id, placement, 0)
        self._check_open(account_id, int(placement.may_stay))
        asset, needed, budget = self._needs(account_id, placement)
        self._session.check_room(account_id, 0)
        market_id, ledger = placement.market.market_id, self._ledger
        book = ledger.books[market_id]
        own = own_lots(ledger.open_orders(account_id).values(), placement)
        last_ticks = ledger.volumes.prices.get(market_id, 0)
        reference_ticks = book.fresh_reference_ticks(ledger.time_ns)
        now = Moment(book.state, book.rules, book.depth, last_ticks, reference_ticks, own)
        asked, rate = self._resolved(account_id, placement), self._fees.rates(account_id).taker_ppm
        return Previewed(asset, needed, budget, ledger.sequence, preview(asked, budget, rate, now))

    # All the rest.

    async def get(self, account_id: int, name: int | str, seconds: float) -> tuple[Order, list[Execution]]:
        """An order as it is now, and what it traded, oldest first.

        Raises:
            Rejected: ORDER_NOT_FOUND.
        """
        order = await self.find(account_id, name, seconds)
        await self._store.passed(order.event_sequence)
        return order, await self._store.executions(order.order_id, through_sequence=order.event_sequence)

    def at_hand(self, account_id: int, name: int | str) -> Order | None:
        """The account's order of that name, if memory knows of one and nothing in flight may take the name."""
        if isinstance(name, str):
            key = (account_id, name)
            found = None if key in self._attempts else self._ledger.order_by_client(key)
        else:
            found = self._ledger.orders.get(name)
        return found if found is not None and found.account_id == account_id else None

    async def find(self, account_id: int, name: int | str, seconds: float) -> Order:
        """The account's order of that name, in flight, in memory or in the database.

        Raises:
            Rejected: ORDER_NOT_FOUND, also for the orders of others.
        """
        if isinstance(name, str):
            attempt = self._attempts.get((account_id, name))
            if attempt is not None:
                try:
                    name = (await answer(attempt.done, seconds)).order.order_id
                except Rejected:
                    if not attempt.done.done():  # DEADLINE: there may be such an order yet
                        raise
                    # Refused, which only those hear who placed it: an older order may have the name, or none.
        if isinstance(name, str):
            found = self._ledger.order_by_client((account_id, name))
            found = found or (await self._stored([(account_id, name)])).get((account_id, name))
        else:
            found = self._ledger.orders.get(name) or await self._store.order(name)
        if found is None or found.account_id != account_id:
            raise Rejected(Reason.ORDER_NOT_FOUND)
        return found

    def in_flight(self, account_id: int) -> "list[Promise[Placed]]":
        """The account's orders whose outcome is not known yet."""
        return [attempt.done for key, attempt in self._attempts.items() if key[0] == account_id]

    # New names of replaced orders.

    def claim(self, order: Order, client_order_id: str) -> "tuple[Promise[Placed], bool]":
        """Takes a new id for an order that is being replaced, until the promise is kept; and whether it is to be kept
        by the caller: not if the same replace is on its way already, or done.

        Raises:
            Rejected: CLIENT_ORDER_ID_REUSED.
        """
        key = (order.account_id, client_order_id)
        running = self._attempts.get(key)
        if isinstance(running, _Claim) and running.order_id == order.order_id:
            return running.done, False
        known = self._ledger.order_by_client(key)
        if running is not None or (known is not None and self._is_anothers(known, order)):
            raise _id_reused(client_order_id)
        claim = _Claim(order.order_id)
        if known is not None and known.order_id == order.order_id:
            give(claim.done, Placed(known, ()))
            return claim.done, False
        self._attempts[key] = claim
        claim.done.add_done_callback(lambda _: self._attempts.pop(key))
        return claim.done, True

    def name_is_known(self, account_id: int, client_order_id: str) -> bool:
        """Whether `claim` can tell whose an id is; else `look_up_name` comes first."""
        return not self._may_be_stored((account_id, client_order_id))

    async def look_up_name(self, order: Order, client_order_id: str) -> bool:
        """Whether an order that memory let go has an id, or had it: true if that is the order itself.

        Raises:
            Rejected: CLIENT_ORDER_ID_REUSED: it is another one.
        """
        key = (order.account_id, client_order_id)
        known = (await self._stored([key])).get(key)
        if known is not None and self._is_anothers(known, order):
            raise _id_reused(client_order_id)
        return known is not None and known.order_id == order.order_id

    async def _stored(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Order]:
        """The orders of these ids that the database knows. Memory may know them too, and better, by another name."""
        found = await self._store.orders_by_client(keys)
        return {key: self._ledger.orders.get(order.order_id, order) for key, order in found.items()}

    def _is_anothers(self, known: Order, order: Order) -> bool:
        return known.order_id != order.order_id and self._ledger.holds_client_id(known)

    # Memory.

    def forget(self) -> None:
        """Lets go of ended orders that the database has. Called as the database follows."""
        ledger = self._ledger
        stored = self._store.stored.value
        ended = [order for order in ledger.forget_ended(stored) if ledger.holds_client_id(order)]
        for order in ended:
            self._seen.add((order.account_id, order.client_order_id), ledger.time_ns)
        for key in ledger.forget_former(stored, ended):
            self._seen.add(key, ledger.time_ns)

    async def load_seen(self) -> None:
        """Reads the client order ids that are taken by orders not in memory."""
        ledger = self._ledger
        since = ledger.time_ns - CLIENT_ID_WINDOW_NS
        oldest = min((order.event_sequence for order in ledger.orders.values() if not order.is_open), default=0)
        found, complete = await self._store.client_ids_ended_since(since, oldest + 1, SEEN_LOAD_ROWS_MAX)
        former, all_former = await self._store.former_names_since(since, SEEN_LOAD_ROWS_MAX)
        for key in (*found, *former):
            self._seen.add(key, ledger.time_ns)
        if not complete or not all_former:
            self._seen.saturate(ledger.time_ns)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _id_reused(client_order_id: str) -> Rejected:
    return Rejected(
        Reason.CLIENT_ORDER_ID_REUSED,
        f"client_order_id {client_order_id} was used for an order with other content",
        "client_order_id",
    )
