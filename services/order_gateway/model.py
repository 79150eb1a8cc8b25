"""What the gateway knows of orders, money and the journal, as plain values: the wire stops at wire.py. Pure.

Sizes are lots, prices ticks, amounts unbounded ints of base units, times nanoseconds since the Unix epoch.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, final

from mypy_extensions import mypyc_attr

from services.allow_list import AllowList, AllowListChange
from services.locks import lock
from services.market_rules import MarketRules, MarketState
from services.records import Record, replaced
from services.units import Asset, Market
from services.withdrawal_rules import WithdrawalRules


class TimeInForce(IntEnum):
    """How long an order lives. The numbers are those of the protos, ours and the public one."""

    GTC = 1
    IOC = 2
    FOK = 3
    GTD = 4
    DAY = 5


class OrderState(IntEnum):
    """Where an order stands. The numbers are those of the protos."""

    OPEN = 1
    FILLED = 2
    CANCELED = 3
    WAITING = 4


class Trigger(IntEnum):
    """What an order waits for. The numbers are those of the protos."""

    NONE = 0
    STOP = 1
    TAKE_PROFIT = 2
    TRAILING = 3


class SelfTradeMode(IntEnum):
    """What happens when an order meets another one of its account. The numbers are the journal's."""

    BY_ACCOUNT = -1
    """Only in what clients ask for: as its account has it."""
    CANCEL_NEWEST = 0
    CANCEL_OLDEST = 1
    CANCEL_BOTH = 2
    DECREMENT = 3
    ALLOW = 4


class CancelCause(IntEnum):
    """Why an order ended unfilled. The numbers are those of the protos."""

    NONE = 0
    USER = 1
    IOC = 2
    FOK = 3
    POST_ONLY = 4
    SELF_TRADE = 5
    BUDGET = 6
    EXPIRED = 7
    MINIMUM = 8
    LINKED = 9
    BAND = 10
    CANCEL_AFTER = 11
    OPERATOR = 12
    DISCONNECT = 13
    DAY_END = 14
    MARKET = 15


class Terms(NamedTuple):
    """What an order asks beyond side, price, quantity and time in force."""

    self_trade: SelfTradeMode = SelfTradeMode.CANCEL_NEWEST
    expires_ns: int = 0
    minimum_lots: int = 0
    reprice: bool = False
    trigger: Trigger = Trigger.NONE
    trigger_on_quote: bool = False
    trigger_ticks: int = 0
    trail_ticks: int = 0
    display_lots: int = 0
    signed: str = ""
    """What its wallet signed (services/signed_orders.py)."""


_OPEN: Final = OrderState.OPEN
_WAITING: Final = OrderState.WAITING
"""To look a member of an Enum up takes longer than all that is asked of it here."""

AS_ASKED: Final = -1
"""The lock of an order that set aside what it asked for, less what it traded at once."""


class First(NamedTuple):
    """What an order was after its first event, where that cannot be told from what it is now."""

    price_ticks: int
    quantity_lots: int
    budget: int
    state: OrderState
    lock: int
    """What it set aside, or AS_ASKED. Of two orders that belong together only one sets aside what it asks for, and an
    exit what its entry has received so far.
    """
    asked_lots: int
    """What was asked for, before that event made less of it: an exit is sized to what its entry received."""
    asked_budget: int


