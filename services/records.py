"""Plain values of which there are many: slotted classes of which mypyc makes C structs. Pure, and compiled.

They are written out, because mypyc makes no structs of dataclasses. Nothing changes one once it is made, but where its
class says so.
"""

from typing import Any, ClassVar, TypeVar

from mypy_extensions import mypyc_attr

R = TypeVar("R", bound="Record")


@mypyc_attr(acyclic=True)
class Record:
    """Equality by content, and a readable repr. Not for the hot path.

    The fields are named in __match_args__, in the order of the constructor: mypyc drops __slots__. What is made for
    most orders is `acyclic`: the garbage collector need not know of it, for nothing in it points back.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({fields})"


def replaced(record: R, **changes: Any) -> R:
    """The same with other values in some of its fields. Not for the hot path."""
    parts = {name: getattr(record, name) for name in record.__match_args__}
    assert changes.keys() <= parts.keys(), f"{changes} are not all fields of {record}"
    return type(record)(**(parts | changes))
