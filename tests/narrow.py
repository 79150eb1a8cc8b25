"""Readers that can be held up: a connection that takes little ahead of who reads from it."""

from __future__ import annotations

import grpc


def narrow(address: str) -> grpc.aio.Channel:
    """A connection of its own that takes 64 kB ahead of its reader and no more."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(address, options=options)
