"""The contract that signed orders are signed for: as the settler tells it, or as we were told before."""

import asyncio
from collections.abc import Awaitable, Callable

from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.streams import Backoff
from services.signed_orders import Domain

ASK_SECONDS_MAX = 5.0
"""The longest pause between two questions to a settler that is away, or has no contract yet."""

logger = log.get("chain_domain")


class ChainDomain:
    """What the gateway knows of the contract.

    Args:
        configured: the settings' own: good from the start, whether the settler is there or not. None: the settler says.
    """

    def __init__(self, configured: Domain | None = None) -> None:
        self._configured = self._known = configured
        self._why = "the settler has not told its contract yet; try again"

    def known(self) -> Domain:
        """What an order must be signed for. Raises Rejected: UNAVAILABLE."""
        if self._known is None:
            raise Rejected(Reason.UNAVAILABLE, self._why)
        return self._known

    async def learn(self, ask: Callable[[], Awaitable[Domain]]) -> None:
        """Asks until it is told: a settler has one contract, for ever.

        Args:
            ask: the settler; raises Rejected while it cannot tell.
        """
        backoff = Backoff(seconds_max=ASK_SECONDS_MAX)
        while True:
            try:
                found = await ask()
            except Rejected:
                await asyncio.sleep(backoff.next_seconds())
            else:
                return self._told(found)

    def _told(self, found: Domain) -> None:
        wanted = self._configured
        if wanted is None or _same(wanted, found):
            self._known = found
            logger.info("contract", chain=found.chain_id, contract=found.contract)
            return
        # What is signed for the one is never settled by the other: better to take none of it.
        self._known, self._why = None, "this exchange's gateway and settler do not name the same contract"
        told = {"ours": f"{wanted.chain_id} {wanted.contract}", "settlers": f"{found.chain_id} {found.contract}"}
        logger.error("ALARM: the settler settles in another contract than SETTLEMENT_CONTRACT_ADDRESS", **told)


def _same(one: Domain, other: Domain) -> bool:
    return (one.chain_id, one.contract.lower()) == (other.chain_id, other.contract.lower())
