"""What the engine takes and gives: the messages of clearbook.internal.v1's journal.proto as plain classes.

Names, fields and enum values are the proto's. Two things differ: amounts are unbounded ints of base units (strings on
the wire), and a oneof is one attribute, `body`. Nothing here is changed once it is made: events and commands may be
shared freely. Plain slotted classes, because mypyc makes C structs of them and dataclasses it does not. What
most commands make is `acyclic`: the garbage collector need not know of it, for nothing here points back. Interpreted,
what is placed, canceled and told most often is a struct of msgspec's instead (the end of this file). Pure.
"""

from typing import Final, final

from mypy_extensions import mypyc_attr

from services.allow_list import AllowList
from services.book.structs import in_place_of
from services.records import Record
from services.withdrawal_rules import WithdrawalRules

SIDE_UNSPECIFIED: Final = 0
SIDE_BUY: Final = 1
SIDE_SELL: Final = 2

ORDER_TYPE_UNSPECIFIED: Final = 0
ORDER_TYPE_LIMIT: Final = 1
ORDER_TYPE_MARKET: Final = 2

TIME_IN_FORCE_UNSPECIFIED: Final = 0
TIME_IN_FORCE_GTC: Final = 1
TIME_IN_FORCE_IOC: Final = 2
TIME_IN_FORCE_FOK: Final = 3
TIME_IN_FORCE_GTD: Final = 4
TIME_IN_FORCE_DAY: Final = 5

TRIGGER_UNSPECIFIED: Final = 0
TRIGGER_STOP: Final = 1
TRIGGER_TAKE_PROFIT: Final = 2
TRIGGER_TRAILING: Final = 3

TRIGGER_SOURCE_LAST: Final = 0
TRIGGER_SOURCE_QUOTE: Final = 1

SELF_TRADE_CANCEL_NEWEST: Final = 0
SELF_TRADE_CANCEL_OLDEST: Final = 1
SELF_TRADE_CANCEL_BOTH: Final = 2
SELF_TRADE_DECREMENT: Final = 3
SELF_TRADE_ALLOW: Final = 4

ORDER_STATE_UNSPECIFIED: Final = 0
ORDER_STATE_OPEN: Final = 1
ORDER_STATE_FILLED: Final = 2
ORDER_STATE_CANCELED: Final = 3
ORDER_STATE_WAITING: Final = 4

CANCEL_CAUSE_UNSPECIFIED: Final = 0
CANCEL_CAUSE_USER: Final = 1
CANCEL_CAUSE_IOC: Final = 2
CANCEL_CAUSE_FOK: Final = 3
CANCEL_CAUSE_POST_ONLY: Final = 4
CANCEL_CAUSE_SELF_TRADE: Final = 5
CANCEL_CAUSE_BUDGET: Final = 6
CANCEL_CAUSE_EXPIRED: Final = 7
CANCEL_CAUSE_MINIMUM: Final = 8
CANCEL_CAUSE_LINKED: Final = 9
CANCEL_CAUSE_BAND: Final = 10
CANCEL_CAUSE_CANCEL_AFTER: Final = 11
CANCEL_CAUSE_OPERATOR: Final = 12
CANCEL_CAUSE_DISCONNECT: Final = 13
CANCEL_CAUSE_DAY_END: Final = 14
CANCEL_CAUSE_MARKET: Final = 15

DEBT_STATE_FROZEN: Final = 1
DEBT_STATE_PAID: Final = 2
DEBT_STATE_RESOLVED: Final = 3

MARKET_STATE_UNSPECIFIED: Final = 0
MARKET_STATE_OPEN: Final = 1
MARKET_STATE_HALTED: Final = 2
MARKET_STATE_PRE_OPEN: Final = 3
MARKET_STATE_CLOSED: Final = 4


EDITION: Final = 2
"""By which rules a leader of today decides: it journals the number, and what is journaled before it is decided by older
ones, for a journal must always become the same events again. 0 were the first. Since 1: an order whose time is over
never trades, nor while it waits behind an entry; exits do not begin while an auction goes on; its own meetings go by
the newer one's mode; its price is looked for 16 times by a command; trailing stops behind entries count; fill or kill
knows what groups cost; exits do not outlive an entry that CancelOrders ends with them. Since 2: what was deposited for
an account before it took all by the contract, and is told afterwards, is credited to insurance.
"""


