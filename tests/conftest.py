"""What every test shares: the servers, and the rule that nothing is skipped in silence."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from typing import Any

import pytest
import structlog

import services  # noqa: F401 - before grpc: it says how grpc is to fork
from tests import backends as servers
from tests.backends import backends, own_backends
from tests.recordings import RECORDED

__all__ = ["backends", "own_backends"]

skipped: list[str] = []


@pytest.fixture(autouse=True)
def same_logging() -> Generator[None]:
    """A test may configure logging to a stream that ends with it: the next one must not write there."""
    before, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    yield
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only the recorded feeds may be missing, and then it is said.

    What the end-to-end tests share runs until the session ends, and takes time from the others: they come last.
    """
    items.sort(key=lambda item: "e2e" in item.path.parts)
    for item in items:
        if item.get_closest_marker("recorded_feeds") and not RECORDED.exists():
            item.add_marker(pytest.mark.skip(reason="the recorded feeds (../shared/data) are not here"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember what skipped without leave."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("recorded_feeds"):
        skipped.append(item.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where scripts/test asked for everything, a skip fails the run, and so does a server that nobody spoke to."""
    told: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if told is not None:  # one of several that share the tests: the others may have spoken to the rest
        told.update(spoken_to=servers.spoken_to, skipped=skipped)
        return
    unspoken = {"broker", "database", "node"} - servers.spoken_to.keys()
    no_skips = os.environ.get("CLEARBOOK_NO_SKIPS") == "1"
    all_servers = os.environ.get("CLEARBOOK_SERVERS_REQUIRED") == "1"
    wrong = bool(no_skips and skipped) or bool(all_servers and unspoken)
    if wrong and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What one of several has to say, when it has ended."""
    told: dict[str, Any] = getattr(node, "workeroutput", {})
    servers.spoken_to.update(told.get("spoken_to", {}))
    skipped.extend(told.get("skipped", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the servers that were really spoken to, what tests have measured, and what was skipped."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
    for role, version in servers.spoken_to.items():
        terminalreporter.write_line(f"spoke to {role}: {version}")
    for nodeid in skipped:
        terminalreporter.write_line(f"skipped without leave: {nodeid}", red=True)
