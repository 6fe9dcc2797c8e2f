"""What comes back from a cluster: whole or not at all, and nothing in it is trusted."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tuner.common.errors import LostError, RunError, TunerError
from tuner.jobs import _archive as archive
from tuner.jobs._archive import content_of, pack, read_lines, unpack, write_lines
from tuner.jobs._commands import refuse_other_run


def make_archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def folders(place: Path) -> dict[str, Path]:
    return {"run": place / "runs" / "small", "report": place / "reports" / "small"}


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (None, None),
        (b"study\ntrial 0\n", None),
        (b"study\ntrial 0\ntri", None),  # fetched while a line was written
        (b"study\ntrial 0\ntrial 1\n", None),
        (b"study\ntrial 0\ntrial 1\ntrial 2\n", "holds results that the cluster has not: the search has gone on here"),
        (b"study\ntrial 0\ntrial 3\n", "holds results that the cluster has not"),
        (b"other\ntrial 0\n", "holds another search of this name; give --to another folder"),
    ],
)
def test_what_is_fetched_overwrites_no_results_that_the_cluster_has_not(here, words, tmp_path) -> None:
    record, sent = tmp_path / "runs/small/record.jsonl", tmp_path / "sent"
    sent.write_bytes(b"study\ntrial 0\ntrial 1\n")
    if here is not None:
        record.parent.mkdir(parents=True)
        record.write_bytes(here)
    with nullcontext() if words is None else pytest.raises(RunError, match=words):
        refuse_other_run(record, pack({"run/record.jsonl": sent}))


def test_files_come_back_as_they_were_and_those_that_are_not_there_are_left_out(tmp_path) -> None:
    (tmp_path / "record.jsonl").write_bytes(b"one\ntwo\n")
    (tmp_path / "page").write_bytes(bytes(range(256)) * 1000)
    files = {"run/record.jsonl": tmp_path / "record.jsonl", "report/figures/a.png": tmp_path / "page"}
    data = pack({**files, "run/gone": tmp_path / "gone"})
    log = "INFO something else\n" + "".join(write_lines(data)) + '{"tuner": "ended", "status": 0}\n'
    assert read_lines(log) == data and content_of(data, "run/record.jsonl") == b"one\ntwo\n"
    assert content_of(data, "run/gone") == b"" and content_of(b"no archive", "run/x") == b""
    paths = unpack(read_lines(log), folders(tmp_path))
    assert paths == [tmp_path / "runs/small/record.jsonl", tmp_path / "reports/small/figures/a.png"]
    assert paths[1].read_bytes() == bytes(range(256)) * 1000
    assert unpack(data, folders(tmp_path)) == paths, "and once more over the same files"


@given(some.binary(max_size=200_000))
def test_any_bytes_survive_being_lines(data: bytes) -> None:
    assert read_lines("".join(write_lines(data))) == data


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: "",
        lambda log: log[: len(log) // 2],
        lambda log: "".join(log.splitlines(keepends=True)[1:]),
        lambda log: "".join(reversed(log.splitlines(keepends=True)[:2])) + "".join(log.splitlines(keepends=True)[2:]),
        lambda log: log.replace('"data": "A', '"data": "B'),
        lambda log: log.replace('"data": "', '"data": "!'),
        lambda log: log.replace('"sha256": "', '"sha256": "0'),
        lambda log: '{"tuner": 7}\n{"tuner": \n' + log,
    ],
)
def test_what_is_damaged_or_incomplete_is_refused(damage) -> None:
    log = "".join(write_lines(bytes(range(256)) * 400))
    with pytest.raises(LostError, match="damaged or incomplete: its digest does not fit; fetch it again"):
        read_lines(damage(log))


@pytest.mark.parametrize(
    "wrong",
    [
        entry("../evil"),
        entry("run/../../evil"),
        entry("/etc/evil"),
        entry("evil"),
        entry("run"),
        entry("elsewhere/evil"),
        entry("run/..\\evil"),
        entry("run/e\x1b[31mvil"),
        entry("run/evil", tarfile.SYMTYPE, "/etc/passwd"),
        entry("run/evil", tarfile.LNKTYPE, "run/record.jsonl"),
        entry("run/evil", tarfile.FIFOTYPE),
        entry("run/evil", tarfile.CHRTYPE),
        entry("run/evil", tarfile.DIRTYPE),
    ],
    ids=lambda wrong: repr(wrong.name) + wrong.type.decode(),
)
def test_an_archive_with_anything_but_plain_files_in_their_places_is_refused_whole(wrong, tmp_path) -> None:
    data = make_archive((entry("run/record.jsonl"), b"{}\n"), (wrong, b""))
    with pytest.raises(TunerError, match=r"must be plain files of a run and its report; got .*nothing was written"):
        unpack(data, folders(tmp_path / "place"))
    assert not (tmp_path / "place").exists() and list(tmp_path.iterdir()) == []


def test_an_archive_that_is_cut_off_or_none_is_refused_and_one_that_would_fill_the_disk(tmp_path, monkeypatch) -> None:
    data = make_archive((entry("run/record.jsonl"), json.dumps(list(range(10_000))).encode()))
    for broken in (b"", b"no archive", data[: len(data) // 2]):
        with pytest.raises(TunerError, match="what was sent back cannot be unpacked"):
            unpack(broken, folders(tmp_path))
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(TunerError, match="when it is unpacked"):
        unpack(data, folders(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_link_where_a_file_goes_is_replaced_and_not_followed(tmp_path) -> None:
    place = folders(tmp_path)["run"]
    place.mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    (place / "record.jsonl").symlink_to(tmp_path / "precious")
    unpack(make_archive((entry("run/record.jsonl"), b"{}\n")), folders(tmp_path))
    assert (tmp_path / "precious").read_text() == "mine" and (place / "record.jsonl").read_text() == "{}\n"


def test_what_is_too_large_for_a_log_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 2**20)
    (tmp_path / "best.keras").write_bytes(np.random.default_rng(0).bytes(2**21))
    with pytest.raises(TunerError, match=r"must be at most 1 MB; run/best.keras is too much: copy .*best.keras"):
        pack({"run/best.keras": tmp_path / "best.keras"})
