"""Wallets: what is an address, in every request the same, and whose signature it is."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_keys.backends import get_backend
from eth_keys.backends.coincurve import CoinCurveECCBackend
from eth_keys.backends.native.main import NativeECCBackend
from eth_keys.constants import SECPK1_N
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import Reason, Rejected
from services.order_gateway import money_wire
from services.order_gateway.identity.wallet_signature import signer, signer_of_hash
from services.order_gateway.wallet_address import checksummed

WALLET = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
DIGITS = WALLET[2:]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WALLET, WALLET),
        ("0x" + DIGITS.lower(), WALLET),
        ("0x" + DIGITS.upper(), WALLET),
        ("0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"),
        ("0x52908400098527886E0F7030069857D2E4169EE7", "0x52908400098527886E0F7030069857D2E4169EE7"),
        ("0xde709f2102306220921060314715629080e2fb77", "0xde709f2102306220921060314715629080e2fb77"),
        ("0x" + "1" * 40, "0x" + "1" * 40),
        ("0x" + DIGITS.replace("aA", "AA", 1), ValueError("does not have its checksum (EIP-55)")),
        ("0x" + DIGITS.swapcase(), ValueError("does not have its checksum (EIP-55)")),
        ("", ValueError("must be 0x and 40 hexadecimal digits")),
        (DIGITS, ValueError("must be 0x and 40 hexadecimal digits")),
        ("0X" + DIGITS, ValueError("must be 0x and 40 hexadecimal digits")),
        (WALLET[:-1], ValueError("must be 0x and 40 hexadecimal digits")),
        (WALLET + "0", ValueError("must be 0x and 40 hexadecimal digits")),
        (WALLET + "\n", ValueError("must be 0x and 40 hexadecimal digits")),
        ("0x" + "g" * 40, ValueError("must be 0x and 40 hexadecimal digits")),
        ("0x" + "１" * 40, ValueError("must be 0x and 40 hexadecimal digits")),
    ],
)
def test_addresses(text: str, found: str | ValueError) -> None:
    if isinstance(found, str):
        assert checksummed(text) == found
        assert money_wire.address(text) == found.lower()
        return
    with pytest.raises(ValueError, match=r".") as caught:
        checksummed(text)
    assert str(caught.value) == str(found)
    if text:  # a withdrawal without one goes to the wallet that is linked
        with pytest.raises(Rejected) as refused:
            money_wire.address(text)
        assert (refused.value.reason, refused.value.field) == (Reason.INVALID_FIELD, "address")
        assert refused.value.message.startswith(f"address {found}: ")


TEXT = "sign me: é"
OWNER: LocalAccount = Account.from_key(b"\x07" * 32)
GOOD = bytes(OWNER.sign_message(encode_defunct(text=TEXT)).signature)
R, S, V = GOOD[:32], GOOD[32:64], GOOD[64:]
HIGH_S = (SECPK1_N - int.from_bytes(S, "big")).to_bytes(32, "big")
OTHER_V = {b"\x1b": b"\x1c", b"\x1c": b"\x1b"}[V]
ZERO, ORDER = bytes(32), SECPK1_N.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("signature", "owner"),
    [
        (GOOD, OWNER.address),
        (R + S + bytes([V[0] - 27]), OWNER.address),
        (R + HIGH_S + OTHER_V, ""),  # of the same owner, but anybody can make it of the good one
        (R + S + b"\x1d", ""),
        (R + S + b"\x25", ""),
        (R + S, ""),
        (GOOD + b"\0", ""),
        (b"", ""),
        (bytes(65), ""),
        (ZERO + S + V, ""),
        (R + ZERO + V, ""),
        (ORDER + S + V, ""),
        (R + ORDER + V, ""),
        ((5).to_bytes(32, "big") + S + V, ""),  # no point of the curve has this x
        (b"\xff" * 65, ""),
    ],
)
def test_whose_signature_it_is(signature: bytes, owner: str) -> None:
    assert signer(TEXT, signature) == owner


def test_a_signature_of_another_text_is_somebody_elses() -> None:
    assert signer(TEXT + " ", GOOD) not in {"", OWNER.address}
    assert signer(TEXT, R + S + OTHER_V) not in {"", OWNER.address}


@given(st.binary(min_size=65, max_size=65))
def test_no_bytes_break_it(signature: bytes) -> None:
    assert signer(TEXT, signature) != OWNER.address


def test_wallets_are_judged_by_the_library_in_c() -> None:
    """In plain Python each signature is five milliseconds in which the gateway serves nobody; this comes to a tenth."""
    assert isinstance(get_backend(), CoinCurveECCBackend)


@given(
    r=st.one_of(st.integers(1, 50), st.integers(1, SECPK1_N - 1)),
    s=st.integers(1, SECPK1_N // 2),
    v=st.sampled_from((0, 1)),
    signed=st.binary(min_size=32, max_size=32),
)
@settings(max_examples=30, deadline=None)
def test_both_libraries_find_the_same_signer(r: int, s: int, v: int, signed: bytes) -> None:
    """Where the one in C has no wheel, the same signatures are good."""
    found = signer_of_hash(signed, r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v]))
    try:
        key = NativeECCBackend().ecdsa_recover(signed, Signature(vrs=(v, r, s)))
    except (BadSignature, ValidationError):
        assert found == ""
    else:
        assert found == key.to_checksum_address()
