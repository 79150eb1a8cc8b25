"""The settlement contract, as the settler sees it: a typed wrapper around web3, and no settlement policy.

:class:`Chain` is one JSON-RPC node. :class:`SettlementContract` is the contract on it, checked when it is connected.
:class:`Signer` holds the private key. Amounts are whole base units, fees are wei, addresses are checksummed hex,
transaction and block hashes are 0x-hex, accounts are 32 bytes.

Every call can raise :class:`ChainUnavailable` (try again later); nothing here retries a transaction by itself.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeAlias, cast

from aiohttp import ClientConnectionError, ClientError, ClientResponseError, ClientTimeout
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress, HexStr
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3 import AsyncHTTPProvider, AsyncWeb3, Web3
from web3.exceptions import (
    ContractLogicError,
    MethodUnavailable,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST, ExceptionRetryConfiguration
from web3.types import RPCEndpoint, RPCResponse, TxParams

from services.settler.fees import Fees, offered

DELTAS_MAX: Final = 200
"""Legs that one batch may hold; the contract's own limit."""
WITHDRAWALS_MAX: Final = 50
"""Withdrawals that one batch may hold; the contract's own limit."""
LINKS_MAX: Final = 50
"""Links that one batch may hold; the contract's own limit."""
VERSION: Final = 3
"""The contract's version that this settler knows; the first had no `version`."""

LOG_BLOCKS_MAX: Final = 10
"""Blocks that one eth_getLogs request spans unless told otherwise."""

REQUEST_TIMEOUT_SECONDS: Final = 10
DISCONNECT_SECONDS_MAX: Final = 2
"""For requests that are under way at the end."""
TIP_DEFAULT_WEI: Final = 1_000_000_000
GAS_SPARE_PARTS: Final = 4
"""One such part of what a node expects is allowed beside it: the state may change before the transaction is mined."""

NEEDED_FUNCTIONS: Final = {
    "settle": (
        "settle(uint64,uint64,uint64,(bytes32,address,int256)[],(address,address,uint256)[],(bytes32,address)[])"
    ),
    "settle_signed": (
        "settle_signed(uint64,uint64,(bytes32,bytes32,uint256,uint256,uint256,uint256,"
        "(bytes32,uint256,uint256,uint256,uint256,bytes32,uint256,uint256,uint256),"
        "(bytes32,uint256,uint256,uint256,uint256,bytes32,uint256,uint256,uint256))[],(bytes32,address)[])"
    ),
    "VERSION": "VERSION()",
    "settledThrough": "settledThrough(uint64)",
    "batch_hash": "batch_hash(uint64)",
    "balances": "balances(bytes32,address)",
    "token_of": "token_of(bytes32)",
    "asset_of": "asset_of(address)",
    "list_token": "list_token(bytes32,address)",
    "deposit": "deposit(bytes32,address,uint256)",
    "claimable": "claimable(address,address)",
    "claim_count": "claim_count()",
    "deposit_count": "deposit_count()",
    "owner": "owner(bytes32)",
    "exit_count": "exit_count()",
    "settler": "settler()",
    "admin": "admin()",
    "paused": "paused()",
}
DEPOSITED: Final = "Deposited(uint256,bytes32,address,uint256)"
CLAIMED: Final = "Claimed(uint256,address,address,uint256)"
EXITED: Final = "Exited(uint256,bytes32,address,address,uint256)"
EXIT_REQUESTED: Final = "ExitRequested(uint256,bytes32,uint256)"
EXIT_CANCELED: Final = "ExitCanceled(uint256,bytes32)"
NEEDED_EVENTS: Final = (DEPOSITED, CLAIMED, EXITED, EXIT_REQUESTED, EXIT_CANCELED)
DEPOSITED_TOPIC: Final = "0x" + keccak(text=DEPOSITED).hex()
CLAIMED_TOPIC: Final = "0x" + keccak(text=CLAIMED).hex()
EXITED_TOPIC: Final = "0x" + keccak(text=EXITED).hex()
EXIT_REQUESTED_TOPIC: Final = "0x" + keccak(text=EXIT_REQUESTED).hex()
EXIT_CANCELED_TOPIC: Final = "0x" + keccak(text=EXIT_CANCELED).hex()

_BALANCE_OF: Final = keccak(text="balanceOf(address)")[:4]
_LEG_REFUSED: Final = keccak(text="LegRefused(bytes32,address)")[:4]
_NOT_NEXT: Final = keccak(text="NotNext(uint64,uint64)")[:4]
_REASON: Final = keccak(text="Error(string)")[:4]
_READS: Final = tuple(method for method in REQUEST_RETRY_ALLOWLIST if method != "eth_sendRawTransaction")
_LOG_FIELDS: Final = frozenset({"topics", "data", "blockNumber", "blockHash", "transactionHash"})
_NO_ANSWER: Final = (
    *(Web3Exception, ClientError, TimeoutError, OSError, ValueError),
    *(AttributeError, LookupError, TypeError),  # what web3 and we run into when an answer is of another shape
)
_ZERO_ADDRESS: Final = "0x" + "00" * 20

