"""SIGTERM, taken as Ctrl-C; in processes of their own, since pytest needs its signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from tuner.common.process import keeping_termination, terminating_as_interrupt

WAITING = """
import signal, sys, time
from tuner.common.process import keeping_termination, terminating_as_interrupt
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
def test_a_terminated_search_does_what_ctrl_c_would(before, within, said) -> None:
    code = WAITING.format(before=before, within=within)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == f"{said}\n" and process.returncode == 0


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
