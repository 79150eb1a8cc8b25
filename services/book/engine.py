"""The engine of one shard: each command becomes one event. Pure, synchronous, deterministic.

The same commands with the same times give the same events, on any machine, interpreted or compiled. What it refuses is
an event too; what must never happen is an assertion. It knows nothing of balances: the gateway holds funds before it
submits, and the events say what is set aside from then on.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Final, final

from services import allow_list, withdrawal_rules
from services.allow_list import ADDRESSES_MAX, AllowList, AllowListChange
from services.book.desk import (
    books_changed,
    change_market,
    do_due,
    end_expired,
    is_due,
    place_group,
    place_order,
    replace,
    settle,
)
from services.book.matching import Book, is_trailing
from services.book.model import (
    CANCEL_CAUSE_CANCEL_AFTER,
    CANCEL_CAUSE_USER,
    DEBT_STATE_FROZEN,
    DEBT_STATE_RESOLVED,
    EDITION,
    MARKET_STATE_CLOSED,
    MARKET_STATE_OPEN,
    MARKET_STATE_UNSPECIFIED,
    ORDER_STATE_CANCELED,
    ORDER_STATE_OPEN,
    SELF_TRADE_ALLOW,
    SELF_TRADE_CANCEL_NEWEST,
    SIDE_BUY,
    SIDE_SELL,
    SIDE_UNSPECIFIED,
    TIME_IN_FORCE_GTC,
    AccountOpened,
    AdvanceTime,
    AllowListChanged,
    ApproveWithdrawal,
    Asset,
    AssetCreated,
    CancelAfter,
    CancelAfterSet,
    CancelOrder,
    CancelOrders,
    CancelWithdrawal,
    ChangeAllowList,
    ChangeMarket,
    Claimed,
    ClaimFinal,
    Command,
    CreateAsset,
    CreateMarket,
    DebtNoted,
    Deposited,
    DepositFinal,
    Event,
    EventBody,
    ExitRequested,
    ExitRequestFinal,
    LeaderStarted,
    Market,
    MarketChanged,
    MarketCreated,
    NoteDebt,
    OpenAccount,
    OpenSession,
    Order,
    OrderCanceled,
    OrderPlaced,
    OrdersChanged,
    PlaceGroup,
    PlaceOrder,
    ReferencePriceSet,
    Refused,
    ReleaseWithdrawal,
    ReplaceOrder,
    RequestWithdrawal,
    SessionOpened,
    SetReferencePrice,
    SettlementFinal,
    SettlementFinalized,
    SetTradingDefaults,
    SetWithdrawalRules,
    TimeAdvanced,
    Trade,
    TradingDefaultsSet,
    Transfer,
    Transferred,
    Withdrawal,
    WithdrawalApproved,
    WithdrawalCanceled,
    WithdrawalCleared,
    WithdrawalRequested,
    WithdrawalRulesSet,
    numbers_of,
)
from services.book.owners import Owners
from services.book.rules import (
    ACCOUNT_FROZEN,
    ACCOUNT_NOT_FOUND,
    ALREADY_EXISTS,
    AMOUNT_MAX,
    ASSET_NOT_FOUND,
    GROUP_EXITS_MAX,
    INVALID_FIELD,
    INVALID_GROUP,
    MARKET_CLOSED,
    MARKET_NOT_FOUND,
    NAME_CHARACTERS_MAX,
    ORDER_NOT_FOUND,
    OUT_OF_SEQUENCE,
    REASON_CHARACTERS_MAX,
    TOO_MANY_ADDRESSES,
    WITHDRAWAL_NOT_FOUND,
    allow_list_objection,
    asset_objection,
    group_objection,
    is_address,
    is_market_state,
    market_objection,
    order_objection,
    reference_objection,
    rules_fit,
    terms_objection,
    transfer_objection,
    withdrawal_objection,
)
from services.book.side import Resting
from services.book.snapshot import (
    book_state,
    market_of_state,
    of_today,
    restore_book,
    withdrawal_of_state,
    withdrawal_state,
)
from services.book.switches import CANCEL_AFTER_SECONDS_MAX, NS_PER_SECOND, Switches
from services.book.turn import TURN_STEPS_MAX, Turn
from services.book.withdrawn import Withdrawn
from services.command_ids import GATEWAYS_MAX, SESSION_COMMANDS_MAX, SESSION_EPOCHS_MAX, command_id_of, gateway_of
from services.errors import Rejected
from services.records import replaced
from services.units import (
    ADJUSTMENTS_ACCOUNT,
    FAUCET_ACCOUNT,
    FEES_ACCOUNT,
    FIRST_USER_ACCOUNT,
    INSURANCE_ACCOUNT,
    OUTSIDE_ACCOUNT,
    market_of,
)
from services.units import Asset as AssetUnits
from services.withdrawal_rules import WithdrawalRules

SNAPSHOT_FORMAT: Final = 9
"""Version of `Engine.snapshot`: raise it with any change of the state's shape, and teach `of_today` the old one."""
SNAPSHOT_FORMATS_READ: Final = (1, 2, 3, 4, 5, 6, 7, 8, SNAPSHOT_FORMAT)
"""Those that `Engine.restore` takes."""


@final
class Session:
    """A gateway's session: its epoch, the id that its next command must have, and the last that one can have."""

    __slots__ = ("epoch", "last_id", "next_id")

    def __init__(self, gateway: int, epoch: int, last_number: int) -> None:
        self.epoch: Final = epoch
        self.next_id = command_id_of(gateway, epoch, last_number) + 1  # past the last: no number, but never spoken
        self.last_id: Final = command_id_of(gateway, epoch, SESSION_COMMANDS_MAX)

    @property
    def last_number(self) -> int:
        """The number of its last command, 0 before the first."""
        return SESSION_COMMANDS_MAX - (self.last_id - self.next_id) - 1


