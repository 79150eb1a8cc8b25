"""One subscription per market at BookService, however many people watch. The subscription resumes when it breaks."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from clearbook.v1 import book_service_pb2 as wire
from clearbook.v1 import book_service_pb2_grpc as services

from clearbook.book import LocalBook, OutOfStep
from gateway_http.book_service import LOOK_UP_SECONDS_MAX, asked
from gateway_http.direct import Line, Write, never
from gateway_http.fanout import Batch, Fanout
from gateway_http.turns import Turns
from gateway_http.wire import order_book_update
from services.errors import Reason, Rejected, no_such_market
from services.runtime import log, rpc
from services.runtime.config import Tls
from services.runtime.run import Closing
from services.runtime.streams import reconnecting

FRAME_LEVELS: Final = 20
CONFLATIONS: Final = {"": 0.0, "100_milliseconds": 0.1, "1_second": 1.0}
"""How often who watches a book is told, in seconds; 0: of each change."""
FRAMES_WAITING_MAX: Final = 64
WORDS_CHARS_WAITING_MAX: Final = 1024 * 1024
"""Of what is said to one socket alone; a single word may be longer."""
LOOK_UPS_MAX: Final = 100
MARKETS_MAX: Final = rpc.CONCURRENT_STREAMS_MAX - LOOK_UPS_MAX
"""One connection carries a subscription for each of them, and look-ups beside."""
BOOK_SECONDS_MAX: Final = 5.0
RECONNECT_SECONDS_MAX: Final = 1.0

logger = log.get("feeds")


class Subscriber:
    """What waits for one socket: every change of the book while it keeps up, the newest alone once it does not.

    What is said to it alone goes first and is never skipped: whoever says it waits until there is room.
    """

    def __init__(self, write: Write = never, *, patient: bool = True) -> None:
        """Nothing waits yet.

        Args:
            write: past the sender, while it waits for more.
            patient: skip to the newest, when too far behind, instead of ending.
        """
        self._frames: deque[str] = deque()
        self._words: deque[str] = deque()
        self._words_chars = 0
        self._line, self._room = Line(write), asyncio.Event()
        self._patient, self._lagged = patient, False

    def take(self, batch: Batch[str]) -> None:
        """Adds frames, or writes them at once."""
        if not self._line.goes_past(batch.frames(str)):
            for frame in batch.messages:
                self.put(frame)

    def put(self, frame: str) -> None:
        """Adds a frame; a reader that is too far behind skips to it, or is at its end."""
        if len(self._frames) >= FRAMES_WAITING_MAX:
            self._frames.clear()
            self._lagged = not self._patient
        self._frames.append(frame)
        self._line.wake()

    def forget_frames(self) -> None:
        """The book is no longer asked for: what waits of it is not sent, and did not come too late."""
        self._frames.clear()
        self._lagged = False

    async def say(self, words: str) -> None:
        """Adds what is for this socket alone, when there is room for it."""
        while len(self._words) >= FRAMES_WAITING_MAX or (self._words and self._words_chars >= WORDS_CHARS_WAITING_MAX):
            self._room.clear()
            await self._room.wait()
        self._words.append(words)
        self._words_chars += len(words)
        self._line.wake()

    async def next(self) -> str:
        """The next frame to send.

        Raises:
            Rejected: LAGGED: it is not patient, and too far behind.
        """
        while not (self._words or self._frames):
            await self._line.wait()
        if self._lagged:
            raise Rejected(Reason.LAGGED, f"{FRAMES_WAITING_MAX} messages of the book were not read in time")
        if self._words:
            self._room.set()
            words = self._words.popleft()
            self._words_chars -= len(words)
            return words
        return self._frames.popleft()


class Feed:
    """A market's local book and those who watch it."""

    def __init__(self, market: wire.Market, turns: Turns) -> None:
        """The market as BookService.ListMarkets gives it; `turns`: in which those who watch are told."""
        self._market = market
        self.market = market.market
        self.book = LocalBook(market)
        self._next = self.book
        """What messages are applied to: another one than the book while that has to be had anew."""
        self.subscribers = {seconds: Fanout[str](turns) for seconds in CONFLATIONS.values()}
        """Those who are told of each change, or every so often that it has changed."""
        self.listeners: set[Callable[[wire.StreamOrderBookResponse], None]] = set()
        """Told of each message that changed the book, when it has."""
        self._live = asyncio.Event()
        """Set while a subscription stands and the book is as it says. Without one the book may be of yesterday."""

    @property
    def live(self) -> bool:
        """Whether the book is as the market's is. If not, it is nothing to tell anybody."""
        return self._live.is_set()

    async def current(self) -> LocalBook:
        """The book as it is now. Raises Rejected(UNAVAILABLE) if there is no subscription within the limit."""
        try:
            async with asyncio.timeout(BOOK_SECONDS_MAX):
                while not self.live:
                    await self._live.wait()
        except TimeoutError:
            raise Rejected(Reason.UNAVAILABLE, "market data is not available now; try again") from None
        return self.book

    def frame(self) -> str:
        """The documented message with the book as it is."""
        return order_book_update(*self.book.top(FRAME_LEVELS))

    async def follow(self, stub: "services.BookServiceAsyncStub") -> None:
        """Reads one subscription until it breaks. A book out of step is had anew."""
        request = wire.StreamOrderBookRequest(
            market=self.market, resume_from_sequence=self._next.sequence, incarnation=self._next.incarnation
        )
        call = stub.StreamOrderBook(request)
        try:
            async for message in call:
                changed, comes_back = self._next.apply(message), not self.live
                if not changed and message.WhichOneof("kind") != "heartbeat":
                    continue  # younger than we are: it says nothing of the book
                self.book = self._next
                self._live.set()
                if changed:
                    self._publish(message)
                elif comes_back:
                    self._tell()
        except OutOfStep as error:
            logger.warning("book out of step", market=self.market, why=str(error))
            self._next = LocalBook(self._market)
        finally:
            self._live.clear()
            call.cancel()

    def _publish(self, message: wire.StreamOrderBookResponse) -> None:
        for listener in self.listeners:
            listener(message)
        self._tell()

    def _tell(self) -> None:
        for seconds, readers in self.subscribers.items():
            if not readers:
                continue
            if seconds:
                readers.tell_later(seconds, self._frame_if_live)
            else:
                readers.tell(self.frame())

    def _frame_if_live(self) -> str | None:
        return self.frame() if self.live else None


