"""Puts the contract and the demo tokens on a development chain. Every step may be repeated after any crash.

Nothing is remembered here; each step first asks the chain whether it has happened:

=====================  ==============================================================  =============================
step                   has happened when                                               a crash right after it
=====================  ==============================================================  =============================
deploy the contract    the runtime code begins what stands where this key created      found again
deploy a test token    (only its listing counts)                                       an orphan token, without value
list the token         ``token_of(asset)`` is set                                      seen as listed
mint the demo funds    ``totalSupply`` of the token is not zero                        seen as minted
approve, deposit       the contract holds some of the token                            seen as deposited
=====================  ==============================================================  =============================

Only the token's owner can mint and it mints once, so the contract holds tokens of it if and only if the faucet's
deposit was made: the deposit is made at most once, and its Deposited event is what the watcher credits.
"""

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from rlp import encode as rlp_encode  # type: ignore[import-untyped]

from services.settler.contract import (
    Chain,
    ChainMisconfigured,
    ChainUnavailable,
    Receipt,
    SendOutcome,
    SettlementContract,
    Signs,
    artifact,
    asset_key,
)

RECEIPT_TIMEOUT_SECONDS: Final = 120
RECEIPT_POLL_SECONDS: Final = 0.1
FIND_NONCES_MAX: Final = 50
"""How many of a key's first transactions are searched for a contract that it deployed."""

_DEPLOY_GAS: Final = 4_000_000
_CALL_GAS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Delays:
    """How long a contract makes wait: an owner for the exit that it requested, the admin for the listing of a token."""

    exit_seconds: int
    listing_seconds: int


DELAYS_OF_PLAY: Final = Delays(exit_seconds=3600, listing_seconds=0)
"""On a development chain: the shortest that the contract takes."""


class DeployFailed(Exception):
    """A deployment transaction reverted, was replaced by a foreign one, or was not mined in time."""


class Transact(Protocol):
    """Sends one transaction and waits until it is mined."""

    async def __call__(self, to: str | None, data: bytes, gas: int) -> Receipt:
        """Sends ``data`` to ``to`` (None: creates a contract) with at least that gas limit.

        Raises:
            DeployFailed: it reverted.
        """


class DirectTransact:
    """The plain :class:`Transact`: takes the next nonce from the node, one transaction at a time.

    Not for a key that a settler's sender is using at the same time: let no attempt be in flight, or give the sender's
    own implementation of :class:`Transact`.
    """

    def __init__(self, chain: Chain, signer: Signs, *, timeout_seconds: int = RECEIPT_TIMEOUT_SECONDS) -> None:
        self._chain = chain
        self._signer = signer
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()

    async def __call__(self, to: str | None, data: bytes, gas: int) -> Receipt:
        """See :class:`Transact`. While the node gives no answer the same signed bytes are sent again."""
        try:
            async with self._lock, asyncio.timeout(self._timeout_seconds):
                receipt = await self._mined(to, data, gas)
        except TimeoutError as error:
            raise DeployFailed(f"not mined within {self._timeout_seconds} s") from error
        if not receipt.succeeded:
            raise DeployFailed(f"transaction {receipt.transaction_hash} reverted")
        return receipt

    async def _mined(self, to: str | None, data: bytes, gas: int) -> Receipt:
        address = self._signer.address
        # What an earlier process sent may still be in the pool. A node tells nobody, so it must be asked again.
        while (nonce := await self._chain.nonce_of(address, "pending")) != await self._chain.nonce_of(address):  # noqa: ASYNC110
            await asyncio.sleep(RECEIPT_POLL_SECONDS)
        fees = await self._chain.suggest_fees()
        limit = await self._chain.gas_limit(address, to, data, gas)
        signed = await self._signer.sign(self._chain.transaction(to, data, nonce=nonce, gas=limit, fees=fees))
        sent = False
        while True:
            try:
                outcome = SendOutcome.ALREADY_KNOWN if sent else await self._chain.send_raw(signed.raw)
                receipt = await self._chain.receipt(signed.hash)
            except ChainUnavailable:
                await asyncio.sleep(RECEIPT_POLL_SECONDS)
                continue
            if receipt is not None:
                return receipt
            if outcome not in {SendOutcome.ACCEPTED, SendOutcome.ALREADY_KNOWN}:
                raise DeployFailed(f"{outcome.value}: transaction {signed.hash} of {address}, nonce {nonce}")
            sent = True
            await asyncio.sleep(RECEIPT_POLL_SECONDS)


