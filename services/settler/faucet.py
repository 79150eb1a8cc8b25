"""New assets on chain: their tokens must be listed before anything that names them is settled.

On a chain where it may (CLEARBOOK_FAUCET=1 and our key is the contract's admin) the faucet deploys a test token, lists
it and makes one deposit of a huge supply for the account `faucet`; the watcher credits it like any other deposit.
Elsewhere the operator lists the token, and settlement waits with an alarm.
"""

from typing import Final

from services.runtime import log
from services.settler.alarms import Halted
from services.settler.contract import SettlementContract, account_key
from services.settler.deploy import fund_faucet
from services.settler.store import Store
from services.settler.wallet import Wallet

FAUCET_ACCOUNT: Final = 2
FAUCET_WHOLE_UNITS: Final = 10**12

logger = log.get("faucet")


class Listings:
    """The tokens of assets. `faucet`: make the missing ones."""

    def __init__(self, contract: SettlementContract, store: Store, wallet: Wallet, *, faucet: bool) -> None:
        self._contract = contract
        self._store = store
        self._wallet = wallet
        self._faucet = faucet

    async def ensure(self, symbol: str, decimals: int | None) -> str:
        """The asset's token, listed and remembered. `decimals` None: it was listed before, by whomever.

        Raises:
            Halted: it is not listed, and we may not list it.
            DeployFailed, ChainUnavailable: try again.
        """
        if self._faucet and decimals is not None:
            await self._wallet.finish()  # what an earlier try sent must be seen before anything is sent again
            token = await fund_faucet(
                self._contract,
                self._wallet.transact,
                self._wallet.address,
                symbol,
                decimals,
                account_key(FAUCET_ACCOUNT),
                FAUCET_WHOLE_UNITS * 10**decimals,
            )
        else:
            found = await self._contract.token_of(symbol)
            if found is None:
                raise Halted(f"the token of {symbol} is not listed: call list_token on {self._contract.address}")
            token = found
        await self._store.list_token(symbol, token)
        logger.info("listed", asset=symbol, at=token)
        return token
