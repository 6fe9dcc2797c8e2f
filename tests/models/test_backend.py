"""What a command says while TensorFlow loads."""

from __future__ import annotations

import os

import pytest

from tuner.models.backend import _quiet


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