async def ensure_clearbook(
    chain: Chain,
    transact: Transact,
    creator: str,
    *,
    settler: str | None = None,
    pauser: str | None = None,
    delays: Delays = DELAYS_OF_PLAY,
    address: str | None = None,
    reuse: bool = True,
) -> str:
    """The address of the settlement contract, deployed if need be.

    Args:
        chain: the node.
        transact: sends from ``creator``, who becomes the admin.
        creator: the address that deploys.
        settler: who may settle; ``creator`` if None.
        pauser: who may pause; ``creator`` if None.
        delays: the contract's, for ever.
        address: SETTLEMENT_CONTRACT_ADDRESS if it is set: then nothing is deployed.
        reuse: look first for one that ``creator`` deployed earlier (for a chain that outlives its journal: False).

    Raises:
        ChainMisconfigured: there is no contract at the given address.
        DeployFailed, ChainUnavailable: try again; what was deployed is found.
    """
    if address is not None:
        if not await chain.has_code(address):
            raise ChainMisconfigured(f"no contract at {address} on chain {chain.chain_id}")
        return to_checksum_address(address)
    if reuse:
        found = await find_deployed(chain, creator, "Clearbook")
        if found is not None:
            return found
    roles_and_delays = [settler or creator, pauser or creator, delays.exit_seconds, delays.listing_seconds]
    return await _create(transact, "Clearbook", encode(["address", "address", "uint256", "uint256"], roles_and_delays))


async def find_deployed(chain: Chain, creator: str, contract: str) -> str | None:
    """The newest ``contract`` (a name in contracts/) among the key's first FIND_NONCES_MAX transactions."""
    runtime = bytes.fromhex(artifact(contract)["runtime"][2:])
    nonces = min(await chain.nonce_of(creator), FIND_NONCES_MAX)
    for nonce in reversed(range(nonces)):
        address = created_address(creator, nonce)
        if (await chain.code(address)).startswith(runtime):  # what follows are its immutables
            return address
    return None


def created_address(creator: str, nonce: int) -> str:
    """The address of the contract that ``creator`` makes with its transaction ``nonce``."""
    return to_checksum_address(keccak(rlp_encode([bytes.fromhex(creator[2:]), nonce]))[12:])


async def ensure_token(contract: SettlementContract, transact: Transact, symbol: str, decimals: int) -> str:
    """The token listed for the asset; if none is, a new test token with these decimals is deployed and listed."""
    listed = await contract.token_of(symbol)
    if listed is not None:
        return listed
    name_and_symbol = encode(["string", "string", "uint8"], [f"Clearbook test {symbol}", symbol, decimals])
    token = await _create(transact, "TestToken", name_and_symbol)
    await list_token(contract, transact, symbol, token)
    return token


async def list_token(contract: SettlementContract, transact: Transact, symbol: str, token: str) -> None:
    """Lists an existing token for an asset. Listing the same pair again changes nothing."""
    data = contract.calldata("list_token", asset_key(symbol), to_checksum_address(token))
    await transact(contract.address, data, _CALL_GAS)


async def fund_faucet(
    contract: SettlementContract,
    transact: Transact,
    owner: str,
    symbol: str,
    decimals: int,
    account: bytes,
    amount: int,
) -> str:
    """Lists a test token for the asset and makes the faucet's one deposit; returns the token's address.

    Does whatever of it has not been done (see the table above); a listed token that is not a test token of ``owner``,
    or one already funded, is left alone.

    Args:
        contract: the settlement contract; ``transact`` must send as its admin.
        transact: sends from ``owner``.
        owner: the address that mints and deposits.
        symbol: the asset.
        decimals: the asset's decimals, given to the token.
        account: the faucet's key on chain (:func:`services.settler.contract.account_key`).
        amount: base units to mint and deposit.
    """
    token = await ensure_token(contract, transact, symbol, decimals)
    chain = contract.chain
    if await chain.code(token) != bytes.fromhex(artifact("TestToken")["runtime"][2:]):
        return token
    if await _read(chain, token, "owner()", [], [], "address") != owner.lower():
        return token
    if await _read_int(chain, token, "balanceOf(address)", ["address"], [contract.address]) > 0:
        return token
    if await _read_int(chain, token, "totalSupply()", [], []) == 0:
        await transact(token, _calldata("mint(address,uint256)", ["address", "uint256"], [owner, amount]), _CALL_GAS)
    held = await _read_int(chain, token, "balanceOf(address)", ["address"], [owner])
    if held == 0:
        return token
    approve = _calldata("approve(address,uint256)", ["address", "uint256"], [contract.address, held])
    await transact(token, approve, _CALL_GAS)
    await transact(contract.address, contract.calldata("deposit", account, token, held), _CALL_GAS)
    return token


async def _create(transact: Transact, contract: str, arguments: bytes) -> str:
    receipt = await transact(None, bytes.fromhex(artifact(contract)["bytecode"][2:]) + arguments, _DEPLOY_GAS)
    if receipt.contract_address is None:
        raise DeployFailed(f"transaction {receipt.transaction_hash} created no contract")
    return receipt.contract_address


def _calldata(signature: str, types: list[str], values: list[object]) -> bytes:
    return keccak(text=signature)[:4] + encode(types, values)


async def _read(chain: Chain, to: str, signature: str, types: list[str], values: list[object], returns: str) -> object:
    (value,) = decode([returns], await chain.call(to, _calldata(signature, types, values)))
    return value


async def _read_int(chain: Chain, to: str, signature: str, types: list[str], values: list[object]) -> int:
    return int(str(await _read(chain, to, signature, types, values, "uint256")))