@final
class Asset(Record):
    """An asset. Immutable; amounts of it are ints of base units, 10^-decimals of one whole."""

    __match_args__ = ("asset_id", "symbol", "decimals")
    __slots__ = __match_args__

    def __init__(
        self,
        asset_id: int,
        symbol: str,
        decimals: int,
    ) -> None:
        self.asset_id = asset_id
        self.symbol = symbol
        self.decimals = decimals


@final
class MarketRules(Record):
    """What orders of a market may be at most and at least; 0: no such rule.

    Lots; base units of the quote asset; and how far a price may be from the reference price while that is fresh, else
    from the last trade's, parts per million of it. `notional_min` is in place of the market's own. `open_orders_max`,
    of an account, is for gateways to keep. `reference_age_max_seconds` is 0 for the default. With `signed_orders` all
    orders must be signed.
    """

    __match_args__ = (
        *("quantity_min_lots", "quantity_max_lots", "notional_max", "band_ppm"),
        *("notional_min", "open_orders_max", "reference_age_max_seconds", "signed_orders"),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        quantity_min_lots: int = 0,
        quantity_max_lots: int = 0,
        notional_max: int = 0,
        band_ppm: int = 0,
        notional_min: int = 0,
        open_orders_max: int = 0,
        reference_age_max_seconds: int = 0,
        signed_orders: bool = False,
    ) -> None:
        self.quantity_min_lots = quantity_min_lots
        self.quantity_max_lots = quantity_max_lots
        self.notional_max = notional_max
        self.band_ppm = band_ppm
        self.notional_min = notional_min
        self.open_orders_max = open_orders_max
        self.reference_age_max_seconds = reference_age_max_seconds
        self.signed_orders = signed_orders


@final
class Market(Record):
    """A market. All but state and rules is immutable; notional_min is in base units of the quote asset."""

    __match_args__ = (
        "market_id",
        "symbol",
        "base_asset_id",
        "quote_asset_id",
        "tick_size",
        "lot_size",
        "notional_min",
        "state",
        "rules",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        market_id: int,
        symbol: str,
        base_asset_id: int,
        quote_asset_id: int,
        tick_size: str,
        lot_size: str,
        notional_min: int = 0,
        state: int = MARKET_STATE_OPEN,
        rules: MarketRules | None = None,
    ) -> None:
        self.market_id = market_id
        self.symbol = symbol
        self.base_asset_id = base_asset_id
        self.quote_asset_id = quote_asset_id
        self.tick_size = tick_size
        self.lot_size = lot_size
        self.notional_min = notional_min
        self.state = state
        self.rules = rules


@final
@mypyc_attr(acyclic=True)
class Terms(Record):
    """What an order asks beyond side, price, quantity and time in force. An order without any has None.

    `minimum_lots` must be to be had at once; `reprice` moves a post-only order that would trade away by a tick. With a
    trigger it waits until a price has come to `trigger_ticks`, or has gone `trail_ticks` back from its best. With
    `display_lots` it is an iceberg: it shows no more than that of what rests. `signed` is what its wallet signed
    (services/signed_orders.py), "" for nothing: it goes into the order's trades, unread.
    """

    __match_args__ = (
        *("self_trade", "expires_ns", "minimum_lots", "reprice"),
        *("trigger", "trigger_source", "trigger_ticks", "trail_ticks", "display_lots", "signed"),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        self_trade: int = SELF_TRADE_CANCEL_NEWEST,
        expires_ns: int = 0,
        minimum_lots: int = 0,
        reprice: bool = False,
        trigger: int = TRIGGER_UNSPECIFIED,
        trigger_source: int = TRIGGER_SOURCE_LAST,
        trigger_ticks: int = 0,
        trail_ticks: int = 0,
        display_lots: int = 0,
        signed: str = "",
    ) -> None:
        self.self_trade = self_trade
        self.expires_ns = expires_ns
        self.minimum_lots = minimum_lots
        self.reprice = reprice
        self.trigger = trigger
        self.trigger_source = trigger_source
        self.trigger_ticks = trigger_ticks
        self.trail_ticks = trail_ticks
        self.display_lots = display_lots
        self.signed = signed


