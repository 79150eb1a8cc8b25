"""What every process shares: configuration, logs, lifecycle, RPC, broker, database."""
