"""SIGTERM and a closed terminal, taken as Ctrl-C; in processes of their own, since pytest needs its signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tuner.common.termination import keeping_termination, outliving_hangup, terminating_as_interrupt

WAITING = """
import signal, sys, time
from tuner.common.termination import keeping_termination, terminating_as_interrupt
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
{before}
try:
    with terminating_as_interrupt():
        with keeping_termination():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as ray.init does
        {within}
        print("ready", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("before", "within", "said"),
    [
        ("", "", "interrupted"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])", "", "interrupted"),  # Ray's jobs
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "", "interrupted"),  # nohup
        ("", "signal.signal(signal.SIGINT, lambda *_: sys.exit(print('gracefully')))", "gracefully"),
    ],
)
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_search_does_what_ctrl_c_would(sent, before, within, said) -> None:
    code = WAITING.format(before=before, within=within)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(sent)
    assert process.communicate(timeout=20)[0] == f"{said}\n" and process.returncode == 0


STOPPING = """
import signal, sys, time
from tuner.common.termination import ignore_hangup, terminating_as_interrupt
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
{before}
stopping = []
def once(*_):
    stopping.append(1)
    ignore_hangup()
    signal.signal(signal.SIGINT, signal.default_int_handler)
with terminating_as_interrupt():
    signal.signal(signal.SIGINT, once)
    print("ready", flush=True)
    deadline = time.monotonic() + {seconds}
    while time.monotonic() < deadline:
        time.sleep(0.05)
print("stopped" if stopping else "undisturbed")
"""


@pytest.mark.parametrize(
    ("before", "sent", "said"),
    [
        ("", [signal.SIGHUP], "stopped"),
        ("", [signal.SIGHUP] * 3, "stopped"),  # by the shell, and by the system
        ("", [signal.SIGTERM, signal.SIGHUP], "stopped"),  # when a session of a login ends
        ("", [signal.SIGINT, signal.SIGHUP], "stopped"),  # Ctrl-C, then the window is closed
        ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", [signal.SIGHUP] * 2, "undisturbed"),  # nohup
        ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", [signal.SIGTERM], "stopped"),
    ],
)
def test_a_hangup_stops_once_and_gracefully_and_not_after_nohup(before, sent, said) -> None:
    code = STOPPING.format(before=before, seconds=0.7)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for one in sent:
        process.send_signal(one)
        time.sleep(0.1)
    assert process.communicate(timeout=20)[0] == f"{said}\n" and process.returncode == 0


def test_a_process_that_is_started_beside_the_terminal_outlives_it() -> None:
    with outliving_hangup():
        process = subprocess.Popen(["sleep", "20"])
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None and not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("print('x' * 10**6); return 0", 0, ""),
        ("print('few'); return 3", 0, ""),
        ("raise TunerError('wrong')", 1, "wrong\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
    ],
)
def test_a_command_whose_reader_has_gone_ends_without_a_traceback(command, status, said) -> None:
    code = (
        "import sys\nfrom tuner.common.command_line import run_command\nfrom tuner.common.errors import TunerError\n"
        f"def action():\n    sys.stdin.read()\n    {command}\nsys.exit(run_command(action))"
    )
    words = [sys.executable, "-c", code]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None and process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == said
    assert process.wait(20) == status


def test_a_command_whose_output_finds_no_room_has_failed() -> None:
    code = (
        "import sys\nfrom tuner.common.command_line import run_command\nsys.exit(run_command(lambda: print('x') or 0))"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("the disk is full: ") and done.stderr.count("\n") == 1


def test_what_was_asked_of_the_signal_before_holds_afterwards_and_threads_ask_for_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with terminating_as_interrupt():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    seen: list[object] = []

    def in_a_thread() -> None:
        with terminating_as_interrupt(), keeping_termination():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert seen == [before]


LOST = """
import os, signal, time, weakref
from tuner.common.termination import terminating_as_interrupt
{before}
class Gone:
    pass
def end(_reference):
    os.kill(os.getpid(), signal.{sent})
    for _ in range(1000):
        pass
try:
    with terminating_as_interrupt():
        kept = Gone()
        reference = weakref.ref(kept, end)
        del kept
        time.sleep(20)
        print("lost")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("before", ["", "signal.signal(signal.SIGINT, signal.SIG_IGN)"])
def test_an_interrupt_that_came_where_none_can_be_raised_is_not_lost(before) -> None:
    code = LOST.format(before=before, sent="SIGTERM")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 0)


def test_an_interrupt_that_is_lost_at_the_end_disturbs_nothing_afterwards() -> None:
    code = LOST.format(before="", sent="SIGTERM").replace(
        "        time.sleep(20)\n        print", "    time.sleep(0.3)\n    print"
    )
    code = code.replace('print("lost")', 'print("over", signal.getsignal(signal.SIGALRM) is signal.SIG_DFL)')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("over True\n", "", 0)
