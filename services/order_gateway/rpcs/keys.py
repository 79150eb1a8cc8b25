"""Keys and sessions: the identity part of AccountService and of AdminService."""

from clearbook.v1 import account_service_pb2 as pb
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.order_gateway import keys_wire, money_wire
from services.order_gateway.accounts import Accounts
from services.order_gateway.identity.issuer import Issued, Issuer
from services.order_gateway.identity.key_store import KeyStore
from services.order_gateway.identity.sign_in import SignIns
from services.order_gateway.identity.who import Caller, Identity, Visitor, checked_user
from services.order_gateway.methods import Access, Method
from services.order_gateway.paging import NEWEST, Page
from services.order_gateway.rpcs.accounts import SERVICE as ACCOUNTS
from services.order_gateway.rpcs.admin import SERVICE as ADMIN


class KeyHandlers:
    """See the protos for what each method does."""

    def __init__(self, issuer: Issuer, sign_ins: SignIns, store: KeyStore, accounts: Accounts) -> None:
        self._issuer, self._sign_ins, self._store, self._accounts = issuer, sign_ins, store, accounts

    def methods(self) -> list[Method]:
        """Rows of both services' tables."""
        return [
            Method(ACCOUNTS, "CreateApiKey", Access.TRADE, pb.CreateApiKeyRequest, self.create),
            Method(ACCOUNTS, "ListApiKeys", Access.READ, pb.ListApiKeysRequest, self.page),
            Method(ACCOUNTS, "RevokeApiKey", Access.TRADE, pb.RevokeApiKeyRequest, self.revoke),
            Method(ACCOUNTS, "CreateSignIn", Access.PUBLIC, pb.CreateSignInRequest, self.begin_sign_in),
            Method(ACCOUNTS, "SignIn", Access.ANYBODY, pb.SignInRequest, self.sign_in),
            Method(ACCOUNTS, "GetSession", Access.READ, pb.GetSessionRequest, self.session),
            Method(ADMIN, "CreateUserApiKey", Access.ADMIN, admin_pb.CreateUserApiKeyRequest, self.create_for),
            Method(ADMIN, "ListUserApiKeys", Access.ADMIN, admin_pb.ListUserApiKeysRequest, self.keys, reads=True),
            Method(ADMIN, "RevokeUserApiKey", Access.ADMIN, admin_pb.RevokeUserApiKeyRequest, self.revoke_anybodys),
            Method(ADMIN, "UnlinkWallet", Access.ADMIN, admin_pb.UnlinkWalletRequest, self.unlink),
        ]

    async def create(self, caller: Caller, request: pb.CreateApiKeyRequest, _seconds: float) -> pb.CreateApiKeyResponse:
        """CreateApiKey."""
        return _created(await self._issuer.create(caller.identity, keys_wire.new_key(request)))

    async def page(self, caller: Caller, request: pb.ListApiKeysRequest, _seconds: float) -> pb.ListApiKeysResponse:
        """ListApiKeys."""
        page = Page.of(request.page_size, request.page_token, "keys")
        found = await self._issuer.page(caller.user, page.after[0], page.limit)
        shown = found[: page.size]
        return pb.ListApiKeysResponse(
            keys=[keys_wire.api_key(key) for key in shown],
            next_page_token=page.next_token(len(found), (shown[-1].number, 0) if shown else NEWEST),
        )

    async def revoke(self, caller: Caller, request: pb.RevokeApiKeyRequest, _seconds: float) -> pb.RevokeApiKeyResponse:
        """RevokeApiKey."""
        key = await self._issuer.revoke(request.key_id, caller.user, alone=request.keep_made_keys)
        return pb.RevokeApiKeyResponse(key=keys_wire.api_key(key))

    async def begin_sign_in(
        self, _nobody: None, request: pb.CreateSignInRequest, _seconds: float
    ) -> pb.CreateSignInResponse:
        """CreateSignIn."""
        message, expire_ns = self._sign_ins.begin(request.address)
        return pb.CreateSignInResponse(message=message, expire_time=keys_wire.time(expire_ns))

    async def sign_in(self, visitor: Visitor, request: pb.SignInRequest, seconds: float) -> pb.SignInResponse:
        """SignIn."""
        session = await self._sign_ins.end(visitor, request.message, request.signature, seconds)
        return pb.SignInResponse(
            token=session.issued.secret,
            expire_time=keys_wire.time(session.issued.key.expire_ns),
            account_id=str(session.account_id),
            user=session.user,
        )

    async def session(self, caller: Caller, _request: pb.GetSessionRequest, _seconds: float) -> pb.GetSessionResponse:
        """GetSession."""
        identity = caller.identity
        return pb.GetSessionResponse(
            user=identity.user,
            account_id=str(caller.account_id),
            scopes=keys_wire.scopes(identity.scopes),
            key_id=identity.key_id,
            wallet_address=await self._store.wallet_of(identity.user) or "",
        )

    async def create_for(
        self, operator: Identity, request: admin_pb.CreateUserApiKeyRequest, seconds: float
    ) -> admin_pb.CreateUserApiKeyResponse:
        """CreateUserApiKey."""
        user = checked_user(request.user, "user")
        asked = keys_wire.new_key(request.key)
        await self._accounts.open(user, seconds)
        return admin_pb.CreateUserApiKeyResponse(key=_created(await self._issuer.create_for(operator, user, asked)))

    async def keys(
        self, _operator: Identity, request: admin_pb.ListUserApiKeysRequest, _seconds: float
    ) -> admin_pb.ListUserApiKeysResponse:
        """ListUserApiKeys."""
        page = Page.of(request.page_size, request.page_token, "user keys", request.user)
        found = await self._issuer.page(request.user or None, page.after[0], page.limit)
        shown = found[: page.size]
        return admin_pb.ListUserApiKeysResponse(
            keys=[admin_pb.UserApiKey(user=key.user, key=keys_wire.api_key(key)) for key in shown],
            next_page_token=page.next_token(len(found), (shown[-1].number, 0) if shown else NEWEST),
        )

    async def unlink(
        self, _operator: Identity, request: admin_pb.UnlinkWalletRequest, _seconds: float
    ) -> admin_pb.UnlinkWalletResponse:
        """UnlinkWallet."""
        user = checked_user(request.user, "user")
        money_wire.reason(request.reason)
        return admin_pb.UnlinkWalletResponse(wallet_address=await self._sign_ins.unlink(user))

    async def revoke_anybodys(
        self, _operator: Identity, request: admin_pb.RevokeUserApiKeyRequest, _seconds: float
    ) -> admin_pb.RevokeUserApiKeyResponse:
        """RevokeUserApiKey."""
        await self._issuer.revoke_anybodys(request.key_id, alone=request.keep_made_keys)
        return admin_pb.RevokeUserApiKeyResponse()


def _created(issued: Issued) -> pb.CreateApiKeyResponse:
    return pb.CreateApiKeyResponse(key=keys_wire.api_key(issued.key), secret=issued.secret)
