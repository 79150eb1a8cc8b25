"""The matching engine and its journal."""
