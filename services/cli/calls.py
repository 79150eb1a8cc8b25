"""Single calls of the command line to the running exchange, as whoever the environment says is calling."""

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import typer
from clearbook.v1 import admin_service_pb2 as admin_pb

from services.cli.clients import GREETING_SECONDS_MAX, CallFailed, Clients
from services.cli.settings import ClientSettings, given
from services.cli.typed import as_typed
from services.errors import Reason
from services.runtime.run import StartError


@contextmanager
def refusals(names: Mapping[str, str] | None = None) -> Iterator[None]:
    """A refusal, or nobody there, is one line and exit 1. `names`: see as_typed."""
    try:
        yield
    except (CallFailed, StartError, ValueError) as error:
        sys.stderr.write(f"clearbook: {as_typed(str(error), names)}{_hint(error)}\n")
        raise typer.Exit(1) from None


def _hint(error: Exception) -> str:
    unknown = isinstance(error, CallFailed) and error.reason is Reason.UNAUTHENTICATED
    return ": set CLEARBOOK_TOKEN" if unknown and not ClientSettings.load().clearbook_token else ""


@asynccontextmanager
async def connected(
    user: str, gateway: str | None = None, publisher: str | None = None
) -> AsyncIterator[tuple[Clients, tuple[tuple[str, str], ...]]]:
    """Clients, and the metadata of whoever calls: see ClientSettings.who."""
    settings = ClientSettings.load(**given(gateway_address=gateway, publisher_address=publisher))
    addresses = settings.gateway_address, settings.publisher_address
    async with Clients.to(*addresses, settings.public_authority()) as clients:
        yield clients, settings.who(user)


async def ask(gateway: str | None, rpc: str, fields: dict[str, Any], *, again: bool) -> Any:
    """One call of AdminService. Raises CallFailed; ValueError for a field that no request has."""
    request = getattr(admin_pb, f"{rpc}Request")(**fields)
    async with connected("", gateway) as (clients, who):
        seconds = GREETING_SECONDS_MAX if again else 0
        return await clients.call(getattr(clients.admin, rpc), request, who, seconds_max=seconds)


async def markets(publisher: str | None) -> dict[str, Any]:
    """All markets by name. Raises CallFailed."""
    async with connected("", publisher=publisher) as (clients, _):
        return await clients.markets()
