"""The settler: from settlement messages to final batches on chain, and back into the journal. `clearbook settler`."""

import asyncio
from pathlib import Path
from typing import Final

from pydantic import Field

from services.runtime import db, log, metrics, rpc
from services.runtime.amqp import Consumer, settlement_topology
from services.runtime.config import (
    GATEWAY_NUMBER_MAX,
    SHARD_MAX,
    Address,
    BrokerSettings,
    DatabaseSettings,
    LogSettings,
    MetricsSettings,
    TlsSettings,
)
from services.runtime.migrate import migrate
from services.runtime.roles import Role
from services.runtime.run import Closed, Closing, StartError, run
from services.settler import service, wire
from services.settler.alarms import Alarms
from services.settler.binding import Wanted, bind, connect, is_play, log_blocks_max
from services.settler.book_session import BookSession
from services.settler.contract import ChainMisconfigured, Signs, load_abi
from services.settler.faucet import Listings
from services.settler.inbox import Inbox
from services.settler.keys import KeySettings
from services.settler.publications import Published
from services.settler.reconciler import Reconciler
from services.settler.sender import Limits, Sender
from services.settler.store import Store
from services.settler.wallet import FeeRules, Wallet
from services.settler.watcher import Depths, Watcher

WEI_PER_GWEI: Final = 10**9
SCHEMA: Final = "settler"
MIGRATIONS: Final = Path(__file__).parent / "migrations"
STOP_SECONDS_MAX: Final = 5.0
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""As the book's: one of its events can hold very many trades."""
DEVCHAIN_URL: Final = "http://127.0.0.1:8545"
CONFIRMED_BLOCKS: Final = 3
FINAL_BLOCKS: Final = 12
RECONCILE_SECONDS: Final = 60.0
"""How often ledger and chain are compared."""


class SettlerSettings(KeySettings, LogSettings, DatabaseSettings, BrokerSettings, TlsSettings, MetricsSettings):
    """What the settler reads from its environment.

    Depths count the blocks that a batch lies under, its own included. Unset, they are 1 on a development chain (chain
    id 31337), which mines only when there is a transaction, and 3 and 12 elsewhere.
    """

    settler_address: Address = "127.0.0.1:50062"
    book_address: Address = "127.0.0.1:50061"
    metrics_port: int = Field(default=9104, ge=0, le=65_535)
    book_shard: int = Field(default=0, ge=0, le=SHARD_MAX)
    settler_gateway: int | None = Field(default=None, ge=1, le=127)
    eth_testnet_url: str = Field(default="", repr=False)
    chain_id: int = Field(default=0, ge=0)
    settlement_contract_address: str = ""
    settlement_contract_abi: str = ""
    settlement_start_block: int = Field(default=0, ge=0)
    clearbook_faucet: bool | None = None
    settle_entries_max: int = Field(default=500, ge=1, le=5_000)
    settle_age_ms: int = Field(default=500, ge=0, le=3_600_000)
    settle_signed: bool = True
    """Off: signed trades that the chain does not take, because it had no time for them, are netted like all others."""
    settle_confirmed_blocks: int | None = Field(default=None, ge=1)
    settle_final_blocks: int | None = Field(default=None, ge=1)
    settle_poll_ms: int = Field(default=500, ge=10, le=60_000)
    settle_fee_max_gwei: int = Field(default=500, ge=1)
    settle_fee_raise_seconds: int = Field(default=30, ge=1, le=3_600)
    settle_lease_ms: int = Field(default=3_000, ge=50, le=60_000)
    eth_log_blocks_max: int | None = Field(default=None, ge=1)
    reconcile_seconds: float = Field(default=RECONCILE_SECONDS, gt=0, le=86_400)

    @property
    def gateway(self) -> int:
        """Our gateway number at the book."""
        return GATEWAY_NUMBER_MAX + 1 + self.book_shard if self.settler_gateway is None else self.settler_gateway

    @property
    def faucet(self) -> bool:
        """Whether missing tokens are made: where it is asked for, and on the embedded devchain."""
        return not self.eth_testnet_url if self.clearbook_faucet is None else self.clearbook_faucet

    def wanted(self) -> Wanted:
        """What the chain must be. Raises StartError."""
        try:
            abi = load_abi(self.settlement_contract_abi or None)
        except ChainMisconfigured as wrong:
            raise StartError(str(wrong)) from None
        return Wanted(
            url=self.eth_testnet_url or DEVCHAIN_URL,
            chain_id=self.chain_id,
            address=self.settlement_contract_address,
            abi=abi,
            start_block=self.settlement_start_block,
            faucet=self.faucet,
            log_blocks_max=self.eth_log_blocks_max,
        )

    def fee_rules(self) -> FeeRules:
        """What the settler may pay for gas."""
        return FeeRules(self.settle_fee_max_gwei * WEI_PER_GWEI, self.settle_fee_raise_seconds)

    def depths(self, chain_id: int) -> Depths:
        """When a batch counts as confirmed and as final."""
        confirmed, final = (1, 1) if is_play(chain_id) else (CONFIRMED_BLOCKS, FINAL_BLOCKS)
        final = self.settle_final_blocks or final
        return Depths(min(self.settle_confirmed_blocks or confirmed, final), final, self.settle_poll_ms / 1000)


