"""OrderService.Trade: a stream for order entry.

Requests are taken one after the other, and answered one after the other once their outcomes are known; many may be on
their way. Answers that are ready together travel in one message, for messages are what costs.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from clearbook.v1 import order_service_pb2 as pb

from services.errors import Reason, Rejected
from services.order_gateway import batch_wire, trade_wire, wire
from services.order_gateway.call import ANSWER_SECONDS_MAX
from services.order_gateway.cancels import Cancels
from services.order_gateway.disconnects import Disconnects, placed_ids
from services.order_gateway.identity.who import Caller
from services.order_gateway.ledger import Ledger
from services.order_gateway.limits import CANCEL_ALL_REQUESTS, Weight
from services.order_gateway.methods import Access, Count, Method, Write
from services.order_gateway.model import Order, Placed
from services.order_gateway.orders import Orders
from services.order_gateway.outcomes import Promise, Promised, good, in_place, known
from services.order_gateway.replaces import Replaces
from services.order_gateway.rpcs.batches import told
from services.order_gateway.rpcs.orders import SERVICE
from services.runtime import metrics

IN_FLIGHT_ORDERS_MAX = 1_024
"""Cancels, replaces and orders of one stream that are not answered yet; beyond them nothing more is read."""
STREAMS_ACCOUNT_MAX = 32
"""Of one account at once."""
TRACKED_ORDERS_MAX = 10_000
"""Of a stream that cancels on disconnect: beyond so many orders, those that ended are forgotten."""

_requests = metrics.counter("gateway_trade_requests", "Requests on Trade streams.")
_responses = metrics.counter("gateway_trade_responses", "Messages that answered them.")


class TradingHandlers:
    """See the proto."""

    def __init__(
        self, ledger: Ledger, orders: Orders, replaces: Replaces, cancels: Cancels, disconnects: Disconnects
    ) -> None:
        self.ledger, self.orders, self.replaces, self.cancels = ledger, orders, replaces, cancels
        self.disconnects = disconnects
        self._open: Counter[int] = Counter()

    def methods(self) -> list[Method]:
        """A row of the service's table."""
        return [Method(SERVICE, "Trade", Access.TRADE, pb.TradeRequest, talks=self.trade)]

    async def trade(self, caller: Caller, requests: AsyncIterator[pb.TradeRequest], count: Count, write: Write) -> None:
        """Trade. Raises Rejected: OVERLOADED beyond STREAMS_ACCOUNT_MAX."""
        account_id = caller.account_id
        if self._open[account_id] >= STREAMS_ACCOUNT_MAX:
            raise Rejected(Reason.OVERLOADED, f"{STREAMS_ACCOUNT_MAX} streams of this account are open already")
        stream = _Stream(self, caller, count, write)
        self._open[account_id] += 1
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.answer(), name="trade answers")
                async for request in requests:
                    await stream.take(request)
                stream.end()
        finally:
            stream.leave()
            self._open[account_id] -= 1
            if not self._open[account_id]:
                del self._open[account_id]


@dataclass(slots=True)
class _Pending:
    """A request on its way; or, refused as a whole, only waiting for its turn to be answered."""

    request_id: int
    ack: int
    give_up: float
    """When outcomes that are not known are DEADLINE, in the loop's time."""
    tracked: bool
    """What it places is canceled when the stream ends."""
    size: int
    """What it counts for among all that is in flight: a refused one has no items, and yet waits for its reader."""
    refusal: Rejected | None = None
    cancel_all: "Promised[list[Order]] | Rejected | None" = None
    cancels: list[Promised[Order] | Rejected] = field(default_factory=list)
    replaces: list[Promised[Placed] | Rejected] = field(default_factory=list)
    orders: "list[Promise[Placed] | Rejected]" = field(default_factory=list)
    groups: "list[list[Promise[Placed] | Rejected]]" = field(default_factory=list)

    @property
    def promises(self) -> "list[Promise[Placed]]":
        """Of the orders that were begun."""
        return good([*self.orders, *chain.from_iterable(self.groups)] if self.groups else self.orders)

    @property
    def done(self) -> bool:
        several = known(self.cancels) and known(self.replaces) and known(self.orders)
        return several and all(map(known, self.groups)) and (self.cancel_all is None or known([self.cancel_all]))

    async def outcomes(self, seconds: Callable[[], float]) -> trade_wire.Outcomes:
        """What became of all of it, as far as it is known after so long."""
        ended = await told([self.cancel_all], seconds()) if self.cancel_all is not None else [None]
        canceled = await told(self.cancels, seconds())
        replaced = await told(self.replaces, seconds())
        placed = await told(self.orders, seconds())
        grouped = [await told(group, seconds()) for group in self.groups]
        return trade_wire.Outcomes(ended[0], canceled, replaced, placed, grouped)


def _weight(request: pb.TradeRequest) -> Weight:
    """Each order, replace and cancel counts; a request of nothing does, too. With all canceled, up to so many cancels
    count for nothing beside it: a full request always passes.
    """
    orders = len(request.orders) + len(request.replaces) + trade_wire.grouped(request)
    cancels = max(len(request.cancels), CANCEL_ALL_REQUESTS if request.HasField("cancel_all") else 0)
    return Weight(orders, cancels if orders else max(1, cancels))


