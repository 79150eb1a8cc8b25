"""Every refusal that the suite can give, in one table.

A refusal is `Rejected(reason, message, field)`. The reason decides the gRPC code and the HTTP status; the message is
for a person and names the values; the field names the request field, when one is to blame. The engine gives bare
reasons, because what it refuses is journaled by name.
"""

from enum import Enum
from typing import Final, NamedTuple

RETRY_AFTER_SECONDS: Final = 1
"""When to come again, unless a refusal knows better."""
RETRY_STATUSES: Final = frozenset({429, 503})
"""What the same request may be granted a little later. (TOO_LARGE is RESOURCE_EXHAUSTED too, and for ever.)"""

NAME_CHARS_SHOWN_MAX: Final = 40
"""Of a name that a client sent, in a message."""


class Kind(NamedTuple):
    """How a reason looks from outside."""

    grpc_code: str
    http_status: int
    text: str


class Reason(Enum):
    """Why a request was refused. The name is the wire's `ErrorInfo.reason`."""

    INVALID_FIELD = Kind("INVALID_ARGUMENT", 422, "a field is missing or malformed")
    INVALID_PRICE = Kind("INVALID_ARGUMENT", 422, "the price is not a positive multiple of the tick size")
    INVALID_QUANTITY = Kind("INVALID_ARGUMENT", 422, "the quantity is not a positive multiple of the lot size")
    NOTIONAL_TOO_SMALL = Kind("INVALID_ARGUMENT", 422, "price x quantity is below the market's minimum")
    INVALID_EXPIRY = Kind("INVALID_ARGUMENT", 422, "the expiry is past, or the order has none")
    INVALID_MINIMUM = Kind("INVALID_ARGUMENT", 422, "the minimum quantity does not fit the order")
    INVALID_DISPLAY = Kind("INVALID_ARGUMENT", 422, "the quantity to display does not fit the order")
    INVALID_GROUP = Kind("INVALID_ARGUMENT", 422, "the orders do not go together")
    INVALID_TRIGGER = Kind("INVALID_ARGUMENT", 422, "the trigger's fields do not go together")
    QUANTITY_TOO_SMALL = Kind("INVALID_ARGUMENT", 422, "the quantity is below the market's minimum")
    QUANTITY_TOO_LARGE = Kind("INVALID_ARGUMENT", 422, "the quantity is above the market's maximum")
    NOTIONAL_TOO_LARGE = Kind("INVALID_ARGUMENT", 422, "price x quantity is above the market's maximum")
    SIGNATURE_REQUIRED = Kind(
        "INVALID_ARGUMENT", 422, "the market takes orders as wallets have signed them, and no others"
    )
    INVALID_SIGNATURE = Kind("INVALID_ARGUMENT", 422, "the order's signature is not one that the chain would take")
    MALFORMED_REQUEST = Kind("INVALID_ARGUMENT", 400, "the request cannot be read")
    UNSUPPORTED_MEDIA_TYPE = Kind("INVALID_ARGUMENT", 415, "the body must be application/json")
    UNAUTHENTICATED = Kind("UNAUTHENTICATED", 401, "no valid credential")
    PERMISSION_DENIED = Kind("PERMISSION_DENIED", 403, "the credential does not allow this")
    ORIGIN_REFUSED = Kind("PERMISSION_DENIED", 403, "pages of this origin may not use the exchange")
    ACCOUNT_FROZEN = Kind("PERMISSION_DENIED", 403, "the account is frozen: it may cancel, and begin nothing new")
    MARKET_NOT_FOUND = Kind("NOT_FOUND", 404, "no such market")
    ASSET_NOT_FOUND = Kind("NOT_FOUND", 404, "no such asset")
    ORDER_NOT_FOUND = Kind("NOT_FOUND", 404, "no such order of this account")
    ACCOUNT_NOT_FOUND = Kind("NOT_FOUND", 404, "no such account")
    WITHDRAWAL_NOT_FOUND = Kind("NOT_FOUND", 404, "no such withdrawal that waits")
    SETTLEMENT_NOT_FOUND = Kind("NOT_FOUND", 404, "no such settlement")
    RECONCILIATION_NOT_FOUND = Kind("NOT_FOUND", 404, "no such reconciliation of ledger and chain")
    ROUTE_NOT_FOUND = Kind("NOT_FOUND", 404, "no such route")
    UPGRADE_REQUIRED = Kind("FAILED_PRECONDITION", 426, "here is a WebSocket: connect to it as one")
    METHOD_NOT_ALLOWED = Kind("UNIMPLEMENTED", 405, "the route does not take this method")
    KEY_NOT_FOUND = Kind("NOT_FOUND", 404, "no such key of this account")
    WALLET_NOT_FOUND = Kind("NOT_FOUND", 404, "no wallet is linked to this account")
    CLIENT_ORDER_ID_REUSED = Kind("ALREADY_EXISTS", 409, "this client_order_id was used for another order")
    ALREADY_EXISTS = Kind("ALREADY_EXISTS", 409, "it exists already with other content")
    ORDER_ENDED = Kind("FAILED_PRECONDITION", 409, "the order has ended already")
    ORDER_LINKED = Kind("FAILED_PRECONDITION", 409, "the order belongs to a group; cancel it instead")
    QUANTITY_TRADED = Kind("FAILED_PRECONDITION", 409, "as much or more of the order has traded already")
    WOULD_TRADE = Kind("FAILED_PRECONDITION", 422, "the order is post-only and would trade there")
    WITHDRAWAL_APPROVED = Kind("FAILED_PRECONDITION", 409, "the withdrawal is on its way to the chain already")
    WITHDRAWAL_CANCELED = Kind("FAILED_PRECONDITION", 409, "the withdrawal was canceled")
    WITHDRAWAL_TOO_SMALL = Kind("FAILED_PRECONDITION", 422, "less than the asset's rules let one withdrawal be")
    WITHDRAWAL_TOO_LARGE = Kind("FAILED_PRECONDITION", 422, "more than the asset's rules let one withdrawal be")
    WITHDRAWAL_LIMIT_EXCEEDED = Kind(
        "FAILED_PRECONDITION",
        422,
        "with it the account's withdrawals of 24 hours were more than the asset's rules allow",
    )
    ADDRESS_NOT_ALLOWED = Kind("FAILED_PRECONDITION", 422, "the address is not on the account's list of addresses")
    ADDRESS_TOO_NEW = Kind("FAILED_PRECONDITION", 422, "the address is on the account's list, but not yet long enough")
    INSUFFICIENT_FUNDS = Kind("FAILED_PRECONDITION", 422, "not enough funds available")
    EMPTY_BOOK = Kind("FAILED_PRECONDITION", 422, "nothing to trade with")
    MARKET_HALTED = Kind("FAILED_PRECONDITION", 422, "the market takes cancels only")
    MARKET_CLOSED = Kind("FAILED_PRECONDITION", 422, "the market is closed")
    MARKET_IN_AUCTION = Kind("FAILED_PRECONDITION", 422, "the market collects orders that can rest, for its auction")
    PRICE_OUT_OF_BAND = Kind(
        "FAILED_PRECONDITION", 422, "the price is too far from the reference price or the last trade's"
    )
    INVALID_MARKET = Kind("FAILED_PRECONDITION", 422, "the market's steps do not fit its assets' decimals")
    NO_SECRETS_KEY = Kind("FAILED_PRECONDITION", 422, "no HMAC keys here: CLEARBOOK_SECRETS_KEY is not set")
    REFERENCE_OUTDATED = Kind("FAILED_PRECONDITION", 422, "the price is too old, or a later one is known")
    OUT_OF_SEQUENCE = Kind("FAILED_PRECONDITION", 409, "it was taken already or comes too early")
    TOO_MANY_OPEN_ORDERS = Kind("RESOURCE_EXHAUSTED", 429, "too many open orders")
    TOO_MANY_TRAILING_STOPS = Kind("RESOURCE_EXHAUSTED", 429, "too many trailing stops wait in the market")
    OVERLOADED = Kind("RESOURCE_EXHAUSTED", 429, "too much in flight; try again")
    TOO_MANY_WITHDRAWALS = Kind("RESOURCE_EXHAUSTED", 429, "too many open withdrawals; claim or cancel some")
    TOO_MANY_ADDRESSES = Kind("RESOURCE_EXHAUSTED", 429, "too many addresses are on the account's list; remove one")
    TOO_MANY_KEYS = Kind("RESOURCE_EXHAUSTED", 429, "too many live keys; revoke one")
    TOO_MANY_SESSIONS = Kind("RESOURCE_EXHAUSTED", 429, "too many sockets are logged on; log out of one")
    RATE_LIMITED = Kind("RESOURCE_EXHAUSTED", 429, "too many requests; wait as long as retry-after says")
    TOO_LARGE = Kind("RESOURCE_EXHAUSTED", 413, "the request is too large")
    LAGGED = Kind("RESOURCE_EXHAUSTED", 429, "the reader was too slow")
    NOT_TAKEN = Kind("UNAVAILABLE", 503, "not taken; send again with the same id")
    UNAVAILABLE = Kind("UNAVAILABLE", 503, "not available now; try again")
    CLOSING = Kind("UNAVAILABLE", 503, "the server is closing; connect again")
    FAUCET_EMPTY = Kind("UNAVAILABLE", 503, "the faucet has no funds yet; try again")
    DEADLINE = Kind("DEADLINE_EXCEEDED", 504, "the outcome is not known in time; ask or send again with the same id")
    TOO_SLOW = Kind("DEADLINE_EXCEEDED", 408, "the request took too long to arrive")
    INCARNATION_MISMATCH = Kind("FAILED_PRECONDITION", 409, "the cursor belongs to another journal")
    SESSION_SUPERSEDED = Kind("ABORTED", 409, "a newer session took over")
    INTERNAL = Kind("INTERNAL", 500, "internal error")

    @property
    def grpc_code(self) -> str:
        """Name of the grpc.StatusCode."""
        return self.value.grpc_code

    @property
    def http_status(self) -> int:
        """HTTP status."""
        return self.value.http_status

    @property
    def retry_after_seconds(self) -> int:
        """When to come again; 0: asking the same again does not help."""
        return RETRY_AFTER_SECONDS if self.http_status in RETRY_STATUSES else 0

    @property
    def text(self) -> str:
        """What it means, for a person."""
        return self.value.text


# Enum members with equal values would be aliases: each reason must stay its own.
assert len(Reason) == len(Reason.__members__), "two reasons share one Kind"


class Rejected(Exception):
    """A refusal on its way to the caller. Nothing was changed by the refused request."""

    def __init__(self, reason: Reason, message: str = "", field: str = "", *, retry_after_seconds: int = 0) -> None:
        """All but the reason may be left out.

        Args:
            reason: why.
            message: for a person; else the reason's text.
            field: the request field to blame.
            retry_after_seconds: when to come again; else as the reason has it.
        """
        super().__init__(message or reason.text)
        self.reason = reason
        self.message = message or reason.text
        self.field = field
        self.retry_after_seconds = retry_after_seconds or reason.retry_after_seconds


def no_such_market(symbol: str, field: str = "market") -> Rejected:
    """The refusal of a market's name that stands in this field: it says where the names are."""
    shown = symbol[:NAME_CHARS_SHOWN_MAX]
    return Rejected(
        Reason.MARKET_NOT_FOUND, f"no such market: {shown}; ListMarkets (GET /api/v1/markets) has them all", field
    )
