"""Which chain and which contract this settler belongs to: found or deployed at the first start, remembered for ever."""

from dataclasses import dataclass
from typing import Final

from eth_utils.address import is_address

from services.runtime import log
from services.runtime.run import Closing, StartError
from services.runtime.streams import Backoff
from services.settler.contract import (
    LOG_BLOCKS_MAX,
    Abi,
    Chain,
    ChainMisconfigured,
    ChainUnavailable,
    SettlementContract,
    WrongAnswer,
)
from services.settler.deploy import DeployFailed, ensure_clearbook
from services.settler.keys import DEV_ADDRESS
from services.settler.store import Store
from services.settler.wallet import Wallet

DEV_CHAIN_ID: Final = 31337
"""The devchain's, Anvil's and Hardhat's: chains whose money is worth nothing."""
PLAY_LOG_BLOCKS_MAX: Final = 1_000
RETRY_SECONDS_MAX: Final = 5.0

logger = log.get("binding")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the settings say.

    Attributes:
        url: of the node.
        chain_id: 0 if any will do at the first start.
        address: of the contract; "" to deploy one, where the faucet may.
        abi: the contract's.
        start_block: the contract's first block; 0 to look for it.
        faucet: whether this is a chain for play.
        log_blocks_max: blocks that one eth_getLogs request may span; None for the chain's usual.
    """

    url: str
    chain_id: int
    address: str
    abi: Abi
    start_block: int
    faucet: bool
    log_blocks_max: int | None


async def connect(wanted: Wanted, closing: Closing) -> Chain:
    """The node, as soon as it answers.

    Raises:
        StartError: it is another chain than the wanted one.
        Closed: the end came first.
    """
    backoff = Backoff(seconds_max=RETRY_SECONDS_MAX)
    while True:
        try:
            async with closing.guard():
                return await Chain.connect(wanted.url, expected_chain_id=wanted.chain_id or None)
        except ChainMisconfigured as wrong:
            raise StartError(str(wrong)) from None
        except ChainUnavailable as error:
            await _pause(closing, backoff, error)


async def bind(wanted: Wanted, chain: Chain, wallet: Wallet, store: Store, closing: Closing) -> SettlementContract:
    """The contract, checked; the first time it is deployed if need be, and remembered with its chain.

    Raises:
        StartError: the settings, the chain and what is remembered do not fit, in one line.
        Closed: the end came first.
    """
    if wanted.address and not is_address(wanted.address):
        why = f"SETTLEMENT_CONTRACT_ADDRESS {wanted.address!r} is not a contract address (0x and 40 hex digits)"
        raise StartError(why)
    known = store.meta.get("chain_id")
    if known not in {None, str(chain.chain_id)}:
        raise StartError(f"the node is chain {chain.chain_id}, this settler's database belongs to chain {known}")
    if wallet.address == DEV_ADDRESS and not is_play(chain.chain_id):
        raise StartError(f"no settlement key is set, and chain {chain.chain_id} is not a development chain")
    backoff = Backoff(seconds_max=RETRY_SECONDS_MAX)
    while True:
        try:
            async with closing.guard():
                contract = await _contract(wanted, chain, wallet, store)
                await _check_role(contract, wallet.address)
                return contract
        except ChainMisconfigured as wrong:
            raise StartError(str(wrong)) from None
        except (ChainUnavailable, DeployFailed) as error:
            await _pause(closing, backoff, error)


async def _pause(closing: Closing, backoff: Backoff, error: Exception) -> None:
    seconds = backoff.next_seconds()
    logger.warning("the chain is not ready", why=str(error), delay_s=round(seconds, 3))
    await closing.sleep(seconds)


async def _contract(wanted: Wanted, chain: Chain, wallet: Wallet, store: Store) -> SettlementContract:
    address = store.meta.get("contract_address")
    if address is not None and wanted.address and wanted.address.lower() != address.lower():
        raise StartError(
            f"SETTLEMENT_CONTRACT_ADDRESS is {wanted.address}, this settler's database belongs to {address}"
        )
    first_time = address is None
    if address is None:
        address = wanted.address or await _deploy(wanted, chain, wallet)
    blocks = log_blocks_max(wanted, chain.chain_id)
    contract = await SettlementContract.on(chain, address, wanted.abi, log_blocks_max=blocks)
    if first_time:
        block = wanted.start_block or await first_block(contract)
        await store.remember(
            chain_id=chain.chain_id, contract_address=contract.address, start_block=block, searched_block=block - 1
        )
        logger.info("bound", chain=chain.chain_id, contract=contract.address, block=block)
    return contract


async def _deploy(wanted: Wanted, chain: Chain, wallet: Wallet) -> str:
    """A contract of our own; one that was sent before a crash is found by its receipt."""
    if not wanted.faucet:
        raise StartError("SETTLEMENT_CONTRACT_ADDRESS is not set (with CLEARBOOK_FAUCET=1 a contract is deployed)")
    await wallet.finish()
    for transaction_hash in await wallet.other_hashes():
        receipt = await chain.receipt(transaction_hash)
        if receipt is not None and receipt.succeeded and receipt.contract_address is not None:
            return receipt.contract_address
    return await ensure_clearbook(chain, wallet.transact, wallet.address, reuse=False)


async def _check_role(contract: SettlementContract, address: str) -> None:
    settler = await contract.role("settler")
    if settler != address:
        raise StartError(f"the contract's settler is {settler}, the settlement key is of {address}")


async def first_block(contract: SettlementContract) -> int:
    """The block in which the contract was deployed, by bisection.

    A node forgets old states: what it cannot tell counts as "not there yet", which is right if the block before the
    found one could be told.
    """
    low, high = 0, await contract.chain.block_number()
    while low < high:
        middle = (low + high) // 2
        if await _exists(contract, middle):
            high = middle
        else:
            low = middle + 1
    if low and await _exists(contract, low - 1) is None:
        raise StartError(
            f"the node has no states before block {low}, and the contract is older: set SETTLEMENT_START_BLOCK"
        )
    return low


async def _exists(contract: SettlementContract, block: int) -> bool | None:
    """Whether the contract was there at a block; None if the node cannot tell."""
    try:
        await contract.settled_through(0, block)
    except WrongAnswer:
        return False
    except ChainUnavailable as error:
        logger.info("an old state is not to be had", block=block, why=str(error))
        return None
    return True


def log_blocks_max(wanted: Wanted, chain_id: int) -> int:
    """Blocks that one eth_getLogs request may span."""
    return wanted.log_blocks_max or (PLAY_LOG_BLOCKS_MAX if is_play(chain_id) else LOG_BLOCKS_MAX)


def is_play(chain_id: int) -> bool:
    """Whether the chain's money is worth nothing, so that well-known keys and a depth of one block will do."""
    return chain_id == DEV_CHAIN_ID
