"""Orders in, answers out: identity, balances, holds."""
