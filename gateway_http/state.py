"""What the routes share: the two clients, the limits, and whether the process is closing."""

import asyncio

from gateway_http.channels import Channels
from gateway_http.feeds import Feeds
from gateway_http.forward import Forward
from gateway_http.limits import Limits, LimitSettings
from gateway_http.turns import Turns
from gateway_http.watch import MarketData
from services.runtime import rpc
from services.runtime.config import Tls
from services.runtime.roles import Role
from services.runtime.run import Closing

CHECK_SECONDS_MAX = 2.0


class State:
    """Built once in `__main__`."""

    def __init__(
        self,
        forward_address: str,
        publisher_address: str,
        closing: Closing,
        tls: Tls | None = None,
        public_tls: Tls | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Addresses are "host:port"; `tls` is who we are to order_gateway, `public_tls` whom we believe elsewhere."""
        self.closing = closing
        self.limits = limits or Limits(LimitSettings())
        self.forward = Forward(forward_address, tls)
        self.turns = Turns()
        self.feeds = Feeds(publisher_address, closing, self.turns, public_tls)
        self.publisher = rpc.connect(publisher_address, public_tls)
        self.streams = rpc.connect(publisher_address, public_tls)
        """Of market data other than books: feeds have a connection of their own."""
        watching = Channels(lambda: rpc.connect(publisher_address, public_tls), 1)
        self.market_data = MarketData(watching, self.limits, self.turns)
        """What sockets have subscribed, a call each."""
        self._channels = {
            "order_gateway": rpc.connect(forward_address, tls, role=Role.GATEWAY),
            "publisher": self.publisher,
        }

    async def not_serving(self) -> list[str]:
        """Names of the services that do not serve now."""
        checks = (rpc.serves(channel, seconds_max=CHECK_SECONDS_MAX) for channel in self._channels.values())
        answers = await asyncio.gather(*checks)
        return [name for name, serves in zip(self._channels, answers, strict=True) if not serves]

    async def close(self) -> None:
        """Closes all channels."""
        await self.feeds.close()
        await self.forward.close()
        await self.streams.close()
        await self.market_data.channels.close()
        for channel in self._channels.values():
            await channel.close()
