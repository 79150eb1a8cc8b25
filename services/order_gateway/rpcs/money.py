"""What moves money other than by trading: rows of AccountService for users, of AdminService for operators."""

from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.order_gateway import money_wire as wire
from services.order_gateway.identity.who import Caller, Identity, checked_user
from services.order_gateway.ledger import Ledger
from services.order_gateway.methods import Access, Method
from services.order_gateway.money import Money
from services.order_gateway.paging import Page
from services.order_gateway.rpcs import accounts, admin
from services.order_gateway.store import Store
from services.order_gateway.wire import set_time


class MoneyHandlers:
    """See the protos for what each method does."""

    def __init__(self, ledger: Ledger, money: Money, store: Store) -> None:
        self._ledger, self._money, self._store = ledger, money, store

    def methods(self) -> list[Method]:
        """The rows of both services' tables."""
        mine, theirs = accounts.SERVICE, admin.SERVICE
        return [
            Method(mine, "CreateTransfer", Access.WITHDRAW, pb.CreateTransferRequest, self.transfer),
            Method(mine, "CreateWithdrawal", Access.WITHDRAW, pb.CreateWithdrawalRequest, self.withdraw),
            Method(mine, "CancelWithdrawal", Access.WITHDRAW, pb.CancelWithdrawalRequest, self.cancel),
            Method(theirs, "GrantFunds", Access.ADMIN, admin_pb.GrantFundsRequest, self.grant),
            Method(theirs, "AdjustBalance", Access.ADMIN, admin_pb.AdjustBalanceRequest, self.adjust),
            Method(
                theirs, "ListWithdrawals", Access.ADMIN, admin_pb.ListWithdrawalsRequest, self.withdrawals, reads=True
            ),
            Method(theirs, "ApproveWithdrawal", Access.ADMIN, admin_pb.ApproveWithdrawalRequest, self.approve),
            Method(theirs, "RejectWithdrawal", Access.ADMIN, admin_pb.RejectWithdrawalRequest, self.reject),
        ]

    # AccountService.

    async def transfer(
        self, caller: Caller, request: pb.CreateTransferRequest, seconds: float
    ) -> pb.CreateTransferResponse:
        """CreateTransfer."""
        transfer_id = wire.transfer_id(request.transfer_id)
        asset, amount = wire.amount_of(request.asset, request.amount, self._ledger.assets_by_symbol)
        to_user = checked_user(request.to_user, "to_user")
        made = await self._money.transfer(caller.account_id, transfer_id, to_user, asset, amount, seconds)
        return pb.CreateTransferResponse(transfer=wire.transfer(made, caller.account_id, self._ledger))

    async def withdraw(
        self, caller: Caller, request: pb.CreateWithdrawalRequest, seconds: float
    ) -> pb.CreateWithdrawalResponse:
        """CreateWithdrawal."""
        transfer_id = wire.transfer_id(request.transfer_id)
        asset, amount = wire.amount_of(request.asset, request.amount, self._ledger.assets_by_symbol)
        address = wire.address(request.address)
        made = await self._money.withdraw(caller.account_id, transfer_id, asset, amount, address, seconds)
        return pb.CreateWithdrawalResponse(transfer=wire.transfer(made, caller.account_id, self._ledger))

    async def cancel(
        self, caller: Caller, request: pb.CancelWithdrawalRequest, seconds: float
    ) -> pb.CancelWithdrawalResponse:
        """CancelWithdrawal."""
        ended = await self._money.cancel(caller.account_id, wire.transfer_id(request.transfer_id), seconds)
        return pb.CancelWithdrawalResponse(transfer=wire.transfer(ended, caller.account_id, self._ledger))

    # AdminService.

    async def grant(
        self, _admin: Identity, request: admin_pb.GrantFundsRequest, seconds: float
    ) -> admin_pb.GrantFundsResponse:
        """GrantFunds."""
        asset, amount, why = wire.grant(request, self._ledger.assets_by_symbol)
        user = checked_user(request.user, "user")
        made = await self._money.grant(request.transfer_id, user, asset, amount, why, seconds)
        return admin_pb.GrantFundsResponse(settlement_sequence=made.settlement_sequence)

    async def adjust(
        self, _admin: Identity, request: admin_pb.AdjustBalanceRequest, seconds: float
    ) -> admin_pb.AdjustBalanceResponse:
        """AdjustBalance."""
        transfer_id = wire.transfer_id(request.transfer_id)
        asset, amount = wire.amount_of(request.asset, request.amount, self._ledger.assets_by_symbol)
        why = wire.reason(request.reason)
        made = await self._money.adjust(transfer_id, request.from_user, request.to_user, asset, amount, why, seconds)
        return admin_pb.AdjustBalanceResponse(settlement_sequence=made.settlement_sequence)

    async def withdrawals(
        self, _admin: Identity, request: admin_pb.ListWithdrawalsRequest, _seconds: float
    ) -> admin_pb.ListWithdrawalsResponse:
        """ListWithdrawals."""
        state, entries = wire.withdrawal_filter(request.state, self._ledger.final_through)
        page = Page.of(request.page_size, request.page_token, "withdrawals", request.state)
        await self._store.passed(self._ledger.sequence)
        found = await self._store.withdrawals(state, entries, before_sequence=page.after[0], limit=page.limit)
        shown = found[: page.size]
        return admin_pb.ListWithdrawalsResponse(
            withdrawals=[wire.user_withdrawal(value, self._ledger) for value in shown],
            next_page_token=page.next_token(len(found), (shown[-1].create_sequence, 0)) if shown else "",
        )

    async def approve(
        self, _admin: Identity, request: admin_pb.ApproveWithdrawalRequest, seconds: float
    ) -> admin_pb.ApproveWithdrawalResponse:
        """ApproveWithdrawal."""
        made = await self._money.approve(wire.withdrawal_id(request.withdrawal_id), seconds)
        answer = admin_pb.ApproveWithdrawalResponse(settlement_sequence=made.settlement_sequence)
        if made.release_ns:
            set_time(answer.release_time, made.release_ns)
        return answer

    async def reject(
        self, _admin: Identity, request: admin_pb.RejectWithdrawalRequest, seconds: float
    ) -> admin_pb.RejectWithdrawalResponse:
        """RejectWithdrawal."""
        number = wire.withdrawal_id(request.withdrawal_id)
        await self._money.reject(number, wire.reason(request.reason), seconds)
        return admin_pb.RejectWithdrawalResponse()
