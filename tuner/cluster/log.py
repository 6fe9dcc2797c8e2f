"""The log file, which takes everything that is kept off the console."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.common.process import standard_error_to

_CHATTY = ("ray", "optuna", "tensorflow", "absl", "py.warnings")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send logs, warnings and standard error of libraries to the file at `path` (appended).

    The console (standard output) is left to what the user wants to know. TensorFlow's native code writes past Python,
    so the file descriptor itself is turned to the file.
    """
    importlib.import_module("ray")  # it sets up its handlers on import, and would undo what follows

    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _CHATTY]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings(), path.open("ab") as file, standard_error_to(file):
            warnings.simplefilter("default")
            yield
    finally:
        logging.captureWarnings(False)
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()