Abi: TypeAlias = Sequence[dict[str, Any]]
SettleLists: TypeAlias = tuple[list[tuple[bytes, str, int]], list[tuple[str, str, int]], list[tuple[bytes, str]]]
"""Legs, withdrawals and links as settle takes them."""
Block: TypeAlias = int | str
"""A block number, or "latest", "pending", "safe", "finalized"."""


class ChainMisconfigured(Exception):
    """The settings and the chain do not fit: wrong chain id, no contract, wrong ABI. One line; trying again is vain."""


class ChainUnavailable(Exception):
    """The node gave no usable answer: down, slow, 429, 500, not JSON. What was asked may or may not have happened."""


class CallReverted(Exception):
    """A simulated call reverts for a reason other than a refused leg. ``reason`` is the contract's, or hex."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotNext(CallReverted):
    """The batch is not the shard's next: the contract expects ``expected``, the batch starts at ``first``."""

    def __init__(self, expected: int, first: int) -> None:
        super().__init__(f"the contract expects settlement sequence {expected}, the batch starts at {first}")
        self.expected = expected
        self.first = first


class SendRefused(Exception):
    """The node refused a raw transaction for a reason that is not one of :class:`SendOutcome`."""


class SendOutcome(Enum):
    """What a node says to a raw transaction. After anything but ACCEPTED look for *all* hashes of that nonce."""

    ACCEPTED = "accepted"
    ALREADY_KNOWN = "already known"
    NONCE_TOO_LOW = "nonce too low"
    NONCE_TOO_HIGH = "nonce too high"
    UNDERPRICED = "underpriced"
    INSUFFICIENT_FUNDS = "insufficient funds"


# What geth, Anvil, Nethermind and our devchain say, in lower case; the first match counts.
_OUTCOMES: Final = (
    ("already known", SendOutcome.ALREADY_KNOWN),
    ("already imported", SendOutcome.ALREADY_KNOWN),
    ("alreadyknown", SendOutcome.ALREADY_KNOWN),
    ("nonce too low", SendOutcome.NONCE_TOO_LOW),
    ("nonce too high", SendOutcome.NONCE_TOO_HIGH),
    ("underpriced", SendOutcome.UNDERPRICED),
    ("fee too low", SendOutcome.UNDERPRICED),
    ("max fee per gas less than block base fee", SendOutcome.UNDERPRICED),
    ("insufficient funds", SendOutcome.INSUFFICIENT_FUNDS),
)


@dataclass(frozen=True, slots=True)
class Delta:
    """One leg of a batch: ``amount`` base units of ``token`` (signed) for ``account`` (32 bytes)."""

    account: bytes
    token: str
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """``amount`` base units of ``token`` that a batch makes claimable by the address ``to``."""

    token: str
    to: str
    amount: int


@dataclass(frozen=True, slots=True)
class Link:
    """The wallet that owns a user's ``account`` (32 bytes) from a batch on, unless it has an owner."""

    account: bytes
    owner: str


@dataclass(frozen=True, slots=True)
class LegRefused:
    """The leg that the contract refuses: ``account`` cannot pay what it owes in ``token``."""

    account: bytes
    token: str

    def __str__(self) -> str:
        """For alarms."""
        return f"account {self.account_id} cannot pay its leg in token {self.token}"

    @property
    def account_id(self) -> int:
        """The account's number."""
        return int.from_bytes(self.account, "big")


@dataclass(frozen=True, slots=True)
class Deposit:
    """One Deposited event; ``index`` counts from 1 over the contract's life, ``amount`` is what really arrived."""

    index: int
    account: bytes
    token: str
    amount: int
    block_number: int
    block_hash: str
    transaction_hash: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One Claimed or Exited event; ``index`` counts both from 1 over the contract's life, ``address`` is lower-case.

    ``exited`` is the key of the account that left; empty for a claim.
    """

    index: int
    address: str
    token: str
    amount: int
    block_number: int
    transaction_hash: str
    exited: bytes = b""


@dataclass(frozen=True, slots=True)
class ExitRequest:
    """One ExitRequested or ExitCanceled event; ``index`` counts both from 1 over the contract's life."""

    index: int
    account: bytes
    canceled: bool
    block_number: int
    transaction_hash: str


@dataclass(frozen=True, slots=True)
class Money:
    """What some blocks brought: money in, money out, and who is about to take out what is left."""

    deposits: list[Deposit]
    claims: list[Claim]
    exits: list[ExitRequest]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction. ``contract_address`` is set if it created one."""

    transaction_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    contract_address: str | None


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction: store ``raw`` and ``hash`` before sending."""

    raw: bytes
    hash: str


