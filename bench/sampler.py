"""Where a process spends its CPU: ``python bench/sampler.py FOLDER NAME`` runs `clearbook NAME` and looks at its stack.

SIGUSR2 begins and ends a time of looking, one look every four milliseconds of CPU. At the end of the process
FOLDER/NAME.profile says, in percent of all looks: for each file and each function, how often it was on top (self) and
how often it was anywhere on the stack (total). What C code does counts for the Python function that called it; the work
of other threads (SQLite, gRPC's own) counts for whatever the main thread does then.
"""

import atexit
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from services.cli.main import app

LOOK_SECONDS = 0.004
"""Linux counts CPU in ticks of four milliseconds: it would not look more often."""
LINES_MAX = 60
ROOT = Path(__file__).resolve().parent.parent

Place = tuple[str, str]


class Sampler:
    """Counts."""

    def __init__(self) -> None:
        self._on = False
        self._looks = 0
        self._self: Counter[Place] = Counter()
        self._total: Counter[Place] = Counter()
        self._files: Counter[str] = Counter()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._look)
        signal.signal(signal.SIGUSR2, self._toggle)

    def _toggle(self, _number: int, _frame: FrameType | None) -> None:
        self._on = not self._on
        seconds = LOOK_SECONDS if self._on else 0
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)

    def _look(self, _number: int, frame: FrameType | None) -> None:
        self._looks += 1
        seen: set[Place] = set()
        top = True
        while frame is not None:
            code = frame.f_code
            place = (code.co_filename, code.co_qualname)
            if top:
                self._self[place] += 1
                self._files[code.co_filename] += 1
                top = False
            seen.add(place)
            frame = frame.f_back
        self._total.update(seen)

    def write(self, path: Path) -> None:
        with path.open("w") as out:
            out.write(f"{self._looks} looks, {LOOK_SECONDS * 1e3:g} ms of CPU each\n")
            self._section(out.write, "self, by file", ((count, _short(name)) for name, count in self._files.items()))
            for title, counts in (("self", self._self), ("total", self._total)):
                named = ((count, f"{_short(file)}:{name}") for (file, name), count in counts.items())
                self._section(out.write, title, named)

    def _section(self, write: Callable[[str], object], title: str, counts: Iterable[tuple[int, str]]) -> None:
        write(f"\n{title}\n")
        for count, name in sorted(counts, reverse=True)[:LINES_MAX]:
            write(f"{100 * count / max(self._looks, 1):6.1f} %  {name}\n")


def _short(file: str) -> str:
    path = Path(file)
    if path.is_relative_to(ROOT) and "site-packages" not in file:
        return str(path.relative_to(ROOT))
    return "/".join(path.parts[-2:])


if __name__ == "__main__":
    folder, name = Path(sys.argv[1]), sys.argv[2]
    sampler = Sampler()
    sampler.start()
    atexit.register(lambda: sampler.write(folder / f"{name}.profile"))
    sys.argv = ["clearbook", name, *sys.argv[3:]]
    app()
