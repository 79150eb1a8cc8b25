"""The JSON-RPC of the development chain: method names, parameters and errors, no HTTP."""

import json
from collections.abc import Callable
from typing import Any, Final

from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from services.cli.devchain import CHAIN_ID
from services.cli.devchain_chain import TIP_WEI, DevChain, RpcError

BATCH_REQUESTS_MAX: Final = 100
FEE_BLOCKS_MAX: Final = 1024

Method = Callable[[DevChain, list[Any]], Any]


def _at(params: list[Any], index: int) -> str | int:
    """The block parameter; latest if it is left out."""
    return params[index] if len(params) > index else "latest"


def _raw(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise RpcError(-32602, "not hex data") from error


def _fee_history(chain: DevChain, params: list[Any]) -> dict[str, Any]:
    count = min(int(params[0], 16) if isinstance(params[0], str) else int(params[0]), FEE_BLOCKS_MAX)
    newest = chain.header(_at(params, 1)).block_number
    headers = [chain.header(number) for number in range(max(0, newest - count + 1), newest + 1)]
    fees = [hex(header.base_fee_per_gas) for header in headers]
    used = [round(header.gas_used / header.gas_limit, 4) for header in headers]
    return {
        "oldestBlock": hex(headers[0].block_number),
        "baseFeePerGas": [*fees, fees[-1]],
        "gasUsedRatio": used,
        "reward": [[hex(TIP_WEI)] * len(params[2]) for _ in headers] if len(params) > 2 and params[2] else None,
    }


def _mine(chain: DevChain, params: list[Any]) -> str:  # noqa: ARG001 (every method takes parameters)
    chain.mine()
    return "0x0"


def _block_by_hash(chain: DevChain, params: list[Any]) -> dict[str, Any] | None:
    return chain.block_by_hash(_raw(params[0]), whole=bool(params[1:2] and params[1]))


METHODS: Final[dict[str, Method]] = {
    "web3_clientVersion": lambda _chain, _p: "clearbook-devchain/py-evm",
    "web3_sha3": lambda _chain, p: "0x" + keccak(_raw(p[0])).hex(),
    "net_version": lambda _chain, _p: str(CHAIN_ID),
    "net_listening": lambda _chain, _p: True,
    "eth_chainId": lambda _chain, _p: hex(CHAIN_ID),
    "eth_syncing": lambda _chain, _p: False,
    "eth_accounts": lambda _chain, _p: [],
    "eth_blockNumber": lambda chain, _p: hex(chain.head.block_number),
    "eth_getBlockByNumber": lambda chain, p: chain.block(p[0], whole=bool(p[1:2] and p[1])),
    "eth_getBlockByHash": _block_by_hash,
    "eth_getBalance": lambda chain, p: hex(chain.state(_at(p, 1)).get_balance(_raw(p[0]))),
    "eth_getCode": lambda chain, p: "0x" + chain.state(_at(p, 1)).get_code(_raw(p[0])).hex(),
    "eth_getTransactionCount": lambda chain, p: hex(chain.state(_at(p, 1)).get_nonce(_raw(p[0]))),
    "eth_getStorageAt": lambda chain, p: (
        "0x" + chain.state(_at(p, 2)).get_storage(_raw(p[0]), int(p[1], 16)).to_bytes(32, "big").hex()
    ),
    "eth_call": lambda chain, p: "0x" + chain.call(p[0], _at(p, 1)).hex(),
    "eth_estimateGas": lambda chain, p: hex(chain.estimate_gas(p[0], _at(p, 1))),
    "eth_sendRawTransaction": lambda chain, p: chain.send_raw(_raw(p[0])),
    "eth_getTransactionReceipt": lambda chain, p: chain.receipt(p[0]),
    "eth_getTransactionByHash": lambda chain, p: chain.transaction(p[0]),
    "eth_getLogs": lambda chain, p: chain.logs(p[0]),
    "eth_gasPrice": lambda chain, _p: hex(chain.head.base_fee_per_gas + TIP_WEI),
    "eth_maxPriorityFeePerGas": lambda _chain, _p: hex(TIP_WEI),
    "eth_feeHistory": _fee_history,
    "evm_mine": _mine,
}


def answer(chain: DevChain, request: Any) -> dict[str, Any]:
    """One JSON-RPC request in, one response out; every refusal is an error object."""
    if not isinstance(request, dict) or not isinstance(request.get("params", []), list):
        return _error(None, -32600, "not a JSON-RPC request")
    number = request.get("id")
    method = METHODS.get(str(request.get("method")))
    if method is None:
        return _error(number, -32601, f"the method {request.get('method')} does not exist")
    try:
        return {"jsonrpc": "2.0", "id": number, "result": method(chain, request.get("params", []))}
    except RpcError as error:
        return _error(number, error.code, error.message, error.data)
    except (
        ValidationError,
        RecursionError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:
        return _error(number, -32602, f"invalid parameters: {error}")


def _error(number: Any, code: int, message: str, data: str | None = None) -> dict[str, Any]:
    body = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": number, "error": body}


def answer_body(chain: DevChain, body: bytes) -> Any:
    """A request body, one request or a batch, to what is sent back."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return _error(None, -32700, "not JSON")
    if not isinstance(parsed, list):
        return answer(chain, parsed)
    if not 1 <= len(parsed) <= BATCH_REQUESTS_MAX:
        return _error(None, -32600, f"a batch holds 1 to {BATCH_REQUESTS_MAX} requests")
    return [answer(chain, request) for request in parsed]