@final
@mypyc_attr(acyclic=True)
class PlaceOrder(Record):
    """Asks for an order."""

    __match_args__ = (
        "account_id",
        "market_id",
        "side",
        "type",
        "time_in_force",
        "post_only",
        "price_ticks",
        "quantity_lots",
        "budget",
        "client_order_id",
        "maker_fee_ppm",
        "taker_fee_ppm",
        "terms",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        market_id: int,
        side: int,
        type: int,  # noqa: A002
        time_in_force: int,
        post_only: bool = False,
        price_ticks: int = 0,
        quantity_lots: int = 0,
        budget: int = 0,
        client_order_id: str = "",
        maker_fee_ppm: int = 0,
        taker_fee_ppm: int = 0,
        terms: Terms | None = None,
    ) -> None:
        self.account_id = account_id
        self.market_id = market_id
        self.side = side
        self.type = type
        self.time_in_force = time_in_force
        self.post_only = post_only
        self.price_ticks = price_ticks
        self.quantity_lots = quantity_lots
        self.budget = budget
        self.client_order_id = client_order_id
        self.maker_fee_ppm = maker_fee_ppm
        self.taker_fee_ppm = taker_fee_ppm
        self.terms = terms


@final
@mypyc_attr(acyclic=True)
class CancelOrder(Record):
    """Asks that an open order be canceled; 0 is for the cause USER."""

    __match_args__ = ("account_id", "order_id", "cause")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        order_id: int,
        cause: int = CANCEL_CAUSE_UNSPECIFIED,
    ) -> None:
        self.account_id = account_id
        self.order_id = order_id
        self.cause = cause


@final
class PlaceGroup(Record):
    """Asks for orders that belong together, of one account and market: at most one `entry`, one or two `exits`.

    Two exits: the first to trade, to be released or to end cancels the other. With an entry they begin when it has
    ended, for what it received. The orders' ids are the command's and those after it: a session goes on behind them.
    """

    __match_args__ = ("entry", "exits")
    __slots__ = __match_args__

    def __init__(
        self,
        entry: PlaceOrder | None,
        exits: list[PlaceOrder],
    ) -> None:
        self.entry = entry
        self.exits = exits

    def orders(self) -> list[PlaceOrder]:
        """All of them, as they are numbered."""
        return [*self.exits] if self.entry is None else [self.entry, *self.exits]


@final
class ReplaceOrder(Record):
    """Asks that an open order be given another price, quantity (what has traded included) or client_order_id.

    0 or "": as it is. `growth_max` is by how much it may set aside more than now, base units; None: by any.
    """

    __match_args__ = ("account_id", "order_id", "price_ticks", "quantity_lots", "client_order_id", "growth_max")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        order_id: int,
        price_ticks: int = 0,
        quantity_lots: int = 0,
        client_order_id: str = "",
        growth_max: int | None = None,
    ) -> None:
        self.account_id = account_id
        self.order_id = order_id
        self.price_ticks = price_ticks
        self.quantity_lots = quantity_lots
        self.client_order_id = client_order_id
        self.growth_max = growth_max


@final
class CancelOrders(Record):
    """Asks that all open orders of an account be canceled: of one market or (0) of all, of one side or (0) of both.

    0 is for the cause USER.
    """

    __match_args__ = ("account_id", "market_id", "side", "cause")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        market_id: int = 0,
        side: int = SIDE_UNSPECIFIED,
        cause: int = CANCEL_CAUSE_UNSPECIFIED,
    ) -> None:
        self.account_id = account_id
        self.market_id = market_id
        self.side = side
        self.cause = cause


@final
class CancelAfter(Record):
    """Asks that all open orders of an account be canceled, of one market or (0) of all, unless this comes again within
    so many seconds. 0: not any more.
    """

    __match_args__ = ("account_id", "market_id", "seconds")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        market_id: int,
        seconds: int,
    ) -> None:
        self.account_id = account_id
        self.market_id = market_id
        self.seconds = seconds


@final
class SetTradingDefaults(Record):
    """Asks that the account's orders, where they do not say themselves, prevent self-trades like this from now on."""

    __match_args__ = ("account_id", "self_trade")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        self_trade: int,
    ) -> None:
        self.account_id = account_id
        self.self_trade = self_trade


@final
class OpenAccount(Record):
    """Asks for an account. The name is unique."""

    __match_args__ = ("name",)
    __slots__ = __match_args__

    def __init__(
        self,
        name: str,
    ) -> None:
        self.name = name