class _Stream:
    """One call of Trade."""

    def __init__(self, handlers: TradingHandlers, caller: Caller, count: Count, write: Write) -> None:
        self._handlers, self._caller, self._count, self._write = handlers, caller, count, write
        self._clock = asyncio.get_running_loop().time
        self._pending: deque[_Pending] = deque()
        self._in_flight = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._ended = False
        self._cancels_on_disconnect = False
        self._placed: set[int] = set()
        self._late: list[Promise[Placed]] = []
        """Answered DEADLINE: what became of them is not known yet."""

    # In.

    async def take(self, request: pb.TradeRequest) -> None:
        """Puts a request on its way, once there is room for it.

        Whatever it is interrupted by, all that is on its way is among what is pending.
        """
        _requests.inc()
        self._cancels_on_disconnect |= request.cancel_on_disconnect
        while self._in_flight and self._in_flight + trade_wire.items(request) > IN_FLIGHT_ORDERS_MAX:
            self._room.clear()
            await self._room.wait()
        give_up = self._clock() + ANSWER_SECONDS_MAX
        size = max(1, trade_wire.items(request))
        pending = _Pending(request.request_id, request.ack, give_up, self._cancels_on_disconnect, size)
        look_up = None
        try:
            self._count(_weight(request))
            trade_wire.check(request)
            look_up = self._begin(request, pending)
        except Rejected as rejected:
            pending.refusal, pending.size = rejected, 1
        self._in_flight += pending.size
        self._pending.append(pending)
        self._news.set()
        if look_up is not None:
            await asyncio.wait([look_up])

    def _begin(self, request: pb.TradeRequest, pending: _Pending) -> "asyncio.Task[None] | None":
        """Reads all of it, then begins it. What it returns is to be waited for before the next request begins."""
        handlers, account_id = self._handlers, self._caller.account_id
        markets = handlers.ledger.markets_by_symbol
        names = batch_wire.names(request.cancels)
        asked = batch_wire.replacements(request.replaces)
        wanted = batch_wire.wanted(request, "", markets)
        groups = batch_wire.groups(request.groups, markets)
        if request.HasField("cancel_all"):
            pending.cancel_all = self._begin_cancel_all(request.cancel_all)
        ended = handlers.cancels.begin(account_id, good(names), ANSWER_SECONDS_MAX)
        pending.cancels = in_place(names, ended)
        if asked:
            replaced = handlers.replaces.begin(account_id, good(asked), ANSWER_SECONDS_MAX)
            pending.replaces = in_place(asked, replaced)
        begun = handlers.orders.begin(account_id, good(wanted))
        pending.orders = in_place(wanted, begun.promises)
        look_up = begun.look_up
        for group in groups:
            if isinstance(group, Rejected):
                pending.groups.append([group])
                continue
            begun = handlers.orders.begin_group(account_id, group, look_up)
            pending.groups.append(list(begun.promises))
            look_up = begun.look_up
        return look_up

    def _begin_cancel_all(self, request: pb.CancelAllOrdersRequest) -> "Promised[list[Order]] | Rejected":
        try:
            market_id = wire.market_filter(request.market, self._handlers.ledger.markets_by_symbol)
            buys = batch_wire.buys_only(request.side)
        except Rejected as rejected:
            return rejected
        return self._handlers.cancels.begin_all(self._caller.account_id, market_id, buys, ANSWER_SECONDS_MAX)

    def end(self) -> None:
        """No more requests will come: `answer` returns when all are answered."""
        self._ended = True
        self._news.set()

    # Out.

    async def answer(self) -> None:
        """Writes answers, in the order of the requests."""
        while True:
            while not self._pending:
                if self._ended:
                    return
                self._news.clear()
                await self._news.wait()
            response, size = await self._ready()
            _responses.inc()
            await self._write(response)
            self._in_flight -= size
            self._room.set()

    async def _ready(self) -> tuple[pb.TradeResponse, int]:
        """The answer to the oldest request, when it is known, and to those after it known by then; their size."""
        response, size, executions, shown = pb.TradeResponse(), 0, 0, 0
        while self._pending and (not response.answers or self._pending[0].done):
            pending = self._pending[0]
            outcomes = await pending.outcomes(partial(self._seconds_left, pending))
            more, shows = executions + trade_wire.executions(outcomes), shown + trade_wire.size(outcomes)
            if response.answers and not trade_wire.fits(shows, more):
                break
            self._pending.popleft()
            size, executions, shown = size + pending.size, more, shows
            self._note(pending)
            if pending.refusal is not None:
                trade_wire.add_refusal(response, pending.request_id, pending.refusal)
            else:
                markets = self._handlers.ledger.markets
                trade_wire.add_answer(response, pending.request_id, pending.ack, outcomes, markets)
        return response, size

    def _seconds_left(self, pending: _Pending) -> float:
        return max(pending.give_up - self._clock(), 0)

    # After it.

    def _note(self, pending: _Pending) -> None:
        """Remembers what may have to be canceled: also what was answered DEADLINE, which may be placed yet."""
        if not pending.tracked:
            return
        self._late += pending.promises
        self._placed |= placed_ids(item for item in self._late if item.done())
        self._late = [item for item in self._late if not item.done()]
        if len(self._placed) > TRACKED_ORDERS_MAX:
            self._placed &= self._handlers.ledger.open_orders(self._caller.account_id).keys()

    def leave(self) -> None:
        """The stream has ended."""
        if self._cancels_on_disconnect:
            flying = [item for pending in self._pending if pending.tracked for item in pending.promises]
            self._handlers.disconnects.leave(self._caller.account_id, self._placed, [*self._late, *flying])