class Signs(Protocol):
    """Whoever holds a private key: this process, or a signer elsewhere."""

    address: ChecksumAddress

    async def sign(self, transaction: TxParams) -> Signed:
        """Signs a transaction of :meth:`Chain.transaction`; raises ChainUnavailable if that cannot be done now."""


class Signer:
    """A private key in memory. Its repr shows the address only."""

    def __init__(self, private_key: str) -> None:
        """Takes 32 bytes in hex; raises ChainMisconfigured, without quoting it, if it is not a key."""
        try:
            self._account = cast("LocalAccount", Account.from_key(private_key.strip()))
        except Exception:  # eth_keys quotes the key in its messages
            raise ChainMisconfigured("the private key is not 32 bytes in hex") from None
        self.address: ChecksumAddress = self._account.address

    def __repr__(self) -> str:
        """The address; never the key."""
        return f"Signer({self.address})"

    async def sign(self, transaction: TxParams) -> Signed:
        """Signs a transaction of :meth:`Chain.transaction`. Deterministic: the same input gives the same hash."""
        signed = self._account.sign_transaction(cast("dict[str, Any]", transaction))
        return Signed(bytes(signed.raw_transaction), _hex(signed.hash))


class _Provider(AsyncHTTPProvider):
    """Requests that are never canceled: who is, leaves them to end by themselves, at their time limit at the latest.

    web3 guards all its sessions by one lock of the process, and waits for it in a thread: a request that is canceled
    just then leaves it locked for ever, and no request of anybody ever goes on.
    """

    def __init__(self, url: str, retries: ExceptionRetryConfiguration) -> None:
        timeout = ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        super().__init__(url, request_kwargs={"timeout": timeout}, exception_retry_configuration=retries)
        self._under_way: set[asyncio.Future[RPCResponse]] = set()

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """See AsyncHTTPProvider."""
        asked = asyncio.ensure_future(super().make_request(method, params))
        self._under_way.add(asked)
        asked.add_done_callback(self._under_way.discard)
        return await asyncio.shield(asked)

    async def disconnect(self) -> None:
        """See AsyncHTTPProvider; what is under way may end first."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DISCONNECT_SECONDS_MAX)
        await super().disconnect()


class Chain:
    """One JSON-RPC node. Make it with :meth:`connect`; close it in the loop that made it."""

    def __init__(self, url: str, chain_id: int, web3: AsyncWeb3[AsyncHTTPProvider]) -> None:
        """Use :meth:`connect`."""
        self.url = url
        self.chain_id = chain_id
        self._web3 = web3

    @classmethod
    async def connect(cls, url: str, *, expected_chain_id: int | None = None) -> Self:
        """Opens a session and asks for the chain id.

        Raises:
            ChainUnavailable: the node does not answer.
            ChainMisconfigured: it is another chain than ``expected_chain_id``.
        """
        provider = _Provider(
            url,
            ExceptionRetryConfiguration(errors=(ClientConnectionError,), retries=2, method_allowlist=_READS),
        )
        provider.global_ccip_read_enabled = False
        web3: AsyncWeb3[AsyncHTTPProvider] = AsyncWeb3(provider, middleware=[])
        try:
            async with _translated("eth_chainId"):
                chain_id = await web3.eth.chain_id
            if expected_chain_id is not None and chain_id != expected_chain_id:
                raise ChainMisconfigured(f"{_host(url)} is chain {chain_id}, expected {expected_chain_id}")  # noqa: TRY301
        except BaseException:
            await provider.disconnect()
            raise
        return cls(url, chain_id, web3)

    async def close(self) -> None:
        """Closes the session."""
        await self._web3.provider.disconnect()

    async def block_number(self) -> int:
        """The number of the newest block."""
        async with _translated("eth_blockNumber"):
            return int(await self._web3.eth.block_number)

    async def block_hash(self, number: int) -> str | None:
        """The hash of the canonical block ``number``; None if there is none."""
        async with _translated("eth_getBlockByNumber"):
            block = await self._request("eth_getBlockByNumber", [hex(number), False])
            return None if block is None else str(block["hash"])

    async def has_code(self, address: str) -> bool:
        """Whether there is a contract at the address."""
        return bool(await self.code(address))

    async def code(self, address: str) -> bytes:
        """The deployed bytecode at the address, empty if none."""
        async with _translated("eth_getCode"):
            return bytes(await self._web3.eth.get_code(to_checksum_address(address)))

    async def nonce_of(self, address: str, block: Block = "latest") -> int:
        """The number of transactions of the address: mined at ``latest``, with the pool's at ``pending``."""
        async with _translated("eth_getTransactionCount"):
            return int(await self._web3.eth.get_transaction_count(to_checksum_address(address), cast("Any", block)))

    async def balance_wei(self, address: str) -> int:
        """What the address can pay for gas, in wei."""
        async with _translated("eth_getBalance"):
            return int(await self._web3.eth.get_balance(to_checksum_address(address)))

    async def call(self, to: str, data: bytes, *, sender: str | None = None, block: Block = "latest") -> bytes:
        """Runs eth_call.

        Raises:
            CallReverted: with the decoded reason (NotNext for the cursor); see :meth:`SettlementContract.simulate`.
        """
        async with _translated("eth_call"):
            return bytes(await self._web3.eth.call(_transaction(sender, to, data), cast("Any", block)))

    async def gas_limit(self, sender: str, to: str | None, data: bytes, usual: int) -> int:
        """What a transaction may use: ``usual``, or what the node expects and a quarter, where that is more.

        Chains and their forks price gas differently, so no limit of ours holds on all of them. What would revert gets
        the usual limit: whoever sends it has judged it already, on the state that counts.

        Raises:
            ChainUnavailable: the node gave no number.
        """
        try:
            async with _translated("eth_estimateGas"):
                expected = int(await self._web3.eth.estimate_gas(_transaction(sender, to, data)))
        except (CallReverted, _MethodMissing):
            return usual
        return max(usual, expected + expected // GAS_SPARE_PARTS)

    async def receipt(self, transaction_hash: str) -> Receipt | None:
        """The receipt, or None if the transaction is not mined (or no longer, after a reorg)."""
        try:
            async with _translated("eth_getTransactionReceipt"):
                found = await self._web3.eth.get_transaction_receipt(cast("HexStr", transaction_hash))
                created = found.get("contractAddress")
                return Receipt(
                    transaction_hash=_hex(found["transactionHash"]),
                    block_number=int(found["blockNumber"]),
                    block_hash=_hex(found["blockHash"]),
                    succeeded=int(found["status"]) == 1,
                    gas_used=int(found["gasUsed"]),
                    contract_address=None if created is None else to_checksum_address(created),
                )
        except TransactionNotFound:
            return None

    async def suggest_fees(self, *, cap_wei: int | None = None) -> Fees:
        """Twice the newest base fee plus the node's tip, at most ``cap_wei`` per gas."""
        async with _translated("eth_getBlockByNumber"):
            block = await self._request("eth_getBlockByNumber", ["latest", False])
            if block is None or block.get("baseFeePerGas") is None:
                raise ValueError("no base fee: EIP-1559 is required")
            base_fee = int(block["baseFeePerGas"], 16)
        try:
            async with _translated("eth_maxPriorityFeePerGas"):
                tip = int(await self._request("eth_maxPriorityFeePerGas", []), 16)
        except _MethodMissing:
            tip = TIP_DEFAULT_WEI
        return offered(base_fee, tip, cap_wei)

    def transaction(self, to: str | None, data: bytes, *, nonce: int, gas: int, fees: Fees) -> TxParams:
        """An EIP-1559 transaction to sign; ``to`` None creates a contract. ``gas`` is the limit."""
        params: TxParams = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": cast("Any", nonce),
            "gas": gas,
            "maxFeePerGas": cast("Any", fees.max_fee_wei),
            "maxPriorityFeePerGas": cast("Any", fees.max_priority_fee_wei),
            "value": cast("Any", 0),
            "data": cast("HexStr", "0x" + data.hex()),
        }
        if to is not None:
            params["to"] = to_checksum_address(to)
        return params

    async def send_raw(self, raw: bytes) -> SendOutcome:
        """Sends a signed transaction once.

        Raises:
            SendRefused: the node refused it for a reason that is no :class:`SendOutcome`.
            ChainUnavailable: no answer; the node may have taken it: send the same bytes again.
        """
        try:
            async with _translated("eth_sendRawTransaction"):
                await self._web3.eth.send_raw_transaction(raw)
        except SendRefused as refused:
            message = str(refused).lower()
            for words, outcome in _OUTCOMES:
                if words in message:
                    return outcome
            raise
        return SendOutcome.ACCEPTED

    async def logs(
        self, address: str, topics: Sequence[str | Sequence[str] | None], first_block: int, last_block: int
    ) -> list[Any]:
        """One eth_getLogs request, as the node's JSON."""
        query = {"address": address, "topics": topics, "fromBlock": hex(first_block), "toBlock": hex(last_block)}
        async with _translated("eth_getLogs"):
            found = list(await self._request("eth_getLogs", [query]))
            if any(not each.keys() >= _LOG_FIELDS for each in found):
                raise ValueError("a log lacks what logs have")
            return found

    async def _request(self, method: str, params: list[Any]) -> Any:
        async with _translated(method):
            return await self._web3.manager.coro_request(cast("RPCEndpoint", method), params)