@final
class Transfer(Record):
    """Asks that funds move between two accounts: amount in base units, more than zero."""

    __match_args__ = ("transfer_id", "from_account_id", "to_account_id", "asset_id", "amount", "reason")
    __slots__ = __match_args__

    def __init__(
        self,
        transfer_id: str,
        from_account_id: int,
        to_account_id: int,
        asset_id: int,
        amount: int,
        reason: str = "",
    ) -> None:
        self.transfer_id = transfer_id
        self.from_account_id = from_account_id
        self.to_account_id = to_account_id
        self.asset_id = asset_id
        self.amount = amount
        self.reason = reason


@final
class RequestWithdrawal(Record):
    """Asks that funds be set aside for an address on chain: amount in base units, more than zero."""

    __match_args__ = ("transfer_id", "account_id", "asset_id", "amount", "address")
    __slots__ = __match_args__

    def __init__(
        self,
        transfer_id: str,
        account_id: int,
        asset_id: int,
        amount: int,
        address: str,
    ) -> None:
        self.transfer_id = transfer_id
        self.account_id = account_id
        self.asset_id = asset_id
        self.amount = amount
        self.address = address


@final
class ApproveWithdrawal(Record):
    """Lets a withdrawal go."""

    __match_args__ = ("withdrawal_id",)
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal_id: int,
    ) -> None:
        self.withdrawal_id = withdrawal_id


@final
class CancelWithdrawal(Record):
    """Ends a withdrawal that has not been approved."""

    __match_args__ = ("withdrawal_id", "reason")
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal_id: int,
        reason: str = "",
    ) -> None:
        self.withdrawal_id = withdrawal_id
        self.reason = reason


@final
class ReleaseWithdrawal(Record):
    """Sends an approved withdrawal on its way: its cooling-off is over."""

    __match_args__ = ("withdrawal_id",)
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal_id: int,
    ) -> None:
        self.withdrawal_id = withdrawal_id


@final
class SetWithdrawalRules(Record):
    """Asks that withdrawals of an asset keep to these rules."""

    __match_args__ = ("asset_id", "rules", "reason")
    __slots__ = __match_args__

    def __init__(
        self,
        asset_id: int,
        rules: WithdrawalRules,
        reason: str = "",
    ) -> None:
        self.asset_id = asset_id
        self.rules = rules
        self.reason = reason


@final
class ChangeAllowList(Record):
    """Asks that an account's list of addresses change; what weakens it, after `delay_seconds`."""

    __match_args__ = ("account_id", "change", "address", "delay_seconds")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        change: int,
        address: str,
        delay_seconds: int,
    ) -> None:
        self.account_id = account_id
        self.change = change
        self.address = address
        self.delay_seconds = delay_seconds


@final
class ClaimFinal(Record):
    """Says that a claim of withdrawn funds is final on chain, or that an owner took what `exit_account_id` had there.

    The engine takes each index once, in order, from 1.
    """

    __match_args__ = ("claim_index", "address", "asset", "amount", "transaction_hash", "exit_account_id")
    __slots__ = __match_args__

    def __init__(
        self,
        claim_index: int,
        address: str,
        asset: str,
        amount: int,
        transaction_hash: str = "",
        exit_account_id: int = 0,
    ) -> None:
        self.claim_index = claim_index
        self.address = address
        self.asset = asset
        self.amount = amount
        self.transaction_hash = transaction_hash
        self.exit_account_id = exit_account_id


@final
class ExitRequestFinal(Record):
    """Says that an owner's request to leave by the contract is final on chain, or that it was taken back.

    The engine takes each index once, in order, from 1.
    """

    __match_args__ = ("exit_index", "account_id", "canceled", "transaction_hash")
    __slots__ = __match_args__

    def __init__(
        self,
        exit_index: int,
        account_id: int,
        canceled: bool = False,
        transaction_hash: str = "",
    ) -> None:
        self.exit_index = exit_index
        self.account_id = account_id
        self.canceled = canceled
        self.transaction_hash = transaction_hash


@final
class NoteDebt(Record):
    """Says what has become of a debt: of what an account lacked for a leg that the chain refused.

    The engine takes each index once, in order, from 1. A debt's id is the index of its first note.
    """

    __match_args__ = (
        "note_index",
        "debt_id",
        "state",
        "account_id",
        "asset",
        "amount",
        "reason",
        "settlement_sequence",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        note_index: int,
        debt_id: int,
        state: int,
        account_id: int,
        asset: str,
        amount: int,
        reason: str = "",
        settlement_sequence: int = 0,
    ) -> None:
        self.note_index = note_index
        self.debt_id = debt_id
        self.state = state
        self.account_id = account_id
        self.asset = asset
        self.amount = amount
        self.reason = reason
        self.settlement_sequence = settlement_sequence


