"""What a caller may do at the book by its role: which session it may hold, and which commands it may put in there.

What the chain says (deposits, finality) is for settlers to say, all the rest for gateways. So neither a stolen
gateway's certificate makes money out of nothing, nor a stolen settler's certificate trades.
"""

from collections.abc import Iterable

from services.errors import Reason, Rejected
from services.runtime import log
from services.runtime.config import GATEWAY_NUMBER_MAX
from services.runtime.roles import Role

FROM_CHAIN = frozenset({"deposit_final", "settlement_final", "claim_final", "exit_request_final", "note_debt"})
"""Kinds of commands, as the journal's proto names them."""

logger = log.get("callers")


def check_session(role: Role | None, gateway: int) -> None:
    """Raises Rejected(PERMISSION_DENIED) unless a session of that number is for that role. None may hold any."""
    if role is None or (role is Role.SETTLER) == (gateway > GATEWAY_NUMBER_MAX):
        return
    mine = f"above {GATEWAY_NUMBER_MAX}" if role is Role.SETTLER else f"to {GATEWAY_NUMBER_MAX}"
    raise _refused(role, f"a {role} may hold sessions {mine} only, not {gateway}")


def check_commands(role: Role | None, kinds: Iterable[str | None]) -> None:
    """Raises Rejected(PERMISSION_DENIED) if one of the kinds is not for that role to submit. None may submit all."""
    if role is None:
        return
    for kind in kinds:
        if (kind in FROM_CHAIN) != (role is Role.SETTLER):
            raise _refused(role, f"a {role} may not submit {kind}")


def _refused(role: Role, why: str) -> Rejected:
    logger.warning("refused", role=role, why=why)
    return Rejected(Reason.PERMISSION_DENIED, why)
