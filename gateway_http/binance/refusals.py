"""Every refusal as Binance words it: a code, a message that its clients know by heart, an HTTP status."""

from types import MappingProxyType
from typing import Any, Final, NamedTuple

from services.errors import Reason, Rejected

UNKNOWN, DISCONNECTED, UNAUTHORIZED, TOO_MANY_REQUESTS = -1000, -1001, -1002, -1003
TIMEOUT, SERVER_BUSY, FILTER_FAILURE, UNSUPPORTED, STALE = -1007, -1008, -1013, -1020, -1021
BAD_SIGNATURE = -1022
ILLEGAL_CHARS, TOO_MANY_PARAMETERS, MISSING, UNREAD, EMPTY, NOT_REQUIRED = -1100, -1101, -1102, -1104, -1105, -1106
BAD_INTERVAL, BAD_SYMBOL, BAD_LISTEN_KEY, BAD_COMBINATION, BAD_PARAMETER = -1120, -1121, -1125, -1128, -1130
NEW_ORDER_REJECTED, CANCEL_REJECTED, NO_SUCH_ORDER, BAD_KEY_FORMAT, REJECTED_KEY = -2010, -2011, -2013, -2014, -2015
REPLACE_PARTLY_FAILED, REPLACE_FAILED = -2021, -2022

WOULD_MATCH: Final = "Order would immediately match and take."
UNKNOWN_ORDER: Final = "Unknown order sent."
BAD_REQUEST: Final = 400