@final
class DepositFinal(Record):
    """Says that a deposit is final on chain. The engine takes each index once, in order, from 1."""

    __match_args__ = ("deposit_index", "account_id", "asset", "amount", "transaction_hash")
    __slots__ = __match_args__

    def __init__(
        self,
        deposit_index: int,
        account_id: int,
        asset: str,
        amount: int,
        transaction_hash: str = "",
    ) -> None:
        self.deposit_index = deposit_index
        self.account_id = account_id
        self.asset = asset
        self.amount = amount
        self.transaction_hash = transaction_hash


@final
class SettlementFinal(Record):
    """Says that settlement is final on chain through an entry. The engine takes only numbers that advance."""

    __match_args__ = ("through_settlement_sequence",)
    __slots__ = __match_args__

    def __init__(
        self,
        through_settlement_sequence: int,
    ) -> None:
        self.through_settlement_sequence = through_settlement_sequence


@final
class CreateAsset(Record):
    """Asks for an asset; its asset_id is ignored."""

    __match_args__ = ("asset",)
    __slots__ = __match_args__

    def __init__(
        self,
        asset: Asset,
    ) -> None:
        self.asset = asset


@final
class CreateMarket(Record):
    """Asks for a market; its market_id is ignored, and it begins open unless its state says halted."""

    __match_args__ = ("market",)
    __slots__ = __match_args__

    def __init__(
        self,
        market: Market,
    ) -> None:
        self.market = market


@final
class ChangeMarket(Record):
    """Asks that a market have another state (0: as it is) or other rules (None: as they are)."""

    __match_args__ = ("market_id", "state", "rules", "reason")
    __slots__ = __match_args__

    def __init__(
        self,
        market_id: int,
        state: int,
        rules: MarketRules | None = None,
        reason: str = "",
    ) -> None:
        self.market_id = market_id
        self.state = state
        self.rules = rules
        self.reason = reason


@final
class SetReferencePrice(Record):
    """Asks that a market's reference price be what the price was elsewhere when it was seen there."""

    __match_args__ = ("market_id", "price_ticks", "source", "observed_ns")
    __slots__ = __match_args__

    def __init__(
        self,
        market_id: int,
        price_ticks: int,
        source: str,
        observed_ns: int,
    ) -> None:
        self.market_id = market_id
        self.price_ticks = price_ticks
        self.source = source
        self.observed_ns = observed_ns


@final
class LeaderStarted(Record):
    """The book's own: a process takes the lead, deciding by the rules of an EDITION. As a command and as its event."""

    __match_args__ = ("epoch", "incarnation", "edition")
    __slots__ = __match_args__

    def __init__(
        self,
        epoch: int,
        incarnation: str,
        edition: int = EDITION,
    ) -> None:
        self.epoch = epoch
        self.incarnation = incarnation
        self.edition = edition


@final
class AdvanceTime(Record):
    """The book's own: the clock."""

    __match_args__ = ()
    __slots__ = __match_args__


@final
class OpenSession(Record):
    """The book's own: a gateway's session begins."""

    __match_args__ = ("gateway",)
    __slots__ = __match_args__

    def __init__(
        self,
        gateway: int,
    ) -> None:
        self.gateway = gateway


CommandBody = (
    PlaceOrder
    | CancelOrder
    | ReplaceOrder
    | PlaceGroup
    | CancelOrders
    | CancelAfter
    | SetTradingDefaults
    | OpenAccount
    | Transfer
    | DepositFinal
    | SettlementFinal
    | CreateAsset
    | CreateMarket
    | ChangeMarket
    | SetReferencePrice
    | RequestWithdrawal
    | ApproveWithdrawal
    | CancelWithdrawal
    | ReleaseWithdrawal
    | SetWithdrawalRules
    | ChangeAllowList
    | ClaimFinal
    | ExitRequestFinal
    | NoteDebt
    | LeaderStarted
    | AdvanceTime
    | OpenSession
)
"""What a command may ask."""


