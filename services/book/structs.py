"""Plain classes as msgspec structs, for where nobody has compiled them: these are made in half of the time. Pure.

A class in which `__init__` only stores what it is given is the readable form, and what mypyc makes a C struct of. Where
it runs interpreted, its module asks here for a struct with the same name and fields, and goes on with that.
Two of them are equal if their fields are, and none is part of a cycle: the garbage collector need not know of them.
"""

from types import FunctionType
from typing import Any

import msgspec


def in_place_of(*kinds: type[Any]) -> dict[str, type[Any]]:
    """Structs by the names of the classes that they replace; nothing if these are compiled.

    `kinds` are classes whose `__init__` stores its arguments, under the names in `__match_args__`, and that have no
    methods of their own.
    """
    return {kind.__name__: _struct(kind) for kind in kinds if isinstance(kind.__init__, FunctionType)}


def _struct(kind: type[Any]) -> type[Any]:
    names, defaults = kind.__match_args__, kind.__init__.__defaults__ or ()
    required = len(names) - len(defaults)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [(name, Any) for name in names[:required]]
    fields += [(name, Any, default) for name, default in zip(names[required:], defaults, strict=True)]
    own: dict[str, Any] = {"__doc__": kind.__doc__, "__match_args__": names}
    return msgspec.defstruct(kind.__name__, fields, namespace=own, module=kind.__module__, gc=False)
