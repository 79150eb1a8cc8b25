"""What `clearbook up` notes beside its data: where its development chain is, for chores that ask the chain later."""

from pathlib import Path
from typing import Final

FILE: Final = "chain-url"


def note(data: Path, url: str) -> None:
    """Notes the URL of the chain of our own; "" where there is none."""
    (data / FILE).write_text(url, encoding="utf-8")


def noted(data: Path) -> str:
    """The URL of the chain that the exchange in a data folder last had of its own; "" where nothing is known."""
    try:
        return (data / FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
