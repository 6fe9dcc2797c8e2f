"""Training on two devices at once: the numbers of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

ROUNDING = 2e-4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.support.two_devices` found, in a process of its own: devices cannot be parted later."""
    command = [sys.executable, "-m", "tests.support.two_devices", str(tmp_path_factory.mktemp("two"))]
    environment = {**os.environ, "TUNER_LOGICAL_GPUS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.full
def test_a_trial_on_two_devices_shows_what_it_shows_on_one(found):
    assert found["devices"] == 2
    assert all(apart < ROUNDING for apart in found["same"].values()), found["same"]
    assert all(apart < ROUNDING for apart in found["optimizers"].values()), found["optimizers"]
    assert found["halved"][0] == 16 and found["halved"][1] < ROUNDING
    one, two = found["noisy"]
    assert abs(one - two) < 0.2 and min(one, two) > 0.3
    assert all(apart == 0 for apart in found["resumed"].values()), found["resumed"]
    assert found["exported"] < ROUNDING
