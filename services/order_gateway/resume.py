"""A stream of an account that goes on from an index: what changed since comes from the database, the rest live.

The reader is noted first, then the database is read up to where the fold stood at that moment, and what was noted
meanwhile is merged in one step: nothing is left out and nothing told twice.
"""

from services.order_gateway.history import History
from services.order_gateway.ledger import Ledger
from services.order_gateway.views import AccountView
from services.order_gateway.watch import Watch

CHANGES_MAX = 10_000
"""Orders, executions or movements since an index; if there are more, a snapshot says it shorter."""


async def resume(watch: Watch, view: AccountView, after_index: int, history: History, ledger: Ledger) -> None:
    """Lets a new reader go on from an index, or begin with a snapshot if that is too old or none of ours.

    Raises:
        Unavailable: the database.
    """
    if not 0 < after_index <= ledger.sequence:
        return
    through = ledger.sequence
    watch.pause()
    changed = await history.changed(view.account_id, after_index, through, CHANGES_MAX)
    if changed is None:
        watch.resume(None)
        return
    noted = watch.noted
    watch.resume(
        view.since(
            [*changed.orders, *(order for update in noted for order in update.orders)],
            [*changed.executions, *(execution for update in noted for execution in update.executions)],
            [*changed.movements, *(item for update in noted for item in update.movements)],
        )
    )
