"""What the gateway knows of the contract that orders are signed for."""

from __future__ import annotations

import pytest

from services.errors import Reason, Rejected
from services.order_gateway import chain_domain
from services.order_gateway.chain_domain import ChainDomain
from services.signed_orders import Domain

TOLD = Domain(31337, "0x" + "aB" * 20)


class SettlerAway:
    """A settler that is away for the first questions."""

    def __init__(self, failures: int) -> None:
        self._failures = failures

    async def __call__(self) -> Domain:
        if self._failures:
            self._failures -= 1
            raise Rejected(Reason.UNAVAILABLE, "away")
        return TOLD


async def test_the_settler_tells_it_as_soon_as_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_domain, "ASK_SECONDS_MAX", 0.001)
    domain = ChainDomain(None)
    with pytest.raises(Rejected) as early:
        domain.known()
    assert early.value.reason is Reason.UNAVAILABLE
    await domain.learn(SettlerAway(3))
    assert domain.known() == TOLD


async def test_what_was_configured_is_good_from_the_start() -> None:
    configured = TOLD._replace(contract=TOLD.contract.lower())
    domain = ChainDomain(configured)
    assert domain.known() == configured
    await domain.learn(SettlerAway(0))
    assert domain.known() == TOLD


@pytest.mark.parametrize("configured", [TOLD._replace(chain_id=1), TOLD._replace(contract="0x" + "12" * 20)])
async def test_no_order_is_taken_for_a_contract_that_does_not_settle_it(configured: Domain) -> None:
    domain = ChainDomain(configured)
    await domain.learn(SettlerAway(0))
    with pytest.raises(Rejected, match="same contract"):
        domain.known()