def numbers_of(body: CommandBody) -> int:
    """How many numbers of its session a command takes."""
    return len(body.exits) + (body.entry is not None) if isinstance(body, PlaceGroup) else 1


@final
@mypyc_attr(acyclic=True)
class Command(Record):
    """One thing asked of the engine: command_id is gateway << 56 | epoch << 36 | number, 0 for the book's own."""

    __match_args__ = ("command_id", "body")
    __slots__ = __match_args__

    def __init__(
        self,
        command_id: int,
        body: CommandBody,
    ) -> None:
        self.command_id = command_id
        self.body = body


@final
@mypyc_attr(acyclic=True)
class Order(Record):
    """An order as the engine sees it after an event: what it asks, and what has become of that.

    `place` is the command's own object, or what the order was changed into: an event copies nothing.
    """

    __match_args__ = ("order_id", "place", "filled_lots", "state", "cancel_cause", "lock_remaining")
    __slots__ = __match_args__

    def __init__(
        self,
        order_id: int,
        place: PlaceOrder,
        filled_lots: int,
        state: int,
        cancel_cause: int,
        lock_remaining: int,
    ) -> None:
        self.order_id = order_id
        self.place = place
        self.filled_lots = filled_lots
        self.state = state
        self.cancel_cause = cancel_cause
        self.lock_remaining = lock_remaining


@final
@mypyc_attr(acyclic=True)
class Trade(Record):
    """Two orders met. The taker is the order of the event."""

    __match_args__ = (
        "trade_id",
        "settlement_sequence",
        "price_ticks",
        "quantity_lots",
        "base_amount",
        "quote_amount",
        "maker_order_id",
        "maker_account_id",
        "maker_fee",
        "taker_fee",
        "maker_remaining_lots",
        "maker_lock_remaining",
        "maker_signed",
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
        maker_lock_remaining: int,
        maker_signed: str = "",
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
        self.maker_lock_remaining = maker_lock_remaining
        self.maker_signed = maker_signed


@final
@mypyc_attr(acyclic=True)
class OrderPlaced(Record):
    """An order was taken: the order after all of its trades, and the trades as they happened."""

    __match_args__ = ("order", "trades")
    __slots__ = __match_args__

    def __init__(
        self,
        order: Order,
        trades: list[Trade],
    ) -> None:
        self.order = order
        self.trades = trades


@final
@mypyc_attr(acyclic=True)
class OrderCanceled(Record):
    """An order was canceled on request: the order after it ended."""

    __match_args__ = ("order",)
    __slots__ = __match_args__

    def __init__(
        self,
        order: Order,
    ) -> None:
        self.order = order


@final
class Refused(Record):
    """A command was refused and changed nothing: a name of services/errors.py, and the command."""

    __match_args__ = ("reason", "command")
    __slots__ = __match_args__

    def __init__(
        self,
        reason: str,
        command: Command,
    ) -> None:
        self.reason = reason
        self.command = command


@final
class OrderChanged(Record):
    """One step of what a command did: an order after it, and the trades in which it was the taker."""

    __match_args__ = ("order", "trades")
    __slots__ = __match_args__

    def __init__(
        self,
        order: Order,
        trades: list[Trade],
    ) -> None:
        self.order = order
        self.trades = trades


@final
class LevelChanged(Record):
    """What is shown at a price after the command; 0 lots: nothing."""

    __match_args__ = ("side", "price_ticks", "lots")
    __slots__ = __match_args__

    def __init__(
        self,
        side: int,
        price_ticks: int,
        lots: int,
    ) -> None:
        self.side = side
        self.price_ticks = price_ticks
        self.lots = lots


@final
class BookChanged(Record):
    """What a command changed in one book: every level that it touched."""

    __match_args__ = ("market_id", "market_sequence", "levels")
    __slots__ = __match_args__

    def __init__(
        self,
        market_id: int,
        market_sequence: int,
        levels: list[LevelChanged],
    ) -> None:
        self.market_id = market_id
        self.market_sequence = market_sequence
        self.levels = levels


@final
class OrdersChanged(Record):
    """A command did more to orders than one of the plain events can say: its steps in order, then the books.

    `refused` is set if the command itself was refused; the steps are then what was due before it. `more` says that a
    CancelOrders found more than one command cancels; `market` is what a ChangeMarket made of it.
    """

    __match_args__ = ("steps", "books", "refused", "more", "market")
    __slots__ = __match_args__

    def __init__(
        self,
        steps: list[OrderChanged],
        books: list[BookChanged],
        refused: Refused | None = None,
        more: bool = False,
        market: Market | None = None,
    ) -> None:
        self.steps = steps
        self.books = books
        self.refused = refused
        self.more = more
        self.market = market


@final
class AccountOpened(Record):
    """An account exists."""

    __match_args__ = ("account_id", "name")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        name: str,
    ) -> None:
        self.account_id = account_id
        self.name = name