async def main(closing: Closing, settings: SettlerSettings | None = None) -> None:
    """Runs the settler until `closing`.

    Raises:
        StartError: the settings, the chain and what is remembered do not fit.
    """
    settings = settings or SettlerSettings.load()
    wanted, signer, url = settings.wanted(), settings.signer(), settings.database(SCHEMA)
    await migrate(url, SCHEMA, MIGRATIONS)
    async with (
        await metrics.serve(settings.metrics_port, settings.metrics_host),
        await db.Database.open(url, SCHEMA) as database,
    ):
        server = rpc.Server(
            settings.settler_address, tls=settings.tls(), plaintext_anywhere=settings.clearbook_plaintext_bind
        )
        servicer = service.Settler()
        server.add(service.add, servicer, service.NAME)
        await server.start()
        try:
            async with closing.guard():
                store = await Store.load(database, signer.address, settings.settle_lease_ms / 1000)
                published = await Published.load(store)
            servicer.open(store, published)
            await store.lease.during(_work(settings, wanted, signer, store, published, server, closing))
        except Closed:
            return  # the end came before the lease, or before the chain
        finally:
            await server.stop(STOP_SECONDS_MAX)


async def _work(
    settings: SettlerSettings,
    wanted: Wanted,
    signer: Signs,
    store: Store,
    published: Published,
    server: rpc.Server,
    closing: Closing,
) -> None:
    alarms = Alarms()
    chain = await connect(wanted, closing)
    try:
        wallet = Wallet(chain, signer, store, alarms, settings.fee_rules())
        contract = await bind(wanted, chain, wallet, store, closing)
        async with rpc.connect(
            settings.book_address, settings.tls(), role=Role.BOOK, message_bytes_max=MESSAGE_BYTES_MAX
        ) as channel:
            stub = wire.stub(channel)
            inbox = Inbox(store, alarms, settings.book_shard)
            session = BookSession(stub, store, inbox, alarms, settings.gateway)
            blocks = log_blocks_max(wanted, chain.chain_id)
            limits = Limits(
                settings.settle_entries_max, settings.settle_age_ms / 1000, blocks, signed_apart=settings.settle_signed
            )
            listings = Listings(contract, store, wallet, faucet=settings.faucet)
            sender = Sender(
                contract, settings.book_shard, wallet, store, listings, alarms, limits, session.journal_through
            )
            watcher = Watcher(contract, settings.book_shard, store, alarms, settings.depths(chain.chain_id))
            reconciler = Reconciler(contract, settings.book_shard, store, published, alarms, settings.reconcile_seconds)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(session.run(closing), name="book session"),
                    group.create_task(_receive(settings, inbox, stub, closing), name="inbox"),
                    group.create_task(sender.run(), name="sender"),
                    group.create_task(watcher.run(), name="watcher"),
                    group.create_task(reconciler.run(), name="reconciler"),
                    group.create_task(_tell_health(server, alarms), name="health"),
                ]
                await closing.wait()
                for task in tasks:
                    task.cancel()
    finally:
        await chain.close()


async def _receive(settings: SettlerSettings, inbox: Inbox, stub: wire.Stub, closing: Closing) -> None:
    if not settings.rabbitmq_uri:
        await inbox.from_book(closing, stub)
        return
    async with (
        Consumer(settings.rabbitmq_uri, settlement_topology(settings.book_shard)) as consumer,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(inbox.from_broker(consumer), name="inbox from broker")
        group.create_task(inbox.fill_gaps(closing, stub), name="inbox from book")


async def _tell_health(server: rpc.Server, alarms: Alarms) -> None:
    told: bool | None = None
    while True:
        serving = not alarms.halted
        if serving != told:
            await server.set_serving(service.NAME, serving)
            told = serving
        else:
            await alarms.changed.wait()


def run_service() -> None:
    """Runs the settler as this process, configured by the environment."""
    settings = SettlerSettings.load()
    log.configure("settler", settings.log_level)
    run(lambda closing: main(closing, settings))


if __name__ == "__main__":
    run_service()
