"""TensorBoard as a tracker: a folder for the search, and in it one for each trial and each training of a finalist.

Each has one file of events, which a resumed session goes on writing. TensorFlow, which TensorBoard would write them
with, is not needed.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuner.common.errors import InputError
from tuner.common.files import check_folder, user_path
from tuner.runs.events import Event, Scalar, StudyCreated
from tuner.trackers._entries import ENDED, SEARCH, Entry, Story, search_digest
from tuner.trackers.tracker import Tracker

_FRAME = 16
"""Bytes around each record of a file: its length and two checksums."""


class TensorboardTracker(Tracker):
    """A search as runs of TensorBoard: curves, and hyperparameters for the HParams tab."""

    def __init__(self, place: str | None, run: Path) -> None:
        if not place:
            raise InputError("--tensorboard must name a folder")
        self._folder = user_path(place).absolute()
        self.place = str(self._folder)
        check_folder(self._folder, "--tensorboard")
        try:
            for module in ("tensorboard.compat.proto.event_pb2", "tensorboard.plugins.hparams.summary_v2"):
                importlib.import_module(module)
        except ImportError:
            raise InputError("--tensorboard needs the package tensorboard: pip install tensorboard") from None
        self._name = run.resolve().name
        self._story = Story()
        self._root = self._folder
        self._file_name = ""
        self._files: dict[str, _EventFile] = {}

    def take(self, happened: Sequence[Event]) -> None:
        """Write what events say, but for what is there."""
        for event in happened:
            if isinstance(event, StudyCreated):
                self._begin(event)
            for entry in self._story.go_on(event):
                self._write(entry)
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Close the files; what cannot be written any more will be cut off."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        self._files.clear()

    def _begin(self, study: StudyCreated) -> None:
        """Find the folder of this search: another search of this name may have written here before."""
        self.close()
        self._story = Story()
        digest = search_digest(study)[:8]
        self._file_name = f"events.out.tfevents.{int(study.time):010d}.tuner-{digest}"
        root = self._folder / self._name
        others = [path for path in root.glob("*/events.out.tfevents.*") if path.name != self._file_name]
        self._root = root if not others else root.with_name(f"{self._name}-{digest}")

    def _write(self, entry: Entry) -> None:
        file = self._files.get(entry.run)
        if file is None:
            path = self._root / entry.run / self._file_name
            file = self._files[entry.run] = _EventFile(path, entry.time_s)
        if entry.parameters and entry.run != SEARCH:
            file.add_start(entry)
        file.add_values(entry)
        if entry.status in ENDED and entry.run != SEARCH:
            file.add_end(entry)
        if entry.status in (*ENDED, "paused") and entry.run != SEARCH:  # thousands may wait at rungs
            self._files.pop(entry.run).close()


class _EventFile:
    """A file of events that is gone on with, what is torn at its end cut off."""

    def __init__(self, path: Path, time_s: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Written
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._last_steps: dict[str, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        end = 0
        if path.exists():
            for record in _whole_records(path):
                end += len(record) + _FRAME
                self._know(Written.FromString(record))
        self._file = path.open("ab")
        self._file.truncate(end)
        self._writer = RecordWriter(self._file)
        if not end:
            self._writer.write(Written(wall_time=time_s, file_version="brain.Event:2").SerializeToString())

    def _know(self, written: Any) -> None:
        for value in written.summary.value:
            self._last_steps[value.tag] = max(written.step, self._last_steps.get(value.tag, written.step))

    def _add(self, entry: Entry, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event as Written

        written = Written(wall_time=entry.time_s, step=step, summary=summary)
        self._writer.write(written.SerializeToString())
        self._know(written)

    def add_start(self, entry: Entry) -> None:
        """Write hyperparameters, once."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        summary = hparams_pb(_plain(entry.parameters), trial_id=entry.run, start_time_secs=entry.time_s)
        if any(value.tag not in self._last_steps for value in summary.value):
            self._add(entry, 0, summary)

    def add_values(self, entry: Entry) -> None:
        """Write the values of a step that are not there."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary()
        for name, value in entry.measures.items():
            if entry.step > self._last_steps.get(_text(name), -1):
                summary.value.add(tag=_text(name), simple_value=value)
        if summary.value:
            self._add(entry, entry.step, summary)

    def add_end(self, entry: Entry) -> None:
        """Write that a trial has ended, once."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        if metadata.SESSION_END_INFO_TAG in self._last_steps:
            return
        status = api_pb2.STATUS_FAILURE if entry.status == "failed" else api_pb2.STATUS_SUCCESS
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=entry.time_s)
        of_end = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
        summary = Summary()
        summary.value.add(tag=metadata.SESSION_END_INFO_TAG, metadata=of_end, tensor=metadata.NULL_TENSOR)
        self._add(entry, 0, summary)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a file up to the first that is torn."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    with path.open("rb") as file:
        while len(header := file.read(12)) == 12:
            length, of_length = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != of_length:
                return
            record, of_record = file.read(length), file.read(4)
            if len(of_record) < 4:
                return
            yield record


def _plain(parameters: Mapping[str, Scalar]) -> dict[str, Any]:
    return {
        _text(name): "none" if value is None else _text(value) if isinstance(value, str) else value
        for name, value in parameters.items()
    }


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