class SettlementContract:
    """The contract, found and checked by :meth:`connect`. ``chain`` is the node it is on."""

    def __init__(self, chain: Chain, address: str, abi: Abi, *, log_blocks_max: int = LOG_BLOCKS_MAX) -> None:
        """Use :meth:`connect`, unless the contract has just been deployed."""
        self.chain = chain
        self.address = to_checksum_address(address)
        self._log_blocks_max = log_blocks_max
        self._functions = {entry["name"]: _function(entry) for entry in abi if entry["type"] == "function"}

    @classmethod
    async def connect(
        cls,
        url: str,
        contract_address: str,
        abi: Abi,
        *,
        expected_chain_id: int | None = None,
        log_blocks_max: int = LOG_BLOCKS_MAX,
    ) -> Self:
        """Connects and verifies chain id, code and ABI.

        Raises:
            ChainMisconfigured: one clear line.
            ChainUnavailable: the node does not answer.
        """
        check_abi(abi)
        if not Web3.is_address(contract_address):
            raise ChainMisconfigured(f"{contract_address!r} is not a contract address (0x and 40 hex digits)")
        chain = await Chain.connect(url, expected_chain_id=expected_chain_id)
        try:
            return await cls.on(chain, contract_address, abi, log_blocks_max=log_blocks_max)
        except BaseException:
            await chain.close()
            raise

    @classmethod
    async def on(cls, chain: Chain, address: str, abi: Abi, *, log_blocks_max: int = LOG_BLOCKS_MAX) -> Self:
        """As :meth:`connect`, on an open chain; the caller keeps closing it."""
        check_abi(abi)
        if not await chain.has_code(address):
            raise ChainMisconfigured(f"no contract at {address} on chain {chain.chain_id} ({_host(chain.url)})")
        contract = cls(chain, address, abi, log_blocks_max=log_blocks_max)
        try:
            await contract.settled_through(0)
            await contract.check_version()
        except (CallReverted, ChainUnavailable) as wrong:
            if isinstance(wrong, ChainUnavailable) and not isinstance(wrong, WrongAnswer):
                raise
            raise ChainMisconfigured(f"the contract at {address} is not a settlement contract: {wrong}") from wrong
        return contract

    async def close(self) -> None:
        """Closes the chain's session."""
        await self.chain.close()

    async def check_version(self) -> None:
        """Raises ChainMisconfigured, in words for the operator, unless the contract's version is VERSION."""
        try:
            found = int(await self._read("VERSION", [], "uint256", "latest"))
        except (CallReverted, WrongAnswer):
            found = 1
        if found != VERSION:
            raise ChainMisconfigured(
                f"the contract at {self.address} is of version {found}, this settler needs version {VERSION}:"
                " begin with an empty journal and `clearbook contract deploy`"
            )

    # Reading

    async def settled_through(self, shard: int, block: Block = "latest") -> int:
        """The last settlement sequence of the shard that is settled; 0 before the first."""
        return int(await self._read("settledThrough", [shard], "uint64", block))

    async def batch_hash(self, shard: int, block: Block = "latest") -> bytes:
        """The hash of the shard's chain of batches; zero before the first."""
        return bytes(await self._read("batch_hash", [shard], "bytes32", block))

    async def balance(self, account: bytes, token: str, block: Block = "latest") -> int:
        """The account's balance in the token's base units."""
        return int(await self._read("balances", [account, to_checksum_address(token)], "uint256", block))

    async def token_of(self, symbol: str, block: Block = "latest") -> str | None:
        """The token listed for an asset symbol, or None."""
        token = to_checksum_address(await self._read("token_of", [asset_key(symbol)], "address", block))
        return None if token == _ZERO_ADDRESS else token

    async def paused(self, block: Block = "latest") -> bool:
        """Whether settle and deposit are stopped."""
        return bool(await self._read("paused", [], "bool", block))

    async def role(self, name: str, block: Block = "latest") -> str:
        """The address in the role ``"admin"``, ``"settler"`` or ``"pauser"``."""
        return to_checksum_address(await self._read(name, [], "address", block))

    async def delays(self) -> tuple[int, int]:
        """Seconds from the request of an exit to the exit, and from the proposal of a token to its listing."""
        exits, listings = [await self._read(name, [], "uint256", "latest") for name in ("EXIT_DELAY", "LISTING_DELAY")]
        return int(exits), int(listings)

    async def owner(self, account: bytes, block: Block = "latest") -> str | None:
        """The wallet that owns an account, or None."""
        found = to_checksum_address(await self._read("owner", [account], "address", block))
        return None if found == _ZERO_ADDRESS else found

    async def claimable(self, address: str, token: str, block: Block = "latest") -> int:
        """What the address can claim, in the token's base units."""
        args = [to_checksum_address(address), to_checksum_address(token)]
        return int(await self._read("claimable", args, "uint256", block))

    async def holding(self, token: str, block: Block = "latest") -> int:
        """How much of a token the contract itself has, in the token's base units."""
        answer = await self.chain.call(token, _BALANCE_OF + encode(["address"], [self.address]), block=block)
        if len(answer) != 32:
            raise WrongAnswer(f"balanceOf of {token} gave {len(answer)} bytes at block {block}, expected 32")
        return int.from_bytes(answer, "big")

    async def deposit_count(self, block: Block = "latest") -> int:
        """How many deposits there were."""
        return int(await self._read("deposit_count", [], "uint256", block))

    async def claim_count(self, block: Block = "latest") -> int:
        """How many claims there were."""
        return int(await self._read("claim_count", [], "uint256", block))

    async def money_in_and_out(self, from_block: int, to_block: int) -> Money:
        """What the blocks from_block..to_block (both included) brought, each in chain order.

        Asks in steps of ``log_blocks_max`` blocks. The caller gives finalized blocks only if it credits.
        """
        found = Money([], [], [])
        topics = [DEPOSITED_TOPIC, CLAIMED_TOPIC, EXITED_TOPIC, EXIT_REQUESTED_TOPIC, EXIT_CANCELED_TOPIC]
        for first in range(from_block, to_block + 1, self._log_blocks_max):
            last = min(first + self._log_blocks_max - 1, to_block)
            logs = await self.chain.logs(self.address, [topics], first, last)
            async with _translated("eth_getLogs"):
                _sort_out(logs, found)
        return found

    async def _read(self, name: str, args: list[Any], returns: str, block: Block) -> Any:
        answer = await self.chain.call(self.address, self.calldata(name, *args), block=block)
        if len(answer) != 32:
            raise WrongAnswer(f"{name} gave {len(answer)} bytes at block {block}, expected 32")
        return decode([returns], answer)[0]

    # Writing: bytes to simulate, sign and send; nothing here sends

    def calldata(self, function: str, *args: Any) -> bytes:
        """The calldata of any function of the ABI."""
        selector, types = self._functions[function]
        return selector + encode(types, args)

    def settle_calldata(
        self,
        shard: int,
        first: int,
        last: int,
        deltas: Iterable[Delta],
        withdrawals: Iterable[Withdrawal] = (),
        links: Iterable[Link] = (),
    ) -> bytes:
        """The calldata of settle; deltas and withdrawals are put in the contract's order. Deterministic.

        Raises:
            ValueError: a leg or withdrawal is given twice, a token does not sum to zero, or there are too many.
        """
        return self.calldata("settle", shard, first, last, *settle_lists(deltas, withdrawals, links))

    async def simulate(self, calldata: bytes, sender: str, block: Block = "latest") -> LegRefused | None:
        """Runs calldata as ``sender`` without sending it: None if it would pass, else the leg that is refused.

        Raises:
            CallReverted: any other reason (NotNext for the cursor).
        """
        try:
            await self.chain.call(self.address, calldata, sender=sender, block=block)
        except _RefusedLeg as refused:
            return refused.leg
        return None


