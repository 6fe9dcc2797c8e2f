"""Ray's job API as tuner speaks to it: what goes wrong is told apart. The server is a small one of our own."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.make_cluster import free_ports
from tuner.common.errors import InputError, LostError, RunError
from tuner.jobs import client
from tuner.jobs._commands import fetch_search, refuse_foreign_name
from tuner.jobs.client import Job, Jobs
from tuner.jobs.options import parse_submit_options
from tuner.reports.console import SearchConsole

TOKEN = "0" * 64


def details(name: str, status: str = "RUNNING", began_s: float = 1.0, study: str = "small", **more) -> dict:
    metadata = {"tuner": "search", "study": study}
    return {
        "type": "SUBMISSION", "submission_id": name, "status": status, "entrypoint": "x",
        "start_time": int(1000 * began_s), "metadata": metadata, **more,
    }  # fmt: skip


@dataclass
class Server:
    """Answers as Ray's dashboard does, or as it is told."""

    found: list[dict]
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By path: what is answered instead."""
    asked: list[tuple[str, str, dict]] = field(default_factory=list)
    silent_s: float = 0.0
    address: str = ""

    def answer(self, path: str) -> tuple[int, str]:
        if path in self.answers:
            return self.answers[path]
        if path == "/api/version":
            return 200, json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "y"})
        name = path.split("/")[3] if path.startswith("/api/jobs/") else ""
        if path == "/api/jobs/":
            return 200, json.dumps(self.found)
        known = [one for one in self.found if one["submission_id"] == name]
        return (200, json.dumps(known[0])) if known else (404, f"Job {name} does not exist")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    _forget_token()
    made = Server(
        [details("small-1", began_s=1), details("small-2", "SUCCEEDED", 2), details("pets-1", "PENDING", 3, "pets")]
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(made.silent_s)
            length = int(self.headers.get("Content-Length", 0))
            made.asked.append((self.command, self.path, json.loads(self.rfile.read(length) or "{}")))
            right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            status, text = made.answer(self.path) if right else (403, "Forbidden: Invalid authentication token")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            with suppress(BrokenPipeError):  # a client that did not want to wait
                self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing on the console."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        made.address = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield made
        http.shutdown()
        thread.join()
    monkeypatch.undo()
    _forget_token()


def _forget_token() -> None:
    """Ray reads the token once for each process, and whether there is to be one when it is imported."""
    from ray._raylet import AuthenticationTokenLoader, Config

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@pytest.mark.parametrize("address", ["", "http://", "ftp://head:1", "http://head:port", "http://head/x", "a b:99999"])
def test_an_address_is_that_of_a_dashboard(address) -> None:
    with pytest.raises(
        InputError, match=re.escape("--address must be that of Ray's dashboard, such as http://127.0.0.1")
    ):
        Jobs(address)


def test_where_nothing_answers_one_line_says_so_at_once() -> None:
    (port,) = free_ports(1)
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"--address http://127.0.0.1:{port}: nothing answers there .*ray\[default\]"):
        Jobs(f"127.0.0.1:{port}")
    assert time.monotonic() - started < 5


def test_a_token_that_is_not_the_clusters_is_refused_with_what_to_do(server, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "1" * 64)
    _forget_token()
    with pytest.raises(InputError, match=r"does not accept this machine's token; copy the cluster's to"):
        Jobs(server.address)


def test_the_address_that_is_given_counts_whatever_ray_finds_in_the_environment(server, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    assert len(Jobs(server.address).all()) == 3


@pytest.mark.parametrize("answer", [(404, "not here"), (200, "<html>"), (200, "{}"), (500, "oh")])
def test_another_server_is_not_taken_for_a_dashboard(answer, server) -> None:
    server.answers["/api/version"] = answer
    with pytest.raises(InputError, match=r"must be that of Ray's dashboard, usually port 8265.* answers otherwise"):
        Jobs(server.address)


def test_searches_are_listed_the_newest_first_and_nothing_else(server) -> None:
    server.found.append({**details("_fetch-small-1"), "metadata": {"tuner": "fetch"}})
    server.found.append({**details("raysubmit_x"), "metadata": {}})
    server.found.append({"type": "DRIVER", "job_id": "01", "status": "RUNNING", "entrypoint": "x", "metadata": {}})
    assert [(job.name, job.state) for job in Jobs(server.address).all()] == [
        ("pets-1", "waiting"),
        ("small-2", "finished"),
        ("small-1", "running"),
    ]


def test_a_search_is_found_by_its_name_or_by_its_study_and_a_refused_one_is_not_meant(server) -> None:
    server.found.append(details("small-3", "FAILED", 9, driver_exit_code=2))
    found = Jobs(server.address)
    assert found.find("small-1").name == "small-1" and found.find("small").name == "small-2"
    with pytest.raises(InputError, match=r"unknown search 'smalll'; did you mean 'small'\? \(known: pets, "):
        found.find("smalll")


def test_a_job_is_submitted_without_a_shell_around_it_and_with_time_to_end(server) -> None:
    server.answers["/api/jobs/"] = (200, json.dumps({"job_id": "x", "submission_id": "x"}))
    Jobs(server.address).submit("small-9", {"search": ["a b; rm"]}, {"study": "small"}, None)
    method, path, body = server.asked[-1]
    assert (method, path, body["submission_id"]) == ("POST", "/api/jobs/", "small-9")
    assert body["entrypoint"] == "exec python -m tuner.jobs.entrypoint"
    variables = body["runtime_env"]["env_vars"]
    assert json.loads(variables["TUNER_JOB"]) == {"search": ["a b; rm"]}
    assert variables["RAY_JOB_STOP_WAIT_TIME_S"] == "300"
    assert body["metadata"] == {"tuner": "search", "study": "small"} and "entrypoint_num_cpus" not in body


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((404, "Job x does not exist"), InputError, "knows no job 'small-1' any more"),
        ((403, "Forbidden"), InputError, "does not accept this machine's token"),
        ((400, "bad\nKeyError: x"), InputError, "refused: KeyError: x"),
        ((413, "Maximum request body size"), InputError, "refused: .*Maximum request body size"),
        ((500, "No available agent"), LostError, "cannot answer: .*No available agent"),
    ],
)
def test_what_the_user_can_mend_is_told_from_what_may_pass(answer, kind, words, server) -> None:
    found = Jobs(server.address)
    server.answers["/api/jobs/small-1"] = answer
    with pytest.raises(kind, match=words):
        found.look("small-1")


def test_a_server_that_is_gone_or_does_not_answer_is_a_lost_connection(server, monkeypatch) -> None:
    found = Jobs(server.address)
    monkeypatch.setattr(client, "ANSWERED_WITHIN_S", 0.2)
    server.silent_s = 1.0
    with pytest.raises(LostError, match=r"the connection to http://127.0.0.1:\d+ is lost: .*timed out"):
        found.look("small-1")
    found._client._address = "http://127.0.0.1:1"
    for ask in (found.look, found.log, lambda name: found.tail(name, 0, print), found.stop):
        with pytest.raises(LostError, match=r"is lost: .*(Connection refused|Connect call failed)"):
            ask("small-1")


def test_a_stream_for_a_job_that_is_unknown_is_refused(server) -> None:
    with pytest.raises(InputError, match="knows no job 'gone' any more"):
        Jobs(server.address).tail("gone", 0, print)


class Stream:
    """Ray's client with a stream that says something, and then waits."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    async def tail_job_logs(self, name: str):
        import asyncio

        for piece in self.pieces:
            yield piece
        await asyncio.sleep(60)


