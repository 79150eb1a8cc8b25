"""The order gateway: `python -m services.order_gateway`."""

import asyncio
from typing import Annotated

import grpc
from pydantic import AfterValidator, Field

from services.allow_list import DELAY_SECONDS_MAX
from services.order_gateway.accounts import Accounts
from services.order_gateway.admin import Admin
from services.order_gateway.audit import Audit
from services.order_gateway.batch_wire import ORDERS_PER_CALL_MAX
from services.order_gateway.cancels import Cancels
from services.order_gateway.chain_domain import ChainDomain
from services.order_gateway.disconnects import Disconnects
from services.order_gateway.executions import Executions
from services.order_gateway.faucet import Faucet, parse_grants
from services.order_gateway.fees import Rates
from services.order_gateway.fixed_tiers import FixedTiers
from services.order_gateway.freezing import Freezing
from services.order_gateway.gate import Gate
from services.order_gateway.health import Health
from services.order_gateway.history import History
from services.order_gateway.identity.desk import Desk
from services.order_gateway.identity.settings import IdentitySettings
from services.order_gateway.leaving import Leaving
from services.order_gateway.ledger import ENDED_ORDERS_MAX, Ledger
from services.order_gateway.limits import Limits, LimitSettings
from services.order_gateway.methods import Method
from services.order_gateway.money import Money
from services.order_gateway.orders import Orders
from services.order_gateway.releasing import Releasing
from services.order_gateway.replaces import Replaces
from services.order_gateway.rpcs import accounts as account_rpcs
from services.order_gateway.rpcs import admin as admin_rpcs
from services.order_gateway.rpcs import batches as batch_rpcs
from services.order_gateway.rpcs import defaults as default_rpcs
from services.order_gateway.rpcs import fees as fee_rpcs
from services.order_gateway.rpcs import freezes as freeze_rpcs
from services.order_gateway.rpcs import keys as key_rpcs
from services.order_gateway.rpcs import money as money_rpcs
from services.order_gateway.rpcs import orders as order_rpcs
from services.order_gateway.rpcs import previews as preview_rpcs
from services.order_gateway.rpcs import settlements as settlement_rpcs
from services.order_gateway.rpcs import trading as trading_rpcs
from services.order_gateway.rpcs.withdrawal_rules import WithdrawalRulesHandlers
from services.order_gateway.service import FORWARD, add_forward, add_public
from services.order_gateway.session import Session
from services.order_gateway.store import MIGRATIONS, Store
from services.order_gateway.tiers import Schedule, Tier, parse_tiers
from services.order_gateway.transfer_ids import FAUCET_PREFIX
from services.order_gateway.volumes import VOLUME_ASSET
from services.order_gateway.wallet_address import checksummed
from services.order_gateway.watch import Watches
from services.runtime import log, metrics, rpc
from services.runtime.config import (
    GATEWAY_NUMBER_MAX,
    Address,
    LogSettings,
    MetricsSettings,
    PublicTlsSettings,
    TlsSettings,
    host_port,
)
from services.runtime.db import Database, Unavailable
from services.runtime.limits import rate_of
from services.runtime.migrate import migrate
from services.runtime.roles import Role
from services.runtime.run import Closing, StartError, freeze_gc, run
from services.signed_orders import Domain
from services.units import FAUCET_ACCOUNT, PPM

BOOK_BYTES_MAX = 64 * 1024 * 1024
"""Of one message from the book: an event is never split, however many trades it holds."""
DRAIN_SECONDS_MAX = 5.0
"""At the end, for the answers that are still on their way."""
SCHEMA = "gateway"
WORK = (order_rpcs.SERVICE, account_rpcs.SERVICE, admin_rpcs.SERVICE)
"""The services that need the book."""


def _checked_grants(text: str) -> str:
    parse_grants(text)
    return text


def _checked_tiers(text: str) -> str:
    parse_tiers(text, Rates(0, 0))
    return text