@final
@mypyc_attr(acyclic=True)
class Order(Record):
    """An order as of one event. Never changed: the next event makes the next value.

    Attributes:
        hidden_lots: what an iceberg in the book does not show of what it has yet to trade.
        terms: None: no more than the usual.
        first: None: as it is now, but for what it traded since.
    """

    __match_args__ = (
        *("order_id", "account_id", "market_id", "buys", "limit", "time_in_force", "post_only"),
        *("price_ticks", "quantity_lots", "budget", "client_order_id", "maker_fee_ppm", "taker_fee_ppm"),
        *("filled_lots", "filled_quote", "state", "cause", "lock", "create_sequence", "create_ns"),
        *("event_sequence", "event_ns", "hidden_lots", "terms", "first"),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        order_id: int,
        account_id: int,
        market_id: int,
        buys: bool,
        limit: bool,
        time_in_force: TimeInForce,
        post_only: bool,
        price_ticks: int,
        quantity_lots: int,
        budget: int,
        client_order_id: str,
        maker_fee_ppm: int,
        taker_fee_ppm: int,
        filled_lots: int,
        filled_quote: int,
        state: OrderState,
        cause: CancelCause,
        lock: int,
        create_sequence: int,
        create_ns: int,
        event_sequence: int,
        event_ns: int,
        hidden_lots: int = 0,
        terms: Terms | None = None,
        first: First | None = None,
    ) -> None:
        self.order_id = order_id
        self.account_id = account_id
        self.market_id = market_id
        self.buys = buys
        self.limit = limit
        self.time_in_force = time_in_force
        self.post_only = post_only
        self.price_ticks = price_ticks
        self.quantity_lots = quantity_lots
        self.budget = budget
        self.client_order_id = client_order_id
        self.maker_fee_ppm = maker_fee_ppm
        self.taker_fee_ppm = taker_fee_ppm
        self.filled_lots = filled_lots
        self.filled_quote = filled_quote
        self.state = state
        self.cause = cause
        self.lock = lock
        self.create_sequence = create_sequence
        self.create_ns = create_ns
        self.event_sequence = event_sequence
        self.event_ns = event_ns
        self.hidden_lots = hidden_lots
        self.terms = terms
        self.first = first

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state is _OPEN or self.state is _WAITING

    @property
    def rests(self) -> bool:
        """Whether it is in the book."""
        return self.state is _OPEN

    @property
    def is_as_placed(self) -> bool:
        """Whether it is a limit order without terms that came to rest whole, and nothing has happened to it since."""
        return (
            self.state is _OPEN
            and self.limit
            and self.event_sequence == self.create_sequence
            and not (self.filled_lots or self.budget or self.hidden_lots)
            and self.terms is None
            and self.first is None
        )

    @property
    def shown_lots(self) -> int:
        """What everybody sees of it, if it is in the book."""
        return self.quantity_lots - self.filled_lots - self.hidden_lots

    @property
    def self_trade(self) -> SelfTradeMode:
        """What happens when it meets another one of its account."""
        return SelfTradeMode.CANCEL_NEWEST if self.terms is None else self.terms.self_trade

    @property
    def remaining_lots(self) -> int:
        """What it has yet to trade."""
        return self.quantity_lots - self.filled_lots

    def lock_asset(self, market: Market) -> Asset:
        """The asset that it sets aside."""
        return market.quote if self.buys else market.base

    def changed(
        self,
        filled_lots: int,
        filled_quote: int,
        state: OrderState,
        cause: CancelCause,
        lock: int,
        hidden_lots: int,
        event_sequence: int,
        event_ns: int,
    ) -> "Order":
        """The same as a later event has it, by which it traded or ended."""
        return Order(
            self.order_id,
            self.account_id,
            self.market_id,
            self.buys,
            self.limit,
            self.time_in_force,
            self.post_only,
            self.price_ticks,
            self.quantity_lots,
            self.budget,
            self.client_order_id,
            self.maker_fee_ppm,
            self.taker_fee_ppm,
            filled_lots,
            filled_quote,
            state,
            cause,
            lock,
            self.create_sequence,
            self.create_ns,
            event_sequence,
            event_ns,
            hidden_lots,
            self.terms,
            self.first,
        )

    def as_first(self, asked: "Order | None" = None) -> First:
        """What to remember of it as it is now, after its first event; `asked`: as its first step had it, if not so."""
        asked = asked or self
        return First(
            *(self.price_ticks, self.quantity_lots, self.budget, self.state, self.lock),
            *(asked.quantity_lots, asked.budget),
        )

    def as_open(self) -> First:
        """The same of one that its first event left open, and which nothing has changed since."""
        return self.as_first()._replace(state=OrderState.OPEN, lock=AS_ASKED)

    def as_placed(self, taken: "list[Execution]", market: Market) -> "Order":
        """The order as the answer to its PlaceOrder showed it.

        Args:
            taken: all executions of it that its placing brought.
            market: its market.
        """
        if self.event_sequence == self.create_sequence:
            return self
        filled = sum(execution.quantity_lots for execution in taken)
        first = self.first or self.as_open()
        return replaced(
            self,
            price_ticks=first.price_ticks,
            quantity_lots=first.quantity_lots,
            budget=first.budget,
            filled_lots=filled,
            filled_quote=sum(
                market.quote_amount(execution.price_ticks, execution.quantity_lots) for execution in taken
            ),
            state=first.state,
            cause=CancelCause.NONE,
            lock=lock(
                self.buys,
                self.limit,
                first.price_ticks,
                first.quantity_lots - filled,
                first.budget,
                market.base_per_lot,
                market.quote_per_tick_lot,
            )
            if first.lock == AS_ASKED
            else first.lock,
            event_sequence=self.create_sequence,
            event_ns=self.create_ns,
            hidden_lots=0,
        )


