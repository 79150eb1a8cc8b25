"""The plumbing of every process: configuration, logs, lifecycle, gRPC, RabbitMQ, the database. No business rules."""

import os

# gRPC's C core prints a line of its own for what we report better (a taken port). Set before anything imports grpc.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