@final
class Transferred(Record):
    """Funds moved."""

    __match_args__ = ("transfer", "settlement_sequence")
    __slots__ = __match_args__

    def __init__(
        self,
        transfer: Transfer,
        settlement_sequence: int,
    ) -> None:
        self.transfer = transfer
        self.settlement_sequence = settlement_sequence


@final
class Withdrawal(Record):
    """A withdrawal as it was asked for; its id is the command id.

    `release_ns`: it is approved, and may go to the chain from then on; 0: an operator has to approve it.
    """

    __match_args__ = ("withdrawal_id", "request", "release_ns")
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal_id: int,
        request: RequestWithdrawal,
        release_ns: int = 0,
    ) -> None:
        self.withdrawal_id = withdrawal_id
        self.request = request
        self.release_ns = release_ns


@final
class WithdrawalRequested(Record):
    """The amount is set aside."""

    __match_args__ = ("withdrawal",)
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal: Withdrawal,
    ) -> None:
        self.withdrawal = withdrawal


@final
class WithdrawalCleared(Record):
    """An operator has approved it: its cooling-off begins."""

    __match_args__ = ("withdrawal",)
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal: Withdrawal,
    ) -> None:
        self.withdrawal = withdrawal


@final
class WithdrawalRulesSet(Record):
    """What withdrawals of an asset keep to from now on."""

    __match_args__ = ("asset_id", "rules")
    __slots__ = __match_args__

    def __init__(
        self,
        asset_id: int,
        rules: WithdrawalRules,
    ) -> None:
        self.asset_id = asset_id
        self.rules = rules


@final
class AllowListChanged(Record):
    """An account's list of addresses as it is from now on."""

    __match_args__ = ("account_id", "allowed")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        allowed: AllowList,
    ) -> None:
        self.account_id = account_id
        self.allowed = allowed


@final
class WithdrawalApproved(Record):
    """The account is debited; the chain makes the amount claimable."""

    __match_args__ = ("withdrawal", "settlement_sequence")
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal: Withdrawal,
        settlement_sequence: int,
    ) -> None:
        self.withdrawal = withdrawal
        self.settlement_sequence = settlement_sequence


@final
class WithdrawalCanceled(Record):
    """The amount is free again."""

    __match_args__ = ("withdrawal", "reason")
    __slots__ = __match_args__

    def __init__(
        self,
        withdrawal: Withdrawal,
        reason: str,
    ) -> None:
        self.withdrawal = withdrawal
        self.reason = reason


@final
class ExitRequested(Record):
    """An account is frozen until its owner has left by the contract, or takes the request back."""

    __match_args__ = ("request",)
    __slots__ = __match_args__

    def __init__(
        self,
        request: ExitRequestFinal,
    ) -> None:
        self.request = request


@final
class DebtNoted(Record):
    """What has become of a debt; what insurance has paid is the account's."""

    __match_args__ = ("note", "asset_id")
    __slots__ = __match_args__

    def __init__(
        self,
        note: NoteDebt,
        asset_id: int,
    ) -> None:
        self.note = note
        self.asset_id = asset_id


@final
class Claimed(Record):
    """Withdrawn funds, or what an account had that leaves, have left the contract."""

    __match_args__ = ("claim", "asset_id")
    __slots__ = __match_args__

    def __init__(
        self,
        claim: ClaimFinal,
        asset_id: int,
    ) -> None:
        self.claim = claim
        self.asset_id = asset_id


@final
class Deposited(Record):
    """Funds came in: for another account than the deposit's if there is none such, with the entry that moves them."""

    __match_args__ = ("deposit", "asset_id", "credited_account_id", "settlement_sequence")
    __slots__ = __match_args__

    def __init__(
        self,
        deposit: DepositFinal,
        asset_id: int,
        credited_account_id: int = 0,
        settlement_sequence: int = 0,
    ) -> None:
        self.deposit = deposit
        self.asset_id = asset_id
        self.credited_account_id = credited_account_id
        self.settlement_sequence = settlement_sequence