@final
class Engine:
    """The state of one shard, and the only way to change it: `apply`."""

    __slots__ = (
        "_speaker",
        "accounts",
        "allow_lists",
        "assets",
        "books",
        "claims_through",
        "debts",
        "deposits_through",
        "edition",
        "epoch",
        "exited",
        "exits_through",
        "final_through",
        "incarnation",
        "journal_sequence",
        "leaving",
        "next_account_id",
        "notes_through",
        "orders",
        "owners",
        "sessions",
        "settlement_sequence",
        "shard",
        "switches",
        "time_ns",
        "withdrawal_rules",
        "withdrawals",
        "withdrawn",
    )

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard
        self.time_ns = 0
        self.epoch = 0
        self.edition = 0
        self.incarnation = ""
        self.journal_sequence = 0
        self.settlement_sequence = 0
        self.final_through = 0
        self.deposits_through = 0
        self.claims_through = 0
        self.exits_through = 0
        self.leaving: set[int] = set()
        """Accounts whose owners leave, or have left, by the contract: nothing new begins in them."""
        self.exited: set[tuple[int, int]] = set()
        """(account_id, asset_id) of which the owner has taken all that was on chain."""
        self.notes_through = 0
        self.debts: dict[int, tuple[int, int, int, int]] = {}
        """Those that are not resolved, by id: account_id, asset_id, amount, state."""
        self.next_account_id = FIRST_USER_ACCOUNT
        self.accounts: dict[str, int] = {
            "fees": FEES_ACCOUNT,
            "faucet": FAUCET_ACCOUNT,
            "insurance": INSURANCE_ACCOUNT,
            "outside": OUTSIDE_ACCOUNT,
            "adjustments": ADJUSTMENTS_ACCOUNT,
        }
        self.assets: dict[int, Asset] = {}
        self.books: dict[int, Book] = {}
        self.sessions: dict[int, Session] = {}
        self._speaker: Session | None = None
        self.orders: dict[int, Resting] = {}
        self.owners: Final = Owners()
        self.switches: Final = Switches()
        self.withdrawals: dict[int, Withdrawal] = {}
        self.withdrawal_rules: dict[int, WithdrawalRules] = {}
        """Of the assets that have some."""
        self.withdrawn: Final = Withdrawn()
        self.allow_lists: dict[int, AllowList] = {}

    def apply(self, command: Command, time_ns: int) -> Event:
        """Takes one command and gives its one event.

        Raises AssertionError, and changes nothing, for what the book must not let through: time that runs back, a
        command that is not its session's next, a leader out of turn.
        """
        assert time_ns >= self.time_ns, f"time runs back from {self.time_ns} to {time_ns}"
        body = command.body
        command_id = command.command_id
        session = self._speaker
        if isinstance(body, PlaceOrder):
            if session is None or command_id != session.next_id or command_id > session.last_id:
                session = self._speaks(command_id)
            session.next_id = command_id + 1
            self.time_ns = time_ns
            self.journal_sequence += 1
            return self._place(command, body)
        if isinstance(body, CancelOrder):
            if session is None or command_id != session.next_id or command_id > session.last_id:
                session = self._speaks(command_id)
            session.next_id = command_id + 1
            self.time_ns = time_ns
            self.journal_sequence += 1
            return self._cancel(command, body)
        if command_id != 0:
            assert not isinstance(body, (LeaderStarted, AdvanceTime, OpenSession)), "only the book itself asks this"
            self._speaks(command_id, numbers_of(body)).next_id += numbers_of(body)
        elif isinstance(body, LeaderStarted):
            self._lead(body)
        else:
            assert not isinstance(body, (RequestWithdrawal, PlaceGroup)), "what needs an id has none"
        self.time_ns = time_ns
        self.journal_sequence += 1
        return self._administer(command)

    def is_due(self, time_ns: int) -> bool:
        """Whether an AdvanceTime at that time would do more than tell the time."""
        return self.switches.is_due(time_ns) or any(is_due(book, time_ns) for book in self.books.values())

    def locks(self) -> dict[tuple[int, int], int]:
        """What open orders and withdrawals that wait set aside, by (account_id, asset_id)."""
        locks: dict[tuple[int, int], int] = {}
        for resting in self.orders.values():
            place = resting.place
            book = self.books[place.market_id]
            market = book.market
            key = (place.account_id, market.quote_asset_id if place.side == SIDE_BUY else market.base_asset_id)
            locks[key] = locks.get(key, 0) + book.lock_of(resting)
        for withdrawal in self.withdrawals.values():
            asked = withdrawal.request
            key = (asked.account_id, asked.asset_id)
            locks[key] = locks.get(key, 0) + asked.amount
        return locks

    def open_orders(self, market_id: int) -> Iterator[Order]:
        """The resting orders of a market as they are now: bids, then asks, each best first, oldest first."""
        return self.books[market_id].open_orders()

    def snapshot(self) -> bytes:
        """The whole state as canonical JSON: equal states give equal bytes."""
        state = {
            "format": SNAPSHOT_FORMAT,
            "shard": self.shard,
            "time_ns": self.time_ns,
            "epoch": self.epoch,
            "edition": self.edition,
            "incarnation": self.incarnation,
            "journal_sequence": self.journal_sequence,
            "settlement_sequence": self.settlement_sequence,
            "final_through": self.final_through,
            "deposits_through": self.deposits_through,
            "claims_through": self.claims_through,
            "exits_through": self.exits_through,
            "leaving": sorted(self.leaving),
            "exited": sorted(self.exited),
            "notes_through": self.notes_through,
            "debts": sorted((debt_id, *debt) for debt_id, debt in self.debts.items()),
            "accounts": sorted((account_id, name) for name, account_id in self.accounts.items()),
            "sessions": sorted(
                (gateway, session.epoch, session.last_number) for gateway, session in self.sessions.items()
            ),
            "assets": [(asset.asset_id, asset.symbol, asset.decimals) for asset in self.assets.values()],
            "books": [book_state(book) for book in self.books.values()],
            "switches": sorted(
                (account_id, market_id, deadline_ns)
                for (account_id, market_id), deadline_ns in self.switches.deadlines.items()
            ),
            "left": self.switches.left,
            "withdrawals": [withdrawal_state(withdrawal) for withdrawal in self.withdrawals.values()],
            "withdrawal_rules": sorted(
                (asset_id, withdrawal_rules.stored(rules)) for asset_id, rules in self.withdrawal_rules.items()
            ),
            "withdrawn": self.withdrawn.rows(self.time_ns),
            "allow_lists": sorted(
                (account_id, allow_list.stored(allowed)) for account_id, allowed in self.allow_lists.items()
            ),
        }
        return json.dumps(state, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def restore(cls, data: bytes) -> "Engine":
        """The engine whose snapshot this is, of this format or an older one. Raises ValueError if it is none."""
        state = of_today(json.loads(data))
        if state.get("format") != SNAPSHOT_FORMAT:
            raise ValueError(f"not a snapshot of format {SNAPSHOT_FORMAT}")
        engine = cls(state["shard"])
        engine.time_ns = state["time_ns"]
        engine.epoch = state["epoch"]
        engine.edition = state["edition"]
        engine.incarnation = state["incarnation"]
        engine.journal_sequence = state["journal_sequence"]
        engine.settlement_sequence = state["settlement_sequence"]
        engine.final_through = state["final_through"]
        engine.deposits_through = state["deposits_through"]
        engine.claims_through = state["claims_through"]
        engine.exits_through = state["exits_through"]
        engine.leaving = set(state["leaving"])
        engine.exited = {(account_id, asset_id) for account_id, asset_id in state["exited"]}
        engine.notes_through = state["notes_through"]
        engine.debts = {row[0]: (row[1], row[2], row[3], row[4]) for row in state["debts"]}
        engine.accounts = {name: account_id for account_id, name in state["accounts"]}
        engine.next_account_id = max(FIRST_USER_ACCOUNT, max(engine.accounts.values()) + 1)
        engine.sessions = {gateway: Session(gateway, epoch, last) for gateway, epoch, last in state["sessions"]}
        engine.assets = {asset_id: Asset(asset_id, symbol, decimals) for asset_id, symbol, decimals in state["assets"]}
        for saved in state["books"]:
            restore_book(engine._add_book(market_of_state(saved)), saved)
        for account_id, market_id, deadline_ns in state["switches"]:
            engine.switches.arm(account_id, market_id, deadline_ns)
        engine.switches.left += state["left"]
        for row in state["withdrawals"]:
            withdrawal = withdrawal_of_state(row)
            engine.withdrawals[withdrawal.withdrawal_id] = withdrawal
        for asset_id, rules in state["withdrawal_rules"]:
            engine.withdrawal_rules[asset_id] = withdrawal_rules.of_stored(rules)
        for asked in state["withdrawn"]:
            engine.withdrawn.add(*asked)
        for account_id, allowed in state["allow_lists"]:
            engine.allow_lists[account_id] = allow_list.of_stored(allowed)
        return engine

    def digest(self) -> str:
        """SHA-256 of the snapshot: equal states, equal digests."""
        return hashlib.sha256(self.snapshot()).hexdigest()

    def validate(self) -> None:
        """Checks the state against itself. Raises AssertionError naming what is broken. Reads everything: for tests."""
        assert 0 <= self.final_through <= self.settlement_sequence, "more is final than there is"
        fixed = range(FEES_ACCOUNT, ADJUSTMENTS_ACCOUNT + 1)
        users = range(FIRST_USER_ACCOUNT, self.next_account_id)
        assert sorted(self.accounts.values()) == [*fixed, *users], "an account number is missing"
        seen = 0
        for market_id, book in self.books.items():
            assert book.market.market_id == market_id, f"market {market_id} is misfiled"
            seen += book.validate()
        assert seen == len(self.orders), f"{len(self.orders)} orders in the index, {seen} in the books"
        for order_id, resting in self.orders.items():
            assert order_id == resting.order_id, f"order {order_id} is misfiled"
            assert self._known(resting.place.account_id), f"order {order_id} is nobody's"
            assert resting.arrival <= self.journal_sequence, f"order {order_id} is from the future"
        for account_id, market_id in self.switches.deadlines:
            assert self._known(account_id), f"a switch of account {account_id}, which is nobody's"
            assert market_id == 0 or market_id in self.books, f"a switch in market {market_id}, which is none"
        for withdrawal_id, withdrawal in self.withdrawals.items():
            assert withdrawal_id == withdrawal.withdrawal_id > 0, f"withdrawal {withdrawal_id} is misfiled"
            assert withdrawal.request.amount > 0, f"withdrawal {withdrawal_id} is of nothing"
            assert self._known(withdrawal.request.account_id), f"withdrawal {withdrawal_id} is nobody's"

    # One command, one event.

    def _speaks(self, command_id: int, numbers: int = 1) -> Session:
        """The session whose command this is. Most come from the one that spoke last."""
        session = self._speaker
        if session is None or command_id != session.next_id:
            gateway = gateway_of(command_id)
            session = self.sessions.get(gateway)
            assert session is not None, f"command {command_id} of a gateway without a session"
            assert command_id == session.next_id, f"command {command_id} where {session.next_id} is due"
            self._speaker = session
        assert command_id + numbers - 1 <= session.last_id, "the session has no numbers left"
        return session

    def _event(self, command: Command, body: EventBody, market_sequence: int = 0) -> Event:
        return Event(self.journal_sequence, command.command_id, market_sequence, body)

    def _refuse(self, command: Command, reason: str) -> Event:
        return Event(self.journal_sequence, command.command_id, 0, Refused(reason, command))

    def _known(self, account_id: int) -> bool:
        if account_id >= FIRST_USER_ACCOUNT:
            return account_id < self.next_account_id
        return FEES_ACCOUNT <= account_id <= ADJUSTMENTS_ACCOUNT

    # Orders.

    def _place(self, command: Command, place: PlaceOrder) -> Event:
        if not FIRST_USER_ACCOUNT <= place.account_id < self.next_account_id and not self._known(place.account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        if self.leaving and place.account_id in self.leaving:
            return self._refuse(command, ACCOUNT_FROZEN)
        book = self.books.get(place.market_id)
        if book is None:
            return self._refuse(command, MARKET_NOT_FOUND)
        if place.terms is not None or (book.cold and not book.is_quiet(self.time_ns)):
            return self._place_special(command, place, book)
        objection = order_objection(place, book, self.time_ns)
        if objection:
            return self._refuse(command, objection)
        trades: list[Trade] = []
        if place.time_in_force == TIME_IN_FORCE_GTC:
            rested = book.rest_whole(command.command_id, place, self.journal_sequence)
            if rested is not None:  # as most orders do
                return Event(
                    self.journal_sequence, command.command_id, book.market_sequence, OrderPlaced(rested, trades)
                )
        if book.cold:
            return self._place_special(command, place, book)
        remaining, cause = book.trade(
            place, place.quantity_lots, self.settlement_sequence + 1, trades, None, self.time_ns
        )
        self.settlement_sequence += len(trades)
        order = book.placed(command.command_id, place, remaining, cause)
        market_sequence = 0
        if order.state == ORDER_STATE_OPEN:
            book.rest(order.order_id, place, remaining, self.journal_sequence)
            market_sequence = book.changed()
        elif trades:
            market_sequence = book.changed()
        return self._event(command, OrderPlaced(order, trades), market_sequence)

    def _place_special(self, command: Command, place: PlaceOrder, book: Book) -> Event:
        turn = self._turn()
        do_due(book, turn)
        objection = order_objection(place, book, self.time_ns) or terms_objection(place, book, self.time_ns)
        if not objection:
            place_order(book, turn, command.command_id, place)
        settle(book, turn)
        return self._conclude(command, turn, objection)

    def _cancel(self, command: Command, cancel: CancelOrder) -> Event:
        resting = self.orders.get(cancel.order_id)
        if resting is None or resting.place.account_id != cancel.account_id:
            return self._refuse(command, ORDER_NOT_FOUND)
        book = self.books[resting.place.market_id]
        if book.cold and not (book.is_plain(resting) and book.is_quiet(self.time_ns)):
            return self._cancel_special(command, cancel, book)
        place = resting.place
        filled_lots = place.quantity_lots - resting.remaining_lots
        cause = cancel.cause or CANCEL_CAUSE_USER
        order = Order(resting.order_id, place, filled_lots, ORDER_STATE_CANCELED, cause, 0)
        book.withdraw(resting)
        return Event(self.journal_sequence, command.command_id, book.changed(), OrderCanceled(order))

    def _cancel_special(self, command: Command, cancel: CancelOrder, book: Book) -> Event:
        turn = self._turn()
        do_due(book, turn)
        resting = self.orders.get(cancel.order_id)
        if resting is None:
            return self._conclude(command, turn, ORDER_NOT_FOUND)
        book.end(resting, cancel.cause or CANCEL_CAUSE_USER, turn)
        settle(book, turn)
        return self._conclude(command, turn)

    def _place_group(self, command: Command, asked: PlaceGroup) -> Event:
        orders = asked.orders()
        if not 0 < len(asked.exits) <= GROUP_EXITS_MAX or len(orders) == 1:
            return self._refuse(command, INVALID_GROUP)
        if not self._known(orders[0].account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        if orders[0].account_id in self.leaving:
            return self._refuse(command, ACCOUNT_FROZEN)
        book = self.books.get(orders[0].market_id)
        if book is None:
            return self._refuse(command, MARKET_NOT_FOUND)
        turn = self._turn()
        do_due(book, turn)
        objection, trailing = group_objection(asked), 0
        for place in orders:
            objection = objection or order_objection(place, book, self.time_ns)
            objection = objection or terms_objection(place, book, self.time_ns, trailing)
            trailing += is_trailing(place)
        if not objection:
            place_group(book, turn, command.command_id, asked)
        settle(book, turn)
        return self._conclude(command, turn, objection)

    def _replace(self, command: Command, asked: ReplaceOrder) -> Event:
        resting = self.orders.get(asked.order_id)
        if resting is None or resting.place.account_id != asked.account_id:
            return self._refuse(command, ORDER_NOT_FOUND)
        if asked.account_id in self.leaving:
            return self._refuse(command, ACCOUNT_FROZEN)
        book = self.books[resting.place.market_id]
        turn = self._turn()
        do_due(book, turn)
        resting = self.orders.get(asked.order_id)  # anew: what was due may have ended it, or brought it into the book
        if resting is None:
            return self._conclude(command, turn, ORDER_NOT_FOUND)
        objection = replace(book, turn, resting, asked)
        settle(book, turn)
        return self._conclude(command, turn, objection)

    def _cancel_all(self, command: Command, asked: CancelOrders) -> Event:
        """Ends as many as one command does, an entry not without its exits; says if there are more."""
        if not self._known(asked.account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        if asked.market_id != 0 and asked.market_id not in self.books:
            return self._refuse(command, MARKET_NOT_FOUND)
        if not SIDE_UNSPECIFIED <= asked.side <= SIDE_SELL:
            return self._refuse(command, INVALID_FIELD)
        turn = self._turn()
        found = [
            resting.order_id
            for resting in self.owners.of(asked.account_id, self.orders)
            if asked.market_id in (0, resting.place.market_id) and asked.side in (SIDE_UNSPECIFIED, resting.place.side)
        ]
        found.sort()
        ended = self._cut(found)
        self._end_these(found[:ended], asked.cause or CANCEL_CAUSE_USER, turn)
        self.settlement_sequence = turn.settlement_sequence
        books = books_changed(turn, self.books)
        return self._event(command, OrdersChanged(turn.steps, books, None, len(found) > ended))

    def _cut(self, order_ids: list[int]) -> int:
        """How many of them one command ends: exits do not outlive their entry, which is right before them."""
        cut = min(len(order_ids), TURN_STEPS_MAX)
        while self.edition > 0 and 0 < cut < len(order_ids) and order_ids[cut] in self.orders:
            group = self.books[self.orders[order_ids[cut]].place.market_id].groups.get(order_ids[cut])
            before = order_ids[cut - 1]
            if group is None or (before != group.entry_id and before not in group.exits):
                break
            cut += 1
        return cut

    def _end_these(self, order_ids: list[int], cause: int, turn: Turn) -> None:
        """Ends those that are open: no more at once than one command may."""
        whose: dict[int, None] = {}
        for order_id in order_ids:
            if order_id in self.orders:  # else another of its group took it along
                resting = self.orders[order_id]
                whose[resting.place.account_id] = None
                self.books[resting.place.market_id].end(resting, cause, turn)
        if self.edition > 0:
            for book in self.books.values():
                end_expired(book, turn)  # before a stop is released: it would trade with them
        for book in self.books.values():
            settle(book, turn)
        for account_id in whose:
            self.owners.tidy(account_id, self.orders)

    def _cancel_after(self, command: Command, asked: CancelAfter) -> Event:
        """Sets a switch. It runs out by the book's clock: each row of the journal begins with what is due by then."""
        if not self._known(asked.account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        if asked.market_id != 0 and asked.market_id not in self.books:
            return self._refuse(command, MARKET_NOT_FOUND)
        if not 0 <= asked.seconds <= CANCEL_AFTER_SECONDS_MAX:
            return self._refuse(command, INVALID_FIELD)
        if asked.seconds == 0:
            self.switches.disarm(asked.account_id, asked.market_id)
            return self._event(command, CancelAfterSet(asked.account_id, asked.market_id, 0))
        deadline_ns = self.time_ns + asked.seconds * NS_PER_SECOND
        self.switches.arm(asked.account_id, asked.market_id, deadline_ns)
        return self._event(command, CancelAfterSet(asked.account_id, asked.market_id, deadline_ns))

    def _set_defaults(self, command: Command, asked: SetTradingDefaults) -> Event:
        """Only journaled: an order that comes here says all that it asks."""
        if not self._known(asked.account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        if not SELF_TRADE_CANCEL_NEWEST <= asked.self_trade <= SELF_TRADE_ALLOW:
            return self._refuse(command, INVALID_FIELD)
        return self._event(command, TradingDefaultsSet(asked.account_id, asked.self_trade))

    def _advance(self, command: Command) -> Event:
        turn = self._turn()
        if self.switches.is_due(self.time_ns):
            self.switches.run_out(self.time_ns, self.owners, self.orders)
            self._end_these(self.switches.take(self._cut(self.switches.left)), CANCEL_CAUSE_CANCEL_AFTER, turn)
            turn.room = TURN_STEPS_MAX
        for book in self.books.values():
            do_due(book, turn)
        return self._conclude(command, turn)

    def _turn(self) -> Turn:
        return Turn(self.journal_sequence, self.time_ns, self.settlement_sequence)

    def _conclude(self, command: Command, turn: Turn, objection: str = "") -> Event:
        """The event of a command that went over the desk: as plain as what it did."""
        self.settlement_sequence = turn.settlement_sequence
        steps, body = turn.steps, command.body
        if objection:
            if not steps:
                return self._refuse(command, objection)
            return self._event(
                command, OrdersChanged(steps, books_changed(turn, self.books), Refused(objection, command))
            )
        if len(steps) == 1 and not turn.hides and isinstance(body, (PlaceOrder, CancelOrder)):
            order, trades = steps[0].order, steps[0].trades
            plain = OrderPlaced(order, trades) if isinstance(body, PlaceOrder) else OrderCanceled(order)
            return self._event(command, plain, self.books[order.place.market_id].changed() if turn.touched else 0)
        if not steps:
            assert isinstance(body, AdvanceTime), "a command without an outcome"
            return self._event(command, TimeAdvanced())
        return self._event(command, OrdersChanged(steps, books_changed(turn, self.books)))

    # Everything that is rare.

    def _administer(self, command: Command) -> Event:
        body = command.body
        if isinstance(body, AdvanceTime):
            return self._advance(command)
        if isinstance(body, ReplaceOrder):
            return self._replace(command, body)
        if isinstance(body, PlaceGroup):
            return self._place_group(command, body)
        if isinstance(body, CancelOrders):
            return self._cancel_all(command, body)
        if isinstance(body, CancelAfter):
            return self._cancel_after(command, body)
        if isinstance(body, SetTradingDefaults):
            return self._set_defaults(command, body)
        if isinstance(body, LeaderStarted):
            return self._event(command, body)
        if isinstance(body, OpenSession):
            return self._open_session(command, body)
        if isinstance(body, OpenAccount):
            return self._open_account(command, body)
        if isinstance(body, Transfer):
            return self._transfer(command, body)
        if isinstance(body, RequestWithdrawal):
            return self._request_withdrawal(command, body)
        if isinstance(body, ApproveWithdrawal):
            return self._approve_withdrawal(command, body)
        if isinstance(body, CancelWithdrawal):
            return self._cancel_withdrawal(command, body)
        if isinstance(body, ReleaseWithdrawal):
            return self._release_withdrawal(command, body)
        if isinstance(body, SetWithdrawalRules):
            return self._set_withdrawal_rules(command, body)
        if isinstance(body, ChangeAllowList):
            return self._change_allow_list(command, body)
        if isinstance(body, DepositFinal):
            return self._deposit(command, body)
        if isinstance(body, ClaimFinal):
            return self._claim(command, body)
        if isinstance(body, ExitRequestFinal):
            return self._request_exit(command, body)
        if isinstance(body, NoteDebt):
            return self._note_debt(command, body)
        if isinstance(body, SettlementFinal):
            return self._finalize(command, body)
        if isinstance(body, CreateAsset):
            return self._create_asset(command, body)
        if isinstance(body, CreateMarket):
            return self._create_market(command, body)
        if isinstance(body, SetReferencePrice):
            return self._set_reference(command, body)
        assert isinstance(body, ChangeMarket), "a command of no kind"
        return self._change_market(command, body)

    def _lead(self, leader: LeaderStarted) -> None:
        assert leader.epoch == self.epoch + 1, f"leader {leader.epoch} after {self.epoch}"
        assert leader.incarnation, "a journal without a name"
        assert leader.incarnation == (self.incarnation or leader.incarnation), "the leader of another journal"
        assert self.edition <= leader.edition <= EDITION, f"edition {leader.edition} of the rules is not of this build"
        self.epoch, self.incarnation = leader.epoch, leader.incarnation
        if leader.edition > self.edition:
            self.edition = leader.edition
            for book in self.books.values():
                book.adopt(leader.edition)

    def _open_session(self, command: Command, opening: OpenSession) -> Event:
        gateway = opening.gateway
        older = self.sessions.get(gateway)
        epoch = 1 if older is None else older.epoch + 1
        if not 0 < gateway <= GATEWAYS_MAX or epoch > SESSION_EPOCHS_MAX:
            return self._refuse(command, INVALID_FIELD)
        self.sessions[gateway] = Session(gateway, epoch, 0)
        self._speaker = None
        return self._event(command, SessionOpened(gateway, epoch))

    def _open_account(self, command: Command, opening: OpenAccount) -> Event:
        if not 0 < len(opening.name) <= NAME_CHARACTERS_MAX:
            return self._refuse(command, INVALID_FIELD)
        if opening.name in self.accounts:
            return self._refuse(command, ALREADY_EXISTS)
        account_id = self.next_account_id
        self.next_account_id += 1
        self.accounts[opening.name] = account_id
        return self._event(command, AccountOpened(account_id, opening.name))

    # Money.

    def _transfer(self, command: Command, transfer: Transfer) -> Event:
        if not self._known(transfer.from_account_id) or not self._known(transfer.to_account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        if transfer.from_account_id in self.leaving or transfer.to_account_id in self.leaving:
            return self._refuse(command, ACCOUNT_FROZEN)
        if transfer.asset_id not in self.assets:
            return self._refuse(command, ASSET_NOT_FOUND)
        objection = transfer_objection(transfer)
        if objection:
            return self._refuse(command, objection)
        self.settlement_sequence += 1
        return self._event(command, Transferred(transfer, self.settlement_sequence))

    def _request_withdrawal(self, command: Command, asked: RequestWithdrawal) -> Event:
        if not self._known(asked.account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        if asked.account_id in self.leaving:
            return self._refuse(command, ACCOUNT_FROZEN)
        if asked.asset_id not in self.assets:
            return self._refuse(command, ASSET_NOT_FOUND)
        objection = withdrawal_objection(asked)
        if objection:
            return self._refuse(command, objection)
        allowed = self.allow_lists.get(asked.account_id)
        refusal = None if allowed is None else allowed.objection(asked.address, self.time_ns)
        release_ns, rules = 0, self.withdrawal_rules.get(asked.asset_id)
        if rules is not None and refusal is None:
            withdrawn = self.withdrawn.amount(asked.account_id, asked.asset_id, self.time_ns)
            refusal = rules.objection(asked.amount, withdrawn)
            if rules.approves(asked.amount, withdrawn):
                release_ns = rules.release_ns(self.time_ns)
        if refusal is not None:
            return self._refuse(command, refusal.name)
        withdrawal = Withdrawal(command.command_id, asked, release_ns)
        self.withdrawals[withdrawal.withdrawal_id] = withdrawal
        if rules is not None:
            self.withdrawn.add(withdrawal.withdrawal_id, self.time_ns, asked.account_id, asked.asset_id, asked.amount)
        return self._event(command, WithdrawalRequested(withdrawal))

    def _approve_withdrawal(self, command: Command, approval: ApproveWithdrawal) -> Event:
        objection = self._waiting_objection(approval.withdrawal_id)
        if objection:
            return self._refuse(command, objection)
        withdrawal = self.withdrawals[approval.withdrawal_id]
        if withdrawal.release_ns:
            return self._refuse(command, OUT_OF_SEQUENCE)
        rules = self.withdrawal_rules.get(withdrawal.request.asset_id)
        if rules is None or rules.cooling_seconds == 0:
            return self._let_go(command, withdrawal)
        cleared = replaced(withdrawal, release_ns=rules.release_ns(self.time_ns))
        self.withdrawals[withdrawal.withdrawal_id] = cleared
        return self._event(command, WithdrawalCleared(cleared))

    def _release_withdrawal(self, command: Command, release: ReleaseWithdrawal) -> Event:
        objection = self._waiting_objection(release.withdrawal_id)
        if objection:
            return self._refuse(command, objection)
        withdrawal = self.withdrawals[release.withdrawal_id]
        if not 0 < withdrawal.release_ns <= self.time_ns:
            return self._refuse(command, OUT_OF_SEQUENCE)
        return self._let_go(command, withdrawal)

    def _waiting_objection(self, withdrawal_id: int) -> str:
        """Why a withdrawal cannot go on towards the chain, whatever it waits for."""
        withdrawal = self.withdrawals.get(withdrawal_id)
        if withdrawal is None:
            return WITHDRAWAL_NOT_FOUND
        return ACCOUNT_FROZEN if withdrawal.request.account_id in self.leaving else ""

    def _let_go(self, command: Command, withdrawal: Withdrawal) -> Event:
        del self.withdrawals[withdrawal.withdrawal_id]
        self.settlement_sequence += 1
        return self._event(command, WithdrawalApproved(withdrawal, self.settlement_sequence))

    def _set_withdrawal_rules(self, command: Command, asked: SetWithdrawalRules) -> Event:
        if asked.asset_id not in self.assets:
            return self._refuse(command, ASSET_NOT_FOUND)
        if not asked.rules.fit() or len(asked.reason) > REASON_CHARACTERS_MAX:
            return self._refuse(command, INVALID_FIELD)
        self.withdrawal_rules[asked.asset_id] = asked.rules
        return self._event(command, WithdrawalRulesSet(asked.asset_id, asked.rules))

    def _change_allow_list(self, command: Command, asked: ChangeAllowList) -> Event:
        if not self._is_user(asked.account_id):
            return self._refuse(command, ACCOUNT_NOT_FOUND)
        objection = allow_list_objection(asked)
        if objection:
            return self._refuse(command, objection)
        before = self.allow_lists.get(asked.account_id, AllowList())
        delay_ns = asked.delay_seconds * NS_PER_SECOND
        after = before.after(AllowListChange(asked.change), asked.address, self.time_ns, delay_ns)
        if len(after.addresses) > ADDRESSES_MAX:
            return self._refuse(command, TOO_MANY_ADDRESSES)
        self.allow_lists[asked.account_id] = after
        return self._event(command, AllowListChanged(asked.account_id, after))

    def _cancel_withdrawal(self, command: Command, cancel: CancelWithdrawal) -> Event:
        if len(cancel.reason) > REASON_CHARACTERS_MAX:
            return self._refuse(command, INVALID_FIELD)
        withdrawal = self.withdrawals.pop(cancel.withdrawal_id, None)
        if withdrawal is None:
            return self._refuse(command, WITHDRAWAL_NOT_FOUND)
        self.withdrawn.cancel(cancel.withdrawal_id)
        return self._event(command, WithdrawalCanceled(withdrawal, cancel.reason))

    def _deposit(self, command: Command, deposit: DepositFinal) -> Event:
        """What came for an account that nobody has is credited to `insurance`, and the chain moves it there.

        What came before the owner took all by the contract, and is told only now, was in what he took: `insurance`,
        which has answered for it since, is credited, and on chain nothing is left to move.
        """
        if deposit.deposit_index != self.deposits_through + 1:
            return self._refuse(command, OUT_OF_SEQUENCE)
        asset = self._asset_of(deposit.asset)
        if asset is None:
            return self._refuse(command, ASSET_NOT_FOUND)
        if not 0 < deposit.amount <= AMOUNT_MAX or deposit.account_id <= 0:
            return self._refuse(command, INVALID_FIELD)
        self.deposits_through += 1
        if self.edition >= 2 and (deposit.account_id, asset.asset_id) in self.exited:
            return self._event(command, Deposited(deposit, asset.asset_id, INSURANCE_ACCOUNT))
        if self._known(deposit.account_id) and deposit.account_id != OUTSIDE_ACCOUNT:
            return self._event(command, Deposited(deposit, asset.asset_id))
        self.settlement_sequence += 1
        return self._event(command, Deposited(deposit, asset.asset_id, INSURANCE_ACCOUNT, self.settlement_sequence))

    def _claim(self, command: Command, claim: ClaimFinal) -> Event:
        if claim.claim_index != self.claims_through + 1:
            return self._refuse(command, OUT_OF_SEQUENCE)
        asset = self._asset_of(claim.asset)
        if asset is None:
            return self._refuse(command, ASSET_NOT_FOUND)
        if not 0 < claim.amount <= AMOUNT_MAX or not is_address(claim.address):
            return self._refuse(command, INVALID_FIELD)
        leaver = claim.exit_account_id
        if leaver:
            if not self._is_user(leaver):
                return self._refuse(command, INVALID_FIELD)
            if leaver not in self.leaving or self._has_open(leaver):
                return self._refuse(command, OUT_OF_SEQUENCE)  # gateways end its orders and requests first
            self.exited.add((leaver, asset.asset_id))
        self.claims_through += 1
        return self._event(command, Claimed(claim, asset.asset_id))

    def _request_exit(self, command: Command, asked: ExitRequestFinal) -> Event:
        """From here on nothing begins in the account; gateways end what it has open. Nothing moves."""
        if asked.exit_index != self.exits_through + 1:
            return self._refuse(command, OUT_OF_SEQUENCE)
        if not self._is_user(asked.account_id):
            return self._refuse(command, INVALID_FIELD)
        self.exits_through += 1
        if asked.canceled:
            self.leaving.discard(asked.account_id)
        else:
            self.leaving.add(asked.account_id)
        return self._event(command, ExitRequested(asked))

    def _note_debt(self, command: Command, note: NoteDebt) -> Event:
        """Only journaled: gateways freeze the account, and move what insurance has paid."""
        if note.note_index != self.notes_through + 1:
            return self._refuse(command, OUT_OF_SEQUENCE)
        asset = self._asset_of(note.asset)
        if asset is None:
            return self._refuse(command, ASSET_NOT_FOUND)
        known = self.debts.get(note.debt_id)
        if known is None:
            owes = self._known(note.account_id) and note.account_id not in (INSURANCE_ACCOUNT, OUTSIDE_ACCOUNT)
            begins = note.state == DEBT_STATE_FROZEN and note.debt_id == note.note_index
            if not begins or not owes or not 0 < note.amount <= AMOUNT_MAX:
                return self._refuse(command, INVALID_FIELD)
        elif (
            known[:3] != (note.account_id, asset.asset_id, note.amount)
            or not known[3] < note.state <= DEBT_STATE_RESOLVED
        ):
            return self._refuse(command, INVALID_FIELD)
        if len(note.reason) > REASON_CHARACTERS_MAX:
            return self._refuse(command, INVALID_FIELD)
        self.notes_through += 1
        if note.state == DEBT_STATE_RESOLVED:
            del self.debts[note.debt_id]
        else:
            self.debts[note.debt_id] = (note.account_id, asset.asset_id, note.amount, note.state)
        return self._event(command, DebtNoted(note, asset.asset_id))

    def _has_open(self, account_id: int) -> bool:
        """Whether an account has an order or a withdrawal that waits."""
        if any(resting.place.account_id == account_id for resting in self.orders.values()):
            return True
        return any(withdrawal.request.account_id == account_id for withdrawal in self.withdrawals.values())

    def _is_user(self, account_id: int) -> bool:
        return FIRST_USER_ACCOUNT <= account_id < self.next_account_id

    def _finalize(self, command: Command, final: SettlementFinal) -> Event:
        through = final.through_settlement_sequence
        if not self.final_through < through <= self.settlement_sequence:
            return self._refuse(command, OUT_OF_SEQUENCE)
        self.final_through = through
        return self._event(command, SettlementFinalized(through))

    # Assets and markets.

    def _asset_of(self, symbol: str) -> Asset | None:
        for asset in self.assets.values():
            if asset.symbol == symbol:
                return asset
        return None

    def _create_asset(self, command: Command, creation: CreateAsset) -> Event:
        asked = creation.asset
        objection = asset_objection(asked)
        if objection:
            return self._refuse(command, objection)
        if self._asset_of(asked.symbol) is not None:
            return self._refuse(command, ALREADY_EXISTS)
        asset = Asset(len(self.assets) + 1, asked.symbol, asked.decimals)
        self.assets[asset.asset_id] = asset
        self.settlement_sequence += 1
        return self._event(command, AssetCreated(asset, self.settlement_sequence))

    def _create_market(self, command: Command, creation: CreateMarket) -> Event:
        asked = creation.market
        for book in self.books.values():
            if book.market.symbol == asked.symbol:
                return self._refuse(command, ALREADY_EXISTS)
        base, quote = self.assets.get(asked.base_asset_id), self.assets.get(asked.quote_asset_id)
        if base is None or quote is None:
            return self._refuse(command, ASSET_NOT_FOUND)
        objection = market_objection(asked, base, quote)
        if objection:
            return self._refuse(command, objection)
        market = Market(
            len(self.books) + 1,
            asked.symbol,
            asked.base_asset_id,
            asked.quote_asset_id,
            asked.tick_size,
            asked.lot_size,
            asked.notional_min,
            asked.state or MARKET_STATE_OPEN,
            asked.rules,
        )
        try:
            self._add_book(market)
        except Rejected as rejected:
            return self._refuse(command, rejected.reason.name)
        return self._event(command, MarketCreated(market))

    def _add_book(self, market: Market) -> Book:
        base, quote = self.assets[market.base_asset_id], self.assets[market.quote_asset_id]
        units = market_of(
            market.market_id,
            market.symbol,
            AssetUnits(base.asset_id, base.symbol, base.decimals),
            AssetUnits(quote.asset_id, quote.symbol, quote.decimals),
            market.tick_size,
            market.lot_size,
            market.notional_min,
        )
        book = Book(market, units.base_per_lot, units.quote_per_tick_lot, self.orders, self.owners, self.edition)
        self.books[market.market_id] = book
        return book

    def _set_reference(self, command: Command, asked: SetReferencePrice) -> Event:
        book = self.books.get(asked.market_id)
        if book is None:
            return self._refuse(command, MARKET_NOT_FOUND)
        objection = reference_objection(asked, book, self.time_ns)
        if objection:
            return self._refuse(command, objection)
        observed_ns = min(asked.observed_ns, self.time_ns)  # a clock that is fast makes no price last longer
        book.reference = ReferencePriceSet(asked.market_id, asked.price_ticks, asked.source, observed_ns)
        return self._event(command, book.reference)

    def _change_market(self, command: Command, change: ChangeMarket) -> Event:
        book = self.books.get(change.market_id)
        if book is None:
            return self._refuse(command, MARKET_NOT_FOUND)
        if change.state == MARKET_STATE_UNSPECIFIED and change.rules is None:
            return self._refuse(command, INVALID_FIELD)
        if not is_market_state(change.state) or not rules_fit(change.rules):
            return self._refuse(command, INVALID_FIELD)
        if len(change.reason) > REASON_CHARACTERS_MAX:
            return self._refuse(command, INVALID_FIELD)
        closed = book.market.state == MARKET_STATE_CLOSED
        reopens = closed and change.state not in (MARKET_STATE_UNSPECIFIED, MARKET_STATE_CLOSED)
        if reopens and book.days.first(book.orders) > 0:  # they would outlive their day
            return self._refuse(command, MARKET_CLOSED)
        old, turn = book.market, self._turn()
        market = Market(
            old.market_id,
            old.symbol,
            old.base_asset_id,
            old.quote_asset_id,
            old.tick_size,
            old.lot_size,
            old.notional_min,
            change.state or old.state,
            old.rules if change.rules is None else change.rules,
        )
        change_market(book, turn, market)
        self.settlement_sequence = turn.settlement_sequence
        if not turn.steps:
            return self._event(command, MarketChanged(market))
        books = books_changed(turn, self.books)
        return self._event(command, OrdersChanged(turn.steps, books, None, False, market))
