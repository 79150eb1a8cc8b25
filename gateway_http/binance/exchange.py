"""What the REST routes and the sockets share, built once."""

from typing import Any, Final

from clearbook.v1 import book_service_pb2_grpc as services

from gateway_http.binance.accounts import Accounts
from gateway_http.binance.asking import Asker, Caller
from gateway_http.binance.hub import Hub
from gateway_http.binance.listen_keys import ListenKeys
from gateway_http.binance.market_data import MarketData, now_ms
from gateway_http.binance.markets import Markets
from gateway_http.binance.parameters import Params
from gateway_http.binance.refusals import STALE, Refused, in_words, missing
from gateway_http.binance.routes import Route, table
from gateway_http.binance.trading import Trading
from gateway_http.binance.usage import WEIGHT_HEADER, Usage
from gateway_http.state import State
from services.errors import Reason, Rejected
from services.runtime.limits import of_ip

RECV_WINDOW_DEFAULT_MS: Final = 5_000
AHEAD_MS_MAX: Final = 1_000
SECONDS_PER_MINUTE: Final = 60
_NO_KEY: Final = Refused(-2014, "API-key format invalid.", 401)


class Exchange:
    """The exchange as Binance's clients see it.

    Attributes:
        routes: by method and path.
        methods: by the name of the WebSocket API.
        markets: by symbol.
        hub: the market streams.
        listen_keys: those that live.
    """

    def __init__(self, state: State) -> None:
        """`state`: with the clients of the services."""
        self.state = state
        self.stub = services.BookServiceStub(state.publisher)
        self.markets = Markets(self.stub, state.closing)
        self._weight = state.limits.requests.rate.per_second * SECONDS_PER_MINUTE
        data = MarketData(self.stub, self.markets, state.feeds, self._weight)
        self.listen_keys = ListenKeys()
        listed = table(data, Trading(self.markets, state.feeds), Accounts(self.markets), self.listen_keys)
        self.routes = {(route.method, route.path): route for route in listed}
        self.methods = {route.name: route for route in listed}
        self.hub = Hub(services.BookServiceStub(state.streams), self.markets, state.feeds, state.closing, state.turns)
        self._usage = Usage()

    async def answer(self, route: Route, params: Params, caller: Caller) -> Any:
        """What a route answers, as msgspec encodes it. `caller.told` takes the headers.

        Raises:
            Refused: in Binance's words.
        """
        told = caller.told
        self.count(caller, route.weight)
        try:
            if route.public is not None:
                self.state.limits.requests.take(of_ip(caller.peer), told)
                return await route.public(params)
            assert route.private is not None, "a route answers everybody, or those who say who they are"
            words = await route.private(params, self.asker(caller))
        except Rejected as rejected:
            raise why(rejected, caller) from None
        if route.orders:
            key = caller.signed.key_id if caller.signed is not None else ""
            told |= self._usage.placed(key, route.orders, now_ms())
        return words

    def asker(self, caller: Caller) -> Asker:
        """Asks order_gateway in a caller's name."""
        return Asker(self.state.forward, caller, self.state.closing)

    def count(self, caller: Caller, weight: int) -> None:
        """One more request of a caller, whom it is told."""
        caller.told.update(self._usage.asked(of_ip(caller.peer), weight, now_ms()))

    def rate_limits(self, told: dict[str, str]) -> list[dict[str, Any]]:
        """What was told of a request's limits, as the WebSocket API has it."""
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self._weight}
        return [weight | {"count": int(told.get(WEIGHT_HEADER, "0"))}]


def why(rejected: Rejected, caller: Caller) -> Refused:
    """A refusal as the caller is told it. A signature that is not good may be explained by what it was sent with.

    That tells nothing of keys: it depends on what the caller has sent, and on the time, alone.
    """
    if rejected.reason is Reason.UNAUTHENTICATED and caller.signed is not None:
        timestamp, window = caller.stamped
        if not caller.signed.key_id:
            return _NO_KEY
        if not timestamp.isdigit():
            return missing("timestamp")
        if not caller.signed.signature:
            return missing("signature")
        late = now_ms() - int(timestamp)
        if late < -AHEAD_MS_MAX:
            return Refused(STALE, "Timestamp for this request was 1000ms ahead of the server's time.")
        if late > (int(window) if window.isdigit() else RECV_WINDOW_DEFAULT_MS):
            return Refused(STALE, "Timestamp for this request is outside of the recvWindow.")
    return in_words(rejected)