class MovementKind(IntEnum):
    """What a movement is. The numbers are stored."""

    TRANSFER = 1
    """From one account to another; who asked for it, its id tells."""
    WITHDRAWAL = 2
    """Out to the chain: to account `outside`."""
    DEPOSIT = 3
    """In from the chain: from account `outside`."""


class MovementState(IntEnum):
    """Where a movement stands. The numbers are those of the public proto.

    SETTLED is not among them: it is APPROVED or MOVED with a settlement_sequence that is final by now.
    """

    REQUESTED = 1
    """A withdrawal: its amount is held."""
    APPROVED = 2
    """A withdrawal: it has left the account."""
    DONE = 4
    """A withdrawal that was claimed; a deposit."""
    CANCELED = 5
    """A withdrawal: nothing moved."""
    MOVED = 6
    """A transfer: it has moved."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that moves other than by trading, as of one event. Never changed: the next event makes the next value.

    Attributes:
        transfer_id: as journaled, with the prefix that says whose id it is.
        withdrawal_id: the command id of its RequestWithdrawal; 0 for all else.
        address: a withdrawal: who may claim it.
        reason: why, if an operator said so.
        settlement_sequence: 0 for a deposit and for a withdrawal that has not gone to the chain.
        release_ns: a requested withdrawal: it is approved, and goes to the chain then; 0: somebody has to approve it.
    """

    transfer_id: str
    kind: MovementKind
    state: MovementState
    from_account_id: int
    to_account_id: int
    asset_id: int
    amount: int
    create_sequence: int
    create_ns: int
    event_sequence: int
    event_ns: int
    settlement_sequence: int = 0
    withdrawal_id: int = 0
    address: str = ""
    reason: str = ""
    transaction_hash: str = ""
    release_ns: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change it any more, finality apart."""
        return self.state in {MovementState.DONE, MovementState.CANCELED, MovementState.MOVED}

    def concerns(self, account_id: int) -> bool:
        """Whether it is of that account."""
        return account_id in {self.from_account_id, self.to_account_id}


@final
@mypyc_attr(acyclic=True)
class Execution(Record):
    """One side of a trade."""

    __match_args__ = (
        *("trade_id", "market_id", "order_id", "account_id", "client_order_id", "buys", "price_ticks"),
        *("quantity_lots", "fee", "is_maker", "settlement_sequence", "event_sequence", "event_ns"),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        trade_id: int,
        market_id: int,
        order_id: int,
        account_id: int,
        client_order_id: str,
        buys: bool,
        price_ticks: int,
        quantity_lots: int,
        fee: int,
        is_maker: bool,
        settlement_sequence: int,
        event_sequence: int,
        event_ns: int,
    ) -> None:
        self.trade_id = trade_id
        self.market_id = market_id
        self.order_id = order_id
        self.account_id = account_id
        self.client_order_id = client_order_id
        self.buys = buys
        self.price_ticks = price_ticks
        self.quantity_lots = quantity_lots
        self.fee = fee
        self.is_maker = is_maker
        self.settlement_sequence = settlement_sequence
        self.event_sequence = event_sequence
        self.event_ns = event_ns

    @property
    def rank(self) -> int:
        """Its place among all: an event may trade in two markets, and both sides of a trade may be one account's."""
        return self.settlement_sequence * 2 + self.is_maker


