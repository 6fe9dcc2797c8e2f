"""Looks at processes that may end while they are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil


def started_by(pid: int | None = None) -> Iterator[psutil.Process]:
    """All that the process (this one if none is named) has started, and what those have."""
    yield from psutil.Process(pid).children(recursive=True)


def command_of(process: psutil.Process) -> list[str]:
    """Its command line, empty once it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def listening_addresses(pid: int | None = None) -> list[str]:
    """The addresses at which the process, and all that it has started, wait for TCP connections."""
    found = []
    for process in (psutil.Process(pid), *started_by(pid)):
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:  # what is left of it until it is waited for is root's
                continue
            connections = process.net_connections("tcp")
            found += [connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN]
    return found
