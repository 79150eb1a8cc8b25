"""REST and WebSocket: a gRPC client and nothing else."""