@final
@mypyc_attr(acyclic=True)
class Placement(Record):
    """What a client asks for, parsed. `budget` is None where none was given."""

    __match_args__ = (
        *("market", "buys", "limit", "time_in_force", "post_only", "price_ticks", "quantity_lots", "budget"),
        *("terms",),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        market: Market,
        buys: bool,
        limit: bool,
        time_in_force: TimeInForce,
        post_only: bool,
        price_ticks: int,
        quantity_lots: int,
        budget: int | None,
        terms: Terms | None = None,
    ) -> None:
        self.market = market
        self.buys = buys
        self.limit = limit
        self.time_in_force = time_in_force
        self.post_only = post_only
        self.price_ticks = price_ticks
        self.quantity_lots = quantity_lots
        self.budget = budget
        self.terms = terms

    def resolved(self, mode: SelfTradeMode) -> "Placement":
        """The same with the account's mode, if this does not say one itself: what the book is told."""
        terms = self.terms
        if terms is None or terms.self_trade is SelfTradeMode.BY_ACCOUNT:
            terms = (terms or Terms())._replace(self_trade=mode)
        return replaced(self, terms=None if terms == Terms() else terms)

    @property
    def may_stay(self) -> bool:
        """Whether it may be open after it was placed."""
        return self.limit or (self.terms is not None and self.terms.trigger is not Trigger.NONE)

    def describes(self, order: Order) -> bool:
        """Whether this content is that order's. A budget left open fits whatever budget was then worked out, a mode
        whatever the account's was, and what the book may have changed at once fits whatever came of it.
        """
        first = order.first or order.as_first()
        repriced = self.terms is not None and self.terms.reprice
        shrunk = order.self_trade is SelfTradeMode.DECREMENT and first.asked_lots <= self.quantity_lots
        return (
            self.market.market_id == order.market_id
            and self.buys == order.buys
            and self.limit == order.limit
            and self.time_in_force == order.time_in_force
            and self.post_only == order.post_only
            and self.resolved(order.self_trade).terms == order.terms
            and (self.price_ticks == first.price_ticks or repriced)
            and (self.quantity_lots == first.asked_lots or shrunk)
            and (self.budget is None or self.budget == first.asked_budget)
        )


@final
@mypyc_attr(acyclic=True)
class Wanted(Record):
    """An order to place: what, and under which of the client's ids; "" for one of our making."""

    __match_args__ = ("placement", "client_order_id")
    __slots__ = __match_args__

    def __init__(
        self,
        placement: Placement,
        client_order_id: str,
    ) -> None:
        self.placement = placement
        self.client_order_id = client_order_id


class Replacement(NamedTuple):
    """What an open order is to become: a price and a quantity as they were sent, for its market is not known yet.

    Attributes:
        name: our id of the order, or the client's.
        price: "": as it is.
        quantity: with what has traded; "": as it is.
        new_client_order_id: "": as it is.
    """

    name: int | str
    price: str
    quantity: str
    new_client_order_id: str = ""


class WantedGroup(NamedTuple):
    """Orders to place that belong together: see PlaceGroup."""

    orders: tuple[Wanted, ...]
    has_entry: bool


@final
@mypyc_attr(acyclic=True)
class Placed(Record):
    """The answer to PlaceOrder: the order after all that it took, and the first PLACED_EXECUTIONS_MAX of that."""

    __match_args__ = ("order", "executions")
    __slots__ = __match_args__

    def __init__(
        self,
        order: Order,
        executions: tuple[Execution, ...],
    ) -> None:
        self.order = order
        self.executions = executions


# Commands: what the gateway asks of the book.


@final
@mypyc_attr(acyclic=True)
class PlaceOrder(Record):
    """Asks for an order."""

    __match_args__ = ("account_id", "placement", "budget", "client_order_id", "maker_fee_ppm", "taker_fee_ppm")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        placement: Placement,
        budget: int,
        client_order_id: str,
        maker_fee_ppm: int,
        taker_fee_ppm: int,
    ) -> None:
        self.account_id = account_id
        self.placement = placement
        self.budget = budget
        self.client_order_id = client_order_id
        self.maker_fee_ppm = maker_fee_ppm
        self.taker_fee_ppm = taker_fee_ppm


class ReplaceOrder(NamedTuple):
    """Asks that an open order be given another price or quantity (0: as it is).

    Attributes:
        growth_max: by how much it may set aside more than now: so much was reserved.
        client_order_id: its new one; "": as it is.
    """

    account_id: int
    order_id: int
    price_ticks: int
    quantity_lots: int
    growth_max: int
    client_order_id: str = ""


