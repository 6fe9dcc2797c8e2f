"""What is written to standard error past Python, turned to a file: native code knows the file descriptor only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def standard_error_to(file: IO[bytes]) -> Iterator[None]:
    """Send all that this process writes to standard error to an open file, Python's and native code's alike."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
