"""Tickers as they change: a reader who is slow gets what is true by then."""

from collections.abc import Sequence

from services.book.publisher import figures_wire
from services.book.publisher.bell import Bell
from services.book.publisher.board import Board
from services.book.publisher.pace import Pace
from services.book.publisher.topic import Topic


class TickerSource:
    """One subscriber's place: which ticker it was told last of each market.

    Attributes:
        bells: ring when there is something new.
    """

    def __init__(self, board: Board, topics: Sequence[Topic], pace: Pace) -> None:
        """Those of some markets, or, without any, of all there are and will be."""
        self._board, self._topics = board, topics
        self._told: dict[str, tuple[object, ...]] = {}
        self._beats = -1
        paced = () if pace is Pace.EACH else (board.pulses[pace],)
        each = tuple(topic.full.bell for topic in topics) if topics else (board.book_bell,)
        each = (*each, board.reference_bell, board.market_bell, board.pulses[Pace.SECOND])
        self.bells: tuple[Bell, ...] = (board.beat_bell, *(paced or each))

    async def more(self) -> list[bytes]:
        """All tickers that are not what was told before, in one message."""
        board, told = self._board, []
        for topic in self._topics or board.by_symbol():
            moment = topic.ticker_moment(board.time_ns)
            if self._told.get(topic.market.symbol) != moment:
                self._told[topic.market.symbol] = moment
                told.append(topic.ticker(board.time_ns))
        quiet = self._beats == board.beats
        if told or not quiet:
            self._beats = board.beats
            return [b"".join(told) or figures_wire.tickers(())]
        return []
