"""What callers do with orders, in their own name. order_gateway judges everything."""

from typing import Any, Final

from clearbook.v1 import book_service_pb2 as book_pb
from clearbook.v1 import order_service_pb2 as order_pb

from gateway_http.binance.asking import Asker, logged_on
from gateway_http.binance.markets import Markets
from gateway_http.binance.order_requests import Names, asks_for_quote, detail_of, order_request
from gateway_http.binance.order_words import NO_LIST, canceled_words, order_words, placed_words
from gateway_http.binance.parameters import Params
from gateway_http.binance.refusals import (
    BAD_COMBINATION,
    CANCEL_REJECTED,
    NEW_ORDER_REJECTED,
    NO_SUCH_ORDER,
    REPLACE_FAILED,
    REPLACE_PARTLY_FAILED,
    UNKNOWN_ORDER,
    WOULD_MATCH,
    Refused,
    in_words,
    missing,
    not_valid,
    of_cancel,
)
from gateway_http.binance.symbols import Symbols
from gateway_http.feeds import Feeds
from services.errors import Reason, Rejected

CONFLICT: Final = 409
STOP, GO_ON = "STOP_ON_FAILURE", "ALLOW_FAILURE"

Words = dict[str, Any]


class Trading:
    """Orders."""

    def __init__(self, markets: Markets, feeds: Feeds) -> None:
        """`feeds`: the best ask, for orders of so much of the quote asset."""
        self._markets, self._feeds = markets, feeds

    async def place(self, params: Params, asker: Asker) -> Words:
        """Places an order."""
        symbols, request, detail = await self._order(params)
        params.done()
        return placed_words(await _place(asker, request), symbols, detail)

    async def test(self, params: Params, asker: Asker) -> Words:
        """Judges an order without placing it."""
        _, request, _ = await self._order(params)
        params.refuse("computeCommissionRates", "see GET /api/v3/account/commission")
        params.done()
        preview = await asker.ask(
            "OrderService/PreviewOrder", order_pb.PreviewOrderRequest(order=request), order_pb.PreviewOrderResponse
        )
        if preview.HasField("refusal"):
            refusal = preview.refusal
            reason = Reason.__members__.get(refusal.reason, Reason.INTERNAL)
            raise in_words(Rejected(reason, refusal.message, refusal.field.removeprefix("order.")))
        _check_made(preview.cancel_cause)
        return {}

    async def find(self, params: Params, asker: Asker) -> Words:
        """One order."""
        symbols = await self._markets.symbols()
        market = symbols.market(params.optional("symbol"))
        order_id, client_order_id = _named(params, "orderId", "origClientOrderId")
        params.done()
        request = order_pb.GetOrderRequest(order_id=order_id, client_order_id=client_order_id)
        order = (await asker.ask("OrderService/GetOrder", request, order_pb.GetOrderResponse)).order
        if order.market != market.market:
            raise Refused(NO_SUCH_ORDER, "Order does not exist.")
        return order_words(order, symbols)

    async def cancel(self, params: Params, asker: Asker) -> Words:
        """Cancels one order."""
        symbols = await self._markets.symbols()
        symbols.market(params.optional("symbol"))
        order_id, client_order_id = _named(params, "orderId", "origClientOrderId")
        cancel_id = params.client_order_id("newClientOrderId")
        params.refuse("cancelRestrictions", "orders are canceled whatever has traded")
        params.done()
        return canceled_words(await _cancel(asker, order_id, client_order_id), symbols, cancel_id)

    async def cancel_all(self, params: Params, asker: Asker) -> list[Words]:
        """Cancels all open orders of a market."""
        symbols = await self._markets.symbols()
        market = symbols.market(params.optional("symbol"))
        params.done()
        request = order_pb.CancelAllOrdersRequest(market=market.market)
        ended = await asker.ask(
            "OrderService/CancelAllOrders", request, order_pb.CancelAllOrdersResponse, repeatable=False
        )
        if not ended.canceled_count:
            raise Refused(CANCEL_REJECTED, UNKNOWN_ORDER)
        return [canceled_words(order, symbols, "") for order in ended.orders]

    async def cancel_replace(self, params: Params, asker: Asker) -> Words:
        """Cancels one order, then places another one."""
        mode = params.text("cancelReplaceMode")
        if mode not in {STOP, GO_ON}:
            raise not_valid("cancelReplaceMode")
        symbols, request, detail = await self._order(params)
        named = _named(params, "cancelOrderId", "cancelOrigClientOrderId")
        cancel_id = params.client_order_id("cancelNewClientOrderId")
        params.refuse("cancelRestrictions", "orders are canceled whatever has traded")
        params.done()
        words: Words = {"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS"}
        async with logged_on(asker) as logon:
            try:
                words["cancelResponse"] = canceled_words(await _cancel(logon.asker, *named), symbols, cancel_id)
            except Refused as refused:
                words |= {"cancelResult": "FAILURE", "cancelResponse": refused.body}
                if mode == STOP:
                    words |= {"newOrderResult": "NOT_ATTEMPTED", "newOrderResponse": None}
                    raise Refused(REPLACE_FAILED, "Order cancel-replace failed.", data=words) from None
            try:
                words["newOrderResponse"] = placed_words(await _place(logon.asker, request), symbols, detail)
            except (Refused, Rejected) as error:
                told = error if isinstance(error, Refused) else in_words(error)
                words |= {"newOrderResult": "FAILURE", "newOrderResponse": told.body}
        if "FAILURE" not in {words["cancelResult"], words["newOrderResult"]}:
            return words
        if words["cancelResult"] == words["newOrderResult"]:
            raise Refused(REPLACE_FAILED, "Order cancel-replace failed.", data=words)
        raise Refused(REPLACE_PARTLY_FAILED, "Order cancel-replace partially failed.", CONFLICT, data=words)

    async def oco(self, params: Params, asker: Asker) -> Words:
        """Two exits, the first of which to trade ends the other."""
        symbols, market = await self._of(params)
        legs = [
            order_request(params, market, Names.of(part, side="side", quantity="quantity"))
            for part in ("above", "below")
        ]
        return await self._group(params, asker, symbols, "OCO", order_pb.PlaceGroupRequest(exits=legs))

    async def old_oco(self, params: Params, asker: Asker) -> Words:
        """The same as it was asked for before: a limit order and a stop."""
        symbols, market = await self._of(params)
        limit = Names.of("limit", side="side", quantity="quantity")._replace(type="limitType", price="price")
        stop = Names.of("stop", side="side", quantity="quantity")._replace(
            type="stopType", stop="stopPrice", price="stopLimitPrice", time="stopLimitTimeInForce"
        )
        kinds = {"limitType": "LIMIT_MAKER"}
        kinds["stopType"] = "STOP_LOSS_LIMIT" if "stopLimitPrice" in params else "STOP_LOSS"
        with_types = params.also(kinds)
        legs = [order_request(with_types, market, names) for names in (limit, stop)]
        return await self._group(with_types, asker, symbols, "OCO", order_pb.PlaceGroupRequest(exits=legs))

    async def oto(self, params: Params, asker: Asker) -> Words:
        """An order, and one that follows once it has ended."""
        symbols, market = await self._of(params)
        entry = order_request(params, market, Names.of("working"))
        exits = [order_request(params, market, Names.of("pending"))]
        return await self._group(params, asker, symbols, "OTO", order_pb.PlaceGroupRequest(entry=entry, exits=exits))

    async def otoco(self, params: Params, asker: Asker) -> Words:
        """An order, and two exits that follow once it has ended."""
        symbols, market = await self._of(params)
        entry = order_request(params, market, Names.of("working"))
        exits = [
            order_request(params, market, Names.of(part, side="pendingSide", quantity="pendingQuantity"))
            for part in ("pendingAbove", "pendingBelow")
        ]
        return await self._group(params, asker, symbols, "OTO", order_pb.PlaceGroupRequest(entry=entry, exits=exits))

    async def cancel_list(self, params: Params, asker: Asker) -> Words:
        """Cancels the first order of a list; the others end with it."""
        symbols = await self._markets.symbols()
        symbols.market(params.optional("symbol"))
        if "orderListId" not in params:
            raise missing("orderListId")
        number = params.integer("orderListId")
        cancel_id = params.client_order_id("newClientOrderId")
        params.done()
        order = await _cancel(asker, str(number), "")
        report = canceled_words(order, symbols, cancel_id) | {"orderListId": number}
        return _list_words("OCO", "ALL_DONE", "", [report])

    async def _group(
        self, params: Params, asker: Asker, symbols: Symbols, kind: str, request: order_pb.PlaceGroupRequest
    ) -> Words:
        list_id = params.client_order_id("listClientOrderId")
        detail = detail_of(params)
        params.done()
        placed = await asker.ask("OrderService/PlaceGroup", request, order_pb.PlaceGroupResponse, repeatable=False)
        number = int(placed.orders[0].order.order_id)
        reports = [placed_words(each, symbols, detail) | {"orderListId": number} for each in placed.orders]
        return _list_words(kind, "EXECUTING", list_id, reports)

    async def _of(self, params: Params) -> tuple[Symbols, book_pb.Market]:
        symbols = await self._markets.symbols()
        return symbols, symbols.market(params.optional("symbol"))

    async def _order(self, params: Params) -> tuple[Symbols, order_pb.PlaceOrderRequest, str]:
        symbols, market = await self._of(params)
        best = ""
        if asks_for_quote(params):
            _, asks = (await (await self._feeds.feed(market.market)).current()).top(1)
            best = asks[0][0] if asks else ""
        return symbols, order_request(params, market, best_ask=best), detail_of(params)


