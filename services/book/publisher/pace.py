"""How often changes are told. Pure."""

from enum import Enum


class Pace(Enum):
    """The value is how many tenths of a second lie between two messages; 0: each change is told at once."""

    EACH = 0
    TENTH = 1
    SECOND = 10