class Refused(Exception):
    """A refusal in Binance's words.

    Attributes:
        code: Binance's.
        message: for a person, or for clients that compare it.
        status: of HTTP.
        retry_after_seconds: when to come again; 0: asking the same again does not help.
        data: what came of the parts of a request that failed in part.
    """

    def __init__(
        self,
        code: int,
        message: str,
        status: int = BAD_REQUEST,
        *,
        retry_after_seconds: int = 0,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.retry_after_seconds, self.data = retry_after_seconds, data

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        words: dict[str, Any] = {"code": self.code, "msg": self.message}
        return words if self.data is None else words | {"data": self.data}


class Word(NamedTuple):
    """How a reason is told.

    Attributes:
        code: Binance's.
        message: "": that of the refusal itself.
        status: of HTTP.
    """

    code: int
    message: str = ""
    status: int = BAD_REQUEST


_BUSY = Word(SERVER_BUSY, "Server is currently overloaded with other requests. Please try again in a few minutes.", 503)
_AGAIN = Word(DISCONNECTED, "Internal error; unable to process your request. Please try again.", 503)
_PARAMETER = Word(BAD_PARAMETER)
_KEY = Word(REJECTED_KEY, "Invalid API-key, IP, or permissions for action.", 401)
_CLOSED = Word(FILTER_FAILURE, "Market is closed.")
_DUPLICATE = Word(NEW_ORDER_REJECTED, "Duplicate order sent.")
_NO_ORDER = Word(NO_SUCH_ORDER, "Order does not exist.")
_ENDED = Word(CANCEL_REJECTED, UNKNOWN_ORDER)
_TEXT = Word(NEW_ORDER_REJECTED)
_ELSEWHERE = Word(UNKNOWN)
"""What no route here can come to."""


def _filter(name: str) -> Word:
    return Word(FILTER_FAILURE, f"Filter failure: {name}")


WORDS: Final = MappingProxyType(
    {
        Reason.INVALID_FIELD: _PARAMETER,
        Reason.INVALID_PRICE: _filter("PRICE_FILTER"),
        Reason.INVALID_QUANTITY: _filter("LOT_SIZE"),
        Reason.NOTIONAL_TOO_SMALL: _filter("NOTIONAL"),
        Reason.INVALID_EXPIRY: _PARAMETER,
        Reason.INVALID_MINIMUM: _PARAMETER,
        Reason.INVALID_DISPLAY: _filter("ICEBERG_PARTS"),
        Reason.INVALID_GROUP: Word(BAD_COMBINATION),
        Reason.INVALID_TRIGGER: Word(BAD_COMBINATION),
        Reason.SIGNATURE_REQUIRED: Word(BAD_COMBINATION),
        Reason.INVALID_SIGNATURE: Word(BAD_COMBINATION),
        Reason.QUANTITY_TOO_SMALL: _filter("LOT_SIZE"),
        Reason.QUANTITY_TOO_LARGE: _filter("LOT_SIZE"),
        Reason.NOTIONAL_TOO_LARGE: _filter("NOTIONAL"),
        Reason.MALFORMED_REQUEST: Word(ILLEGAL_CHARS),
        Reason.UNSUPPORTED_MEDIA_TYPE: Word(ILLEGAL_CHARS, status=415),
        Reason.UNAUTHENTICATED: _KEY,
        Reason.PERMISSION_DENIED: _KEY,
        Reason.ORIGIN_REFUSED: Word(UNAUTHORIZED, "You are not authorized to execute this request.", 403),
        Reason.ACCOUNT_FROZEN: Word(NEW_ORDER_REJECTED, "This action is disabled on this account."),
        Reason.MARKET_NOT_FOUND: Word(BAD_SYMBOL, "Invalid symbol."),
        Reason.ASSET_NOT_FOUND: Word(BAD_SYMBOL, "Invalid symbol."),
        Reason.ORDER_NOT_FOUND: _NO_ORDER,
        Reason.ACCOUNT_NOT_FOUND: _ELSEWHERE,
        Reason.WITHDRAWAL_NOT_FOUND: _ELSEWHERE,
        Reason.SETTLEMENT_NOT_FOUND: _ELSEWHERE,
        Reason.RECONCILIATION_NOT_FOUND: _ELSEWHERE,
        Reason.ROUTE_NOT_FOUND: Word(UNSUPPORTED, "This operation is not supported.", 404),
        Reason.UPGRADE_REQUIRED: Word(UNSUPPORTED, "This operation is not supported.", 426),
        Reason.METHOD_NOT_ALLOWED: Word(UNSUPPORTED, "This operation is not supported.", 405),
        Reason.KEY_NOT_FOUND: _ELSEWHERE,
        Reason.WALLET_NOT_FOUND: _ELSEWHERE,
        Reason.CLIENT_ORDER_ID_REUSED: _DUPLICATE,
        Reason.ALREADY_EXISTS: _DUPLICATE,
        Reason.ORDER_ENDED: _ENDED,
        Reason.ORDER_LINKED: _ENDED,
        Reason.QUANTITY_TRADED: _TEXT,
        Reason.WOULD_TRADE: Word(NEW_ORDER_REJECTED, WOULD_MATCH),
        Reason.WITHDRAWAL_APPROVED: _ELSEWHERE,
        Reason.WITHDRAWAL_CANCELED: _ELSEWHERE,
        Reason.INSUFFICIENT_FUNDS: Word(NEW_ORDER_REJECTED, "Account has insufficient balance for requested action."),
        Reason.EMPTY_BOOK: _TEXT,
        Reason.MARKET_HALTED: _CLOSED,
        Reason.MARKET_CLOSED: _CLOSED,
        Reason.MARKET_IN_AUCTION: Word(NEW_ORDER_REJECTED, "This order type is not possible in this trading phase."),
        Reason.PRICE_OUT_OF_BAND: _filter("PERCENT_PRICE_BY_SIDE"),
        Reason.INVALID_MARKET: _ELSEWHERE,
        Reason.NO_SECRETS_KEY: _ELSEWHERE,
        Reason.REFERENCE_OUTDATED: _ELSEWHERE,
        Reason.OUT_OF_SEQUENCE: _ELSEWHERE,
        Reason.TOO_MANY_OPEN_ORDERS: _filter("MAX_NUM_ORDERS"),
        Reason.TOO_MANY_TRAILING_STOPS: _filter("MAX_NUM_ALGO_ORDERS"),
        Reason.OVERLOADED: _BUSY,
        Reason.TOO_MANY_WITHDRAWALS: _ELSEWHERE,
        Reason.TOO_MANY_ADDRESSES: _ELSEWHERE,
        Reason.WITHDRAWAL_TOO_SMALL: _ELSEWHERE,
        Reason.WITHDRAWAL_TOO_LARGE: _ELSEWHERE,
        Reason.WITHDRAWAL_LIMIT_EXCEEDED: _ELSEWHERE,
        Reason.ADDRESS_NOT_ALLOWED: _ELSEWHERE,
        Reason.ADDRESS_TOO_NEW: _ELSEWHERE,
        Reason.TOO_MANY_KEYS: _ELSEWHERE,
        Reason.TOO_MANY_SESSIONS: Word(TOO_MANY_REQUESTS, status=429),
        Reason.RATE_LIMITED: Word(TOO_MANY_REQUESTS, status=429),
        Reason.TOO_LARGE: Word(ILLEGAL_CHARS, status=413),
        Reason.LAGGED: _AGAIN,
        Reason.NOT_TAKEN: _AGAIN,
        Reason.UNAVAILABLE: _AGAIN,
        Reason.CLOSING: _AGAIN,
        Reason.FAUCET_EMPTY: _AGAIN,
        Reason.DEADLINE: Word(
            TIMEOUT,
            "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
            504,
        ),
        Reason.TOO_SLOW: Word(TIMEOUT, status=408),
        Reason.INCARNATION_MISMATCH: _ELSEWHERE,
        Reason.SESSION_SUPERSEDED: _ELSEWHERE,
        Reason.INTERNAL: Word(UNKNOWN, "An unknown error occurred while processing the request.", 500),
    }
)
"""By reason. tests/unit/test_binance_words.py sees to it that each has one."""

FIELDS: Final = MappingProxyType(
    {
        "client_order_id": "newClientOrderId",
        "market": "symbol",
        "time_in_force": "timeInForce",
        "quote_budget": "quoteOrderQty",
        "trigger_price": "stopPrice",
        "display_quantity": "icebergQty",
        "self_trade_prevention": "selfTradePreventionMode",
        "start_time": "startTime",
        "end_time": "endTime",
        "page_size": "limit",
        "order_id": "orderId",
    }
)
"""What Binance calls fields of the gRPC API; all others have the same name."""


def in_words(rejected: Rejected) -> Refused:
    """A refusal of ours as Binance's clients know it."""
    word = WORDS[rejected.reason]
    message = word.message or rejected.message
    if word is _PARAMETER and rejected.field:
        message = not_valid(FIELDS.get(rejected.field, rejected.field)).message
    return Refused(word.code, message, word.status, retry_after_seconds=rejected.retry_after_seconds)


def of_cancel(refused: Refused) -> Refused:
    """A refusal of a cancel: there, an order that is not known is told otherwise than where one asks for it."""
    return Refused(CANCEL_REJECTED, UNKNOWN_ORDER) if refused.code == NO_SUCH_ORDER else refused


def not_valid(name: str) -> Refused:
    """A parameter that says nothing sensible."""
    return Refused(BAD_PARAMETER, f"Data sent for parameter '{name}' is not valid.")


def missing(name: str) -> Refused:
    """A parameter that has to be there."""
    return Refused(MISSING, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
