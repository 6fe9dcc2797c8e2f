"""What nodes say of storage and code before anything is trained; the searches on a real cluster are in test_lab."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import without_roots_rights
from tuner.cluster import _node_checks as node_checks
from tuner.cluster._node_checks import NodeReport, check_nodes, code_digest, inspect_nodes
from tuner.common.errors import InputError
from tuner.common.locations import Location


def test_every_node_on_which_a_trial_would_fail_is_named() -> None:
    reports = [
        NodeReport("10.0.0.1", sees_file=True, code=code_digest()),
        NodeReport("10.0.0.2"),
        NodeReport("10.0.0.3", unusable="Permission denied"),
        NodeReport("10.0.0.4", sees_file=True, code="another"),
        NodeReport("10.0.0.5", "No module named 'tuner'"),
    ]
    storage = Location("/shared/runs")
    check_nodes(reports[:1], storage)
    with pytest.raises(InputError) as refusal:
        check_nodes(reports, storage)
    assert refusal.value.lines() == [
        "the cluster cannot run this search:",
        "10.0.0.2: --storage (or else --runs) must be a folder that every node sees; /shared/runs is another one "
        "there, or none",
        "10.0.0.3: /shared/runs cannot be used there: Permission denied; it must be a folder that the user who runs "
        "Ray may write to",
        "10.0.0.4: tuner must be the same version as here; install this one on every node",
        "10.0.0.5: could not be asked: No module named 'tuner'",
    ]


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_a_node_that_sees_the_folder_and_has_this_code_is_fine_and_nothing_is_left_in_the_folder(tmp_path) -> None:
    import ray

    storage = Location(str(tmp_path / "runs"))
    reports = inspect_nodes(ray.nodes(), storage)
    check_nodes(reports, storage)
    assert len(reports) == 1 and reports[0].code == code_digest()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_of_another_machine_is_not_seen(tmp_path) -> None:
    assert node_checks._inspect(Location(str(tmp_path / "mark")), "node") == NodeReport("node")


def test_nodes_of_one_name_try_the_folder_by_files_of_their_own(tmp_path, monkeypatch) -> None:
    (tmp_path / "mark").touch()
    tried: list[str] = []
    monkeypatch.setattr(node_checks, "probe", lambda _folder, name: tried.append(name))
    for _ in range(2):
        assert node_checks._inspect(Location(str(tmp_path / "mark")), "node").sees_file
    assert len(set(tried)) == 2


def test_a_folder_without_the_right_to_write_is_seen_as_such(tmp_path) -> None:
    (tmp_path / "mark").touch()
    tmp_path.chmod(0o500)
    look = (
        "import sys; from tuner.cluster import _node_checks as node_checks; from tuner.common import locations; "
        "print(node_checks._inspect(locations.Location(sys.argv[1]), 'node').unusable)"
    )
    command = [*without_roots_rights(), sys.executable, "-c", look, str(tmp_path / "mark")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Permission denied" in said


def test_a_folder_in_which_the_driver_cannot_write_is_refused_before_a_node_is_asked(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/runs cannot be used: .*; it must be a folder that the user"):
        inspect_nodes([], Location(str(tmp_path / "file" / "runs")))


def test_the_code_of_every_room_counts_and_the_name_of_its_folder_does_not(tmp_path) -> None:
    package = Path(node_checks.__file__).parents[1]
    copies = [shutil.copytree(package, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")) for name in "ab"]
    here = code_digest()
    assert [code_digest(copy) for copy in copies] == [here, here]
    rooms = sorted({path.parent for path in copies[0].rglob("*.py")})
    assert len(rooms) > 10
    for room in rooms:
        module = min(room.glob("*.py"))
        whole = module.read_bytes()
        module.write_bytes(whole + b"#")
        assert code_digest(copies[0]) != here, module
        module.write_bytes(whole)
        renamed = module.rename(room / "another_name.py")
        assert code_digest(copies[0]) != here, module
        renamed.rename(module)
    assert code_digest(copies[0]) == here
