"""What is refused of a cluster before anything is trained; the searches on a real one are in test_lab."""

from __future__ import annotations

import re
import socket
import stat
from collections.abc import Iterator

import pytest

from tests.support.make_cluster import head
from tuner.cluster import connection
from tuner.cluster.connection import check_reachable, check_token, cluster_capacity
from tuner.cluster.ray_session import Capacity, NodeCapacity, keep_token_private
from tuner.cluster.token_probe import Answer, TokenAnswer
from tuner.common.errors import InputError
from tuner.common.locations import Location


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:ray"])
def test_an_address_is_a_host_and_a_port_or_auto(address) -> None:
    with pytest.raises(InputError, match=f"--address must be HOST:PORT or auto; got '{address}'"):
        check_reachable(address)
    check_reachable("auto")


@pytest.mark.parametrize("host", ["head..example", "h" * 64])
def test_a_host_that_can_be_no_name_is_refused(host) -> None:
    with pytest.raises(InputError, match=f"--address {host}:6379: nothing answers there"):
        check_reachable(f"{host}:6379")


def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_reachable(f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=f"--address 127.0.0.1:{port}: nothing answers there"):
        check_reachable(f"127.0.0.1:{port}")


@pytest.fixture
def open_cluster() -> Iterator[str]:
    """A Ray head that asks for no token, as `ray start --head` makes it."""
    with head(cpus=0, mode="disabled", dashboard=False) as made:
        yield made.address


def test_a_cluster_that_asks_for_no_token_is_refused_unless_the_user_insists(open_cluster, monkeypatch) -> None:
    for mode in ("token", "disabled"):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        with pytest.raises(InputError, match=r"this cluster asks for no token, .* or add --insecure"):
            check_token(open_cluster)
        check_token(open_cluster, insecure=True)


@pytest.mark.usefixtures("local_ray_session")
def test_a_wrong_token_is_told_in_one_line_and_the_right_one_accepted(tmp_path, monkeypatch) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    check_token(address)
    (tmp_path / "token").write_text("f" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(InputError, match="the cluster does not accept the token of this machine") as refusal:
        check_token(address)
    assert "ffff" not in str(refusal.value) and len(str(refusal.value).splitlines()) == 1
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InputError, match=r"does not accept the token of this machine \(RAY_AUTH_MODE=disabled\)"):
        check_token(address)


def test_what_answers_and_is_no_ray_cluster_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=f"--address {address} must be that of a Ray cluster; "):
            check_token(address)


class Probes:
    """Stands for the processes that ask: what each is told, in turn, by the mode it asks in."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers

    def start(self, _address: str, mode: str) -> Answer:
        return self.answers[mode].pop(0)

    def ended(self, answer: Answer, _deadline: float) -> TokenAnswer:
        return TokenAnswer(answer, "no answer in 4 s")


def ask(probes: Probes, monkeypatch: pytest.MonkeyPatch, mode: str = "token", *, insecure: bool = False) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setattr(connection, "start_probe", probes.start)
    monkeypatch.setattr(connection, "ended_probe", probes.ended)
    check_token("head:6379", insecure)
    assert not any(probes.answers.values())


def test_a_cluster_is_only_used_when_it_was_seen_to_refuse_those_without_a_token(monkeypatch) -> None:
    ask(Probes(token=["answered"], disabled=["refused"]), monkeypatch)
    ask(Probes(token=["answered"], disabled=["silent", "refused"]), monkeypatch)
    with pytest.raises(InputError, match="this cluster asks for no token"):
        ask(Probes(token=["answered"], disabled=["silent", "answered"]), monkeypatch)
    with pytest.raises(InputError, match=r"could not be seen \(no answer in 4 s\); try again, or add --insecure"):
        ask(Probes(token=["answered"], disabled=["silent", "silent"]), monkeypatch)
    ask(Probes(token=["answered"], disabled=["silent"]), monkeypatch, insecure=True)


def test_where_this_machine_shows_no_token_one_process_asks(monkeypatch) -> None:
    ask(Probes(disabled=["answered"]), monkeypatch, "disabled", insecure=True)
    with pytest.raises(InputError, match="does not accept the token of this machine"):
        ask(Probes(disabled=["refused"]), monkeypatch, "disabled")


def test_a_cluster_of_another_ray_is_refused_in_one_line(tmp_path, monkeypatch) -> None:
    import ray
    from ray._private.utils import check_version_info

    def init(**_: object) -> None:
        check_version_info({"ray_version": "2.1.0", "python_version": "3.9.1"}, "this process", raise_on_mismatch=True)

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(connection, "check_token", lambda _address, _insecure: None)
    with (
        pytest.raises(
            InputError, match=r"auto must run the Ray and Python of here; Version .* Ray: 2\.1\.0 "
        ) as refusal,
        connection.cluster_ray("auto", Location(str(tmp_path))),
    ):
        pass
    assert len(str(refusal.value).splitlines()) == 1


def test_the_token_of_this_machine_can_be_read_by_its_user_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    token = tmp_path / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    keep_token_private()
    assert re.fullmatch("[0-9a-f]{64}", text := token.read_text()) and stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)
    keep_token_private()
    assert token.read_text() == text and stat.S_IMODE(token.stat().st_mode) == 0o600


def test_trials_get_what_workers_have_and_a_head_without_cpus_has_nothing_for_them() -> None:
    head = {"memory": 2.0**34, "node:10.0.0.1": 1.0}
    worker = {"CPU": 3.0, "GPU": 1.0, "memory": 2.0**33}
    capacity = cluster_capacity([head, worker, worker])
    assert (capacity.cpus, capacity.gpus, capacity.is_cluster) == (6.0, 2.0, True)
    assert capacity.nodes == (NodeCapacity(3.0, 1.0, 8192.0),) * 2
    assert capacity.slots(2, 0) == 2  # not 3: a trial is not split across nodes
    assert capacity.slots(1, 0.5) == 4
    assert cluster_capacity([head]) == Capacity(0, 0, is_cluster=True)
