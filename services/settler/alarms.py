"""Alarms: what an operator must see, as a metric, a log line and, when settlement cannot go on, as health."""

from services.runtime import log, metrics
from services.settler.news import News

_raised = metrics.gauge("settler_alarm", "1 while an alarm of this kind is up.", ["kind"])
_count = metrics.counter("settler_alarms", "Alarms raised.", ["kind"])

logger = log.get("alarms")


class Halted(Exception):
    """Settlement cannot go on until an operator, or time, removes the cause. One line."""


class Alarms:
    """The alarms that are up, by kind."""

    def __init__(self) -> None:
        _raised.clear()  # a settler that ended in this process may have left some up
        self._up: dict[str, tuple[str, bool]] = {}
        self.changed = News()

    def raise_(self, kind: str, why: str, *, halts: bool = True) -> None:
        """Raises an alarm; the same again is not told twice. `halts`: nothing is settled while it is up."""
        if self._up.get(kind) == (why, halts):
            return
        self._up[kind] = (why, halts)
        _raised.labels(kind).set(1)
        _count.labels(kind).inc()
        logger.error("ALARM", kind=kind, why=why, halts=halts)
        self.changed.send()

    def once(self, kind: str, why: str) -> None:
        """Tells of something that is over already."""
        _count.labels(kind).inc()
        logger.error("ALARM", kind=kind, why=why, halts=False)

    def clear(self, kind: str) -> None:
        """The cause is gone."""
        if self._up.pop(kind, None) is not None:
            _raised.labels(kind).set(0)
            logger.info("alarm is over", kind=kind)
            self.changed.send()

    @property
    def halted(self) -> bool:
        """Whether any alarm that is up stops settlement."""
        return any(halts for _, halts in self._up.values())

    def halting(self, *, but: str) -> str:
        """The text of an alarm that stops settlement, of another kind than `but`; "" if none is up."""
        return next((why for kind, (why, halts) in self._up.items() if halts and kind != but), "")
