"""What callers ask of their own account: balances, fees, orders and trades."""

from collections.abc import Sequence
from typing import Any, Final

from clearbook.v1 import account_service_pb2 as account_pb
from clearbook.v1 import order_service_pb2 as order_pb

from gateway_http.binance.asking import Asker, logged_on
from gateway_http.binance.market_data import MILLISECONDS_MAX, now_ms, stamp
from gateway_http.binance.markets import Markets
from gateway_http.binance.numbers import padded, quotient
from gateway_http.binance.order_words import execution_words, order_words
from gateway_http.binance.pages import PAGE_ITEMS, Page, oldest_first
from gateway_http.binance.parameters import INT64_MAX, Params
from gateway_http.binance.refusals import BAD_COMBINATION, Refused

ITEMS_DEFAULT, ITEMS_MAX = 500, 1_000
PPM: Final = "1000000"
PPM_PER_BASIS_POINT: Final = 100
NOTHING: Final = padded("")

Words = dict[str, Any]


class Accounts:
    """The caller's own."""

    def __init__(self, markets: Markets) -> None:
        """`markets`: their symbols."""
        self._markets = markets

    async def account(self, params: Params, asker: Asker) -> Words:
        """Balances, fees, and what the credential may do."""
        some = params.flag("omitZeroBalances")
        params.done()
        async with logged_on(asker) as logon:
            ask = logon.asker.ask
            balances = await ask(
                "AccountService/ListBalances", account_pb.ListBalancesRequest(), account_pb.ListBalancesResponse
            )
            fees = await ask("AccountService/GetFees", account_pb.GetFeesRequest(), account_pb.GetFeesResponse)
            who = logon.who
        return {
            "makerCommission": fees.maker_fee_ppm // PPM_PER_BASIS_POINT,
            "takerCommission": fees.taker_fee_ppm // PPM_PER_BASIS_POINT,
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": _rates(fees),
            "canTrade": account_pb.SCOPE_TRADE in who.scopes,
            "canWithdraw": account_pb.SCOPE_WITHDRAW in who.scopes,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": now_ms(),
            "accountType": "SPOT",
            "balances": [
                {"asset": each.asset, "free": padded(each.available), "locked": padded(each.held)}
                for each in balances.balances
                if not some or each.total not in {"", "0"}
            ],
            "permissions": ["SPOT"],
            "uid": int(who.account_id),
        }

    async def commission(self, params: Params, asker: Asker) -> Words:
        """What trading costs the caller: in all markets the same."""
        symbol = params.optional("symbol")
        (await self._markets.symbols()).market(symbol)
        params.done()
        fees = await asker.ask("AccountService/GetFees", account_pb.GetFeesRequest(), account_pb.GetFeesResponse)
        none = dict.fromkeys(("maker", "taker", "buyer", "seller"), NOTHING)
        return {
            "symbol": symbol,
            "standardCommission": _rates(fees),
            "specialCommission": none,
            "taxCommission": none,
            "discount": {
                "enabledForAccount": False,
                "enabledForSymbol": False,
                "discountAsset": "",
                "discount": NOTHING,
            },
        }

    async def open_orders(self, params: Params, asker: Asker) -> list[Words]:
        """The orders that are open or wait, of a market or of all; oldest first."""
        symbols = await self._markets.symbols()
        name = params.optional("symbol")
        request = order_pb.ListOrdersRequest(
            market=symbols.market(name).market if name else "", open_only=True, page_size=PAGE_ITEMS
        )
        params.done()
        async with logged_on(asker) as logon:
            found = await oldest_first(_orders(logon.asker, request), INT64_MAX, _order_id, None)
        return [order_words(order, symbols) for order in found]

    async def all_orders(self, params: Params, asker: Asker) -> list[Words]:
        """Orders of a market, from an id or a time on, else the newest; oldest first."""
        symbols = await self._markets.symbols()
        market = symbols.market(params.optional("symbol"))
        request = order_pb.ListOrdersRequest(market=market.market, page_size=PAGE_ITEMS)
        first, limit = _bounds(params, request, "orderId")
        params.done()
        async with logged_on(asker) as logon:
            found = await oldest_first(_orders(logon.asker, request), limit, _order_id, first)
        return [order_words(order, symbols) for order in found]

    async def trades(self, params: Params, asker: Asker) -> list[Words]:
        """The caller's sides of trades of a market, from an id or a time on, else the newest; oldest first."""
        symbols = await self._markets.symbols()
        market = symbols.market(params.optional("symbol"))
        request = order_pb.ListExecutionsRequest(market=market.market, page_size=PAGE_ITEMS)
        if "orderId" in params:
            request.order_id = str(params.integer("orderId"))
        first, limit = _bounds(params, request, "fromId")
        params.done()

        async with logged_on(asker) as logon:
            ask = logon.asker.ask

            async def page(token: str) -> tuple[Sequence[order_pb.Execution], str]:
                request.page_token = token
                found = await ask("OrderService/ListExecutions", request, order_pb.ListExecutionsResponse)
                return found.executions, found.next_page_token

            found = await oldest_first(page, limit, lambda part: part.trade_id, first)
        return [execution_words(part, symbols) for part in found]


def _order_id(order: order_pb.Order) -> int:
    return int(order.order_id)


def _orders(asker: Asker, request: order_pb.ListOrdersRequest) -> Page[order_pb.Order]:
    async def page(token: str) -> tuple[Sequence[order_pb.Order], str]:
        request.page_token = token
        found = await asker.ask("OrderService/ListOrders", request, order_pb.ListOrdersResponse)
        return found.orders, found.next_page_token

    return page


def _bounds(
    params: Params, request: order_pb.ListOrdersRequest | order_pb.ListExecutionsRequest, number: str
) -> tuple[int | None, int]:
    """Which are asked for: the first number (None: the newest), and how many. Times go into the request."""
    limit = params.limit(ITEMS_DEFAULT, ITEMS_MAX)
    first = params.integer(number) if number in params else None
    if "startTime" in params:
        if first is not None:
            raise Refused(BAD_COMBINATION, "Combination of optional parameters invalid.")
        first = 0
        request.start_time.CopyFrom(stamp(params.integer("startTime", most=MILLISECONDS_MAX - 1)))
    if "endTime" in params:
        end = params.integer("endTime", most=MILLISECONDS_MAX - 1)
        request.end_time.CopyFrom(stamp(end + 1))  # Binance's is the last moment, ours the one after it
    return first, limit


def _rates(fees: account_pb.GetFeesResponse) -> dict[str, str]:
    maker, taker = (quotient(str(rate), PPM) for rate in (fees.maker_fee_ppm, fees.taker_fee_ppm))
    return {"maker": maker, "taker": taker, "buyer": NOTHING, "seller": NOTHING}
