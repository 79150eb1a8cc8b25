"""Command ids: gateway, session epoch and number in one int64 that sorts in that order. Pure.

The id of a PlaceOrder is the order's id. The book's own commands have 0.
"""

from typing import Final

GATEWAY_SHIFT_BITS: Final = 56
EPOCH_SHIFT_BITS: Final = 36
GATEWAYS_MAX: Final = 127
SESSION_EPOCHS_MAX: Final = (1 << (GATEWAY_SHIFT_BITS - EPOCH_SHIFT_BITS)) - 1
SESSION_COMMANDS_MAX: Final = (1 << EPOCH_SHIFT_BITS) - 1


def command_id_of(gateway: int, epoch: int, number: int) -> int:
    """The id of a session's command: gateway 1 to GATEWAYS_MAX, epoch and number from 1."""
    return gateway << GATEWAY_SHIFT_BITS | epoch << EPOCH_SHIFT_BITS | number


def gateway_of(command_id: int) -> int:
    """Whose command it is."""
    return command_id >> GATEWAY_SHIFT_BITS


def epoch_of(command_id: int) -> int:
    """The epoch of its session."""
    return command_id >> EPOCH_SHIFT_BITS & SESSION_EPOCHS_MAX
