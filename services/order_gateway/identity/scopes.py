"""What a credential may do."""

from enum import IntEnum


class Scope(IntEnum):
    """A permission; the numbers are those of the wire and of the database."""

    READ = 1
    TRADE = 2
    WITHDRAW = 3
    ADMIN = 4
    REFERENCE_PRICE = 5


ACCOUNT_SCOPES = frozenset({Scope.READ, Scope.TRADE, Scope.WITHDRAW})
"""All that can be done with an account of one's own."""

_INCLUDES = {
    Scope.TRADE: {Scope.READ},
    Scope.WITHDRAW: {Scope.READ},
    Scope.ADMIN: {Scope.REFERENCE_PRICE},
}


def allows(scopes: frozenset[Scope], needed: Scope) -> bool:
    """Whether these scopes, and what they include, hold the needed one."""
    return needed in scopes or any(needed in _INCLUDES.get(scope, ()) for scope in scopes)


def all_within(asked: frozenset[Scope], given: frozenset[Scope]) -> bool:
    """Whether somebody with the given scopes may pass the asked ones on."""
    return all(allows(given, scope) for scope in asked)
