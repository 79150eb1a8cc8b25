"""EIP-1559 transactions as bytes: what a signed one says, and the same again with other fees."""

from typing import Any, cast

from eth_typing import HexStr
from eth_utils.address import to_checksum_address
from rlp import decode as rlp_decode  # type: ignore[import-untyped]
from web3.types import TxParams

from services.settler.fees import Fees

_TYPE = 2
_FIELDS = 12
"""chain id, nonce, tip, most, gas, to, value, data, access list, and three of the signature."""


def unsigned(raw: bytes) -> TxParams:
    """What a signed transaction says, as it is given to a signer. Never one with an access list: we make none.

    Raises:
        ValueError: it is not a signed EIP-1559 transaction.
    """
    try:
        fields = rlp_decode(raw[1:]) if raw[:1] == bytes([_TYPE]) else None
    except Exception as wrong:  # rlp's own errors derive from nothing narrower
        raise ValueError("not a signed EIP-1559 transaction") from wrong
    if fields is None or len(fields) != _FIELDS or fields[8]:
        raise ValueError("not a signed EIP-1559 transaction without an access list")
    chain_id, nonce, tip, most, gas = (int.from_bytes(field, "big") for field in fields[:5])
    params: TxParams = {
        "type": _TYPE,
        "chainId": chain_id,
        "nonce": cast("Any", nonce),
        "gas": gas,
        "maxFeePerGas": cast("Any", most),
        "maxPriorityFeePerGas": cast("Any", tip),
        "value": cast("Any", int.from_bytes(fields[6], "big")),
        "data": cast("HexStr", "0x" + fields[7].hex()),
    }
    if fields[5]:
        params["to"] = to_checksum_address(fields[5])
    return params


def fees_of(raw: bytes) -> Fees:
    """What a signed transaction offers."""
    said = unsigned(raw)
    return Fees(int(cast("int", said["maxFeePerGas"])), int(cast("int", said["maxPriorityFeePerGas"])))


def with_fees(raw: bytes, fees: Fees) -> TxParams:
    """The same transaction, nonce and calldata included, with other fees; to be signed."""
    again = unsigned(raw)
    again["maxFeePerGas"] = cast("Any", fees.max_fee_wei)
    again["maxPriorityFeePerGas"] = cast("Any", fees.max_priority_fee_wei)
    return again
