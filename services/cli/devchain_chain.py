"""The development chain itself: py-evm on a SQLite file, one block per transaction, no HTTP.

py-evm (the engine of eth-tester, used directly because that finds a receipt by its hash instead of by a scan of all
blocks) keeps everything it knows in a key-value store, the head of the chain included. Here that store is a
SQLite table, and a block with all it changes is one transaction of it, synced before the sender is answered. So the
chain restarts from any kill at the block after the last one acknowledged, at once, and nothing is replayed.
"""

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.db.backends.base import BaseDB
from eth.exceptions import CanonicalHeadNotFound, HeaderNotFound, Revert, TransactionNotFound
from eth.vm.forks.cancun import CancunVM
from eth.vm.spoof import SpoofTransaction
from eth_bloom.bloom import BloomFilter
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from rlp import encode as rlp_encode  # type: ignore[import-untyped]

from services.cli.devchain import CHAIN_ID, DEV_ADDRESSES

RECURSION_MAX: Final = 6000
# py_ecc lifts the limit to 100,000: a deeply nested request would overflow the C stack before Python noticed.
sys.setrecursionlimit(RECURSION_MAX)

BLOCK_GAS_MAX: Final = 30_000_000
LOG_BLOCKS_MAX: Final = 10_000
TIP_WEI: Final = 1_000_000_000

DEV_BALANCE_WEI: Final = 10**24

_GENESIS: Final[dict[str, Any]] = {
    "coinbase": b"\0" * 20,
    "difficulty": 0,
    "extra_data": b"",
    "gas_limit": BLOCK_GAS_MAX,
    "mix_hash": b"\0" * 32,
    "nonce": b"\0" * 8,
    "timestamp": 1,
}
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


