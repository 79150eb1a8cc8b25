"""OpenAPI of the routes that Binance's clients speak: parameters, examples, refusals, from one table."""

from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gateway_http.binance.market_words import INTERVALS
from gateway_http.binance.order_words import PREVENTIONS, TYPES
from gateway_http.binance.refusals import WORDS, in_words
from gateway_http.binance.routes import PREFIX
from gateway_http.errors import JSON
from services.errors import Rejected

Words = dict[str, Any]

OF_THE_ADDRESS: Final = {405, 426}
"""Whoever reads the description of a route does not meet them."""
TAG: Final = "Binance"
PROBLEM: Final[Words] = {
    "type": "object",
    "required": ["code", "msg"],
    "properties": {"code": {"type": "integer"}, "msg": {"type": "string"}, "data": {"type": "object"}},
}
PROBLEM_NAME: Final = "BinanceProblem"
REFUSALS: Final = tuple(sorted({word.status for word in WORDS.values()} - OF_THE_ADDRESS))

_TEXT: Final[Words] = {"type": "string", "minLength": 1}
_COUNT: Final[Words] = {"type": "integer", "minimum": 0}
_DECIMAL: Final[Words] = {"type": "string", "pattern": r"^([0-9]{1,20})(\.[0-9]{1,20})?$"}
_ID: Final[Words] = {"type": "string", "pattern": r"^[a-zA-Z0-9\-_.:/]{1,36}$"}
_FLAG: Final[Words] = {"type": "string", "enum": ["true", "false"]}
_SYMBOLS: Final[Words] = {"type": "string", "description": "A JSON list of symbols."}


def _one_of(*values: str) -> Words:
    return {"type": "string", "enum": list(values)}


