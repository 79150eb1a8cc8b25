"""Binance's combined stream and its snapshots: one connection for all symbols, kept up, its messages folded.

By aiohttp, which speaks both WebSocket and HTTP. Why not one of the clients that there are: ccxt.pro keeps its books in
floats, and python-binance's depth cache begins anew after a gap without a word to whoever trades on it; neither says
that a book has gone stale, which is what our quotes hang on. The procedure itself is a page (outside_book.py).
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import aiohttp

from services.mirror.follower import Follower
from services.mirror.messages import Ending, Garbage, Message, Snapshot, read, read_snapshot
from services.mirror.outside_book import IN_STEP, Step
from services.runtime import log, metrics
from services.runtime.run import Closing
from services.runtime.streams import Backoff, describe, reconnecting

STREAMS: Final = ("depth@100ms", "trade", "bookTicker")
CONNECT_SECONDS_MAX: Final = 10.0
SILENCE_SECONDS_MAX: Final = 20.0
"""A connection on which no symbol says anything for so long is opened anew."""
HEARTBEAT_SECONDS: Final = 10.0
"""How often we ping; who does not answer within half of that is gone."""
CONNECTION_SECONDS_MAX: Final = 23.5 * 3600
"""Binance cuts a connection after 24 hours: we come before it."""
CLOSE_SECONDS_MAX: Final = 1.0
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
SNAPSHOT_BYTES_MAX: Final = 4 * 1024 * 1024
SNAPSHOT_LEVELS: Final = 1_000
SNAPSHOT_SECONDS_MAX: Final = 10.0
RETRY_SNAPSHOT_SECONDS_MIN: Final = 0.25
RETRY_SNAPSHOT_SECONDS_MAX: Final = 10.0
BUSY_STATUSES: Final = frozenset({418, 429})
BUSY_SECONDS_DEFAULT: Final = 60
BUSY_SECONDS_MAX: Final = 3_600
"""How long a Retry-After of theirs is believed at most."""

LOST: Final = (aiohttp.ClientError, OSError, TimeoutError, Garbage)
"""What ends a connection, and nothing more."""

logger = log.get("feed")

_connected = metrics.gauge("mirror_connected", "Whether the stream of the other exchange is open.")
_messages = metrics.counter("mirror_messages", "Messages of the other exchange, by kind.", ["kind"])
_steps = metrics.counter("mirror_steps", "What came of messages and snapshots, by symbol.", ["symbol", "step"])


class Busy(Exception):
    """They ask us to come again later."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"come again in {seconds} s")
        self.seconds = seconds


class Feed:
    """Follows symbols.

    Attributes:
        news: by symbol, set whenever its standing may have changed; for one reader, who clears it.
    """

    def __init__(
        self, http: aiohttp.ClientSession, stream_url: str, rest_url: str, followers: Mapping[str, Follower]
    ) -> None:
        """Nothing is connected yet. URLs without paths; followers by symbol, as in BTCUSDT."""
        self._http, self._rest_url, self._followers = http, rest_url.rstrip("/"), followers
        names = [f"{symbol.lower()}@{stream}" for symbol in followers for stream in STREAMS]
        self._stream_url = f"{stream_url.rstrip('/')}/stream?streams={'/'.join(names)}"
        self._missing = {symbol: asyncio.Event() for symbol in followers}
        """Set while a snapshot is needed."""
        self._connection = 0
        self.news = {symbol: asyncio.Event() for symbol in followers}

    async def run(self, closing: Closing) -> None:
        """Follows until `closing`."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep_in_step(symbol), name=f"in step {symbol}") for symbol in self.news]
            await reconnecting(closing, "outside feed", self._follow, retry_on=LOST)
            for task in tasks:
                task.cancel()

    async def _follow(self) -> None:
        """One connection, until it ends or is no good any more."""
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            socket = await self._http.ws_connect(
                self._stream_url,
                heartbeat=HEARTBEAT_SECONDS,
                max_msg_size=MESSAGE_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS_MAX),
            )
        clock = asyncio.get_running_loop().time
        ends = clock() + CONNECTION_SECONDS_MAX
        try:
            self._connection += 1
            _connected.set(1)
            for missing in self._missing.values():
                missing.set()
            while clock() < ends:
                async with asyncio.timeout(SILENCE_SECONDS_MAX):
                    frame = await socket.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    raise aiohttp.ClientError(f"ended: {frame.type.name} {socket.close_code} {frame.extra or ''}")
                if not self._take(read(frame.data)):
                    return
        finally:
            _connected.set(0)
            for symbol, follower in self._followers.items():
                self._missing[symbol].clear()
                follower.disconnected()
                self.news[symbol].set()
            await socket.close()

    def _take(self, message: Message | None) -> bool:
        """Folds a message; whether the connection goes on. Raises Garbage."""
        _messages.labels(type(message).__name__.lower() if message else "unknown").inc()
        if message is None:
            return True
        if isinstance(message, Ending):
            return False
        follower = self._followers.get(message.symbol)
        if follower is None:
            raise Garbage(f"of {message.symbol}, which was not asked for")
        self._went(message.symbol, follower.message(message, time.monotonic_ns()))
        return True

    def _went(self, symbol: str, step: Step) -> None:
        _steps.labels(symbol, step.value).inc()
        if step not in IN_STEP and step is not Step.BUFFERED:
            logger.warning("out of step", symbol=symbol, why=step.value)
            self._missing[symbol].set()
        self.news[symbol].set()

    async def _keep_in_step(self, symbol: str) -> None:
        """Gets a snapshot whenever one is needed, for ever."""
        missing, follower = self._missing[symbol], self._followers[symbol]
        backoff = Backoff(RETRY_SNAPSHOT_SECONDS_MIN, RETRY_SNAPSHOT_SECONDS_MAX)
        while True:
            await missing.wait()
            connection = self._connection
            try:
                snapshot = await self._snapshot(symbol)
            except Busy as busy:
                logger.warning("no snapshot", symbol=symbol, why=str(busy))
                await asyncio.sleep(max(busy.seconds, backoff.next_seconds()))
                continue
            except LOST as error:
                logger.warning("no snapshot", symbol=symbol, why=describe(error))
                await asyncio.sleep(backoff.next_seconds())
                continue
            if not missing.is_set() or connection != self._connection:
                continue  # it was for a connection that is gone
            self._went(symbol, follower.snapshot(snapshot, time.monotonic_ns()))
            if follower.book.in_step:
                missing.clear()
                backoff.reset()
                logger.info("in step", symbol=symbol, update=follower.book.update)
            else:
                await asyncio.sleep(backoff.next_seconds())

    async def _snapshot(self, symbol: str) -> Snapshot:
        """The book as it is there now. Raises Busy, or what LOST says."""
        query = urlencode({"symbol": symbol, "limit": SNAPSHOT_LEVELS})
        async with (
            asyncio.timeout(SNAPSHOT_SECONDS_MAX),
            self._http.get(f"{self._rest_url}/api/v3/depth?{query}", allow_redirects=False) as response,
        ):
            if response.status in BUSY_STATUSES:
                asked = response.headers.get("Retry-After", "")
                seconds = int(asked) if asked.isascii() and asked.isdigit() else BUSY_SECONDS_DEFAULT
                raise Busy(min(seconds, BUSY_SECONDS_MAX))
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > SNAPSHOT_BYTES_MAX:
                    raise Garbage("a snapshot without end")
        return read_snapshot(bytes(body))