class GatewaySettings(LogSettings, IdentitySettings, LimitSettings, TlsSettings, PublicTlsSettings, MetricsSettings):
    """The gateway's settings, each an environment variable in capitals."""

    gateway_address: Address = "127.0.0.1:50051"
    """Where it listens, and where others find it."""
    gateway_listen: Address | None = None
    """Where it listens, if that is not where others find it."""
    forward_address: Address = "127.0.0.1:50063"
    """Where the shim finds it."""
    forward_listen: Address | None = None
    book_address: Address = "127.0.0.1:50061"
    settler_address: Address = "127.0.0.1:50062"
    metrics_port: int = 9103
    gateway_number: int = Field(default=1, ge=1, le=GATEWAY_NUMBER_MAX)
    """Of what this process submits. A book takes commands from one gateway at a time: another one that starts ends it,
    whatever its number."""
    clearbook_open_bind: bool = False
    """Let everybody who can reach us be whoever they say."""
    clearbook_demo_funds: bool | None = None
    """Default: in open mode."""
    faucet_grants: Annotated[str, AfterValidator(_checked_grants)] = "BTC=100,ETH=1000,USD=10000000"
    """What a new user is given, in whole units."""
    maker_fee_ppm: int = Field(default=1_000, ge=0, le=PPM)
    """Of the first tier, unless the table begins with a tier of its own."""
    taker_fee_ppm: int = Field(default=2_000, ge=0, le=PPM)
    fee_tiers: Annotated[str, AfterValidator(_checked_tiers)] = ""
    """Tiers by traded volume, name:volume:maker_ppm:taker_ppm joined by commas: see tiers.py."""
    fee_volume_asset: str = VOLUME_ASSET
    """What traded volume is counted in."""
    open_orders_max: int = Field(default=100_000, ge=1)
    """Of one account."""
    withdrawal_address_delay_seconds: int = Field(default=24 * 3600, ge=0, le=DELAY_SECONDS_MAX)
    """How long it takes what weakens an account's list of withdrawal addresses to come into force."""
    ledger_check_seconds: float = Field(default=10.0, gt=0)
    settlement_contract_address: str = ""
    """With the chain's id: what signed orders are signed for, told before the settler tells it."""

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The fee table."""
        return parse_tiers(self.fee_tiers, Rates(self.maker_fee_ppm, self.taker_fee_ppm))

    @property
    def grants(self) -> dict[str, str]:
        """Demo funds by asset."""
        wanted = self.open_mode if self.clearbook_demo_funds is None else self.clearbook_demo_funds
        return parse_grants(self.faucet_grants) if wanted else {}

    def domain(self) -> Domain | None:
        """The contract that wallets sign orders for, if we were told. Raises StartError: it is no address."""
        if not self.settlement_contract_address or not self.chain_id:
            return None
        try:
            return Domain(self.chain_id, checksummed(self.settlement_contract_address))
        except ValueError as error:
            raise StartError(f"SETTLEMENT_CONTRACT_ADDRESS {error}") from None

    def check_exposure(self) -> None:
        """Raises StartError if strangers could name themselves."""
        if not self.open_mode or self.clearbook_open_bind:
            return
        for address in (self.gateway_listen or self.gateway_address, self.forward_listen or self.forward_address):
            if not host_port(address).loopback:
                raise StartError(
                    f"CLEARBOOK_AUTH=open on {address} would let everybody who can reach it act as anybody: listen on "
                    "127.0.0.1, set CLEARBOOK_AUTH=required, or say CLEARBOOK_OPEN_BIND=1"
                )

    def check_limits(self) -> None:
        """Raises StartError if a call as large as we say were never taken, however long its caller waits."""
        for name, text in (
            ("LIMIT_ACCOUNT_ORDERS", self.limit_account_orders),
            ("LIMIT_ACCOUNT_REQUESTS", self.limit_account_requests),
        ):
            if rate_of(text).burst < ORDERS_PER_CALL_MAX:
                raise StartError(
                    f"{name}={text} would refuse a call of {ORDERS_PER_CALL_MAX} orders for ever: let at least "
                    f"{ORDERS_PER_CALL_MAX} come at once, as 50/{ORDERS_PER_CALL_MAX}"
                )


class Gateway:
    """A running gateway.

    Attributes:
        ready: set once it serves.
        ledger: the fold; set before `ready`.
        methods: all that is served; set before `ready`.
    """

    ledger: Ledger
    methods: list[Method]
    _settlements: settlement_rpcs.SettlementHandlers
    _domain: ChainDomain

    def __init__(self, settings: GatewaySettings) -> None:
        settings.check_exposure()
        self._settings = settings
        self._limits = Limits(settings)
        self._tls, anywhere = settings.tls(), settings.clearbook_plaintext_bind
        self._public = rpc.Server(
            settings.gateway_listen or settings.gateway_address, tls=settings.public_tls(), plaintext_anywhere=anywhere
        )
        self._internal = rpc.Server(
            settings.forward_listen or settings.forward_address, tls=self._tls, plaintext_anywhere=anywhere
        )
        self.ready = asyncio.Event()

    @property
    def port(self) -> int:
        """Where the public services listen."""
        return self._public.port

    @property
    def forward_port(self) -> int:
        """Where the shim's entrance listens."""
        return self._internal.port

    async def run(self, closing: Closing) -> None:
        """Loads, follows the book and serves until `closing`, and ends in order.

        Raises:
            StartError: a port is taken, the database is away, the journal is another one than ours.
        """
        settings = self._settings
        url = settings.database(SCHEMA)
        try:
            await migrate(url, SCHEMA, MIGRATIONS)
            database = await Database.open(url, SCHEMA)
        except (Unavailable, ValueError) as error:
            raise StartError(str(error)) from None
        async with (
            database,
            Desk.opened(settings) as desk,
            rpc.connect(settings.book_address, self._tls, role=Role.BOOK, message_bytes_max=BOOK_BYTES_MAX) as book,
            rpc.connect(settings.settler_address, self._tls, role=Role.SETTLER) as settler,
        ):
            self._settlements = settlement_rpcs.SettlementHandlers(settler)
            self._domain = ChainDomain(settings.domain())
            await self._serve(Store(database), desk, book, closing)

    async def _serve(self, store: Store, desk: Desk, book: grpc.aio.Channel, closing: Closing) -> None:
        settings = self._settings
        await desk.load(store)
        counted_in = settings.fee_volume_asset
        self.ledger = ledger = Ledger(await store.load(ENDED_ORDERS_MAX, counted_in), counted_in)

        def is_frozen(account_id: int) -> bool:
            frozen = desk.freezes.reason(ledger.account_names.get(account_id, ""))
            return bool(frozen) or ledger.is_frozen(account_id)

        session = Session(ledger, settings.gateway_number, is_frozen)
        executions = Executions(ledger, session, store)
        faucet = Faucet(ledger, session, settings.grants, await store.transfers_to(FAUCET_ACCOUNT, FAUCET_PREFIX))
        fees = Schedule(settings.tiers, ledger)
        fixed = FixedTiers(fees, store.database)
        await fixed.load()
        orders = Orders(ledger, session, store, fees, settings.open_orders_max, self._domain)
        await orders.load_seen()
        replaces, cancels = Replaces(ledger, session, orders), Cancels(ledger, session, orders)
        disconnects, enders = Disconnects(cancels), (Leaving(ledger, session, cancels), Releasing(ledger, session))
        watches, accounts, history = Watches(ledger), Accounts(ledger, session, faucet), History(store, ledger)
        admin = Admin(ledger, session)

        async def wallet_of(account_id: int) -> str | None:
            return await desk.store.wallet_of(ledger.account_names[account_id])

        money = Money(ledger, session, store, accounts, wallet_of)
        health = Health(ledger, self._tell)

        def may_serve() -> bool:
            return executions.ready.is_set() and health.sound

        gate = Gate(desk.authenticator, desk.keyring, self._limits, accounts, may_serve)
        audit = Audit(store.database)
        self.methods = methods = [
            *order_rpcs.OrderHandlers(ledger, orders, replaces, cancels, history, watches).methods(),
            *batch_rpcs.BatchHandlers(ledger, orders, replaces, cancels).methods(),
            *preview_rpcs.PreviewHandlers(ledger, orders).methods(),
            *default_rpcs.DefaultsHandlers(ledger, session).methods(),
            *trading_rpcs.TradingHandlers(ledger, orders, replaces, cancels, disconnects).methods(),
            *account_rpcs.AccountHandlers(ledger, history, watches).methods(),
            *admin_rpcs.AdminHandlers(ledger, admin, accounts, history, fees, audit, desk.freezes).methods(),
            *freeze_rpcs.FreezeHandlers(Freezing(ledger, cancels, desk.freezes)).methods(),
            *money_rpcs.MoneyHandlers(ledger, money, store).methods(),
            *WithdrawalRulesHandlers(ledger, session, settings.withdrawal_address_delay_seconds).methods(),
            *key_rpcs.KeyHandlers(desk.issuer, desk.sign_ins(accounts), desk.store, accounts).methods(),
            *fee_rpcs.FeeHandlers(ledger, fees, fixed).methods(),
            *self._settlements.methods(),
        ]
        methods = audit.around(methods)
        executions.listen(faucet.tell, orders=False)
        executions.listen(watches.tell)
        for each in enders:
            executions.listen(each.tell, orders=False)
            executions.watch_session(each.session_changed)
        executions.listen(health.tell, orders=False)
        executions.watch_session(faucet.session_changed)
        executions.watch_session(health.session_changed)
        add_public(self._public, gate, methods)
        add_forward(self._internal, gate, methods)
        freeze_gc()
        try:
            # The ports first: who cannot listen must not take the session of somebody who can.
            await self._public.start()
            await self._internal.start()
            await self._run(store, desk, executions, faucet, orders, disconnects, enders, health, book, closing)
        finally:
            await self._stop(0)

    async def _run(
        self,
        store: Store,
        desk: Desk,
        executions: Executions,
        faucet: Faucet,
        orders: Orders,
        disconnects: Disconnects,
        enders: tuple[Leaving, Releasing],
        health: Health,
        book: grpc.aio.Channel,
        closing: Closing,
    ) -> None:
        """Everything at once, until `closing`; then what depends on others ends before what they depend on."""
        following = Closing()
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(store.follow(self.ledger, orders.forget), name="store")
            line = group.create_task(executions.follow(following, book), name="book")
            cleaning = group.create_task(disconnects.run(), name="disconnects")
            others = [
                group.create_task(faucet.run(), name="faucet"),
                *(group.create_task(each.run(), name=type(each).__name__.lower()) for each in enders),
                group.create_task(desk.keyring.follow(), name="keys"),
                group.create_task(desk.freezes.follow(), name="freezes"),
                group.create_task(health.run(), name="health"),
                group.create_task(health.check(closing, self._settings.ledger_check_seconds), name="check"),
                group.create_task(self._domain.learn(self._settlements.domain), name="contract"),
                group.create_task(self._open(executions, desk), name="opening"),
            ]
            await closing.wait()
            for task in others:
                task.cancel()
            await self._tell(False)
            await self._stop(DRAIN_SECONDS_MAX)
            await disconnects.finish(DRAIN_SECONDS_MAX)
            cleaning.cancel()
            following.set()
            await asyncio.wait([line])
            store.finish()
            await asyncio.wait([storing])

    async def _open(self, executions: Executions, desk: Desk) -> None:
        """Serves once the fold has passed the beginning of our first session, and signatures can be judged."""
        await executions.ready.wait()
        if not self._settings.open_mode:
            await asyncio.sleep(desk.authenticator.seconds_to_wait())
        await self._public.set_serving(settlement_rpcs.SERVICE, True)
        self.ready.set()

    async def _tell(self, serving: bool) -> None:
        for service in WORK:
            await self._public.set_serving(service, serving)
        await self._internal.set_serving(FORWARD, serving)

    async def _stop(self, grace_seconds: float) -> None:
        await asyncio.gather(self._internal.stop(grace_seconds), self._public.stop(grace_seconds))


async def main(closing: Closing) -> None:
    """Runs the gateway as the environment says."""
    settings = GatewaySettings.load()
    settings.check_limits()
    log.configure("gateway", settings.log_level)
    async with await metrics.serve(settings.metrics_port, settings.metrics_host):
        await Gateway(settings).run(closing)


def run_service() -> None:
    """Runs the process and exits it."""
    run(main)


if __name__ == "__main__":
    run_service()