PARAMETERS: Final = MappingProxyType(
    {
        "symbol": (_TEXT, "BTCUSD"),
        "symbols": (_SYMBOLS, '["BTCUSD","ETHUSD"]'),
        "limit": ({"type": "integer", "minimum": 1}, 5),
        "fromId": (_COUNT, 1),
        "startTime": (_COUNT, 1_795_395_600_000),
        "endTime": (_COUNT, 1_795_399_200_000),
        "interval": (_one_of(*INTERVALS), "1m"),
        "timeZone": (_TEXT, "0"),
        "type": (_one_of(*TYPES), "LIMIT"),
        "side": (_one_of("BUY", "SELL"), "BUY"),
        "timeInForce": (_one_of("GTC", "IOC", "FOK"), "GTC"),
        "quantity": (_DECIMAL, "0.001"),
        "quoteOrderQty": (_DECIMAL, "30"),
        "price": (_DECIMAL, "10000.00"),
        "stopPrice": (_DECIMAL, "9000.00"),
        "icebergQty": (_DECIMAL, "0.0005"),
        "newClientOrderId": (_ID, "mine-1"),
        "origClientOrderId": (_ID, "mine-1"),
        "newOrderRespType": (_one_of("ACK", "RESULT", "FULL"), "FULL"),
        "selfTradePreventionMode": (_one_of(*PREVENTIONS), "EXPIRE_TAKER"),
        "orderId": (_COUNT, 72057662757404692),
        "cancelReplaceMode": (_one_of("STOP_ON_FAILURE", "ALLOW_FAILURE"), "STOP_ON_FAILURE"),
        "cancelOrderId": (_COUNT, 72057662757404692),
        "cancelOrigClientOrderId": (_ID, "mine-1"),
        "orderListId": (_COUNT, 72057662757404692),
        "listClientOrderId": (_ID, "mine-list"),
        "listenKey": (_TEXT, "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"),
        "omitZeroBalances": (_FLAG, "true"),
        "timestamp": (_COUNT, 1_795_395_600_000),
        "recvWindow": (_COUNT, 5_000),
        "signature": (_TEXT, "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
    }
)
"""What parameters are, each with an example."""

_SIGNED: Final = ("timestamp", "recvWindow", "signature")
_ORDER_TERMS: Final = (
    *("timeInForce", "quantity", "quoteOrderQty", "price", "stopPrice", "icebergQty", "newClientOrderId"),
    *("newOrderRespType", "selfTradePreventionMode"),
)
_LEVEL: Final = ["31000.50000000", "0.00600000"]
_TRADE: Final = {
    "id": 3,
    "price": "31000.50000000",
    "qty": "0.00400000",
    "quoteQty": "124.00200000",
    "time": 1_795_396_460_206,
    "isBuyerMaker": False,
    "isBestMatch": True,
}
_CANDLE: Final = [
    *(1_795_396_440_000, "31000.50000000", "31000.50000000", "31000.50000000", "31000.50000000", "0.00400000"),
    *(1_795_396_499_999, "124.00200000", 1, "0.00400000", "124.00200000", "0"),
]
_ORDER: Final = {
    "symbol": "BTCUSD",
    "orderId": 72057662757404692,
    "orderListId": -1,
    "clientOrderId": "mine-1",
    "price": "10000.00000000",
    "origQty": "0.00100000",
    "executedQty": "0.00000000",
    "cummulativeQuoteQty": "0.00000000",
    "status": "NEW",
    "timeInForce": "GTC",
    "type": "LIMIT",
    "side": "BUY",
}
_LIST: Final = {
    "orderListId": 72057662757404692,
    "contingencyType": "OCO",
    "listStatusType": "EXEC_STARTED",
    "listOrderStatus": "EXECUTING",
    "listClientOrderId": "mine-list",
    "symbol": "BTCUSD",
    "orders": [{"symbol": "BTCUSD", "orderId": 72057662757404692, "clientOrderId": "mine-1"}],
}
_KEY: Final = PARAMETERS["listenKey"][1]


class Told(NamedTuple):
    """What one route is asked, and what it answers.

    Attributes:
        summary: what it does.
        needs: parameters that have to be there; a signed one's signature apart.
        takes: those that may be.
        answer: an example.
        more: it has parameters beyond these, of each of its orders; docs/binance.md has them.
    """

    summary: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    answer: Any
    more: bool = False


_BY_ID: Final = ("orderId", "origClientOrderId")
_SPAN: Final = ("startTime", "endTime", "limit")
_TICKER: Final = {"symbol": "BTCUSD", "lastPrice": "31000.50000000", "volume": "0.00400000", "count": 1}
_QUOTE: Final = {"symbol": "BTCUSD", "bidPrice": "0.00000000", "bidQty": "0.00000000", "askPrice": _LEVEL[0]}

TABLE: Final = MappingProxyType(
    {
        ("GET", "ping"): Told("Nothing, but it is there", (), (), {}),
        ("GET", "time"): Told("Tell what time it is", (), (), {"serverTime": 1_795_396_460_206}),
        ("GET", "exchangeInfo"): Told(
            *("List the markets and their filters", (), ("symbol", "symbols")),
            {"timezone": "UTC", "serverTime": 1_795_396_460_206, "symbols": [{"symbol": "BTCUSD"}]},
        ),
        ("GET", "depth"): Told(
            *("Read a book", ("symbol",), ("limit",)),
            {"lastUpdateId": 5, "bids": [], "asks": [_LEVEL]},
        ),
        ("GET", "trades"): Told("List the newest trades", ("symbol",), ("limit",), [_TRADE]),
        ("GET", "historicalTrades"): Told("List trades from one on", ("symbol",), ("limit", "fromId"), [_TRADE]),
        ("GET", "aggTrades"): Told(
            *("List trades from one or from a time on", ("symbol",), ("fromId", *_SPAN)),
            [{"a": 3, "p": "31000.50000000", "q": "0.00400000", "f": 3, "l": 3, "T": 1_795_396_460_206, "m": False}],
        ),
        ("GET", "klines"): Told("List candles", ("symbol", "interval"), (*_SPAN, "timeZone"), [_CANDLE]),
        ("GET", "uiKlines"): Told("List candles", ("symbol", "interval"), (*_SPAN, "timeZone"), [_CANDLE]),
        ("GET", "avgPrice"): Told(
            *("Tell the average price of five minutes", ("symbol",), ()),
            {"mins": 5, "price": "31000.50000000", "closeTime": 1_795_396_460_206},
        ),
        ("GET", "ticker/24hr"): Told("Read the last 24 hours", (), ("symbol", "symbols"), [_TICKER]),
        ("GET", "ticker/price"): Told(
            "Read last prices", (), ("symbol", "symbols"), [{"symbol": "BTCUSD", "price": _LEVEL[0]}]
        ),
        ("GET", "ticker/bookTicker"): Told("Read best bids and asks", (), ("symbol", "symbols"), [_QUOTE]),
        ("POST", "order"): Told("Place an order", ("symbol", "side", "type"), _ORDER_TERMS, _ORDER),
        ("POST", "order/test"): Told("Check an order", ("symbol", "side", "type"), _ORDER_TERMS, {}),
        ("GET", "order"): Told("Read an order", ("symbol",), _BY_ID, _ORDER),
        ("DELETE", "order"): Told(
            *("Cancel an order", ("symbol",), (*_BY_ID, "newClientOrderId")), _ORDER | {"status": "CANCELED"}
        ),
        ("POST", "order/cancelReplace"): Told(
            "Cancel an order and place another",
            ("symbol", "side", "type", "cancelReplaceMode"),
            ("cancelOrderId", "cancelOrigClientOrderId", *_ORDER_TERMS),
            {"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS", "newOrderResponse": _ORDER},
        ),
        ("GET", "openOrders"): Told("List open orders", (), ("symbol",), [_ORDER]),
        ("DELETE", "openOrders"): Told("Cancel all orders of a market", ("symbol",), (), [_ORDER]),
        ("GET", "allOrders"): Told("List orders", ("symbol",), ("orderId", *_SPAN), [_ORDER]),
        ("POST", "order/oco"): Told(
            "Place two orders of which one cancels the other",
            ("symbol", "side", "quantity", "price", "stopPrice"),
            ("listClientOrderId",),
            _LIST,
            more=True,
        ),
        ("POST", "orderList/oco"): Told(
            "Place two orders of which one cancels the other",
            ("symbol", "side", "quantity"),
            ("listClientOrderId",),
            _LIST,
            more=True,
        ),
        ("POST", "orderList/oto"): Told(
            "Place an order and one that waits for it", ("symbol",), ("listClientOrderId",), _LIST, more=True
        ),
        ("POST", "orderList/otoco"): Told(
            "Place an order and two that wait for it", ("symbol",), ("listClientOrderId",), _LIST, more=True
        ),
        ("DELETE", "orderList"): Told(
            "Cancel orders that belong together", ("symbol", "orderListId"), ("newClientOrderId",), _LIST
        ),
        ("GET", "account"): Told(
            *("Read the balances", (), ("omitZeroBalances",)),
            {"accountType": "SPOT", "balances": [{"asset": "BTC", "free": "99.99000000", "locked": "0.01000000"}]},
        ),
        ("GET", "account/commission"): Told(
            *("Read what orders pay", ("symbol",), ()),
            {"symbol": "BTCUSD", "standardCommission": {"maker": "0.00100000", "taker": "0.00200000"}},
        ),
        ("GET", "myTrades"): Told("List what was traded", ("symbol",), ("orderId", "fromId", *_SPAN), [_TRADE]),
        ("POST", "userDataStream"): Told("Make a listen key", (), (), {"listenKey": _KEY}),
        ("PUT", "userDataStream"): Told("Keep a listen key", ("listenKey",), (), {}),
        ("DELETE", "userDataStream"): Told("End a listen key", ("listenKey",), (), {}),
    }
)
"""By method and path. tests/unit/test_http_described.py sees to it that all that is served is here."""

_EVERYBODY: Final = frozenset({("PUT", "userDataStream"), ("DELETE", "userDataStream")})
"""What needs no signature beside what is GET and not of an account: the listen key is the credential."""
_PRIVATE_GETS: Final = frozenset({"order", "openOrders", "allOrders", "account", "account/commission", "myTrades"})


def _is_signed(method: str, path: str) -> bool:
    return path in _PRIVATE_GETS if method == "GET" else (method, path) not in _EVERYBODY


def _refused(status: int) -> Words:
    told = {reason.name: in_words(Rejected(reason)) for reason in WORDS}
    examples = {name: {"value": refused.body} for name, refused in told.items() if refused.status == status}
    schema = {"$ref": f"#/components/schemas/{PROBLEM_NAME}"}
    return {"description": "Refused", "content": {JSON: {"schema": schema, "examples": examples}}}


ANSWERS: Final = {f"BinanceRefused{status}": _refused(status) for status in REFUSALS}
"""Components: answers by name."""


def _parameters(names: tuple[str, ...], *, required: bool) -> list[Words]:
    return [
        {"name": name, "in": "query", "required": required, "schema": schema, "example": example}
        for name in names
        for schema, example in (PARAMETERS[name],)
    ]


def _described(method: str, path: str, told: Told) -> Words:
    signed = _is_signed(method, path)
    about = "As at Binance; docs/binance.md has what differs."
    if told.more:
        about += " Each of its orders has parameters of its own."
    parameters = _parameters(told.needs, required=True) + _parameters(told.takes, required=False)
    if signed:
        about += " Signed: the header X-MBX-APIKEY names the key, signature signs the other parameters."
        parameters += _parameters(_SIGNED, required=False)
        parameters.append({"name": "X-MBX-APIKEY", "in": "header", "required": False, "schema": _TEXT})
    schema = {"type": "array"} if isinstance(told.answer, list) else {"type": ["object", "array"]}
    if isinstance(told.answer, list) and "symbol" in told.takes and "symbol" not in told.needs:
        schema = {"type": ["array", "object"]}
    answers: Words = {
        "200": {"description": "Done", "content": {JSON: {"schema": schema, "example": told.answer}}},
        **{str(status): {"$ref": f"#/components/responses/BinanceRefused{status}"} for status in REFUSALS},
    }
    words = f"binance {method} {path}".replace("/", " ").split()
    return {
        "summary": told.summary,
        "description": about,
        "operationId": "".join(word.capitalize() if at else word for at, word in enumerate(words)),
        "tags": [TAG],
        "parameters": parameters,
        "responses": answers,
    }


def _paths() -> dict[str, Words]:
    found: dict[str, Words] = {}
    for (method, path), told in TABLE.items():
        found.setdefault(f"{PREFIX}{path}", {})[method.lower()] = _described(method, path, told)
    return found


PATHS: Final = _paths()