@pytest.mark.parametrize(("skip", "expected"), [(0, "abcdef"), (1, "bcdef"), (3, "def"), (4, "ef"), (6, ""), (9, "")])
def test_what_was_read_before_is_left_out_of_a_stream_and_silence_ends_it(skip, expected, server, monkeypatch) -> None:
    monkeypatch.setattr(client, "SILENT_S", 0.05)
    found = Jobs(server.address)
    found._client = Stream("abc", "", "d", "ef")
    taken: list[str] = []
    found.tail("small-1", skip, taken.append)
    assert "".join(taken) == expected


@pytest.mark.parametrize("run", ["/shared/runs/..", "/shared/runs/small/../..", "/shared/runs/pets", "/", "small-x"])
def test_a_job_that_calls_its_run_as_no_run_of_its_study_is_called_is_not_fetched(run, server, tmp_path) -> None:
    log = json.dumps({"tuner": "recording", "run": run}) + "\n"
    server.answers["/api/jobs/small-1/logs"] = (200, json.dumps({"logs": log}))
    options = parse_submit_options(["fetch", "small-1", "--address", server.address, "--to", str(tmp_path)])
    with pytest.raises(RunError, match=r"the run that small-1 names must be one of the study 'small'; got "):
        fetch_search(options, SearchConsole())
    assert not any(method == "POST" for method, *_ in server.asked) and not [*tmp_path.iterdir()]


def test_runs_are_called_as_their_study_with_a_number_or_without() -> None:
    def job(study: str) -> Job:
        return Job("x", "finished", {"study": study}, 0.0, None, "", 0)

    for study, name in (("small", "small"), ("small", "small-2"), ("a.b-3", "a.b-3-12"), ("", "small-2"), ("", "a-b")):
        refuse_foreign_name(name, job(study))
    for study, name in (("", ".."), ("..", ".."), ("", ""), ("", "a/b"), ("small", "small-2-3"), ("", "-2")):
        with pytest.raises(RunError, match="nothing was fetched"):
            refuse_foreign_name(name, job(study))