class PlaceGroup(NamedTuple):
    """Asks for orders that belong together: exits, and before them, if `has_entry`, the order that they wait for."""

    orders: tuple[PlaceOrder, ...]
    has_entry: bool


class CancelOrder(NamedTuple):
    """Asks that an open order be canceled."""

    account_id: int
    order_id: int
    cause: CancelCause = CancelCause.USER


class CancelOrders(NamedTuple):
    """Asks that all open orders of an account be canceled: of one market or (0) of all, of one side or (None) of both.

    One command ends at most 256; its event tells whether there are more.
    """

    account_id: int
    market_id: int = 0
    buys: bool | None = None
    cause: CancelCause = CancelCause.USER


@dataclass(frozen=True, slots=True)
class CancelAfter:
    """Asks that an account's open orders be canceled unless this comes again within so many seconds (0: not any more).

    Attributes:
        market_id: only there; 0: everywhere.
    """

    account_id: int
    market_id: int
    seconds: int


@dataclass(frozen=True, slots=True)
class SetTradingDefaults:
    """Asks that an account's orders do this where they do not say it themselves."""

    account_id: int
    self_trade: SelfTradeMode


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """Asks for an account."""

    name: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Asks that funds move, or says that they did."""

    transfer_id: str
    from_account_id: int
    to_account_id: int
    asset_id: int
    amount: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RequestWithdrawal:
    """Asks that funds be held for a withdrawal."""

    transfer_id: str
    account_id: int
    asset_id: int
    amount: int
    address: str


@dataclass(frozen=True, slots=True)
class ApproveWithdrawal:
    """Asks that a withdrawal go."""

    withdrawal_id: int


@dataclass(frozen=True, slots=True)
class CancelWithdrawal:
    """Asks that a withdrawal end."""

    withdrawal_id: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseWithdrawal:
    """Asks that an approved withdrawal go, now that its cooling-off is over."""

    withdrawal_id: int


@dataclass(frozen=True, slots=True)
class SetWithdrawalRules:
    """Asks that withdrawals of an asset keep to these rules."""

    asset_id: int
    rules: WithdrawalRules
    reason: str


@dataclass(frozen=True, slots=True)
class ChangeAllowList:
    """Asks that an account's list of addresses change; what weakens it, after `delay_seconds`."""

    account_id: int
    change: AllowListChange
    address: str
    delay_seconds: int


@dataclass(frozen=True, slots=True)
class CreateAsset:
    """Asks for an asset."""

    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class CreateMarket:
    """Asks for a market; its id is ignored."""

    market: Market


@dataclass(frozen=True, slots=True)
class ChangeMarket:
    """Asks that a market have another state (None: as it is) or other rules (None: as they are), and says why."""

    market_id: int
    state: MarketState | None
    rules: MarketRules | None
    reason: str


@dataclass(frozen=True, slots=True)
class SetReferencePrice:
    """Says what a market's price is elsewhere, and when it was seen there."""

    market_id: int
    price_ticks: int
    source: str
    observed_ns: int


CommandBody = (
    PlaceOrder
    | PlaceGroup
    | ReplaceOrder
    | CancelOrder
    | CancelOrders
    | CancelAfter
    | SetTradingDefaults
    | OpenAccount
    | Transfer
    | RequestWithdrawal
    | ApproveWithdrawal
    | CancelWithdrawal
    | ReleaseWithdrawal
    | SetWithdrawalRules
    | ChangeAllowList
    | CreateAsset
    | CreateMarket
    | ChangeMarket
    | SetReferencePrice
)


def numbers_of(body: CommandBody) -> int:
    """How many numbers of its session a command takes: an order's id is its number."""
    return len(body.orders) if isinstance(body, PlaceGroup) else 1


# Events: what the journal says.


