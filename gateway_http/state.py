"""What the routes share: the two clients, the sockets that are open, and whether the process is closing."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from gateway_http.feeds import Feeds
from gateway_http.forward import Forward
from services.runtime import rpc
from services.runtime.run import Closing

CHECK_SECONDS_MAX = 2.0


class State:
    """Built once in `__main__`."""

    def __init__(self, forward_address: str, publisher_address: str, closing: Closing) -> None:
        """Addresses are "host:port"."""
        self.closing = closing
        self.forward = Forward(forward_address)
        self.feeds = Feeds(publisher_address, closing)
        self.sockets = 0
        self._channels = {
            "order_gateway": rpc.connect(forward_address),
            "publisher": rpc.connect(publisher_address),
        }

    async def not_serving(self) -> list[str]:
        """Names of the services that do not serve now."""
        answers = await asyncio.gather(*(_serves(channel) for channel in self._channels.values()))
        return [name for name, serves in zip(self._channels, answers, strict=True) if not serves]

    async def close(self) -> None:
        """Closes all channels."""
        await self.feeds.close()
        for channel in self._channels.values():
            await channel.close()


async def _serves(channel: grpc.aio.Channel) -> bool:
    request = health_pb2.HealthCheckRequest(service="")
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=CHECK_SECONDS_MAX)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
