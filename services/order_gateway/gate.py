"""The gate: every call passes here before its handler, and the handler is given who came through."""

from collections.abc import Callable

from services.errors import Reason, Rejected
from services.order_gateway.accounts import Accounts
from services.order_gateway.auth import Authenticator
from services.order_gateway.call import Call
from services.order_gateway.identity.scopes import Scope
from services.order_gateway.identity.who import Caller, Identity
from services.order_gateway.methods import Access


class Gate:
    """Admits calls.

    Args:
        authenticator: who is calling.
        accounts: opens the account of somebody new.
        may_serve: whether what the fold says can be relied on: it has caught up with the book once, and adds up.
    """

    def __init__(self, authenticator: Authenticator, accounts: Accounts, may_serve: Callable[[], bool]) -> None:
        self._authenticator, self._accounts, self._may_serve = authenticator, accounts, may_serve

    async def admit(self, call: Call, access: Access) -> Caller | Identity | None:
        """Who the handler acts for: see Access.

        Raises:
            Rejected: NOT_TAKEN, UNAUTHENTICATED, PERMISSION_DENIED, and what opening an account may raise.
        """
        if access is Access.PUBLIC:
            return None
        if not self._may_serve():
            raise Rejected(Reason.NOT_TAKEN, "the gateway does not serve now; send again with the same id")
        identity = self._authenticator.identify(call)
        if access.of_account:
            return await self._accounts.caller(identity, call.seconds)
        if not identity.may(Scope.ADMIN):
            raise Rejected(Reason.PERMISSION_DENIED, f"{identity.user} is not an admin")
        return identity
