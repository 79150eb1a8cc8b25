"""Who signed a text with an Ethereum wallet: EIP-191, `personal_sign`.

By eth_keys itself: eth_account, which wraps it, takes a second of CPU to import, for key files and transactions.
"""

from eth_keys.constants import SECPK1_N
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

SIGNATURE_BYTES = 65
_PARITY = {0: 0, 1: 1, 27: 0, 28: 1}
"""By the last byte: wallets write it in either way."""


def signer(text: str, signature: bytes) -> str:
    """The address, in EIP-55 mixed case, whose signature (r, s, v) it is; "" for none."""
    return signer_of_hash(_digest(text.encode()), signature)


def signer_of_hash(signed_hash: bytes, signature: bytes) -> str:
    """The same for 32 bytes, as they were signed.

    A signature can be turned into a second one of the same text by anybody: only the one with the low s counts (EIP-2).
    """
    if len(signature) != SIGNATURE_BYTES or signature[-1] not in _PARITY:
        return ""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not (0 < r < SECPK1_N and 0 < s <= SECPK1_N // 2):
        return ""
    try:
        signed = Signature(vrs=(_PARITY[signature[-1]], r, s))
        return str(signed.recover_public_key_from_msg_hash(signed_hash).to_checksum_address())
    except (BadSignature, ValidationError):
        return ""


def _digest(body: bytes) -> bytes:
    return bytes(keccak(b"\x19Ethereum Signed Message:\n%d" % len(body) + body))