class WrongAnswer(ChainUnavailable):
    """An answer that does not fit the ABI: the contract is gone (a reset or reorganised chain) or another one."""


class _MethodMissing(ChainUnavailable):
    pass


class _RefusedLeg(CallReverted):
    def __init__(self, leg: LegRefused) -> None:
        super().__init__(f"account {leg.account.hex()} cannot pay its leg in token {leg.token}")
        self.leg = leg


# Pure helpers


def account_key(account_id: int) -> bytes:
    """The contract's key of an account: the id as uint256, big-endian."""
    return account_id.to_bytes(32, "big")


def asset_key(symbol: str) -> bytes:
    """The contract's key of an asset: its symbol in ASCII, left-aligned in 32 bytes.

    Raises:
        ValueError: not ASCII, or longer than 32.
    """
    raw = symbol.encode("ascii")
    if len(raw) > 32:
        raise ValueError(f"asset symbol longer than 32: {symbol!r}")
    return raw.ljust(32, b"\0")


def sort_deltas(deltas: Iterable[Delta], withdrawals: Iterable[Withdrawal] = ()) -> list[Delta]:
    """The legs by (token, account), as the contract wants them beside these withdrawals.

    Raises:
        ValueError: they are no batch.
    """
    legs = sorted(deltas, key=lambda d: (int(d.token, 16), d.account))
    if len(legs) > DELTAS_MAX:
        raise ValueError(f"{len(legs)} legs, the contract takes {DELTAS_MAX}")
    sums: dict[int, int] = {}
    for withdrawal in withdrawals:
        token = int(withdrawal.token, 16)
        sums[token] = sums.get(token, 0) + withdrawal.amount
    keys = set()
    for leg in legs:
        token = int(leg.token, 16)
        sums[token] = sums.get(token, 0) + leg.amount
        keys.add((token, leg.account))
    if len(keys) != len(legs):
        raise ValueError("a leg is given twice")
    if any(sums.values()):
        raise ValueError("a token does not sum to zero")
    return legs


