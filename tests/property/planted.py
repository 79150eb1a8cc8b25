"""Planted faults, each in a fork of one process: what the checkers need is imported once, and none of our modules.

`python planted.py FAULTS CHECK`: FAULTS is JSON, a list of [module, path, old, new]; what is printed is JSON too, of
each [exit code, what it said]. A fork reads the module with its fault; no file is changed, so as many run at once as
there are cores.
"""

from __future__ import annotations

import bisect
import copy
import decimal
import enum
import fractions
import gc
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from typing import Never

import mypy_extensions

IMPORTED = (bisect, copy, decimal, enum, fractions, hashlib, mypy_extensions, random)
"""For the forks, not for this process."""
CHECK_SECONDS_MAX = 120


class Planted(SourceFileLoader):
    """A module as it would be with its fault; nothing that was compiled before counts."""

    def __init__(self, module: str, path: str, old: str, new: str) -> None:
        """Nothing is read before it is imported."""
        super().__init__(module, path)
        self._old, self._new = old, new

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Only of the one module."""
        return spec_from_loader(fullname, self) if fullname == self.name else None

    def path_stats(self, path: str) -> Never:
        """Without these no cache is looked at."""
        raise OSError(path)

    def get_data(self, path: str) -> bytes:
        """The source with its fault."""
        return super().get_data(path).replace(self._old.encode(), self._new.encode())


def run(fault: list[str], check: str) -> tuple[int, str]:
    """The exit code of the checkers in a fork, and what they said."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            signal.alarm(CHECK_SECONDS_MAX)
            code = 1
            try:
                sys.meta_path.insert(0, Planted(*fault))
                exec(check, {})
                code = 0
            except BaseException:
                output.write(traceback.format_exc())
                output.flush()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return code, output.read()


def main(faults: list[list[str]], check: str) -> list[tuple[int, str]]:
    """All faults, as many at once as there are cores."""
    assert not any(name.partition(".")[0] in {"services", "tests"} for name in sys.modules), (
        "a fork would not read them"
    )
    gc.freeze()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda fault: run(fault, check), faults))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]), sys.argv[2])))
