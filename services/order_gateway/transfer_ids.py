"""Whose a transfer_id is: the journal knows one set of them, each maker of them has a prefix. Pure.

So two users' equal ids never meet, and nobody can take an operator's or the faucet's.
"""

USER_PREFIX = "user:"
ADMIN_PREFIX = "admin:"
FAUCET_PREFIX = "faucet:"


def of_user(account_id: int, transfer_id: str) -> str:
    """A user's own id, as journaled."""
    return f"{USER_PREFIX}{account_id}:{transfer_id}"


def of_operator(transfer_id: str) -> str:
    """An operators' id, as journaled: they share one set."""
    return f"{ADMIN_PREFIX}{transfer_id}"


def of_grant(account_id: int, symbol: str) -> str:
    """The id of an account's demo funds of an asset."""
    return f"{FAUCET_PREFIX}{account_id}:{symbol}"


def is_users(journaled: str) -> bool:
    """Whether a user made it."""
    return journaled.startswith(USER_PREFIX)


def shown(journaled: str) -> str:
    """The id as its maker gave it."""
    if is_users(journaled):
        return journaled.removeprefix(USER_PREFIX).partition(":")[2]
    return journaled.removeprefix(ADMIN_PREFIX)