class RpcError(Exception):
    """What a JSON-RPC error object holds. Code 3 is a revert, with its data."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class _Store(BaseDB):
    """py-evm's key-value store in one table. Use it inside :meth:`transaction` and from one thread only."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(path, isolation_level=None, timeout=0)
        self._sql.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second devchain on the same data is refused
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = FULL")
        self._sql.execute(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. A failed sync ends the process: whether the block is on disk is then unknown."""
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sql.execute("ROLLBACK")
            raise
        try:
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            print(f"devchain: cannot write its file: {error}", flush=True)
            os._exit(1)

    def close(self) -> None:
        self._sql.close()

    def __getitem__(self, key: bytes) -> bytes:
        row = self._sql.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._sql.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        if self._sql.execute("DELETE FROM kv WHERE key = ?", (key,)).rowcount == 0:
            raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        return self._sql.execute("SELECT 1 FROM kv WHERE key = ?", (key,)).fetchone() is not None


class _Evm(MiningChain):
    chain_id = CHAIN_ID
    vm_configuration: Any = ((0, CancunVM),)

    def create_header_from_parent(self, parent_header: Any, **params: Any) -> Any:
        return super().create_header_from_parent(parent_header, **{**params, "gas_limit": parent_header.gas_limit})


class DevChain:
    """The chain. Blocking, and for one thread only: sqlite3 insists on it."""

    def __init__(self, folder: Path) -> None:
        """Opens the chain in ``folder``, or makes one. Raises sqlite3.OperationalError if another process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._store = _Store(folder / "devchain.sqlite3")
        database = AtomicDB(self._store)
        self._evm: Any
        with self._store.transaction():
            try:
                self._evm = _Evm(database)
            except CanonicalHeadNotFound:
                funded = {"balance": DEV_BALANCE_WEI, "storage": {}, "code": b"", "nonce": 0}
                alloc: Any = {bytes.fromhex(address[2:]): funded for address in DEV_ADDRESSES}
                self._evm = _Evm.from_genesis(database, _GENESIS, alloc)

    def close(self) -> None:
        """Closes the file."""
        self._store.close()

    # Blocks

    @property
    def head(self) -> Any:
        """The newest header."""
        return self._evm.get_canonical_head()

    def header(self, block: str | int) -> Any:
        """The header that a block parameter names; raises RpcError if there is none."""
        if block in {"latest", "pending", "safe", "finalized"}:
            return self.head
        try:
            number = 0 if block == "earliest" else int(block, 16) if isinstance(block, str) else int(block)
            return self._evm.get_canonical_block_header_by_number(number)
        except (HeaderNotFound, ValueError, TypeError, ValidationError) as error:
            raise RpcError(-32000, f"block not found: {block}") from error

    def block(self, block: str | int, *, whole: bool) -> dict[str, Any] | None:
        """A block as JSON-RPC shows it, or None."""
        try:
            return self._block_json(self.header(block), whole=whole)
        except RpcError:
            return None

    def block_by_hash(self, block_hash: bytes, *, whole: bool) -> dict[str, Any] | None:
        """As :meth:`block`, by hash."""
        try:
            return self._block_json(self._evm.get_block_header_by_hash(block_hash), whole=whole)
        except (HeaderNotFound, ValidationError):
            return None

    def _block_json(self, header: Any, *, whole: bool) -> dict[str, Any]:
        transactions = self._transactions(header)
        return {
            "number": hex(header.block_number),
            "hash": _hex(header.hash),
            "parentHash": _hex(header.parent_hash),
            "nonce": _hex(header.nonce),
            "sha3Uncles": _hex(header.uncles_hash),
            "logsBloom": _hex(header.bloom.to_bytes(256, "big")),
            "transactionsRoot": _hex(header.transaction_root),
            "receiptsRoot": _hex(header.receipt_root),
            "stateRoot": _hex(header.state_root),
            "miner": _hex(header.coinbase),
            "mixHash": _hex(header.mix_hash),
            "difficulty": hex(header.difficulty),
            "totalDifficulty": "0x0",
            "extraData": _hex(header.extra_data),
            "size": hex(len(rlp_encode(header))),
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "timestamp": hex(header.timestamp),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "transactions": [self._transaction_json(t, header) if whole else _hex(t.hash) for t in transactions],
            "uncles": [],
        }

    def mine(self) -> None:
        """Mines an empty block."""
        with self._store.transaction():
            self._mine([])

    # Transactions

    def send_raw(self, raw: bytes) -> str:
        """Mines a block with this one transaction, on disk before this returns. A reverted one is mined too.

        Raises:
            RpcError: in geth's words: already known, nonce too low, insufficient funds, …
        """
        transaction = self._decode(raw)
        self._admit(transaction)
        try:
            with self._store.transaction():
                self._mine([transaction])
        except ValidationError as error:
            raise RpcError(-32000, str(error)) from error
        return _hex(transaction.hash)

    def receipt(self, transaction_hash: str) -> dict[str, Any] | None:
        """A receipt as JSON-RPC shows it, or None."""
        found = self._find(transaction_hash)
        if found is None:
            return None
        header, transaction = found
        (receipt,) = self._receipts(header)
        creates = transaction.to == b""
        created = keccak(rlp_encode([transaction.sender, transaction.nonce]))[12:]
        return {
            "type": hex(_type(transaction)),
            "transactionHash": _hex(transaction.hash),
            "transactionIndex": "0x0",
            "blockHash": _hex(header.hash),
            "blockNumber": hex(header.block_number),
            "from": _hex(transaction.sender),
            "to": None if creates else _hex(transaction.to),
            "contractAddress": _hex(created) if creates else None,
            "cumulativeGasUsed": hex(receipt.gas_used),
            "gasUsed": hex(receipt.gas_used),
            "effectiveGasPrice": hex(_price(transaction, header)),
            "logs": self._logs_json(header, receipt.logs, transaction.hash),
            "logsBloom": _hex(header.bloom.to_bytes(256, "big")),
            "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
        }

    def transaction(self, transaction_hash: str) -> dict[str, Any] | None:
        """A mined transaction as JSON-RPC shows it, or None."""
        found = self._find(transaction_hash)
        return None if found is None else self._transaction_json(found[1], found[0])

    def logs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        """The logs that a filter names, in chain order; at most LOG_BLOCKS_MAX blocks a request."""
        if "blockHash" in query:
            raise RpcError(-32602, "eth_getLogs by blockHash is not here: use fromBlock and toBlock")
        first = self.header(query.get("fromBlock", "latest")).block_number
        to_block = query.get("toBlock", "latest")
        last = self.head.block_number if _beyond(to_block, self.head) else self.header(to_block).block_number
        if last - first >= LOG_BLOCKS_MAX:
            raise RpcError(-32602, f"at most {LOG_BLOCKS_MAX} blocks a request")
        addresses = _addresses(query.get("address"))
        topics = [_topics(topic) for topic in query.get("topics") or []]
        found: list[dict[str, Any]] = []
        for number in range(first, last + 1):
            header = self.header(number)
            bloom = BloomFilter(header.bloom)
            if not header.bloom or (addresses and not any(address in bloom for address in addresses)):
                continue
            (transaction,) = self._transactions(header)
            (receipt,) = self._receipts(header)
            entries = self._logs_json(header, receipt.logs, transaction.hash)
            found += [entry for entry in entries if _matches(entry, addresses, topics)]
        return found

    # State

    def state(self, block: str | int) -> Any:
        """py-evm's state after a block."""
        return self._evm.get_vm(self.header(block)).state

    def call(self, request: dict[str, Any], block: str | int) -> bytes:
        """eth_call. Raises RpcError 3 with the revert data, as geth and Anvil do."""
        with self._evm.get_vm(self.header(block)).in_costless_state() as state:
            computation = state.costless_execute_transaction(self._spoof(request, state, BLOCK_GAS_MAX))
        if computation.is_error:
            error = computation.error
            if isinstance(error, Revert):
                data = bytes(error.args[0]) if error.args else b""
                raise RpcError(3, "execution reverted", _hex(data))
            raise RpcError(-32000, f"{type(error).__name__}: {error}")
        return bytes(computation.output)

    def estimate_gas(self, request: dict[str, Any], block: str | int) -> int:
        """eth_estimateGas: a search over several runs, so seconds for a large batch."""
        self.call(request, block)
        header = self.header(block)
        with self._evm.get_vm(header).in_costless_state() as state:
            return int(self._evm.gas_estimator(state, self._spoof(request, state, BLOCK_GAS_MAX)))

    # Inside

    def _mine(self, transactions: list[Any]) -> None:
        head = self.head
        self._evm.header = self._evm.create_header_from_parent(
            head, timestamp=max(int(time.time()), head.timestamp + 1)
        )
        self._evm.mine_all(transactions)

    def _decode(self, raw: bytes) -> Any:
        try:
            transaction = CancunVM.get_transaction_builder().decode(raw)
            transaction.check_signature_validity()
        except Exception as error:  # rlp, eth_keys and py-evm each have their own
            raise RpcError(-32602, f"not a signed transaction: {error}") from error
        if transaction.chain_id not in {CHAIN_ID, None}:
            raise RpcError(-32000, f"invalid chain id {transaction.chain_id}, this is {CHAIN_ID}")
        return transaction

    def _admit(self, transaction: Any) -> None:
        """Refuses in geth's words what py-evm would refuse in its own."""
        if self._find(_hex(transaction.hash)) is not None:
            raise RpcError(-32000, "already known")
        head, state = self.head, self.state("latest")
        nonce = state.get_nonce(transaction.sender)
        if transaction.nonce < nonce:
            raise RpcError(-32000, f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.nonce > nonce:
            raise RpcError(-32000, f"nonce too high: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas > BLOCK_GAS_MAX:
            raise RpcError(-32000, "exceeds block gas limit")
        if transaction.gas < transaction.intrinsic_gas:
            raise RpcError(-32000, "intrinsic gas too low")
        base_fee = self._evm.create_header_from_parent(head).base_fee_per_gas
        if transaction.max_fee_per_gas < base_fee:
            raise RpcError(-32000, "max fee per gas less than block base fee")
        if state.get_balance(transaction.sender) < transaction.gas * transaction.max_fee_per_gas + transaction.value:
            raise RpcError(-32000, "insufficient funds for gas * price + value")

    def _spoof(self, request: dict[str, Any], state: Any, gas_max: int) -> Any:
        sender = _bytes(request.get("from") or "0x" + "00" * 20)
        builder: Any = CancunVM.get_transaction_builder()
        unsigned = builder.create_unsigned_transaction(
            nonce=state.get_nonce(sender),
            gas_price=0,
            gas=min(int(request.get("gas") or hex(gas_max), 16), gas_max),
            to=_bytes(request.get("to") or "0x"),
            value=int(request.get("value") or "0x0", 16),
            data=_bytes(request.get("input") or request.get("data") or "0x"),
        )
        return SpoofTransaction(unsigned, from_=sender)

    def _find(self, transaction_hash: str) -> tuple[Any, Any] | None:
        try:
            number, index = self._evm.get_canonical_transaction_index(_bytes(transaction_hash))
        except (TransactionNotFound, ValidationError):
            return None
        return self.header(number), self._evm.get_canonical_transaction_by_index(number, index)

    def _transactions(self, header: Any) -> tuple[Any, ...]:
        return tuple(self._evm.chaindb.get_block_transactions(header, CancunVM.get_transaction_builder()))

    def _receipts(self, header: Any) -> tuple[Any, ...]:
        return tuple(self._evm.chaindb.get_receipts(header, CancunVM.get_receipt_builder()))

    @staticmethod
    def _logs_json(header: Any, logs: Any, transaction_hash: bytes) -> list[dict[str, Any]]:
        return [
            {
                "address": _hex(log.address),
                "topics": [_hex(topic.to_bytes(32, "big")) for topic in log.topics],
                "data": _hex(log.data),
                "blockNumber": hex(header.block_number),
                "blockHash": _hex(header.hash),
                "transactionHash": _hex(transaction_hash),
                "transactionIndex": "0x0",
                "logIndex": hex(index),
                "removed": False,
            }
            for index, log in enumerate(logs)
        ]

    @staticmethod
    def _transaction_json(transaction: Any, header: Any) -> dict[str, Any]:
        return {
            "type": hex(_type(transaction)),
            "hash": _hex(transaction.hash),
            "nonce": hex(transaction.nonce),
            "blockHash": _hex(header.hash),
            "blockNumber": hex(header.block_number),
            "transactionIndex": "0x0",
            "from": _hex(transaction.sender),
            "to": None if transaction.to == b"" else _hex(transaction.to),
            "value": hex(transaction.value),
            "gas": hex(transaction.gas),
            "gasPrice": hex(_price(transaction, header)),
            "maxFeePerGas": hex(transaction.max_fee_per_gas),
            "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
            "input": _hex(transaction.data),
            "chainId": hex(CHAIN_ID),
            "v": hex(transaction.y_parity),
            "r": hex(transaction.r),
            "s": hex(transaction.s),
        }


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


def _bytes(text: Any) -> bytes:
    try:
        return bytes.fromhex(str(text).removeprefix("0x"))
    except ValueError as error:
        raise RpcError(-32602, "not hex data") from error


def _type(transaction: Any) -> int:
    return int(getattr(transaction, "type_id", None) or 0)


def _price(transaction: Any, header: Any) -> int:
    tip = min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - header.base_fee_per_gas)
    return int(header.base_fee_per_gas + tip)


def _beyond(block: Any, head: Any) -> bool:
    return isinstance(block, str) and block.startswith("0x") and int(block, 16) > head.block_number


def _addresses(given: Any) -> set[bytes]:
    if given is None:
        return set()
    return {_bytes(address) for address in ([given] if isinstance(given, str) else given)}


def _topics(given: Any) -> set[str]:
    """The topics accepted at one position; empty means any."""
    if given is None:
        return set()
    return {str(topic).lower() for topic in ([given] if isinstance(given, str) else given)}


def _matches(entry: dict[str, Any], addresses: set[bytes], topics: list[set[str]]) -> bool:
    if addresses and _bytes(entry["address"]) not in addresses:
        return False
    given = entry["topics"]
    return len(given) >= len(topics) and all(
        not wanted or topic in wanted for wanted, topic in zip(topics, given, strict=False)
    )