@final
@mypyc_attr(acyclic=True)
class Trade(Record):
    """Two orders met. The taker is the order of the event."""

    __match_args__ = (
        *("trade_id", "settlement_sequence", "price_ticks", "quantity_lots", "base_amount", "quote_amount"),
        *("maker_order_id", "maker_account_id", "maker_fee", "taker_fee", "maker_remaining_lots"),
        *("maker_lock",),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        trade_id: int,
        settlement_sequence: int,
        price_ticks: int,
        quantity_lots: int,
        base_amount: int,
        quote_amount: int,
        maker_order_id: int,
        maker_account_id: int,
        maker_fee: int,
        taker_fee: int,
        maker_remaining_lots: int,
        maker_lock: int,
    ) -> None:
        self.trade_id = trade_id
        self.settlement_sequence = settlement_sequence
        self.price_ticks = price_ticks
        self.quantity_lots = quantity_lots
        self.base_amount = base_amount
        self.quote_amount = quote_amount
        self.maker_order_id = maker_order_id
        self.maker_account_id = maker_account_id
        self.maker_fee = maker_fee
        self.taker_fee = taker_fee
        self.maker_remaining_lots = maker_remaining_lots
        self.maker_lock = maker_lock


@final
@mypyc_attr(acyclic=True)
class OrderPlaced(Record):
    """An order was taken: the order after all of its trades, and these."""

    __match_args__ = ("order", "trades")
    __slots__ = __match_args__

    def __init__(
        self,
        order: Order,
        trades: tuple[Trade, ...],
    ) -> None:
        self.order = order
        self.trades = trades


@final
@mypyc_attr(acyclic=True)
class OrderCanceled(Record):
    """An order was canceled on request."""

    __match_args__ = ("order_id", "filled_lots", "cause")
    __slots__ = __match_args__

    def __init__(
        self,
        order_id: int,
        filled_lots: int,
        cause: CancelCause,
    ) -> None:
        self.order_id = order_id
        self.filled_lots = filled_lots
        self.cause = cause


@final
@mypyc_attr(acyclic=True)
class OrderChanged(Record):
    """One step of what a command did: an order as the event tells it, and the trades in which it was the taker."""

    __match_args__ = ("order", "trades")
    __slots__ = __match_args__

    def __init__(
        self,
        order: Order,
        trades: tuple[Trade, ...],
    ) -> None:
        self.order = order
        self.trades = trades


class BookLevels(NamedTuple):
    """What is shown now in one book: (buys, price_ticks, lots) of every level that a command touched."""

    market_id: int
    levels: tuple[tuple[bool, int, int], ...]


@dataclass(frozen=True, slots=True)
class OrdersChanged:
    """A command did more to orders than one of the plain events can say.

    Attributes:
        steps: in the order in which they happened.
        books: after all of them.
        refused: why the command itself was refused, if it was: the steps are then what was due before it.
        market: what a ChangeMarket made of its market.
        more: a CancelOrders left some.
    """

    steps: tuple[OrderChanged, ...]
    books: tuple[BookLevels, ...]
    refused: str = ""
    market: "MarketChanged | None" = None
    more: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A command was refused and changed nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class AccountOpened:
    """An account exists."""

    account_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Transferred:
    """Funds moved."""

    transfer: Transfer
    settlement_sequence: int


@dataclass(frozen=True, slots=True)
class Deposited:
    """Funds came in from outside: the contract's deposit of that number.

    Attributes:
        account_id: who is credited: account `insurance` if nobody has the account that they were meant for.
        settlement_sequence: where the chain moves them to that account; 0 if they lie there already.
    """

    deposit_index: int
    account_id: int
    asset_id: int
    amount: int
    transaction_hash: str = ""
    settlement_sequence: int = 0


@dataclass(frozen=True, slots=True)
class WithdrawalRequested:
    """The amount is set aside. `release_ns`: see Movement."""

    withdrawal_id: int
    request: RequestWithdrawal
    release_ns: int = 0


@dataclass(frozen=True, slots=True)
class WithdrawalCleared:
    """An operator has approved it: its cooling-off begins."""

    withdrawal_id: int
    release_ns: int


@dataclass(frozen=True, slots=True)
class WithdrawalRulesSet:
    """What withdrawals of an asset keep to from now on."""

    asset_id: int
    rules: WithdrawalRules


@dataclass(frozen=True, slots=True)
class AllowListChanged:
    """An account's list of addresses as it is from now on."""

    account_id: int
    allowed: AllowList


@dataclass(frozen=True, slots=True)
class WithdrawalApproved:
    """The account is debited."""

    withdrawal_id: int
    request: RequestWithdrawal
    settlement_sequence: int


