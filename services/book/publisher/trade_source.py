"""A market's trades from any one on: out of the store until the tape has them, then as they happen."""

from services.book.publisher import wire
from services.book.publisher.bell import Bell
from services.book.publisher.events import Trade
from services.book.publisher.store import Store
from services.book.publisher.subscriber import MESSAGES_AT_ONCE
from services.book.publisher.topic import Topic
from services.errors import Reason, Rejected

LAG_TRADES_MAX = 2_500
"""How far a reader who is not patient may fall behind, once it has caught up."""


class TradeSource:
    """One subscriber's place.

    Attributes:
        bells: ring when there is something new.
    """

    def __init__(self, topic: Topic, store: Store, position: int, *, patient: bool = True) -> None:
        """What follows a trade, by its id.

        Args:
            topic: the market.
            store: what the tape does not have any more.
            position: the last trade that the reader has.
            patient: tell everything, however far behind the reader is, instead of ending.
        """
        self._topic, self._store, self._patient = topic, store, patient
        self.bells: tuple[Bell, ...] = (topic.tape_bell,)
        self._position = position
        self._first = position == topic.tape.last_trade_id  # the first message never waits
        self._beats = topic.tape_bell.beats
        self._caught_up = self._first

    async def more(self) -> list[bytes]:
        """The next messages.

        Raises:
            Rejected: LAGGED: it is not patient, and too far behind.
        """
        topic, tape = self._topic, self._topic.tape
        behind = tape.last_trade_id - self._position
        if behind > LAG_TRADES_MAX and self._caught_up and not self._patient:
            raise Rejected(Reason.LAGGED, f"{behind} trades were not read in time")
        beats, self._beats = self._beats, topic.tape_bell.beats
        if not behind:
            heartbeat, self._first, self._caught_up = self._first or beats != self._beats, False, True
            return [wire.trades(topic.market, (), self._position)] if heartbeat else []
        if self._position < tape.tail:
            commands = await self._store.trades_after(topic.market.market_id, self._position)
            assert commands, f"{topic.market.symbol}: trades after {self._position} are neither stored nor on the tape"
            self._position = commands[-1][-1].trade_id
            return [wire.trades(topic.market, trades, tape.last_trade_id) for trades in commands]
        messages = []
        for entry in tape.after(self._position, MESSAGES_AT_ONCE):
            rest: list[Trade] = [trade for trade in entry.trades if trade.trade_id > self._position]
            whole = len(rest) == len(entry.trades)
            self._position = entry.last_trade_id
            messages.append(entry.once.data if whole else wire.trades(topic.market, rest, tape.last_trade_id))
        return messages
