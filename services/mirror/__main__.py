"""The mirror: another exchange's prices, followed, told, and quoted in our markets. `clearbook mirror`."""

import asyncio
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import Field

from clearbook.client import Client
from clearbook.credentials import AUDIENCE, Bearer, Credential, Ed25519, User
from services.fees import PPM
from services.mirror.feed import Feed
from services.mirror.follower import Follower, Patience, Standing
from services.mirror.messages import Garbage, units
from services.mirror.quoter import Quoter
from services.mirror.quotes import BASIS_POINTS, Terms
from services.mirror.teller import Teller
from services.runtime import log, metrics, rpc
from services.runtime.config import Address, ListenSettings, LogSettings, MetricsSettings, PublicClientSettings
from services.runtime.run import Closing, StartError, run

NAME: Final = "clearbook.mirror"
"""Of its health; a market's is NAME/MARKET."""
HEALTH_SECONDS: Final = 0.5
STOP_SECONDS_MAX: Final = 5.0
NS_PER_MS: Final = 10**6
LEVELS_MAX: Final = 50
SOURCE: Final = "binance"
"""Where the prices are from, before the symbol."""
PAIR: Final = re.compile(r"(?P<market>[A-Z0-9-]+)=(?P<symbol>[A-Z0-9]+)(?::(?P<notional>[0-9.]+))?", re.ASCII)

_live = metrics.gauge("mirror_live", "Whether the outside's book of a market may be believed.", ["market"])


@dataclass(frozen=True)
class Pair:
    """A market of ours and the symbol that it follows. `notional_max`: units of the quote asset; None: no quotes."""

    market: str
    symbol: str
    notional_max: int | None


class MirrorSettings(LogSettings, MetricsSettings, ListenSettings, PublicClientSettings):
    """What the mirror reads from its environment.

    MIRROR_MARKETS lists `OURS=THEIRS` or `OURS=THEIRS:NOTIONAL`, by commas: with NOTIONAL, the most that our quotes
    there may come to in the quote asset, it is quoted too. With MIRROR_REFERENCE=1 the middle of their best prices is
    told as the reference price of each. Who quotes and tells is said by one of MIRROR_USER (open mode),
    CLEARBOOK_TOKEN, or MIRROR_KEY_ID and MIRROR_KEY_FILE.
    """

    mirror_address: Address = "127.0.0.1:50064"
    metrics_port: int = Field(default=9105, ge=0, le=65_535)
    gateway_address: Address = "127.0.0.1:50051"
    publisher_address: Address = "127.0.0.1:50052"
    mirror_stream_url: str = Field(default="wss://stream.binance.com:9443", repr=False)
    mirror_rest_url: str = Field(default="https://api.binance.com", repr=False)
    mirror_markets: str = ""
    mirror_reference: bool = False
    mirror_user: str = ""
    clearbook_token: str = Field(default="", repr=False)
    mirror_key_id: str = Field(default="", repr=False)
    mirror_key_file: Path | None = None
    clearbook_audience: str = AUDIENCE
    mirror_levels: int = Field(default=5, ge=1, le=LEVELS_MAX)
    mirror_share_ppm: int = Field(default=100_000, ge=1, le=PPM)
    mirror_spread_bps: int = Field(default=10, ge=0, lt=BASIS_POINTS)
    mirror_silent_ms: int = Field(default=5_000, ge=100, le=600_000)
    mirror_behind_ms: int = Field(default=2_000, ge=100, le=600_000)
    mirror_late_ms: int = Field(default=3_000, ge=100, le=600_000)

    @property
    def terms(self) -> Terms:
        """How much of the outside is quoted; each market has a notional_max of its own."""
        return Terms(self.mirror_levels, self.mirror_share_ppm, self.mirror_spread_bps, 0)

    @property
    def patience(self) -> Patience:
        """How long is too long."""
        return Patience(*(ms * NS_PER_MS for ms in (self.mirror_silent_ms, self.mirror_behind_ms, self.mirror_late_ms)))

    def pairs(self) -> list[Pair]:
        """The markets. Raises StartError."""
        found = [_pair(text.strip()) for text in self.mirror_markets.split(",") if text.strip()]
        if not found:
            raise StartError(
                "MIRROR_MARKETS is not set: for example BTC-USD=BTCUSDT, or BTC-USD=BTCUSDT:10000 to quote"
            )
        for name, of in (("market", [pair.market for pair in found]), ("symbol", [pair.symbol for pair in found])):
            if len(set(of)) < len(of):
                raise StartError(f"MIRROR_MARKETS: a {name} is named twice")
        return found

    def credential(self) -> Credential:
        """Who quotes and tells. Raises StartError."""
        keyed = bool(self.mirror_key_id) or self.mirror_key_file is not None
        if sum(map(bool, (self.mirror_user, self.clearbook_token, keyed))) != 1:
            raise StartError(
                "say who quotes or tells by one of MIRROR_USER, CLEARBOOK_TOKEN, MIRROR_KEY_ID and MIRROR_KEY_FILE"
            )
        if not keyed:
            return Bearer(self.clearbook_token) if self.clearbook_token else User(self.mirror_user)
        if not self.mirror_key_id or self.mirror_key_file is None:
            raise StartError("MIRROR_KEY_ID and MIRROR_KEY_FILE belong together")
        try:
            return Ed25519.from_pem(self.mirror_key_id, self.mirror_key_file, audience=self.clearbook_audience)
        except (OSError, ValueError) as error:
            raise StartError(f"MIRROR_KEY_FILE: {error}") from None


