"""What a transaction offers for its gas (EIP-1559), in wei per gas. Pure."""

from dataclasses import dataclass

RAISE_EIGHTHS = 1
"""A transaction is replaced by one that offers this many eighths more of both fees: nodes ask for 10 or 12.5 %."""


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559 fees in wei per gas."""

    max_fee_wei: int
    max_priority_fee_wei: int


def offered(base_fee_wei: int, tip_wei: int, cap_wei: int | None = None) -> Fees:
    """Twice the base fee, so that it may double, and the tip on top; at most the cap."""
    most = 2 * base_fee_wei + tip_wei
    if cap_wei is not None:
        most = min(most, cap_wei)
    return Fees(max_fee_wei=most, max_priority_fee_wei=min(tip_wei, most))


def replacement(old: Fees, wanted: Fees, cap_wei: int) -> Fees | None:
    """What replaces a transaction that offers `old`: `wanted`, or as much more as a node insists on.

    Returns:
        None if the cap leaves no room for that.
    """
    most, tip = _raised(old.max_fee_wei), _raised(old.max_priority_fee_wei)
    if most > cap_wei:
        return None
    most = min(max(most, wanted.max_fee_wei), cap_wei)
    return Fees(most, min(max(tip, wanted.max_priority_fee_wei), most))


def _raised(fee_wei: int) -> int:
    return max(-(-fee_wei * (8 + RAISE_EIGHTHS) // 8), fee_wei + 1)