@dataclass(frozen=True, slots=True)
class WithdrawalCanceled:
    """The amount is free again."""

    withdrawal_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """An address took all that it could claim of an asset from the contract, or all that its account had there.

    Attributes:
        address: whose.
        asset_id: of what.
        amount: how much, base units.
        exit_account_id: the account that leaves; 0: a claim.
        claim_index: the contract's number.
        transaction_hash: by which transaction.
    """

    address: str
    asset_id: int
    amount: int
    exit_account_id: int = 0
    claim_index: int = 0
    transaction_hash: str = ""


@dataclass(frozen=True, slots=True)
class ExitRequested:
    """An account's owner leaves by the contract, or (`canceled`) does not any more."""

    account_id: int
    canceled: bool


class DebtState(IntEnum):
    """What has become of a debt; the numbers are the journal's."""

    FROZEN = 1
    PAID = 2
    RESOLVED = 3


@dataclass(frozen=True, slots=True)
class DebtNoted:
    """What has become of a debt: of what an account lacked for a leg that the chain refused, and insurance pays.

    Attributes:
        debt_id: which.
        state: PAID: from here on the amount is the account's, and insurance has paid it. FROZEN comes first.
        account_id: who could not pay; frozen until the debt is RESOLVED.
        asset_id: of what.
        amount: base units.
        reason: for people.
    """

    debt_id: int
    state: DebtState
    account_id: int
    asset_id: int
    amount: int
    reason: str


@dataclass(frozen=True, slots=True)
class SettlementFinalized:
    """What the chain has mirrored through there will not be undone."""

    through: int


@dataclass(frozen=True, slots=True)
class AssetCreated:
    """An asset exists."""

    asset: Asset


@dataclass(frozen=True, slots=True)
class MarketCreated:
    """A market exists. Steps are decimal strings, the least notional is in base units of the quote asset."""

    market_id: int
    symbol: str
    base_asset_id: int
    quote_asset_id: int
    tick_size: str
    lot_size: str
    notional_min: int
    state: MarketState = MarketState.OPEN
    rules: MarketRules | None = None


@dataclass(frozen=True, slots=True)
class MarketChanged:
    """A market has another state or other rules: both as they are now."""

    market_id: int
    state: MarketState
    rules: MarketRules | None = None


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A gateway's session began: what its older ones did not journal before this never will be."""

    gateway: int
    epoch: int


@dataclass(frozen=True, slots=True)
class CancelAfterSet:
    """An account's open orders are canceled then, in journal time; 0: they are not."""

    deadline_ns: int


@dataclass(frozen=True, slots=True)
class TradingDefaultsSet:
    """What an account's orders do from now on where they do not say it themselves."""

    account_id: int
    self_trade: SelfTradeMode


@dataclass(frozen=True, slots=True)
class ReferencePriceSet:
    """What a market's price is elsewhere, and when it was seen there."""

    market_id: int
    price_ticks: int
    observed_ns: int


@dataclass(frozen=True, slots=True)
class Unrelated:
    """Something that moves neither money nor orders: the clock, a leader."""


EventBody = (
    OrderPlaced
    | OrderCanceled
    | OrdersChanged
    | Refused
    | AccountOpened
    | Transferred
    | Deposited
    | WithdrawalRequested
    | WithdrawalApproved
    | WithdrawalCanceled
    | WithdrawalCleared
    | WithdrawalRulesSet
    | AllowListChanged
    | Claimed
    | ExitRequested
    | DebtNoted
    | SettlementFinalized
    | AssetCreated
    | MarketCreated
    | MarketChanged
    | SessionOpened
    | CancelAfterSet
    | TradingDefaultsSet
    | ReferencePriceSet
    | Unrelated
)


@final
@mypyc_attr(acyclic=True)
class Event(Record):
    """The one outcome of one command."""

    __match_args__ = ("sequence", "command_id", "body")
    __slots__ = __match_args__

    def __init__(
        self,
        sequence: int,
        command_id: int,
        body: EventBody,
    ) -> None:
        self.sequence = sequence
        self.command_id = command_id
        self.body = body


@dataclass(frozen=True, slots=True)
class EventRow:
    """The events of one journal row: contiguous, taken at one time."""

    first_sequence: int
    last_sequence: int
    time_ns: int
    incarnation: str
    events: tuple[Event, ...]