def _pair(text: str) -> Pair:
    match = PAIR.fullmatch(text)
    if match is None:
        raise StartError(f"MIRROR_MARKETS: {text!r} is not like BTC-USD=BTCUSDT or BTC-USD=BTCUSDT:10000")
    try:
        notional = units(match["notional"]) if match["notional"] else None
    except Garbage as wrong:
        raise StartError(f"MIRROR_MARKETS: {wrong}") from None
    return Pair(match["market"], match["symbol"], notional)


class Mirror:
    """The process, as tests have it too.

    Attributes:
        followers: by symbol.
        port: of health, once it runs.
    """

    def __init__(self, settings: MirrorSettings) -> None:
        """Raises StartError: settings that do not fit."""
        self._settings, self._pairs, self._tls = settings, settings.pairs(), settings.public_authority()
        acts = settings.mirror_reference or any(pair.notional_max for pair in self._pairs)
        self._credential = settings.credential() if acts else None
        self.followers = {pair.symbol: Follower(settings.patience) for pair in self._pairs}
        self.port = 0

    async def run(self, closing: Closing) -> None:
        """Follows, and quotes, until `closing`. Raises StartError: a market that we do not have."""
        given = self._settings
        async with (
            await metrics.serve(given.metrics_port, given.metrics_host),
            aiohttp.ClientSession(trust_env=True) as http,
            AsyncExitStack() as clients,
        ):
            server = rpc.Server(given.mirror_address, plaintext_anywhere=given.clearbook_plaintext_bind)
            self.port = await server.start()
            feed = Feed(http, given.mirror_stream_url, given.mirror_rest_url, self.followers)
            workers = await self._workers(feed, clients)
            try:
                async with asyncio.TaskGroup() as group:
                    health = group.create_task(self._tell_health(server), name="health")
                    work = [group.create_task(feed.run(closing), name="feed")]
                    work += [group.create_task(one.run(closing), name=type(one).__name__) for one in workers]
                    await asyncio.wait(work)
                    health.cancel()
            finally:
                await server.stop(STOP_SECONDS_MAX)

    async def _workers(self, feed: Feed, clients: AsyncExitStack) -> list[Quoter | Teller]:
        """One for each market that is to be quoted, and one for each whose reference price is told, of one account."""
        if self._credential is None:
            return []
        given, tls = self._settings, self._tls
        client = await clients.enter_async_context(
            Client(
                given.gateway_address,
                given.publisher_address,
                credential=self._credential,
                root_certificates=tls.authority if tls else None,
                server_name=tls.name if tls else "",
            )
        )
        quoters = [
            Quoter(
                client,
                pair.market,
                replace(given.terms, notional_max=pair.notional_max),
                self.followers[pair.symbol],
                feed.news[pair.symbol],
            )
            for pair in self._pairs
            if pair.notional_max
        ]
        told = self._pairs if given.mirror_reference else []
        tellers = [Teller(client, pair.market, f"{SOURCE} {pair.symbol}", self.followers[pair.symbol]) for pair in told]
        return [*quoters, *tellers]

    async def _tell_health(self, server: rpc.Server) -> None:
        """Serving is: the outside's book may be believed. Of all markets, and of each."""
        told: dict[str, bool] = {}
        while True:
            now = time.monotonic_ns()
            live = {pair.market: self.followers[pair.symbol].standing(now) is Standing.LIVE for pair in self._pairs}
            for market, serving in live.items():
                _live.labels(market).set(serving)
            states = {NAME: all(live.values()), **{f"{NAME}/{market}": serving for market, serving in live.items()}}
            for name, serving in states.items():
                if told.get(name) is not serving:
                    await server.set_serving(name, serving)
            told = states
            await asyncio.sleep(HEALTH_SECONDS)


async def main(closing: Closing, settings: MirrorSettings) -> None:
    """Runs the mirror until `closing`. Raises StartError, perhaps in a group."""
    await Mirror(settings).run(closing)


def run_service() -> None:
    """Runs the mirror as this process, configured by the environment."""
    settings = MirrorSettings.load()
    log.configure("mirror", settings.log_level)
    run(lambda closing: main(closing, settings))


if __name__ == "__main__":
    run_service()
