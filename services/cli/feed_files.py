"""The files of a recorded exchange feed, as its lines."""

import lzma
from collections.abc import Iterator
from pathlib import Path


def lines_of(files: list[Path]) -> Iterator[str]:
    """All lines of recordings that belong together, .xz or plain.

    Snapshots (.http) come after the stream, as the procedure of a local book buffers.
    """
    for file in sorted(files, key=lambda path: ".http" in path.name):
        with lzma.open(file, "rt") if file.suffix == ".xz" else file.open() as text:
            yield from text