def sort_withdrawals(withdrawals: Iterable[Withdrawal]) -> list[Withdrawal]:
    """The withdrawals by (token, address), as the contract wants them; raises ValueError if it would refuse them."""
    ordered = sorted(withdrawals, key=lambda w: (int(w.token, 16), int(w.to, 16)))
    if len(ordered) > WITHDRAWALS_MAX:
        raise ValueError(f"{len(ordered)} withdrawals, the contract takes {WITHDRAWALS_MAX}")
    if len({(int(w.token, 16), int(w.to, 16)) for w in ordered}) != len(ordered):
        raise ValueError("a withdrawal is given twice")
    if any(w.amount <= 0 or int(w.to, 16) == 0 for w in ordered):
        raise ValueError("a withdrawal of nothing, or to nobody")
    return ordered


def settle_lists(
    deltas: Iterable[Delta], withdrawals: Iterable[Withdrawal] = (), links: Iterable[Link] = ()
) -> SettleLists:
    """The lists that settle takes, in its order; raises ValueError if they are no batch."""
    out = sort_withdrawals(withdrawals)
    legs = [(d.account, str(to_checksum_address(d.token)), d.amount) for d in sort_deltas(deltas, out)]
    owners = [(link.account, str(to_checksum_address(link.owner))) for link in links]
    if len(owners) > LINKS_MAX:
        raise ValueError(f"{len(owners)} links, the contract takes {LINKS_MAX}")
    return legs, [(to_checksum_address(w.token), to_checksum_address(w.to), w.amount) for w in out], owners


