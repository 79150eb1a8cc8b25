"""Everything about identity, put together."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from services.order_gateway.accounts import Accounts
from services.order_gateway.identity.authenticator import Authenticator
from services.order_gateway.identity.failures import Failures
from services.order_gateway.identity.freezes import Freezes
from services.order_gateway.identity.issuer import Issuer, bootstrap_key
from services.order_gateway.identity.key_store import MIGRATIONS, KeyStore
from services.order_gateway.identity.keyring import Keyring
from services.order_gateway.identity.settings import SCHEMA, IdentitySettings
from services.order_gateway.identity.sign_in import SignIns
from services.order_gateway.identity.sign_in_counts import SignInCounts
from services.order_gateway.identity.sign_ups import SignUps
from services.order_gateway.store import Store
from services.runtime import log
from services.runtime.db import Database, Unavailable
from services.runtime.migrate import migrate
from services.runtime.run import StartError

logger = log.get("keys")


class Desk:
    """The gateway's identity parts. Make it with `opened`.

    Attributes:
        store: keys and wallets, as the database has them.
        keyring: the keys that are good.
        issuer: makes and revokes keys.
        authenticator: who is calling.
        freezes: whose accounts are frozen.
    """

    def __init__(self, settings: IdentitySettings, database: Database, clock: Callable[[], int]) -> None:
        self._settings, self._clock = settings, clock
        secrets_key = settings.secrets_key
        self.store = store = KeyStore(database)
        self.freezes = Freezes(database, clock)
        self.keyring = Keyring(store, secrets_key, clock)
        self.issuer = Issuer(store, self.keyring, secrets_key, clock)
        self.authenticator = Authenticator(
            self.keyring,
            Failures(_milliseconds, settings.auth_failures_max),
            open_mode=settings.open_mode,
            audience=settings.clearbook_audience,
            clock=clock,
        )

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: IdentitySettings, clock: Callable[[], int] = time.time_ns) -> AsyncIterator[Self]:
        """Opens the database of keys, and notes at the end when they were last used.

        Raises:
            StartError: it is away.
        """
        try:
            url = settings.identity_database
            await migrate(url, SCHEMA, MIGRATIONS)
            database = await Database.open(url, SCHEMA)
        except (Unavailable, ValueError) as error:
            raise StartError(str(error)) from None
        async with database:
            desk = cls(settings, database, clock)
            yield desk
            try:
                await desk.keyring.note_used()
            except Unavailable as error:
                logger.warning("the last use of keys is not noted", why=str(error))

    async def load(self, ledger_store: Store) -> None:
        """Reads all keys and freezes, first of all what older versions kept with the ledger. Raises StartError."""
        await self.freezes.refresh()
        tokens = await ledger_store.tokens()
        if tokens:
            await self.issuer.adopt(tokens)
            await ledger_store.drop_tokens()
        token = self._settings.clearbook_admin_token
        await self.keyring.load(*([bootstrap_key(token)] if token else []))

    def sign_ins(self, accounts: Accounts) -> SignIns:
        """Sign-in by wallet."""
        settings = self._settings
        failures = Failures(_milliseconds, settings.auth_failures_max)
        sign_ups = SignUps(_milliseconds, settings.sign_ups_per_ip_max, settings.sign_ups_per_day_max)
        counts = SignInCounts(_milliseconds, settings.sign_ins_per_ip_max, settings.sign_ins_per_wallet_max)
        return SignIns(settings.site, self.store, self.issuer, accounts, failures, counts, sign_ups, self._clock)


def _milliseconds() -> int:
    return time.monotonic_ns() // 10**6
