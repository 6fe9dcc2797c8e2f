"""Loaded by every Python process of a traced command: notes when modules are imported and named functions run.

A line of JSON for each in `$TUNER_START_TRACE/PID.jsonl`: name, begin and end (Unix time), processor seconds of the
process meanwhile. Of a function that is called again within itself, or that took no time, nothing is noted.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

IMPORTS = {
    "numpy": "numpy",
    "tuner.session.commands": "tuner",
    "tensorflow": "TensorFlow",
    "keras": "Keras",
    "ray": "Ray",
    "ray.tune": "Ray Tune",
    "tuner.session.session": "session",
    "tuner.cluster.preload": "a trial's libraries",
}
"""Modules whose imports are stages, by the words for them."""
CALLS = {
    "tuner.session.commands": {
        "_read": "reading the file",
        "_resolved": "settling the search",
        "prepare": "preparing",
    },
    "tuner.session.preparation": {
        "load_dataset": "opening the data",
        "check_backbones": "checking backbones",
    },
    "tuner.datasets.prepared": {"_build": "copying the data", "_find_copies": "finding copies"},
    "tuner.datasets.request": {"read_listing": "listing the data"},
    "tuner.session.session": {
        "_pack": "packing",
        "wait_for_workers": "waiting for workers",
        "keep_account": "account of the data",
        "_launch": "study",
    },
    "ray": {"init": "Ray's start"},
    "tuner.execution.tune_run": {"run_trials": "trials"},
    "tuner.execution.worker_process": {
        "load_dataset": "opening the data",
        "configure_backend": "TensorFlow's settings",
    },
    "tuner.training.trial": {"Trial._build": "building the network", "Trial.advance": "epoch"},
    "tuner.training.activations": {"Activations.work": "activations"},
    "benchmarks.race.limit": {
        "load_dataset": "opening the data",
        "Loop._build": "building the network",
        "Loop._fit": "epoch",
    },
}
"""Functions that are stages, by module."""
LEAST_S = 0.02

_began: dict[str, int] = {}


def _note(name: str, began: float, cpu: float) -> None:
    if time.time() - began >= LEAST_S or name == "process":
        line = {"name": name, "began": began, "ended": time.time(), "cpu": time.process_time() - cpu}
        with Path(os.environ["TUNER_START_TRACE"], f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def _noting(function, name: str):
    @functools.wraps(function)
    def noting(*arguments, **named):
        began, cpu = time.time(), time.process_time()
        if _began.setdefault(name, 0):
            return function(*arguments, **named)
        _began[name] += 1
        try:
            return function(*arguments, **named)
        finally:
            _began[name] -= 1
            _note(name, began, cpu)

    return noting


class _Loader(importlib.abc.Loader):
    def __init__(self, loader) -> None:
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module) -> None:
        began, cpu = time.time(), time.process_time()
        self._loader.exec_module(module)
        if module.__name__ in IMPORTS:
            _note(f"import of {IMPORTS[module.__name__]}", began, cpu)
        for path, name in CALLS.get(module.__name__, {}).items():
            owner = module
            for part in path.split(".")[:-1]:
                owner = getattr(owner, part)
            last = path.split(".")[-1]
            if hasattr(owner, last):
                setattr(owner, last, _noting(getattr(owner, last), name))

    def __getattr__(self, name):
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in IMPORTS and name not in CALLS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


if "TUNER_START_TRACE" in os.environ:
    _note("process", time.time(), 0.0)
    sys.meta_path.insert(0, _Finder())
