"""Moving money other than by trading: transfers, withdrawals, adjustments, grants. One way for all of it.

A movement is made once for each transfer_id: the same again is answered with what was made, another content is
refused, and requests that overlap share one task, the look into the database included. What it needs is reserved from
the moment it is submitted until its event is folded, like an order's funds.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from services.errors import Reason, Rejected
from services.order_gateway import transfer_ids
from services.order_gateway.accounts import Accounts
from services.order_gateway.budget import insufficient
from services.order_gateway.ledger import SYSTEM_ACCOUNTS, Ledger, Reservation
from services.order_gateway.model import (
    ApproveWithdrawal,
    CancelWithdrawal,
    Movement,
    MovementKind,
    MovementState,
    RequestWithdrawal,
    Transfer,
)
from services.order_gateway.session import Session, outcome, refusal
from services.order_gateway.store import Store
from services.units import FAUCET_ACCOUNT, OUTSIDE_ACCOUNT, Asset

OPERATOR = -1
"""On whose behalf operators' commands count as in flight."""

WITHDRAWALS_ACCOUNT_MAX = 1_000
"""Of one account, not claimed yet: each is remembered until it is. Those under way at one moment come on top."""

Command = Transfer | RequestWithdrawal
Look = Callable[[], Awaitable[Movement | None]]


@dataclass(frozen=True, slots=True)
class _Making:
    """A movement on its way, for all who wait for it."""

    asked: Command
    task: asyncio.Task[Movement]


