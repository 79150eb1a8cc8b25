"""The build hook: compiles the engine and order_gateway's core with mypyc where that is possible.

The same files run interpreted when it is not, so a missing compiler never fails an installation. `clearbook up` prints
which of the two runs, and CI fails when a compiler is there and the build came out pure.

In an editable install compilation must be asked for (CLEARBOOK_COMPILE=1), because a compiled module wins over the
edited .py beside it; a wheel is compiled unless CLEARBOOK_PURE=1.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "services/command_ids.py",
    "services/exact.py",
    "services/fees.py",
    "services/locks.py",
    "services/reference.py",
    "services/protobuf.py",
    "services/journal_orders.py",
    "services/records.py",
    "services/depth.py",
    "services/book/model.py",
    "services/book/side.py",
    "services/book/owners.py",
    "services/book/expiries.py",
    "services/book/switches.py",
    "services/book/triggers.py",
    "services/book/groups.py",
    "services/book/turn.py",
    "services/book/matching.py",
    "services/crossing.py",
    "services/book/auction.py",
    "services/book/desk.py",
    "services/book/rules.py",
    "services/book/engine.py",
    "services/book/encoding.py",
    "services/book/batch.py",
    "services/order_gateway/model.py",
    "services/order_gateway/account.py",
    "services/order_gateway/unsettled.py",
    "services/order_gateway/volumes.py",
    "services/order_gateway/ledger.py",
    "services/order_gateway/placing.py",
    "services/order_gateway/seen.py",
    "services/order_gateway/encoding.py",
    "services/order_gateway/outcomes.py",
    "services/order_gateway/session.py",
    "services/order_gateway/orders.py",
    "services/order_gateway/rows.py",
    "services/order_gateway/pending.py",
    "services/order_gateway/folding.py",
)
FOLDERS = ("services", "services/book", "services/order_gateway")
"""Where these are."""
SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
modules = mypycify(sys.argv.pop().split(","), opt_level="2", debug_level="0")
setup(name="clearbook_engine", packages=[], ext_modules=modules)
"""


def wanted(editable: bool) -> bool:
    """Whether this build should compile at all."""
    if os.environ.get("CLEARBOOK_PURE") == "1":
        return False
    return not editable or os.environ.get("CLEARBOOK_COMPILE") == "1"


def compiler() -> str | None:
    """The C compiler that setuptools would call, if there is one."""
    return shutil.which((os.environ.get("CC") or "cc").split(maxsplit=1)[0])


def shared_objects(root: Path) -> list[Path]:
    """The compiled modules that lie in the tree."""
    beside = (path for folder in FOLDERS for path in (root / folder).glob("*.so"))
    return sorted([*root.glob("*__mypyc*.so"), *beside])


def compile_in_place(root: Path) -> list[Path]:
    """Compile the modules beside their sources; an empty list when that does not work here."""
    modules = [name for name in COMPILED if (root / name).exists()]
    for stale in shared_objects(root):
        stale.unlink()
    if not modules or compiler() is None:
        return []
    command = [sys.executable, "-c", SETUP, "build_ext", "--inplace", "--build-temp", "build/mypyc", ",".join(modules)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        said = (run.stdout + run.stderr)[-2000:]
        print(f"clearbook: the engine stays interpreted; mypyc said:\n{said}", file=sys.stderr)
        return []
    return shared_objects(root)


class CustomBuildHook(BuildHookInterface[Any]):
    """Compile for this build, and put what was compiled into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        if not wanted(editable=version == "editable"):
            return
        root = Path(self.root)
        compiled = compile_in_place(root)
        if not compiled:
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version != "editable":
            build_data["artifacts"] += [str(path.relative_to(root)) for path in compiled]
            build_data["force_include"].update({str(p): p.name for p in compiled if p.parent == root})


def digest(root: Path) -> str:
    """Of the sources that are compiled, and of this file."""
    files = [root / name for name in COMPILED if (root / name).exists()]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in [*files, Path(__file__)])).hexdigest()


def stamp_of(root: Path) -> Path:
    """Where the digest of what was compiled last is kept."""
    return root / "build" / "mypyc.sha256"


def up_to_date(root: Path) -> bool:
    """Whether what is compiled in the tree was compiled from the sources that are there now."""
    stamp = stamp_of(root)
    return stamp.exists() and stamp.read_text() == digest(root) and bool(shared_objects(root))


def compile_copy(copy: Path) -> list[Path]:
    """Compile a copy of this checkout's services; what is compiled here from the same sources is taken as it is."""
    root = Path(__file__).resolve().parent
    if up_to_date(root):
        for path in shared_objects(root):
            shutil.copy(path, copy / path.relative_to(root))
        return shared_objects(copy)
    shutil.copy(root / "pyproject.toml", copy)  # mypy's settings
    return compile_in_place(copy)


def main(argument: str) -> int:
    """Compile this checkout in place; `--if-changed` only then; `--remove` what was compiled."""
    root = Path(__file__).resolve().parent
    if argument == "--remove":
        for path in shared_objects(root):
            path.unlink()
        return 0
    if not wanted(editable=False):
        return main("--remove")
    if argument == "--if-changed" and up_to_date(root):
        return 0
    print("clearbook: compiling the engine; it takes two minutes", file=sys.stderr)
    made = compile_in_place(root)
    print("\n".join(str(path.relative_to(root)) for path in made) or "nothing compiled")
    if made:
        stamp_of(root).write_text(digest(root))
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
