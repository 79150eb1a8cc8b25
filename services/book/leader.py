"""Taking the lead of a shard: by journaling LeaderStarted. The unique place of the row lets one of two succeed."""

import secrets
from collections.abc import Sequence

from services.book.batch import Batch
from services.book.engine import Engine
from services.book.journal import Journal, Row
from services.book.model import Command, CommandBody, LeaderStarted, Refused
from services.runtime import log
from services.runtime.run import StartError

INCARNATION_BYTES = 16

logger = log.get("leader")


async def take_lead(
    journal: Journal, engine: Engine, last_hash: bytes, time_ns: int, seeds: Sequence[CommandBody]
) -> Row:
    """Journals LeaderStarted, together with the first assets and markets where there are none: all or nothing.

    Args:
        journal: the shard's.
        engine: as of the journal's last row.
        last_hash: of that row.
        time_ns: now.
        seeds: for a journal without assets; ignored otherwise.

    Raises:
        NotLeader: another process was faster.
        CommitUnknown: it may lead or not: start again.
        StartError: a seed was refused.
    """
    incarnation = engine.incarnation or secrets.token_hex(INCARNATION_BYTES)
    batch = Batch(engine, max(engine.time_ns, time_ns))
    seeding = not engine.assets
    batch.add_all([Command(0, LeaderStarted(engine.epoch + 1, incarnation))])
    if seeding:
        for event in batch.add_all([Command(0, seed) for seed in seeds]):
            if isinstance(event.body, Refused):
                raise StartError(f"the first markets: {event.body.command.body} is refused: {event.body.reason}")
    row = batch.seal(last_hash)
    await journal.append(row)
    logger.info("leading", shard=engine.shard, epoch=engine.epoch, incarnation=incarnation, sequence=row.last_sequence)
    return row
