"""Trades on their way to the contract."""