def _named(params: Params, number: str, name: str) -> tuple[str, str]:
    """Ours and the client's id of an order: exactly one of them."""
    if number in params and name in params:
        raise Refused(BAD_COMBINATION, f"Send {number} or {name}, not both.")
    if number in params:
        return str(params.integer(number)), ""
    if name not in params:
        what = f"Param '{name}' or '{number}' must be sent, but both were empty/null!"
        raise Refused(missing(name).code, what)
    return "", params.optional(name)


async def _place(asker: Asker, request: order_pb.PlaceOrderRequest) -> order_pb.PlaceOrderResponse:
    """Places an order. With a client's id it may be sent twice."""
    placed = await asker.ask(
        "OrderService/PlaceOrder", request, order_pb.PlaceOrderResponse, repeatable=bool(request.client_order_id)
    )
    _check_made(placed.order.cancel_cause)
    return placed


def _check_made(cause: order_pb.CancelCause.ValueType) -> None:
    """Raises Refused for a LIMIT_MAKER that would have traded: at Binance such an order never was."""
    if cause == order_pb.CANCEL_CAUSE_POST_ONLY:
        raise Refused(NEW_ORDER_REJECTED, WOULD_MATCH)


async def _cancel(asker: Asker, order_id: str, client_order_id: str) -> order_pb.Order:
    request = order_pb.CancelOrderRequest(order_id=order_id, client_order_id=client_order_id)
    try:
        ended = await asker.ask("OrderService/CancelOrder", request, order_pb.CancelOrderResponse, repeatable=False)
    except Rejected as rejected:
        raise of_cancel(in_words(rejected)) from None
    return ended.order


def _list_words(kind: str, status: str, list_id: str, reports: list[Words]) -> Words:
    first = reports[0]
    return {
        "orderListId": first.get("orderListId", NO_LIST),
        "contingencyType": kind,
        "listStatusType": "EXEC_STARTED" if status == "EXECUTING" else status,
        "listOrderStatus": status,
        "listClientOrderId": list_id,
        "transactionTime": first["transactTime"],
        "symbol": first["symbol"],
        "orders": [{name: each[name] for name in ("symbol", "orderId", "clientOrderId")} for each in reports],
        "orderReports": reports,
    }
