"""Addresses of Ethereum wallets, as people give them: one judgement for all requests."""

import re

from eth_utils.address import to_checksum_address

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def checksummed(text: str) -> str:
    """An address in EIP-55 mixed case, given so, or with all its letters in one case.

    Raises:
        ValueError: what is wrong with it, to be put after its name.
    """
    if _ADDRESS.fullmatch(text) is None:
        raise ValueError("must be 0x and 40 hexadecimal digits")
    right = str(to_checksum_address(text.lower()))
    if text[2:] not in {text[2:].lower(), text[2:].upper(), right[2:]}:
        raise ValueError("does not have its checksum (EIP-55)")
    return right
