"""The architecture, read from the source: who may import whom, what is pure, where generated types may go, how long.

Each rule is a function from a path and its syntax tree to complaints. TestEachRuleBites shows that each one finds what
it is for.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("services", "gateway_http", "clearbook")
FUNCTION_LINES_MAX = 70

# A service is a process; the longest name that fits a module is its service.
SERVICES = ("services.book.publisher", "services.book", "services.order_gateway", "services.settler", "services.mirror")
# What everything may build on.
BASE = {
    "services.errors",
    "services.units",
    "services.fees",
    "services.locks",
    "services.depth",
    "services.command_ids",
    "services.buckets",
    "services.market_rules",
    "services.reference",
    "services.crossing",
    "services.protobuf",
    "services.exact",
    "services.journal_orders",
    "services.records",
    "services.signed_orders",
    "services.allow_list",
    "services.withdrawal_rules",
}
PURE = BASE | {
    "services.book.structs",
    "services.book.model",
    "services.book.side",
    "services.book.owners",
    "services.book.expiries",
    "services.book.switches",
    "services.book.withdrawn",
    "services.book.triggers",
    "services.book.groups",
    "services.book.turn",
    "services.book.matching",
    "services.book.auction",
    "services.book.desk",
    "services.book.rules",
    "services.book.snapshot",
    "services.book.engine",
    "services.book.encoding",
    "services.book.publisher.events",
    "services.book.publisher.fold",
    "services.book.publisher.indicative",
    "services.book.publisher.checksum",
    "services.book.publisher.crop",
    "services.book.publisher.once",
    "services.book.publisher.window",
    "services.book.publisher.tape",
    "services.book.publisher.asked",
    "services.book.publisher.batch",
    "services.book.publisher.candle",
    "services.book.publisher.candles",
    "services.book.publisher.grouped",
    "services.book.publisher.interval",
    "services.book.publisher.pace",
    "services.book.publisher.page_token",
    "services.book.publisher.resting",
    "services.book.publisher.rolling",
    "services.order_gateway.model",
    "services.order_gateway.account",
    "services.order_gateway.budget",
    "services.order_gateway.check",
    "services.order_gateway.encoding",
    "services.order_gateway.fees",
    "services.order_gateway.identity.addresses",
    "services.order_gateway.identity.failures",
    "services.order_gateway.identity.key",
    "services.order_gateway.identity.replays",
    "services.order_gateway.identity.scopes",
    "services.order_gateway.identity.sign_in_message",
    "services.order_gateway.identity.sign_in_counts",
    "services.order_gateway.identity.sign_ups",
    "services.order_gateway.identity.signing",
    "services.order_gateway.identity.tally",
    "services.order_gateway.identity.wallet_signature",
    "services.order_gateway.identity.who",
    "services.order_gateway.ledger",
    "services.order_gateway.movements",
    "services.order_gateway.paging",
    "services.order_gateway.placing",
    "services.order_gateway.preview",
    "services.order_gateway.takes",
    "services.order_gateway.transfer_ids",
    "services.order_gateway.unsettled",
    "services.order_gateway.tiers",
    "services.order_gateway.views",
    "services.order_gateway.volumes",
    "services.order_gateway.wallet_address",
    "services.order_gateway.seen",
    "services.mirror.follower",
    "services.mirror.messages",
    "services.mirror.moves",
    "services.mirror.outside_book",
    "services.mirror.quotes",
    "services.mirror.telling",
    "services.settler.batch",
    "services.settler.fees",
    "services.settler.liabilities",
    "services.settler.merkle_sums",
    "services.settler.model",
    "services.settler.reconciliation",
    "services.cli.ladder",
    "services.cli.mirror_plan",
    "services.cli.recorded",
}
PURE_LIBRARIES = {
    *("__future__", "abc", "base64", "binascii", "bisect", "collections", "dataclasses", "decimal", "enum"),
    *(
        "functools",
        "hashlib",
        "heapq",
        "ipaddress",
        "itertools",
        "json",
        "operator",
        "re",
        "struct",
        "types",
        "typing",
        "zlib",
    ),
    *("mypy_extensions", "msgspec", "sortedcontainers", "eth_keys", "eth_utils"),
}
IMPURE_CALLS = {"open", "print", "input", "id", "hash", "float", "eval", "exec"}
EDGE_FILES = {"wire.py", "service.py", "relay.py", "settlements.py", "inbox.py", "executions.py", "feed.py"}
EDGE_PATHS = (
    *("gateway_http/", "services/cli/", "services/order_gateway/rpcs/", "services/runtime/rpc.py"),
    *("clearbook/client.py", "clearbook/book.py", "clearbook/orders_book.py", "clearbook/streams.py"),
)
SHIM_MAY_IMPORT = ("services.runtime", "services.errors", "services.units")

Rule = Callable[[PurePosixPath, ast.Module], list[str]]


def module_name(path: PurePosixPath) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def service_of(module: str) -> str | None:
    return next((service for service in SERVICES if within(module, service)), None)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each imported name in full, once as `package.name` where it may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def layer(module: str) -> int:
    """4 starts a process, 3 does things, 2 translates, 1 decides, 0 is known to all."""
    if module in BASE:
        return 0
    if module in PURE:
        return 1
    name = module.rpartition(".")[2]
    return 2 if name == "wire" or name.endswith("_wire") else 4 if name == "__main__" else 3


def as_module(imported: str) -> str:
    """`services.book.engine.apply` is a name in `services.book.engine`; a module or package stays as it is."""
    place = ROOT.joinpath(*imported.split("."))
    return imported if place.is_dir() or place.with_suffix(".py").exists() else imported.rpartition(".")[0]


def no_service_imports_another(path: PurePosixPath, tree: ast.Module) -> list[str]:
    mine = service_of(module_name(path))
    if within(module_name(path), "services.cli"):
        return []
    found = []
    for line, name in imports(tree):
        theirs = service_of(name)
        if theirs is not None and theirs != mine:
            found.append(f"{path}:{line} imports {name} of another service: they share protos, not code")
        if within(name, "services.cli") or (within(name, "gateway_http") and path.parts[0] != "gateway_http"):
            found.append(f"{path}:{line} imports {name}: nothing builds on the command line or the shim")
    return found


def imports_go_one_way(path: PurePosixPath, tree: ast.Module) -> list[str]:
    mine = module_name(path)
    if within(mine, "services.cli"):
        return []
    return [
        f"{path}:{line} imports {name}: __main__ → service → wire → pure → units, errors"
        for line, name in imports(tree)
        if service_of(as_module(name)) is not None
        and (layer(as_module(name)) > layer(mine) or as_module(name).endswith(".__main__"))
    ]


def pure_imports_only_pure(path: PurePosixPath, tree: ast.Module) -> list[str]:
    if module_name(path) not in PURE:
        return []
    return [
        f"{path}:{line} imports {name} into a pure module"
        for line, name in imports(tree)
        if name.split(".")[0] not in PURE_LIBRARIES and as_module(name) not in PURE
    ]


def pure_does_nothing_impure(path: PurePosixPath, tree: ast.Module) -> list[str]:
    if module_name(path) not in PURE:
        return []
    found = []
    for node in ast.walk(tree):
        what = impurity(node)
        if what:
            found.append(f"{path}:{getattr(node, 'lineno', 0)} has {what} in a pure module")
    return found


def impurity(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
        return f"the float {node.value}"
    if isinstance(node, ast.Name) and node.id in IMPURE_CALLS:
        return f"`{node.id}`"
    if isinstance(node, ast.Div):
        return "`/`, which makes floats (use // or divmod)"
    if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
        return "await"
    return ""


def wire_types_stay_at_the_edges(path: PurePosixPath, tree: ast.Module) -> list[str]:
    if path.name in EDGE_FILES or path.name.endswith("_wire.py") or str(path).startswith(EDGE_PATHS):
        return []
    return [
        f"{path}:{line} imports {name}: generated types stop at wire.py and the edges"
        for line, name in imports(tree)
        if name.startswith("clearbook.") and "_pb2" in name
    ]


def functions_are_short(path: PurePosixPath, tree: ast.Module) -> list[str]:
    if "migrations" in path.parts:  # a schema is a list
        return []
    return [
        f"{path}:{node.lineno} {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def the_shim_is_thin(path: PurePosixPath, tree: ast.Module) -> list[str]:
    if path.parts[0] != "gateway_http":
        return []
    return [
        f"{path}:{line} imports {name}: the shim is a gRPC client and nothing else"
        for line, name in imports(tree)
        if within(name, "services") and not any(within(name, allowed) for allowed in SHIM_MAY_IMPORT)
    ]


RULES: tuple[Rule, ...] = (
    no_service_imports_another,
    imports_go_one_way,
    pure_imports_only_pure,
    pure_does_nothing_impure,
    wire_types_stay_at_the_edges,
    functions_are_short,
    the_shim_is_thin,
)


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_is_tidy(rule: Rule) -> None:
    files = sources()
    assert len(files) >= 8, "the packages have moved: these rules look at nothing"
    complaints = []
    for path in files:
        complaints += rule(PurePosixPath(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8")))
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("folder", ["tests", "bench", "contracts"])
def test_functions_elsewhere_are_short_too(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        relative = PurePosixPath(path.relative_to(ROOT))
        assert not functions_are_short(relative, ast.parse(path.read_text(encoding="utf-8")))


# Written so that this file does not match itself.
PLACES = re.compile(
    r"(?<![\w.])/work/(?:main|shared|\.library)\b"
    r"|pypi\.[o]rg|files\.python[h]osted|registry\.[n]pmjs|deb\.[d]ebian\.org|proxy\.go[l]ang|crates\.[i]o/"
)


def test_no_committed_file_names_a_registry_or_a_place_on_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    named = [
        f"{name}:{number}"
        for name in listed.split("\0")
        if name and name != "tests/test_tidy.py" and (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if PLACES.search(line)
    ]
    assert not named, named


class TestEachRuleBites:
    @pytest.mark.parametrize(
        ("rule", "path", "source"),
        [
            (no_service_imports_another, "services/settler/inbox.py", "from services.book.journal import Journal"),
            (no_service_imports_another, "services/book/service.py", "from services.book.publisher import feed"),
            (no_service_imports_another, "services/book/publisher/feed.py", "from services.book.engine import Engine"),
            (no_service_imports_another, "services/runtime/rpc.py", "import services.order_gateway.auth"),
            (no_service_imports_another, "services/runtime/run.py", "from services.cli.main import app"),
            (no_service_imports_another, "services/book/service.py", "from gateway_http import routes"),
            (imports_go_one_way, "services/book/engine.py", "from services.book import wire"),
            (imports_go_one_way, "services/book/wire.py", "from services.book.service import Servicer"),
            (imports_go_one_way, "services/book/service.py", "from services.book.__main__ import main"),
            (imports_go_one_way, "services/units.py", "from services.book.engine import apply"),
            (pure_imports_only_pure, "services/units.py", "import time"),
            (pure_imports_only_pure, "services/book/engine.py", "import random"),
            (pure_imports_only_pure, "services/book/side.py", "from uuid import uuid4"),
            (pure_imports_only_pure, "services/locks.py", "import logging"),
            (pure_imports_only_pure, "services/settler/batch.py", "import sqlite3"),
            (pure_imports_only_pure, "services/book/engine.py", "def f():\n    import datetime"),
            (pure_imports_only_pure, "services/order_gateway/fees.py", "from services.runtime.db import Database"),
            (pure_does_nothing_impure, "services/units.py", "half = 0.5"),
            (pure_does_nothing_impure, "services/units.py", "x = float('1')"),
            (pure_does_nothing_impure, "services/units.py", "def f(x: float) -> None: ..."),
            (pure_does_nothing_impure, "services/book/engine.py", "def f(a, b):\n    return a / b"),
            (pure_does_nothing_impure, "services/book/engine.py", "async def f():\n    await g()"),
            (pure_does_nothing_impure, "services/book/model.py", "print('here')"),
            (pure_does_nothing_impure, "services/book/model.py", "key = hash('x')"),
            (wire_types_stay_at_the_edges, "services/book/engine.py", "from clearbook.v1 import book_service_pb2"),
            (wire_types_stay_at_the_edges, "services/book/journal.py", "import clearbook.internal.v1.journal_pb2"),
            (
                wire_types_stay_at_the_edges,
                "services/settler/sender.py",
                "from clearbook.v1.settlement_service_pb2 import Settlement",
            ),
            (functions_are_short, "services/book/engine.py", "def f():\n" + "    x = 1\n" * 70),
            (
                functions_are_short,
                "services/book/engine.py",
                "class C:\n    async def f(self):\n" + "        x = 1\n" * 70,
            ),
            (the_shim_is_thin, "gateway_http/routes.py", "from services.order_gateway.ledger import Ledger"),
            (the_shim_is_thin, "gateway_http/routes.py", "import services.locks"),
        ],
    )
    def test_on_what_it_is_for(self, rule: Rule, path: str, source: str) -> None:
        assert rule(PurePosixPath(path), ast.parse(source))

    @pytest.mark.parametrize(
        ("path", "source"),
        [
            (
                "services/book/__main__.py",
                "from services.book.service import serve\nfrom services.runtime.run import run",
            ),
            ("services/book/service.py", "from services.book import wire\nfrom services.book.engine import Engine"),
            (
                "services/book/wire.py",
                "from clearbook.v1 import book_service_pb2\nfrom services.book.model import Order",
            ),
            (
                "services/book/engine.py",
                "from services.book.model import Order\nfrom services.units import Market\nx = 7 // 2",
            ),
            ("services/cli/main.py", "from services.book.__main__ import main\nimport time"),
            ("gateway_http/routes.py", "from services.runtime.config import Settings\nfrom clearbook.v1 import x_pb2"),
            ("services/book/engine.py", "def f():\n" + "    x = 1\n" * 69),
        ],
    )
    def test_and_on_nothing_else(self, path: str, source: str) -> None:
        for rule in RULES:
            assert not rule(PurePosixPath(path), ast.parse(source))

    def test_the_pattern_for_places(self) -> None:
        assert PLACES.search("see /work/" + "main/docs")
        assert PLACES.search("https://" + "pypi" + ".org/simple")
        assert not PLACES.search("the work/main loop")
