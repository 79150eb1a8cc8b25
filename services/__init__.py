"""The processes of the exchange, one package each."""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
"""Read when grpc is imported: else it starts its threads again in a copy of the book, on the book's own sockets."""