@final
class SettlementFinalized(Record):
    """Settlement is final through an entry."""

    __match_args__ = ("through_settlement_sequence",)
    __slots__ = __match_args__

    def __init__(
        self,
        through_settlement_sequence: int,
    ) -> None:
        self.through_settlement_sequence = through_settlement_sequence


@final
class AssetCreated(Record):
    """An asset exists."""

    __match_args__ = ("asset", "settlement_sequence")
    __slots__ = __match_args__

    def __init__(
        self,
        asset: Asset,
        settlement_sequence: int,
    ) -> None:
        self.asset = asset
        self.settlement_sequence = settlement_sequence


@final
class MarketCreated(Record):
    """A market exists."""

    __match_args__ = ("market",)
    __slots__ = __match_args__

    def __init__(
        self,
        market: Market,
    ) -> None:
        self.market = market


@final
class MarketChanged(Record):
    """A market changed: the market as it is now."""

    __match_args__ = ("market",)
    __slots__ = __match_args__

    def __init__(
        self,
        market: Market,
    ) -> None:
        self.market = market


@final
class SessionOpened(Record):
    """A session began."""

    __match_args__ = ("gateway", "epoch")
    __slots__ = __match_args__

    def __init__(
        self,
        gateway: int,
        epoch: int,
    ) -> None:
        self.gateway = gateway
        self.epoch = epoch


@final
class CancelAfterSet(Record):
    """The account's open orders, of one market or (0) of all, are canceled then; 0: they are not."""

    __match_args__ = ("account_id", "market_id", "deadline_ns")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        market_id: int,
        deadline_ns: int,
    ) -> None:
        self.account_id = account_id
        self.market_id = market_id
        self.deadline_ns = deadline_ns


@final
class TradingDefaultsSet(Record):
    """What the account's orders do where they do not say themselves. Gateways stamp it on them, like fee rates."""

    __match_args__ = ("account_id", "self_trade")
    __slots__ = __match_args__

    def __init__(
        self,
        account_id: int,
        self_trade: int,
    ) -> None:
        self.account_id = account_id
        self.self_trade = self_trade


@final
class ReferencePriceSet(Record):
    """What a market's price is elsewhere, and when it was seen there: never later than the event."""

    __match_args__ = ("market_id", "price_ticks", "source", "observed_ns")
    __slots__ = __match_args__

    def __init__(
        self,
        market_id: int,
        price_ticks: int,
        source: str,
        observed_ns: int,
    ) -> None:
        self.market_id = market_id
        self.price_ticks = price_ticks
        self.source = source
        self.observed_ns = observed_ns


@final
class TimeAdvanced(Record):
    """The clock moved."""

    __match_args__ = ()
    __slots__ = __match_args__


EventBody = (
    OrderPlaced
    | OrderCanceled
    | OrdersChanged
    | Refused
    | AccountOpened
    | Transferred
    | Deposited
    | SettlementFinalized
    | AssetCreated
    | MarketCreated
    | MarketChanged
    | WithdrawalRequested
    | WithdrawalApproved
    | WithdrawalCanceled
    | WithdrawalCleared
    | WithdrawalRulesSet
    | AllowListChanged
    | Claimed
    | ExitRequested
    | DebtNoted
    | LeaderStarted
    | TimeAdvanced
    | SessionOpened
    | CancelAfterSet
    | TradingDefaultsSet
    | ReferencePriceSet
)
"""What may have happened."""


@final
@mypyc_attr(acyclic=True)
class Event(Record):
    """The one outcome of one command. market_sequence is 0 if no book changed."""

    __match_args__ = ("journal_sequence", "command_id", "market_sequence", "body")
    __slots__ = __match_args__

    def __init__(
        self,
        journal_sequence: int,
        command_id: int,
        market_sequence: int,
        body: EventBody,
    ) -> None:
        self.journal_sequence = journal_sequence
        self.command_id = command_id
        self.market_sequence = market_sequence
        self.body = body


globals().update(
    in_place_of(
        *(PlaceOrder, CancelOrder, ReplaceOrder, Command, Order, Trade, OrderPlaced, OrderCanceled),
        *(OrderChanged, LevelChanged, BookChanged, OrdersChanged, Event),
    )
)
