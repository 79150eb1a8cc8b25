"""Batches of signed trades, as the contract's `settle_signed` takes them: calldata, batch hash, gas."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from services.settler.batch import Trade
from services.settler.contract import Link, SettlementContract, account_key, asset_key, chain_hash
from services.signed_orders import Authorization, of_text

ORDER_TYPE: Final = "(bytes32,uint256,uint256,uint256,uint256,bytes32,uint256,uint256,uint256)"
TRADE_TYPE: Final = f"(bytes32,bytes32,uint256,uint256,uint256,uint256,{ORDER_TYPE},{ORDER_TYPE})"
LEGS_PER_TRADE: Final = 8
"""As much gas as so many legs: six balances and two orders that are there for the first time (bench/gas.py)."""
_V_OF_PARITY: Final = {0: 27, 1: 28, 27: 27, 28: 28}
"""By the last byte of a signature: wallets write it in either way, the chain knows one."""

OrderWords: TypeAlias = tuple[bytes, int, int, int, int, bytes, int, int, int]
TradeWords: TypeAlias = tuple[bytes, bytes, int, int, int, int, OrderWords, OrderWords]
SignedLists: TypeAlias = tuple[list[TradeWords], list[tuple[bytes, str]]]
"""Trades and links as settle_signed takes them."""


def signed_lists(trades: Sequence[Trade], links: Iterable[Link] = ()) -> SignedLists:
    """The lists that settle_signed takes.

    Raises:
        ValueError: a trade has no signed orders.
    """
    return [_trade(trade) for trade in trades], [(link.account, str(to_checksum_address(link.owner))) for link in links]


def signed_calldata(
    contract: SettlementContract, shard: int, first: int, trades: Sequence[Trade], links: Iterable[Link] = ()
) -> bytes:
    """The calldata of settle_signed. Deterministic."""
    return contract.calldata("settle_signed", shard, first, *signed_lists(trades, links))


def signed_chained_hash(
    previous: bytes, shard: int, first: int, trades: Sequence[Trade], links: Iterable[Link] = ()
) -> bytes:
    """The batch hash that the contract computes."""
    content = keccak(encode([f"{TRADE_TYPE}[]", "(bytes32,address)[]"], signed_lists(trades, links)))
    return chain_hash(previous, shard, first, first + len(trades) - 1, content)


def _trade(trade: Trade) -> TradeWords:
    return (
        asset_key(trade.base),
        asset_key(trade.quote),
        trade.base_amount,
        trade.quote_amount,
        trade.buyer_fee,
        trade.seller_fee,
        _order(trade.buyer, of_text(trade.buy_order)),
        _order(trade.seller, of_text(trade.sell_order)),
    )


def _order(account_id: int, given: Authorization) -> OrderWords:
    signature = given.signature
    return (
        account_key(account_id),
        given.base_amount,
        given.quote_amount,
        given.fee_max_ppm,
        given.expires_at,
        keccak(text=given.client_order_id),
        int.from_bytes(signature[:32], "big"),
        int.from_bytes(signature[32:64], "big"),
        _V_OF_PARITY[signature[64]],
    )