def chained_hash(
    previous: bytes,
    shard: int,
    first: int,
    last: int,
    deltas: Iterable[Delta],
    withdrawals: Iterable[Withdrawal] = (),
    links: Iterable[Link] = (),
) -> bytes:
    """The batch hash that the contract computes; ``previous`` is 32 zero bytes for a shard's first batch."""
    types = ["(bytes32,address,int256)[]", "(address,address,uint256)[]", "(bytes32,address)[]"]
    return chain_hash(previous, shard, first, last, keccak(encode(types, settle_lists(deltas, withdrawals, links))))


def chain_hash(previous: bytes, shard: int, first: int, last: int, content: bytes) -> bytes:
    """The batch hash after a batch whose lists have the hash `content`."""
    return keccak(encode(["bytes32", "uint64", "uint64", "uint64", "bytes32"], [previous, shard, first, last, content]))


def _transaction(sender: str | None, to: str | None, data: bytes) -> TxParams:
    """What eth_call and eth_estimateGas are asked; without ``to`` it creates a contract."""
    params: TxParams = {"data": cast("HexStr", "0x" + data.hex())}
    if sender is not None:
        params["from"] = to_checksum_address(sender)
    if to is not None:
        params["to"] = to_checksum_address(to)
    return params


def settle_gas_limit(legs: int) -> int:
    """Gas that a batch of so many legs, withdrawals and links does not reach at Cancun's prices (bench/gas.py).

    Where a chain's are higher, :meth:`Chain.gas_limit` finds out.
    """
    return 120_000 + 33_000 * legs


def check_abi(abi: Abi) -> None:
    """Raises ChainMisconfigured if the ABI lacks a function that the settler calls."""
    try:
        present = {_signature(entry) for entry in abi if entry.get("type") == "function"}
        events = {_signature(entry) for entry in abi if entry.get("type") == "event"}
    except (AttributeError, KeyError, TypeError) as wrong:
        raise ChainMisconfigured("SETTLEMENT_CONTRACT_ABI is not a contract ABI") from wrong
    missing = [signature for signature in NEEDED_FUNCTIONS.values() if signature not in present]
    missing += [f"event {event}" for event in NEEDED_EVENTS if event not in events]
    if missing:
        raise ChainMisconfigured(f"the contract's ABI lacks {', '.join(missing)}")


def load_abi(source: str | Path | None = None) -> Abi:
    """An ABI from a file, from JSON text, or (None) the committed one. A file may hold the ABI or {"abi": …}.

    Raises:
        ChainMisconfigured: no such file, or not an ABI.
    """
    if source is None:
        return cast("Abi", artifact("Clearbook")["abi"])
    text = str(source).strip()
    try:
        if not text.startswith(("[", "{")):
            text = Path(text).read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError) as wrong:
        raise ChainMisconfigured(f"SETTLEMENT_CONTRACT_ABI cannot be read: {wrong}") from wrong
    abi = content.get("abi") if isinstance(content, dict) else content
    if not isinstance(abi, list):
        raise ChainMisconfigured("SETTLEMENT_CONTRACT_ABI is not a contract ABI")
    return abi


@cache
def artifact(name: str) -> dict[str, Any]:
    """The committed build of a contract: abi, bytecode, runtime (hex)."""
    path = Path(__file__).resolve().parents[2] / "contracts" / f"{name}.json"
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


