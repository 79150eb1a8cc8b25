"""A market of ours, as the mirror needs to know it."""

from clearbook.client import Client
from services.mirror import trade_wire as wire
from services.mirror.quotes import Grid
from services.runtime.run import StartError
from services.units import Market


async def ours(client: Client, name: str) -> tuple[Market, Grid]:
    """How the market's numbers are written, and its steps.

    Raises:
        StartError: there is no such market, or its steps are finer than the mirror counts.
        grpc.RpcError: our exchange is away.
    """
    entry = (await client.markets()).get(name)
    if entry is None:
        raise StartError(f"MIRROR_MARKETS: {name} is no market here")
    grid = wire.grid_from(entry)
    if grid is None:
        raise StartError(f"MIRROR_MARKETS: the steps of {name} are finer than the mirror counts")
    return wire.market_from(entry), grid
