"""The EVM without a chain around it: py-evm's state, no signatures, no blocks. For tests of a contract's bytecode."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from eth.chains.base import MiningChain
from eth.db.atomic import AtomicDB
from eth.exceptions import Revert
from eth.vm.forks.cancun import CancunVM
from eth.vm.spoof import SpoofTransaction
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

CONTRACTS = Path(os.environ.get("CLEARBOOK_CONTRACTS") or Path(__file__).resolve().parents[2] / "contracts")
"""Where the builds are; test_contract_mutants.py puts broken ones elsewhere."""
GAS = 29_000_000


class Refused(Exception):
    """A call reverted; ``data`` is its revert data, ``reason`` the text of it if it is Error(string)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        is_text = data[:4] == keccak(text="Error(string)")[:4]
        self.reason = str(decode(["string"], data[4:])[0]) if is_text else data.hex()
        super().__init__(self.reason)


@cache
def artifact(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CONTRACTS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def kind(argument: dict[str, Any]) -> str:
    """The canonical type of an ABI argument, structs as tuples."""
    given = str(argument["type"])
    if not given.startswith("tuple"):
        return given
    return f"({','.join(kind(part) for part in argument['components'])}){given.removeprefix('tuple')}"


def address(number: int) -> str:
    """A plain account, recognisable in a failure."""
    return to_checksum_address(bytes([0xA0 + number]) * 20)


class Evm:
    def __init__(self) -> None:
        chain: Any = MiningChain.configure(vm_configuration=((0, CancunVM),), chain_id=1)
        header = {"difficulty": 0, "gas_limit": 30_000_000, "timestamp": 1, "nonce": b"\0" * 8}
        self._context = chain.from_genesis(AtomicDB(), header, {}).get_vm().in_costless_state()
        self.state: Any = self._context.__enter__()

    @property
    def now(self) -> int:
        """The blocks' time, in seconds."""
        return int(self.state.timestamp)

    def wait(self, seconds: int) -> None:
        """Lets time pass."""
        self.state.execution_context._timestamp = self.now + seconds

    def run(self, sender: str, to: bytes, data: bytes) -> Any:
        builder: Any = CancunVM.get_transaction_builder()
        origin = bytes.fromhex(sender[2:])
        unsigned = builder.create_unsigned_transaction(
            nonce=self.state.get_nonce(origin), gas_price=0, gas=GAS, to=to, value=0, data=data
        )
        computation = self.state.costless_execute_transaction(SpoofTransaction(unsigned, from_=origin))
        if computation.is_error:
            if isinstance(computation.error, Revert):
                raise Refused(bytes(computation.error.args[0]) if computation.error.args else b"")
            raise computation.error
        return computation

    def deploy(self, name: str, sender: str, *args: Any) -> "Contract":
        built = artifact(name)
        inputs: list[Any] = next((entry["inputs"] for entry in built["abi"] if entry["type"] == "constructor"), [])
        arguments = encode([argument["type"] for argument in inputs], args)
        computation = self.run(sender, b"", bytes.fromhex(built["bytecode"][2:]) + arguments)
        return Contract(self, to_checksum_address(computation.msg.storage_address), built["abi"])


class Contract:
    """Calls by name: ``contract.send(sender, "settle", …)`` gives the logs, ``contract.get("balances", …)`` a value."""

    def __init__(self, evm: Evm, at: str, abi: Any) -> None:
        self.evm = evm
        self.address = at
        self._takes = {e["name"]: [kind(i) for i in e["inputs"]] for e in abi if e["type"] == "function"}
        self._returns = {e["name"]: [o["type"] for o in e["outputs"]] for e in abi if e["type"] == "function"}
        self._events = {
            keccak(text=f"{e['name']}({','.join(i['type'] for i in e['inputs'])})"): e
            for e in abi
            if e["type"] == "event"
        }

    def calldata(self, function: str, *args: Any) -> bytes:
        types = self._takes[function]
        return keccak(text=f"{function}({','.join(types)})")[:4] + encode(types, args)

    def send(self, sender: str, function: str, *args: Any) -> list[tuple[str, dict[str, Any]]]:
        computation = self.evm.run(sender, bytes.fromhex(self.address[2:]), self.calldata(function, *args))
        logs = [self._event(*log) for log in computation.get_log_entries()]
        return [log for log in logs if log is not None]

    def get(self, function: str, *args: Any) -> Any:
        to = bytes.fromhex(self.address[2:])
        computation = self.evm.run(address(15), to, self.calldata(function, *args))
        return decode(self._returns[function], computation.output)[0]

    def _event(self, source: bytes, topics: list[int], data: bytes) -> tuple[str, dict[str, Any]] | None:
        entry = self._events.get(topics[0].to_bytes(32, "big"))
        if entry is None or source != bytes.fromhex(self.address[2:]):
            return None
        indexed = iter(topics[1:])
        plain = iter(decode([i["type"] for i in entry["inputs"] if not i["indexed"]], data))
        values = {
            i["name"]: decode([i["type"]], next(indexed).to_bytes(32, "big"))[0] if i["indexed"] else next(plain)
            for i in entry["inputs"]
        }
        return entry["name"], values