def decode_revert(data: bytes) -> CallReverted:
    """The exception for a call's revert data."""
    if data[:4] == _LEG_REFUSED:
        account, token = decode(["bytes32", "address"], data[4:])
        return _RefusedLeg(LegRefused(account, to_checksum_address(token)))
    if data[:4] == _NOT_NEXT:
        return NotNext(*decode(["uint64", "uint64"], data[4:]))
    if data[:4] == _REASON:
        return CallReverted(str(decode(["string"], data[4:])[0]))
    return CallReverted("0x" + data.hex() if data else "no reason given")


def _signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(_type(argument) for argument in entry['inputs'])})"


def _function(entry: dict[str, Any]) -> tuple[bytes, list[str]]:
    return keccak(text=_signature(entry))[:4], [_type(argument) for argument in entry["inputs"]]


def _type(argument: dict[str, Any]) -> str:
    kind = str(argument["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type(part) for part in argument['components'])}){kind.removeprefix('tuple')}"


def _sort_out(logs: list[Any], found: Money) -> None:
    """Adds what the logs tell, in their order."""
    for log in logs:
        if log.get("removed"):
            continue
        topic = log["topics"][0]
        if topic == DEPOSITED_TOPIC:
            found.deposits.append(_deposit(log))
        elif topic in {CLAIMED_TOPIC, EXITED_TOPIC}:
            found.claims.append(_claim(log) if topic == CLAIMED_TOPIC else _exit(log))
        else:
            found.exits.append(_exit_request(log))


def _deposit(log: dict[str, Any]) -> Deposit:
    _, index, account, token = log["topics"]
    return Deposit(
        index=int(index, 16),
        account=bytes.fromhex(account[2:]),
        token=to_checksum_address("0x" + token[-40:]),
        amount=int(log["data"], 16),
        block_number=int(log["blockNumber"], 16),
        block_hash=log["blockHash"],
        transaction_hash=log["transactionHash"],
    )


def _claim(log: dict[str, Any]) -> Claim:
    _, index, address, token = log["topics"]
    return Claim(
        index=int(index, 16),
        address="0x" + address[-40:].lower(),
        token=to_checksum_address("0x" + token[-40:]),
        amount=int(log["data"], 16),
        block_number=int(log["blockNumber"], 16),
        transaction_hash=log["transactionHash"],
    )


def _exit(log: dict[str, Any]) -> Claim:
    _, index, account, token = log["topics"]
    to, amount = decode(["address", "uint256"], bytes.fromhex(log["data"][2:]))
    return Claim(
        index=int(index, 16),
        address=str(to).lower(),
        token=to_checksum_address("0x" + token[-40:]),
        amount=int(amount),
        block_number=int(log["blockNumber"], 16),
        transaction_hash=log["transactionHash"],
        exited=bytes.fromhex(account[2:]),
    )


def _exit_request(log: dict[str, Any]) -> ExitRequest:
    topic, index, account = log["topics"]
    return ExitRequest(
        index=int(index, 16),
        account=bytes.fromhex(account[2:]),
        canceled=topic == EXIT_CANCELED_TOPIC,
        block_number=int(log["blockNumber"], 16),
        transaction_hash=log["transactionHash"],
    )


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()


def _host(url: str) -> str:
    """The URL without path and credentials, which may hold an API key."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/')[0].rpartition('@')[2]}"


@asynccontextmanager
async def _translated(method: str) -> AsyncIterator[None]:
    """Turns what web3 and aiohttp raise into this module's exceptions."""
    try:
        yield
    except ContractLogicError as reverted:
        data = reverted.data if isinstance(reverted.data, str) else ""
        try:
            raw = bytes.fromhex(data.removeprefix("Reverted ").removeprefix("0x"))
        except ValueError:
            raw = b""
        raise (decode_revert(raw) if raw else CallReverted(reverted.message or "no reason given")) from None
    except TransactionNotFound:
        raise
    except Web3RPCError as error:
        message = _rpc_message(error)
        if isinstance(error, MethodUnavailable):
            raise _MethodMissing(f"the node has no {method}") from error
        if method == "eth_sendRawTransaction":
            raise SendRefused(message) from error
        raise ChainUnavailable(f"{method}: {message}") from error
    except ClientResponseError as error:  # its own text quotes the URL, which may hold an API key
        raise ChainUnavailable(f"{method}: HTTP {error.status}") from None
    except _NO_ANSWER as error:
        raise ChainUnavailable(f"{method}: {type(error).__name__}: {error}") from error


def _rpc_message(error: Web3RPCError) -> str:
    response = error.rpc_response
    if isinstance(response, dict):
        detail = response.get("error")
        if isinstance(detail, dict):
            return str(detail.get("message"))
    return str(error.message or error)