class Feeds:
    """All feeds, opened when first asked for and then kept."""

    def __init__(self, address: str, closing: Closing, turns: Turns, tls: Tls | None = None) -> None:
        """`address` of BookService, "host:port"; `turns`: of the process; `tls`: whom to believe there."""
        self._channel = rpc.connect(address, tls)
        self._stub = services.BookServiceStub(self._channel)
        self._closing, self._turns = closing, turns
        self._feeds: dict[str, Feed] = {}

    async def feed(self, market: str) -> Feed:
        """The feed of a market. Raises Rejected: MARKET_NOT_FOUND, UNAVAILABLE."""
        feed = self._feeds.get(market)
        return feed if feed is not None else await self._open(market)

    async def markets(self) -> wire.ListMarketsResponse:
        """All markets, their rules and states. Raises Rejected(UNAVAILABLE)."""
        return await asked(self._stub.ListMarkets(wire.ListMarketsRequest(), timeout=LOOK_UP_SECONDS_MAX))

    async def _open(self, market: str) -> Feed:
        known = await self.markets()
        listed = next((entry for entry in known.markets if entry.market == market), None)
        if listed is None:
            raise no_such_market(market)
        if market not in self._feeds:  # somebody else may have come first
            if len(self._feeds) >= MARKETS_MAX:
                raise Rejected(Reason.OVERLOADED, "too many markets are watched")
            feed = self._feeds[market] = Feed(listed, self._turns)
            keep = reconnecting(
                self._closing,
                f"order book of {market}",
                lambda: feed.follow(self._stub),
                delay_seconds_max=RECONNECT_SECONDS_MAX,
            )
            self._closing.spawn(keep, f"feed {market}")
        return self._feeds[market]

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
