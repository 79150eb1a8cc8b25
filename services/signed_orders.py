"""Orders that an account's wallet has signed (EIP-712): what is signed, its hash, and its text for journals. Pure.

The contract's `settle_signed` makes the same hash of what it is given; whatever differs is not what was signed.
"""

from typing import Any, Final, NamedTuple

from eth_utils.crypto import keccak

AMOUNT_MAX: Final = 2**128 - 1
"""Base units that an order may name: the contract multiplies two of them."""
TIME_MAX: Final = 2**63 - 1
"""Seconds since 1970 that an order may name."""
SETTLED_WITHIN_SECONDS: Final = 86_400
"""How long the chain has to settle a signed order's trades after the order's end."""
LIFE_SECONDS_MAX: Final = 86_400
"""How long a signed order may trade: as long as a client_order_id is taken after the end of its order. So who signs the
same again signs what has expired, and no two orders have one hash."""
SIGNATURE_BYTES: Final = 65

ORDER_FIELDS: Final = (
    ("account", "uint256"),
    ("base", "string"),
    ("quote", "string"),
    ("buys", "bool"),
    ("base_amount", "uint256"),
    ("quote_amount", "uint256"),
    ("fee_max_ppm", "uint256"),
    ("expires_at", "uint256"),
    ("client_order_id", "string"),
)
"""What is signed: names and EIP-712 types, in order."""
DOMAIN_FIELDS: Final = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)
DOMAIN_NAME: Final = "Clearbook"
DOMAIN_VERSION: Final = "1"


class Domain(NamedTuple):
    """Where a signature counts: one contract (0x and 40 hexadecimal digits) on one chain, and nowhere else."""

    chain_id: int
    contract: str


class SignedOrder(NamedTuple):
    """What a wallet signs.

    Attributes:
        account_id: whose order.
        base: symbol of the asset that is bought or sold.
        quote: symbol of what it is paid with.
        buys: or sells.
        base_amount: all of it, in base units.
        quote_amount: what that may cost at most, or must bring at least, in base units: the price limit.
        fee_max_ppm: of what it receives, in parts per million.
        expires_at: until when the chain settles it, in seconds since 1970.
        client_order_id: the client's; the same order is placed once by it.
    """

    account_id: int
    base: str
    quote: str
    buys: bool
    base_amount: int
    quote_amount: int
    fee_max_ppm: int
    expires_at: int
    client_order_id: str


class Authorization(NamedTuple):
    """What of a signed order its trades do not say, and the signature: r, s, v."""

    base_amount: int
    quote_amount: int
    fee_max_ppm: int
    expires_at: int
    client_order_id: str
    signature: bytes


def order_hash(order: SignedOrder, domain: Domain) -> bytes:
    """What is signed, and what the contract counts fills by."""
    return bytes(keccak(b"\x19\x01" + domain_separator(domain) + _struct("Order", ORDER_FIELDS, order)))


def domain_separator(domain: Domain) -> bytes:
    """The contract's `domain_separator()`."""
    named = (DOMAIN_NAME, DOMAIN_VERSION, domain.chain_id, int(domain.contract, 16))
    return _struct("EIP712Domain", DOMAIN_FIELDS, named)


def typed_data(order: SignedOrder, domain: Domain) -> dict[str, Any]:
    """The same as wallets want it (eth_signTypedData_v4, eth_account's full_message)."""
    types = {"EIP712Domain": DOMAIN_FIELDS, "Order": ORDER_FIELDS}
    return {
        "types": {kind: [{"name": n, "type": t} for n, t in fields] for kind, fields in types.items()},
        "primaryType": "Order",
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        "message": dict(zip((name for name, _ in ORDER_FIELDS), order, strict=True)),
    }


def text_of(given: Authorization) -> str:
    """An authorization as one line of printable ASCII, as journals keep it."""
    *fields, signature = given
    return " ".join([*map(str, fields), signature.hex()])


def of_text(text: str) -> Authorization:
    """And back. Raises ValueError: it is none."""
    base_amount, quote_amount, fee_max_ppm, expires_at, client_order_id, signature = text.split(" ")
    raw = bytes.fromhex(signature)
    if len(raw) != SIGNATURE_BYTES:
        raise ValueError(f"a signature of {len(raw)} bytes")
    return Authorization(int(base_amount), int(quote_amount), int(fee_max_ppm), int(expires_at), client_order_id, raw)


def _struct(kind: str, fields: tuple[tuple[str, str], ...], values: tuple[Any, ...]) -> bytes:
    described = f"{kind}({','.join(f'{of} {name}' for name, of in fields)})"
    words = [_word(value) for value in values]
    assert len(words) == len(fields), "a value for each field"
    return bytes(keccak(keccak(text=described) + b"".join(words)))


def _word(value: str | int) -> bytes:
    return bytes(keccak(text=value)) if isinstance(value, str) else value.to_bytes(32, "big")
