"""A search from Python: twice in a program, beside its own Ray, stopped, gone on with, killed; in a kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support import ROOT
from tuner.runs.record import read_state

BEGINNING = """
import json, os, signal, sys, threading, time
import numpy as np
import tuner
from sklearn.datasets import load_digits

signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background of a shell
digits = load_digits()
images, labels = (digits.images * 255 / 16).astype("uint8")[:400], digits.target[:400]
space = {
    "study": "small",
    "space": {"preprocess": "scale(0,1)", "batch_size": 32, "learning_rate": {"log_float": [1e-3, 1e-2]},
              "architecture": {"choose": {"cnn": {"blocks": 1, "filters": 8, "dense_units": 16}}}},
    "training": {"max_epochs": 2},
    "search": {"trials": 2, "max_concurrent": 1, "scheduler": "none"},
    "finalists": {"count": 1, "seeds": 1},
}
study = tuner.Study(space, (images, labels), cache="cache")
many = {"set": {"search.trials": 500, "training.max_epochs": 30}}
def until(what):
    deadline = time.monotonic() + 240
    while not what():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.1)
"""
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("ray")]


def begin(folder: Path, script: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, "-c", BEGINNING + script], cwd=folder, text=True, **pipes)


def run(folder: Path, script: str) -> str:
    process = begin(folder, script)
    output, _ = process.communicate(timeout=460)
    assert process.returncode == 0, output
    return output


def test_a_program_searches_twice_beside_its_own_ray_and_nothing_of_it_has_changed(tmp_path: Path) -> None:
    script = """
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
def state():
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return dict(os.environ), handlers, os.fstat(1).st_ino, os.fstat(2).st_ino, sys.stdout, sys.stderr, sorted(sys.argv)
before = state()
first = study.run(time="5m")
found = []
thread = threading.Thread(target=lambda: found.append(study.run(no_finalists=True)))
thread.start(); thread.join()
assert state() == before, "something has changed"
assert ray.is_initialized() and ray.get(ray.remote(lambda: 7).remote()) == 7
assert not {"keras", "tensorflow"} & set(sys.modules)
labelled = first.predict(images[:3])["image"].tolist()
print([run.path.name for run in (first, *found)], first.status, len(first.trials), labelled)
"""
    assert "['small', 'small-2'] finished 2 ['0', '1', '2']" in run(tmp_path, script)


def test_ctrl_c_stops_cleanly_and_the_search_goes_on(tmp_path: Path) -> None:
    script = """
run = study.run(**many)
print("STATUS", run.status, len(run.epochs) > 0)
fewer = {**many["set"], "search.trials": len(run.trials), "search.time_budget": "3m"}
again = study.run(resume=True, no_finalists=True, set=fewer)
print("AGAIN", again.status)
"""
    process = begin(tmp_path, script)
    record = tmp_path / "runs" / "small" / "record.jsonl"
    deadline = time.monotonic() + 240
    while '"epoch"' not in (record.read_text() if record.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=400)
    assert "STATUS interrupted True" in output and "go on with: python -m tuner.search --resume" in output, output
    assert "AGAIN finished" in output or "AGAIN time_budget" in output, output


def test_a_search_in_the_background_is_asked_and_ends_with_its_program_and_loses_nothing(tmp_path: Path) -> None:
    script = """
search = study.run(background=True, **many)
until(lambda: search.progress.best is not None)
progress = search.progress
assert search.is_running and progress.of == 500 and "best so far" in str(progress)
assert "<progress" in search._repr_html_()
assert len(search.run.epochs) > 0 and search.run.status == "running"
try: search.wait(0.1)
except TimeoutError as error: print("TIMEOUT", error)
print("PROCESS", search._process.pid, flush=True)
time.sleep(600)
"""
    process = begin(tmp_path, script)
    assert process.stdout is not None
    output = ""
    while "PROCESS" not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    assert "TIMEOUT the search has not ended within 0.1 s" in output
    assert "searching:" not in output, "it says nothing into the program"
    child = psutil.Process(int(output.split()[-1]))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    child.wait(timeout=120)
    state = read_state(tmp_path / "runs" / "small" / "record.jsonl")
    assert state.session_ended is not None and state.session_ended.reason == "interrupted"


def test_data_alone_are_searched_with_a_space_that_is_proposed(tmp_path: Path) -> None:
    output = run(tmp_path, "print(tuner.Study(data=(images, labels), cache='cache').plan())\nprint(os.listdir())")
    assert "10 classes" in output and "arrays-" in output and ".yaml" in output


def test_the_button_of_a_notebook_stops_cleanly_and_the_next_cell_goes_on(tmp_path: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    shown: list[str] = []

    def hook(message: dict) -> None:
        shown.append(str(message["content"]))

    def ask(code: str) -> str:
        reply = client.execute_interactive(code, timeout=400, output_hook=hook)
        return reply["content"]["status"]

    try:
        ask(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{BEGINNING}")
        ask("""
record = "runs/small/record.jsonl"
def press():
    until(lambda: os.path.exists(record) and '"epoch"' in open(record).read())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press).start()""")
        for code in (
            "run = study.run(**many)",
            "print('STATUS', run.status, type(run).__name__); run",
            "search = study.run(resume=True, background=True, **many)",
            "until(lambda: search.progress.best); search",
            "search.stop(); print('AGAIN', search.wait().status, search.is_running)",
        ):
            assert ask(code) == "ok", "\n".join(shown)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    text = "\n".join(shown)
    assert "STATUS interrupted Run" in text and "AGAIN interrupted False" in text and "<progress" in text
