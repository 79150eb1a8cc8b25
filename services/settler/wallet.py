"""The settlement key and its nonces: every transaction is signed and stored before it is sent, and sent until mined.

A nonce is never given away twice, and what is open is sent in the order of its nonces: a transaction whose predecessor
the node does not have would wait for ever. What is not mined in time is replaced by a dearer one with the same nonce
and the same calldata; whichever of a nonce's transactions is mined counts.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from services.runtime import log, metrics
from services.settler.alarms import Alarms
from services.settler.contract import Chain, ChainUnavailable, Receipt, SendOutcome, SendRefused, Signs
from services.settler.deploy import DeployFailed
from services.settler.fees import replacement
from services.settler.model import NonceState, Ticket
from services.settler.store import Store
from services.settler.transactions import fees_of, with_fees

RESEND_SECONDS: Final = 5.0
POLL_SECONDS_MIN: Final = 0.05
POLL_SECONDS_MAX: Final = 1.0
MINED_SECONDS_MAX: Final = 120.0
EMPTY_GAS: Final = 21_000
LOST_LOOKS: Final = 5
"""How often a nonce must be seen used up, without a receipt of ours, before it counts as lost."""

_sent = metrics.counter("settler_sent", "Raw transactions sent, by what the node said.", ["outcome"])
_replaced = metrics.counter("settler_replaced", "Transactions replaced by dearer ones.")
_gas = metrics.counter("settler_gas_used", "Gas used by our mined transactions.")

logger = log.get("wallet")


@dataclass(frozen=True, slots=True)
class FeeRules:
    """How far the settler goes.

    Attributes:
        cap_wei: it offers no more per gas, whatever the chain asks for.
        raise_seconds: a transaction that is not mined for so long is replaced by a dearer one.
    """

    cap_wei: int
    raise_seconds: float


@dataclass(slots=True)
class _Sending:
    """What is known of an open nonce in this process only; after a restart, or a reorg, it is sent again at once."""

    ticket: Ticket
    sent_at: float | None = None
    first_sent_at: float = 0.0
    too_low: int = 0
    underpriced: bool = False


class Wallet:
    """Signs, stores, sends. One per process; `prepare` serialises itself."""

    def __init__(self, chain: Chain, signer: Signs, store: Store, alarms: Alarms, rules: FeeRules) -> None:
        self._chain = chain
        self._rules = rules
        self._signer = signer
        self._store = store
        self._alarms = alarms
        self._lock = asyncio.Lock()
        self._sending: dict[int, _Sending] = {}
        self.address = signer.address

    async def prepare(self, to: str | None, data: bytes, gas: int, *, batch_id: int = 0) -> Ticket:
        """Signs a transaction under the next nonce and stores it; nothing is sent.

        Raises:
            ChainUnavailable: nothing was stored.
        """
        async with self._lock:
            pending = await self._chain.nonce_of(self.address, "pending")
            if 0 < self._store.next_nonce < pending:
                self._alarms.once("foreign", f"transactions that are not ours use the key {self.address}")
            nonce = max(self._store.next_nonce, pending)
            return await self._sign(to, data, gas, nonce, batch_id)

    async def _sign(self, to: str | None, data: bytes, gas: int, nonce: int, batch_id: int) -> Ticket:
        fees = await self._chain.suggest_fees(cap_wei=self._rules.cap_wei)
        limit = await self._chain.gas_limit(self.address, to, data, gas)
        signed = await self._signer.sign(self._chain.transaction(to, data, nonce=nonce, gas=limit, fees=fees))
        return await self._store.add_attempt(nonce, batch_id, signed.hash, signed.raw)

    async def push(self) -> None:
        """Sends whatever is open and was not sent lately, lowest nonce first.

        Raises:
            ChainUnavailable: the node may have taken some of it.
        """
        clock = asyncio.get_running_loop().time
        for place, nonce in enumerate(sorted(self._store.tickets)):
            ticket = self._store.tickets[nonce]
            sending = self._sending.get(nonce)
            if sending is None or sending.ticket is not ticket:
                sending = self._sending[nonce] = _Sending(ticket)
            if sending.sent_at is None:
                sending.first_sent_at = clock()
            else:
                if place == 0 and self._is_due(sending) and await self._replace(sending):
                    continue
                if clock() - sending.sent_at < RESEND_SECONDS:
                    continue
                if place == 0:
                    await self.heal()
            await self._send(sending)
            sending.sent_at = clock()
        for nonce in set(self._sending) - set(self._store.tickets):
            del self._sending[nonce]

    def _is_due(self, sending: _Sending) -> bool:
        """Whether the transaction that all others wait for is to be replaced by a dearer one."""
        waited = asyncio.get_running_loop().time() - sending.first_sent_at
        patience = RESEND_SECONDS if sending.underpriced else self._rules.raise_seconds
        return not sending.too_low and waited >= patience

    async def _replace(self, sending: _Sending) -> bool:
        """Signs the same nonce and calldata with higher fees, stores and sends that; False if it would be too dear."""
        ticket, old = sending.ticket, fees_of(sending.ticket.raw)
        fees = replacement(old, await self._chain.suggest_fees(), self._rules.cap_wei)
        if fees is None:
            why = f"nonce {ticket.nonce} waits at {old.max_fee_wei} wei per gas: {self._rules.cap_wei} is the most"
            self._alarms.raise_("fee", why, halts=False)
            return False
        signed = await self._signer.sign(with_fees(ticket.raw, fees))
        again = await self._store.add_attempt(ticket.nonce, ticket.batch_id, signed.hash, signed.raw)
        _replaced.inc()
        logger.info("replaced", nonce=ticket.nonce, batch=ticket.batch_id, was=old.max_fee_wei, now=fees.max_fee_wei)
        now = asyncio.get_running_loop().time()
        dearer = self._sending[ticket.nonce] = _Sending(again, sent_at=now, first_sent_at=now)
        await self._send(dearer)
        return True

    async def heal(self) -> None:
        """Sees that no nonce is missing below those that are open: a node keeps what follows a gap for ever.

        What was closed and is not on chain any more (a reorganisation took it) is open again; a nonce that we never
        used, as it was somebody else's, is used up by a transaction that does nothing.

        Raises:
            ChainUnavailable: try again.
        """
        mined = await self._chain.nonce_of(self.address)
        gone = await self._store.reopen(mined)
        if gone:
            self._alarms.once("reorg", f"nonces {gone[0]} to {gone[-1]} are not on chain any more and are sent again")
        for nonce in range(mined, min(self._store.tickets, default=mined)):
            self._alarms.once("foreign", f"nonce {nonce} was another's and is free again: it is used up")
            await self._sign(self.address, b"", EMPTY_GAS, nonce, 0)

    async def _send(self, sending: _Sending) -> None:
        ticket = sending.ticket
        try:
            outcome = await self._chain.send_raw(ticket.raw)
        except SendRefused as refused:
            _sent.labels("refused").inc()
            self._alarms.raise_("send", f"the node refuses nonce {ticket.nonce}: {refused}", halts=False)
            return
        _sent.labels(outcome.value).inc()
        logger.debug("sent", nonce=ticket.nonce, batch=ticket.batch_id, hash=ticket.hashes[-1], outcome=outcome.value)
        sending.underpriced = outcome is SendOutcome.UNDERPRICED
        if outcome is SendOutcome.NONCE_TOO_LOW:
            sending.too_low += 1
        elif outcome in {SendOutcome.ACCEPTED, SendOutcome.ALREADY_KNOWN}:
            sending.too_low = 0
            self._alarms.clear("send")
        else:
            self._alarms.raise_("send", f"the node says {outcome.value} to nonce {ticket.nonce}", halts=False)

    async def receipt(self, ticket: Ticket) -> Receipt | None:
        """The receipt of whichever of the nonce's transactions was mined."""
        for transaction_hash in reversed(ticket.hashes):
            receipt = await self._chain.receipt(transaction_hash)
            if receipt is not None:
                return receipt
        return None

    async def is_lost(self, ticket: Ticket) -> bool:
        """Whether the nonce was used by a transaction that is not ours. Call it after `receipt` gave None.

        Certain only when seen several times: a node may know of a new nonce before it knows of its receipt.
        """
        sending = self._sending.get(ticket.nonce)
        if sending is None or not sending.too_low:
            return False
        if await self._chain.nonce_of(self.address) <= ticket.nonce:
            sending.too_low = 0
            return False
        sending.too_low += 1
        return sending.too_low > LOST_LOOKS

    def count_gas(self, receipt: Receipt) -> None:
        """Counts what a transaction of ours has cost."""
        _gas.inc(receipt.gas_used)

    async def settle_others(self) -> None:
        """Closes open nonces that carry no batch which still waits: administration, and batches that were overtaken.

        Raises:
            ChainUnavailable: try again.
        """
        waiting = {batch.batch_id for batch in self._store.waiting()}
        for ticket in [t for t in self._store.tickets.values() if t.batch_id not in waiting]:
            await self.push()
            receipt = await self.receipt(ticket)
            if receipt is not None:
                await self._close(ticket, receipt)
            elif await self.is_lost(ticket):
                await self._store.close_ticket(ticket, NonceState.LOST)

    async def _close(self, ticket: Ticket, receipt: Receipt) -> None:
        self.count_gas(receipt)
        self._alarms.clear("fee")
        state = NonceState.MINED if receipt.succeeded else NonceState.REVERTED
        await self._store.close_ticket(ticket, state)

    @property
    def busy(self) -> bool:
        """Whether anything but waiting batches is open."""
        waiting = {batch.batch_id for batch in self._store.waiting()}
        return any(ticket.batch_id not in waiting for ticket in self._store.tickets.values())

    async def finish(self) -> None:
        """Waits until nothing but waiting batches is open, so that what was sent can be seen on chain.

        Raises:
            DeployFailed: it takes too long.
        """
        delay = POLL_SECONDS_MIN
        try:
            async with asyncio.timeout(MINED_SECONDS_MAX):
                while self.busy:
                    await self.settle_others()
                    await asyncio.sleep(delay if self.busy else 0)  # a node tells nobody: it must be asked again
                    delay = min(2 * delay, POLL_SECONDS_MAX)
        except TimeoutError:
            raise DeployFailed(f"an earlier transaction is not mined within {MINED_SECONDS_MAX:.0f} s") from None

    async def transact(self, to: str | None, data: bytes, gas: int) -> Receipt:
        """Sends a transaction of administration and waits until it is mined: deploy.Transact by this wallet.

        Raises:
            DeployFailed: it reverted, was overtaken, or was not mined in time; then it stays open.
            ChainUnavailable: nothing was signed.
        """
        ticket = await self.prepare(to, data, gas)
        try:
            async with asyncio.timeout(MINED_SECONDS_MAX):
                receipt = await self._mined(ticket)
        except TimeoutError:
            raise DeployFailed(
                f"transaction {ticket.hashes[-1]} is not mined within {MINED_SECONDS_MAX:.0f} s"
            ) from None
        await self._close(ticket, receipt)
        if not receipt.succeeded:
            raise DeployFailed(f"transaction {receipt.transaction_hash} reverted")
        return receipt

    async def _mined(self, ticket: Ticket) -> Receipt:
        delay = POLL_SECONDS_MIN
        while True:
            try:
                await self.push()
                receipt = await self.receipt(ticket)
                if receipt is not None:
                    return receipt
                if await self.is_lost(ticket):
                    await self._store.close_ticket(ticket, NonceState.LOST)
                    raise DeployFailed(f"nonce {ticket.nonce} was used by a transaction that is not ours")
            except ChainUnavailable as error:
                logger.warning("chain unavailable", why=str(error))
            await asyncio.sleep(delay)  # a node tells nobody: it must be asked again
            delay = min(2 * delay, POLL_SECONDS_MAX)

    async def other_hashes(self) -> list[str]:
        """The hashes of all that was ever sent and is no batch, oldest first."""
        return await self._store.hashes_of_batch(0)
