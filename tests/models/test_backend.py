"""What a command says while TensorFlow loads, how a process uses a GPU, and parts of a processor in its place."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from tuner.cluster.ray_session import gpus_here
from tuner.common.errors import InputError
from tuner.common.process import LOGICAL_GPUS, SWITCHES, logical_gpus, set_surroundings
from tuner.models.backend import _quiet, configure_backend, gpus, jit_compile


def test_what_tensorflow_tells_of_itself_is_left_out_and_nothing_else_is(capfd) -> None:
    told = b"WARNING: All log messages before absl::InitializeLog() is called are written\nI0000 00:00 x.cc] hm\n"
    with _quiet():
        os.write(2, told + b"E0000 00:00 x.cc] no such device\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "E0000 00:00 x.cc] no such device\nafter\n"
    with pytest.raises(ImportError), _quiet():
        os.write(2, told + b"a library is missing\n")
        raise ImportError
    assert capfd.readouterr().err == "a library is missing\n"


@pytest.mark.parametrize(
    ("variables", "capability", "grows", "policy"),
    [
        ({}, (9, 0), True, "mixed_bfloat16"),
        ({}, (7, 5), True, "float32"),
        ({"TUNER_GPU_MEMORY": "all"}, (8, 0), False, "mixed_bfloat16"),
        ({"TUNER_GPU_MEMORY": "grow", "TUNER_PRECISION": "float32"}, (9, 0), True, "float32"),
        ({"TUNER_PRECISION": "mixed_bfloat16"}, None, None, "mixed_bfloat16"),
        ({"TUNER_PRECISION": "auto"}, None, None, "float32"),
    ],
)
def test_memory_and_precision_are_those_of_the_gpu_or_of_the_switch(monkeypatch, variables, capability, grows, policy):
    import keras
    import tensorflow

    asked, config, before, gpu = [], tensorflow.config, keras.config.dtype_policy(), SimpleNamespace(name="GPU:0")
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "")
    for name in ("intra_op", "inter_op"):
        monkeypatch.setattr(config.threading, f"set_{name}_parallelism_threads", lambda _number: None)
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [gpu] * (kind == "GPU" and grows is not None))
    monkeypatch.setattr(config.experimental, "set_memory_growth", lambda _gpu, enable: asked.append(enable))
    monkeypatch.setattr(config.experimental, "get_memory_growth", lambda _gpu: asked[-1])
    details = {"device_name": "a GPU", "compute_capability": capability}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda _gpu: details)
    try:
        configure_backend()
        assert keras.config.dtype_policy().name == policy
        assert asked == [] if grows is None else asked == [grows]
        assert (os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH") == "true") == (grows is not False)
        assert [gpu.grows for gpu in gpus()] == asked
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("word", "devices", "compiles"),
    [("on", 1, "auto"), ("off", 1, False), ("auto", 1, False), ("", 1, False), ("on", 2, False)],
)
def test_steps_are_compiled_on_one_gpu_or_where_the_switch_says_so(monkeypatch, word, devices, compiles) -> None:
    monkeypatch.setenv("TUNER_XLA", word)
    monkeypatch.setattr("tuner.models.data_parallel.replicas", lambda: devices)
    assert jit_compile() == compiles


@pytest.mark.parametrize("name", SWITCHES)
def test_another_word_of_a_switch_is_refused(monkeypatch, name) -> None:
    monkeypatch.setenv(name, "maybe")
    *words, last = SWITCHES[name]
    with pytest.raises(InputError, match=f"{name} must be {', '.join(words)} or {last}; got 'maybe'"):
        set_surroundings()


@pytest.mark.parametrize(("written", "number"), [(None, 0), ("", 0), ("0", 0), ("2", 2), ("16", 16)])
def test_parts_of_the_processor_stand_for_gpus_where_the_surroundings_say_so(monkeypatch, written, number) -> None:
    monkeypatch.delenv(LOGICAL_GPUS, raising=False)
    if written is not None:
        monkeypatch.setenv(LOGICAL_GPUS, written)
    assert logical_gpus() == number
    if number:
        assert gpus_here() == number


@pytest.mark.parametrize("written", ["two", "-1", "1.5", "17", "1e1", " "])
def test_what_is_no_number_of_parts_is_refused(monkeypatch, written) -> None:
    monkeypatch.setenv(LOGICAL_GPUS, written)
    with pytest.raises(InputError, match="TUNER_LOGICAL_GPUS must be a whole number, 16 at most; got"):
        logical_gpus()
