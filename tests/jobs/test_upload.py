"""What is sent with a search: what is needed, from where it lies, and nothing else."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.make_data import ARRAYS, make_folder
from tuner.common.errors import DataError, InputError, RunError
from tuner.jobs import _upload as upload
from tuner.jobs._upload import LocalData, local_data, local_studies, write_package
from tuner.jobs.entrypoint import fetched_files, place_data
from tuner.runs.directory import RunDirectory
from tuner.spec.schema import DataSection

SHARED = PurePosixPath("/shared/tuner")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a user has it, with what must stay there."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "data" / "pets", {"cat": 2, "dog": 3})
    for name in (".env", "notes.txt", "data/pets/cat/.secret.png", "data/pets/token.txt"):
        (tmp_path / name).write_text("secret")
    (tmp_path / "small.yaml").write_text("study: small\n")
    for run in ("runs/first", "runs/second"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "record.jsonl").write_text("{}\n")
        (tmp_path / run / "best.keras").write_text("large")
    return tmp_path


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return sorted(name for name in archive.namelist() if not name.endswith("/"))


def write(here: Path, data: LocalData | None = None, warm_start: tuple[str, ...] = (), name: str = "a.zip"):
    return write_package(here / name, Path("small.yaml"), data, warm_start, local_studies(warm_start), SHARED)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("digits", None),
        ("cifar100", None),  # staged here, but every tuner knows the name: the cluster's own
        ("tfds:beans", None),
        ("folder:data/pets", "data/pets"),
        ("mine", "data/pets"),  # a name that only this machine knows
        ("folder:/shared/tuner/data/pets", None),
        ("folder:/not/here/at/all", None),
    ],
)
def test_data_are_sent_if_they_lie_here_and_the_cluster_does_not_know_them(source, expected, here) -> None:
    staged = {"mine": f"folder:{here}/data/pets", "cifar100": f"folder:{here}/data/pets"}
    found = local_data(DataSection(source=source), staged, [], SHARED)
    assert found == (None if expected is None else LocalData("folder", Path(found.path)))
    assert expected is None or found.path.resolve() == (here / expected).resolve()


def test_a_copy_that_the_command_line_names_is_sent_whatever_the_cluster_knows(here) -> None:
    found = local_data(DataSection(source="cifar100"), {"cifar100": "folder:data/pets"}, ["cifar100"], SHARED)
    assert found == LocalData("folder", Path("data/pets"))


def test_a_relative_path_that_is_not_here_is_refused(here) -> None:
    with pytest.raises(DataError, match="folder:gone must name a folder or file that exists"):
        local_data(DataSection(source="folder:gone"), {}, [], SHARED)


def test_only_what_is_needed_is_sent(here) -> None:
    made = write(here, LocalData("folder", Path("data/pets")), ("runs/second", "on_the_cluster", "runs/first"))
    assert names(here / "a.zip") == [
        *(f"data/cat/image {number}.png" for number in range(2)),
        *(f"data/dog/image {number}.png" for number in range(3)),
        "earlier/0/second/record.jsonl",
        "earlier/2/first/record.jsonl",
        "small.yaml",
    ]
    assert made.warm_start == ("earlier/0/second", "on_the_cluster", "earlier/2/first")
    assert made.data_folder is not None and made.data_folder.parent == SHARED / "data"
    assert made.data_source == f"folder:{made.data_folder}" and made.data_folder.name.startswith("pets-")


def test_files_of_studies_are_sent_as_they_are(here) -> None:
    study = {"kind": "tuner study", "version": 1, "tuner": "0.1.0", "data": {}, "metrics": {}, "trials": []}
    (here / "given.json").write_text(json.dumps(study))
    made = write(here, None, ("runs/first", "given.json"))
    assert names(here / "a.zip") == ["earlier/0/first/record.jsonl", "earlier/1/given.json", "small.yaml"]
    assert made.warm_start == ("earlier/0/first", "earlier/1/given.json")
    with zipfile.ZipFile(here / "a.zip") as archive:
        assert json.loads(archive.read("earlier/1/given.json")) == study
    with pytest.raises(RunError, match=r"notes.txt: must be a study, as .* writes it; it is no JSON"):
        local_studies(["notes.txt"])


def test_the_same_files_are_the_same_bytes_in_the_same_place_and_others_in_another(here) -> None:
    data = LocalData("folder", Path("data/pets"))
    first = write(here, data)
    (here / "data/pets/cat/image 0.png").touch()
    assert write(here, data, name="b.zip") == first
    assert (here / "a.zip").read_bytes() == (here / "b.zip").read_bytes()
    (here / "data/pets/cat/image 0.png").rename(here / "data/pets/cat/image 9.png")
    assert write(here, data, name="b.zip").data_folder != first.data_folder


def test_a_single_file_keeps_its_name_below_the_folder_of_its_content(here) -> None:
    np.savez(here / "my images.npz", **ARRAYS)
    made = write(here, LocalData("npz", Path("my images.npz")))
    assert names(here / "a.zip") == ["data/my images.npz", "small.yaml"]
    assert made.data_source == f"npz:{made.data_folder}/my images.npz"
    assert made.data_folder is not None and made.data_folder.name.startswith("my-images-")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_sent_with_the_images_that_it_names_and_no_others(kind, here) -> None:
    rows = {"where": [f"cat/image {number}.png" for number in range(2)], "label": ["x", "y"]}
    table = here / "data/pets" / f"list.{kind}"
    if kind == "csv":
        table.write_text(
            "where,label\n" + "".join(f"{path},{label}\n" for path, label in zip(*rows.values(), strict=True))
        )
    else:
        parquet.write_table(pa.table(rows), table)
    request = DataSection(source=f"{kind}:data/pets/list.{kind}", columns={"path": "where"})
    data = local_data(request, {}, [], SHARED)
    made = write(here, data)
    assert names(here / "a.zip") == sorted(
        ["data/cat/image 0.png", "data/cat/image 1.png", f"data/list.{kind}", "small.yaml"]
    )
    assert made.data_source == f"{kind}:{made.data_folder}/list.{kind}"


@pytest.mark.parametrize("place", ["data/pets/list-2.csv", "elsewhere/list.csv"])
def test_a_table_that_is_a_link_is_sent_by_its_own_name(place, here) -> None:
    (here / "elsewhere").mkdir()
    (here / place).write_text("where,label\ncat/image 0.png,x\ndog/image 0.png,y\n")
    (here / "data/pets/list.csv").symlink_to(here / place)
    data = local_data(DataSection(source="csv:data/pets/list.csv", columns={"path": "where"}), {}, [], SHARED)
    made = write(here, data)
    assert names(here / "a.zip") == ["data/cat/image 0.png", "data/dog/image 0.png", "data/list.csv", "small.yaml"]
    assert made.data_source == f"csv:{made.data_folder}/list.csv"


def test_images_that_rows_name_on_a_detour_are_sent_by_the_straight_path(here) -> None:
    (here / "data/pets/train").mkdir()
    rows = {"path": ["../cat/image 0.png", "../dog/image 0.png"], "label": ["x", "y"]}
    parquet.write_table(pa.table(rows), here / "data/pets/train/list.parquet")
    write(here, local_data(DataSection(source="parquet:data/pets"), {}, [], SHARED))
    images = ["data/cat/image 0.png", "data/dog/image 0.png"]
    assert names(here / "a.zip") == [*images, "data/train/list.parquet", "small.yaml"]


@pytest.mark.parametrize("place", ["data/pets", "{here}/data/pets"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_with_whole_paths_of_this_machine_is_refused_before_anything_is_sent(kind, place, here) -> None:
    rows = {"path": ["dog/image 0.png", str(here / "data/pets/cat/image 0.png")], "label": ["x", "y"]}
    if kind == "csv":
        lines = [",".join(cells) for cells in zip(*rows.values(), strict=True)]
        (here / "data/pets/list.csv").write_text("\n".join(["path,label", *lines]))
    else:
        parquet.write_table(pa.table(rows), here / "data/pets/list.parquet")
    folder = place.format(here=here)
    words = f"list.{kind}: must name its images by paths from {folder}, for it is sent; got {here}/data/pets/cat/"
    with pytest.raises(DataError, match=re.escape(words)):
        local_data(DataSection(source=f"{kind}:{folder}/list.{kind}"), {}, [], SHARED)


def test_a_name_that_is_no_text_is_told_in_a_line(here) -> None:
    latin = os.fsdecode(os.fsencode(here / "data/pets/cat") + b"/\xe9t\xe9.png")
    (here / "data/pets/cat/image 0.png").rename(latin)
    with pytest.raises(InputError, match=r"cat/\\xe9t\\xe9.png: must have a name that is text in UTF-8 to be sent"):
        write(here, LocalData("folder", Path("data/pets")))


def test_what_ray_would_refuse_is_refused_with_where_to_copy_it(here, monkeypatch) -> None:
    monkeypatch.setattr(upload, "MAX_MB", 0.0001)
    words = r"data/pets has 0 MB: copy it to /shared/tuner/data/pets on the cluster, and write that path into the file"
    with pytest.raises(InputError, match=f"what is sent with a search must be at most 0.0001 MB; {words}"):
        write(here, LocalData("folder", Path("data/pets")))
    with pytest.raises(InputError, match=r"small.yaml has 0 MB"):
        write(here)


def test_what_a_search_here_would_not_read_is_not_sent_and_said(here) -> None:
    (here / "data/pets/cat/loop").symlink_to(here / "data/pets")
    make_folder(here / "data" / "pets", {".NET": 4})
    made = write(here, LocalData("folder", Path("data/pets")))
    assert len(names(here / "a.zip")) == 6
    assert made.notices == (
        "data/pets: not used: 1 .txt file (token.txt); 4 files in the hidden folder .NET (.NET/image 0.png, ...); "
        "1 link to folders (cat/loop)",
    )


def test_folders_that_are_read_as_the_file_says_are_sent_so(here) -> None:
    make_folder(here / "pets", {"train": 2, "bus": 3})
    with pytest.raises(DataError, match=r"set data\.layout to classes"):
        write(here, LocalData("folder", Path("pets")))
    write(here, LocalData("folder", Path("pets"), "classes"))
    assert len(names(here / "a.zip")) == 6


def test_a_loop_of_links_and_a_link_to_nothing_are_named(here) -> None:
    (here / "hub").mkdir()
    (here / "hub/loop").symlink_to(here / "hub")
    with pytest.raises(DataError, match="hub/loop: a folder of a data set must not be a link to one that holds it"):
        write(here, LocalData("parquet", Path("hub")))
    (here / "data/pets/cat/lost.png").symlink_to(here / "nowhere")
    with pytest.raises(InputError, match=r"cat/lost.png: cannot be read: No such file"):
        write(here, LocalData("folder", Path("data/pets")))


def test_an_earlier_run_that_is_written_as_a_path_must_be_here(here) -> None:
    assert local_studies(["study_on_the_cluster", "/shared/tuner/runs/x"]) == {}
    with pytest.raises(InputError, match=r"search.warm_start: unknown run of this machine 'runs/frist'; did you mean"):
        local_studies(["runs/first", "runs/frist"])


def test_data_that_came_with_a_job_are_put_in_place_once_and_whole(here) -> None:
    sent, folder = here / "data", here / "shared" / "data" / "pets-1"
    place_data(sent, folder)
    assert (folder / "pets" / "dog" / "image 2.png").is_file()
    (folder / "mark").touch()
    place_data(sent, folder)
    assert (folder / "mark").is_file() and [path.name for path in folder.parent.iterdir()] == ["pets-1"]
    with pytest.raises(InputError, match="the data that came with the search cannot be put there"):
        place_data(sent, here / "small.yaml" / "x")


def test_checkpoints_stay_on_the_cluster_and_models_unless_they_are_asked_for(here) -> None:
    run, report = here / "runs" / "first", here / "reports" / "first"
    (report / "figures").mkdir(parents=True)
    for path in (report / "index.html", report / "figures" / "a.png", report / "figures" / ".a.png.7.partial"):
        path.touch()
    (run / "front-00007.keras").touch()
    found = fetched_files(run, report, with_models=False)
    assert {name for name, path in found.items() if path.is_file()} == {
        "run/record.jsonl",
        "report/index.html",
        "report/figures/a.png",
    }
    more = fetched_files(run, report, with_models=True)
    assert set(more) - set(found) == {"run/best.keras", "run/best.npz", "run/front-00007.keras"}
    assert more["run/best.keras"] == RunDirectory(run).best_model