class Money:
    """Everybody's money, on the move.

    Args:
        ledger: the fold.
        session: the way into the book.
        store: what memory let go.
        accounts: opens the account of somebody new.
        wallet_of: the address linked to an account, in lower case; None if none is.
    """

    def __init__(
        self,
        ledger: Ledger,
        session: Session,
        store: Store,
        accounts: Accounts,
        wallet_of: Callable[[int], Awaitable[str | None]],
    ) -> None:
        self._ledger, self._session, self._store, self._accounts = ledger, session, store, accounts
        self._wallet_of = wallet_of
        self._making: dict[str, _Making] = {}

    # What a user asks for.

    async def transfer(
        self, account_id: int, transfer_id: str, to_user: str, asset: Asset, amount: int, seconds: float
    ) -> Movement:
        """Moves a user's funds to another user.

        Raises:
            Rejected: ACCOUNT_NOT_FOUND, INSUFFICIENT_FUNDS, ALREADY_EXISTS; INVALID_FIELD for a transfer to oneself.
        """
        receiver = self._user(to_user, "to_user")
        if receiver == account_id:
            raise Rejected(Reason.INVALID_FIELD, "to_user must be somebody else", "to_user")
        journaled = transfer_ids.of_user(account_id, transfer_id)
        return await self._make(Transfer(journaled, account_id, receiver, asset.asset_id, amount), account_id, seconds)

    async def withdraw(
        self, account_id: int, transfer_id: str, asset: Asset, amount: int, address: str, seconds: float
    ) -> Movement:
        """Holds a user's funds for a withdrawal.

        Args:
            account_id: whose.
            transfer_id: the user's.
            asset: what.
            amount: base units.
            address: who may claim it, in lower case; "": the wallet linked to the account.
            seconds: how long to wait for the outcome.

        Raises:
            Rejected: INSUFFICIENT_FUNDS, ALREADY_EXISTS; INVALID_FIELD without an address and a wallet.
        """
        journaled = transfer_ids.of_user(account_id, transfer_id)
        asked = RequestWithdrawal(journaled, account_id, asset.asset_id, amount, address)
        return await self._make(asked, account_id, seconds)

    async def cancel(self, account_id: int, transfer_id: str, seconds: float) -> Movement:
        """Ends a user's withdrawal that has not gone to the chain.

        Raises:
            Rejected: WITHDRAWAL_NOT_FOUND, WITHDRAWAL_APPROVED.
        """
        journaled = transfer_ids.of_user(account_id, transfer_id)
        making = self._making.get(journaled)
        if making is not None:
            await asyncio.wait([making.task], timeout=seconds)
        return await self._end(lambda: self._store.movement(journaled), "", account_id, seconds)

    # What an operator asks for.

    async def grant(
        self, transfer_id: str, user: str, asset: Asset, amount: int, reason: str, seconds: float
    ) -> Movement:
        """Moves funds from the faucet to a user, whose account is opened if need be.

        Raises:
            Rejected: INSUFFICIENT_FUNDS (the faucet's), ALREADY_EXISTS if the id moved something else.
        """
        receiver = await self._accounts.open(user, seconds)
        journaled = transfer_ids.of_operator(transfer_id)
        move = Transfer(journaled, FAUCET_ACCOUNT, receiver, asset.asset_id, amount, reason)
        return await self._make(move, OPERATOR, seconds)

    async def adjust(
        self, transfer_id: str, giver: str, receiver: str, asset: Asset, amount: int, reason: str, seconds: float
    ) -> Movement:
        """Moves funds between an account and one of the system's own.

        Raises:
            Rejected: ACCOUNT_NOT_FOUND, INSUFFICIENT_FUNDS, ALREADY_EXISTS; INVALID_FIELD unless one of the two is the
                system's, and for account `outside`, which only the chain moves.
        """
        between = [self._anybody(giver, "from_user"), self._anybody(receiver, "to_user")]
        if between[0] == between[1]:
            raise Rejected(Reason.INVALID_FIELD, "to_user must be another account than from_user", "to_user")
        if not set(between) & set(SYSTEM_ACCOUNTS.values()):
            raise Rejected(Reason.INVALID_FIELD, "one of from_user and to_user must be the system's own", "from_user")
        move = Transfer(transfer_ids.of_operator(transfer_id), between[0], between[1], asset.asset_id, amount, reason)
        return await self._make(move, OPERATOR, seconds)

    async def approve(self, withdrawal_id: int, seconds: float) -> Movement:
        """Lets a withdrawal go: at once or, if its asset's rules say so, after its cooling-off.

        Raises:
            Rejected: WITHDRAWAL_NOT_FOUND, WITHDRAWAL_CANCELED.
        """
        look = self._look(withdrawal_id)
        found = await self._now(look)
        if found.state is MovementState.REQUESTED and not found.release_ns:
            found = await self._settle(ApproveWithdrawal(withdrawal_id), look, OPERATOR, seconds)
        if found.state is MovementState.CANCELED:
            raise Rejected(Reason.WITHDRAWAL_CANCELED)
        return found

    async def reject(self, withdrawal_id: int, reason: str, seconds: float) -> Movement:
        """Ends a withdrawal that has not gone to the chain.

        Raises:
            Rejected: WITHDRAWAL_NOT_FOUND, WITHDRAWAL_APPROVED.
        """
        return await self._end(self._look(withdrawal_id), reason, OPERATOR, seconds)

    # One way for all of it.

    async def _make(self, asked: Command, on_behalf: int, seconds: float) -> Movement:
        """Finds what was made under this id, or makes it, or waits for whoever is making it.

        Raises:
            Rejected: what making it may raise; DEADLINE, after which the same request finds out.
        """
        try:
            async with asyncio.timeout(seconds):
                while (making := self._making.get(asked.transfer_id)) is not None and making.asked != asked:
                    await asyncio.wait([making.task])  # who of the two is right, the outcome tells
                return await asyncio.shield((making or self._begun(asked, on_behalf)).task)
        except TimeoutError:
            raise Rejected(Reason.DEADLINE) from None

    def _begun(self, asked: Command, on_behalf: int) -> _Making:
        task = asyncio.create_task(self._found_or_made(asked, on_behalf), name="movement")
        making = self._making[asked.transfer_id] = _Making(asked, task)
        task.add_done_callback(lambda _: self._making.pop(asked.transfer_id))
        task.add_done_callback(lambda made: made.cancelled() or made.exception())  # perhaps nobody waits
        return making

    async def _found_or_made(self, asked: Command, on_behalf: int) -> Movement:
        found = await self._store.movement(asked.transfer_id)
        if found is not None:
            if not _describes(asked, found):
                raise _reused(asked.transfer_id)
            return await self._now(lambda: self._store.movement(asked.transfer_id)) if found.withdrawal_id else found
        if isinstance(asked, RequestWithdrawal) and not asked.address:
            asked = replace(asked, address=await self._wallet(asked.account_id))
        giver = asked.from_account_id if isinstance(asked, Transfer) else asked.account_id
        available = self._ledger.balance(giver, asked.asset_id).available
        if available < asked.amount:
            raise insufficient(self._ledger.assets[asked.asset_id], asked.amount, available)
        if (
            isinstance(asked, RequestWithdrawal)
            and len(self._ledger.open_withdrawals(giver)) >= WITHDRAWALS_ACCOUNT_MAX
        ):
            raise Rejected(Reason.TOO_MANY_WITHDRAWALS)
        flight = self._session.submit(asked, on_behalf, Reservation(giver, asked.asset_id, asked.amount))
        change = await asyncio.shield(flight.done)  # however long: an outcome not known yet is still one movement
        if (refused := refusal(change)) is not None:
            raise self._told(refused.reason, asked) or refused
        (movement,) = change.effects.movements
        return movement

    def _told(self, reason: Reason, asked: Command) -> Rejected | None:
        """What the book says of a withdrawal by a name alone, with the rule that it is of; None of anything else."""
        rules, asset = self._ledger.withdrawal_rules.get(asked.asset_id), self._ledger.assets[asked.asset_id]
        if rules is None:
            return None
        most = {
            Reason.WITHDRAWAL_TOO_SMALL: rules.amount_min,
            Reason.WITHDRAWAL_TOO_LARGE: rules.amount_max,
            Reason.WITHDRAWAL_LIMIT_EXCEEDED: rules.day_max,
        }.get(reason)
        if most is None:
            return None
        return Rejected(reason, f"{reason.text}: {asset.format(most)} {asset.symbol}", "amount")

    async def _end(self, look: Look, reason: str, on_behalf: int, seconds: float) -> Movement:
        found = await self._now(look)
        if found.state is MovementState.REQUESTED:
            found = await self._settle(CancelWithdrawal(found.withdrawal_id, reason), look, on_behalf, seconds)
        if found.state is not MovementState.CANCELED:
            raise Rejected(Reason.WITHDRAWAL_APPROVED)
        return found

    async def _settle(
        self, command: ApproveWithdrawal | CancelWithdrawal, look: Look, on_behalf: int, seconds: float
    ) -> Movement:
        """Decides a requested withdrawal; the answer is how it stands then, also if somebody else was quicker."""
        try:
            change = await outcome(self._session.submit(command, on_behalf), seconds)
        except Rejected as rejected:
            if rejected.reason not in {Reason.WITHDRAWAL_NOT_FOUND, Reason.OUT_OF_SEQUENCE}:
                raise
            return await self._now(look)
        (movement,) = change.effects.movements
        return movement

    async def _now(self, look: Look) -> Movement:
        """A withdrawal as the fold has it.

        Raises:
            Rejected: WITHDRAWAL_NOT_FOUND.
        """
        while True:
            found = await look()
            if found is None or found.kind is not MovementKind.WITHDRAWAL:
                raise Rejected(Reason.WITHDRAWAL_NOT_FOUND)
            now = self._ledger.withdrawals.get(found.withdrawal_id)
            if now is not None:
                return now
            if found.has_ended:
                return found
            # It ended while the database was asked: the next look finds it so.

    def _look(self, withdrawal_id: int) -> Look:
        return lambda: self._store.withdrawal(withdrawal_id)

    # Who is who.

    def _user(self, name: str, field: str) -> int:
        account_id = self._ledger.account_ids.get(name)
        if account_id is None or name in SYSTEM_ACCOUNTS:
            raise Rejected(Reason.ACCOUNT_NOT_FOUND, f"no such user: {name}", field)
        return account_id

    def _anybody(self, name: str, field: str) -> int:
        account_id = SYSTEM_ACCOUNTS.get(name)
        if account_id == OUTSIDE_ACCOUNT:
            raise Rejected(Reason.INVALID_FIELD, f"{field} cannot be outside: only the chain moves it", field)
        return account_id if account_id is not None else self._user(name, field)

    async def _wallet(self, account_id: int) -> str:
        wallet = await self._wallet_of(account_id)
        if wallet is None:
            raise Rejected(
                Reason.INVALID_FIELD, "address is missing, and no wallet is linked to the account", "address"
            )
        return wallet


def _describes(asked: Command, made: Movement) -> bool:
    """Whether this content is that movement's. An address left open fits whatever wallet was linked then."""
    if isinstance(asked, Transfer):
        content = (asked.from_account_id, asked.to_account_id, asked.asset_id, asked.amount, asked.reason)
        same = (made.from_account_id, made.to_account_id, made.asset_id, made.amount, made.reason)
        return made.kind is MovementKind.TRANSFER and content == same
    return (
        made.kind is MovementKind.WITHDRAWAL
        and (asked.account_id, asked.asset_id, asked.amount) == (made.from_account_id, made.asset_id, made.amount)
        and asked.address in {"", made.address}
    )


def _reused(transfer_id: str) -> Rejected:
    shown = transfer_ids.shown(transfer_id)
    return Rejected(Reason.ALREADY_EXISTS, f"transfer_id {shown} was used for something else", "transfer_id")
