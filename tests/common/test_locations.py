"""Places that several machines read and write: folders, and buckets of a real S3 server on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.common.errors import InputError
from tuner.common.locations import (
    SCHEMES,
    SETTINGS,
    Location,
    check_location,
    download,
    exists,
    fetched,
    files_in,
    filled,
    is_remote,
    parse_location,
    touch,
    upload,
)


@pytest.fixture(params=["folder", "bucket"])
def location(request, tmp_path) -> Location:
    if request.param == "folder":
        return parse_location(str(tmp_path / "storage"), "--storage")
    return parse_location(f"{request.getfixturevalue('bucket')}/tuner", "--storage")


def test_what_is_put_into_a_place_is_found_there_and_read_again(location, tmp_path) -> None:
    check_location(location)
    assert files_in(location) == []
    with filled(location.child("trial")) as folder:
        (folder / "checkpoint.npz").write_bytes(b"weights")
    assert exists(location.child("trial", "checkpoint.npz")) and not exists(location.child("trial", "other"))
    with fetched(location.child("trial")) as folder:
        assert (folder / "checkpoint.npz").read_bytes() == b"weights"
    (tmp_path / "record").write_bytes(b"first")
    upload(tmp_path / "record", location.child("record"))
    (tmp_path / "record").write_bytes(b"second")
    upload(tmp_path / "record", location.child("record"))
    download(location.child("record"), tmp_path / "copies" / "copy")
    assert (tmp_path / "copies" / "copy").read_bytes() == b"second"
    assert files_in(location) == ["record"]


def test_what_was_not_finished_is_not_put_into_a_place(location) -> None:
    with pytest.raises(ValueError, match="half"), filled(location.child("trial")) as folder:
        if location.is_remote:  # in a folder, the checkpoint itself is written aside and renamed
            (folder / "checkpoint.npz").write_bytes(b"wei")
        raise ValueError("half")
    assert files_in(location.child("trial")) == []


def test_places_within_keep_what_the_address_asks_for() -> None:
    location = Location("s3://images/tuner?region=eu-west-1")
    assert location.child("digits", "ray").address == "s3://images/tuner/digits/ray?region=eu-west-1"
    assert location.child("digits").parent == location and location.child("digits").name == "digits"
    assert Location("s3://images").child("digits").address == "s3://images/digits"
    assert (
        Location("/shared").child("digits").address == "/shared/digits" and Location("/shared/digits").name == "digits"
    )


def test_a_folder_becomes_absolute_since_workers_run_elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_location("shared", "--storage") == Location(str(tmp_path / "shared"))


def test_a_folder_in_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(InputError, match="~nobody-of-this-name/x: must begin with the home of a user that exists"):
        parse_location("~nobody-of-this-name/x", "--storage")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s4://images/tuner", r"unknown kind of storage 's4'; did you mean 's3'\?"),
        ("s3:///tuner", r"must name a bucket, as in s3://BUCKET/FOLDER"),
        ("s3://name:hidden@images/tuner", r"must not hold a secret, .* got s3://\.\.\.@images/tuner"),
        ("s3://anonymous@images/tuner", "must not hold a secret"),  # there, it would be the identifier of a key
        ("gs://hidden@images/tuner", r"must not hold a secret, .* got gs://\.\.\.@images/tuner"),
        ("s3://images/tuner?secret_key=hidden", "must not hold a secret"),
        ("abfss://box:hidden@account/tuner", "must not hold a secret"),
        ("abfss://box@account/tuner?client_secret=hidden", "must not hold a secret"),
        ("abfss://box@account/tuner?sv=2024&sig=hidden", "must not hold a secret"),
        ("abfss://box@account/tuner?sp=hidden", "unknown setting of abfss addresses 'sp'"),
        ("gs://images/tuner?project=hidden", r"unknown setting of gs addresses 'project'; did you mean 'project_id'\?"),
        ("s3://images/tuner?Region=hidden", r"unknown setting of s3 addresses 'Region'; did you mean 'region'\?"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_and_secrets_not_repeated(text, message) -> None:
    with pytest.raises(InputError, match=f"--storage:? {message}") as refusal:
        parse_location(text, "--storage")
    assert "hidden" not in str(refusal.value)


def test_a_bucket_that_is_open_to_everyone_is_no_secret() -> None:
    address = "gs://anonymous@images/tuner?endpoint_override=127.0.0.1:1"
    assert parse_location(address, "--storage") == Location(address)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_setting_that_is_let_through_is_one_that_pyarrow_knows(scheme) -> None:
    store = "box@account.dfs.core.windows.net" if scheme.startswith("abfs") else "images"
    for name in SETTINGS[scheme]:
        region = "region=x&" if scheme == "s3" and name != "region" else ""  # or Amazon would be asked for it
        location = parse_location(f"{scheme}://{store}/x?{region}{name}=wrong", "RUN")
        try:
            location.open()
        except (OSError, ValueError) as error:
            assert "Unexpected query parameter" not in str(error)


def test_what_pyarrow_cannot_read_of_an_address_is_an_error_of_the_storage() -> None:
    with pytest.raises(OSError, match="Unexpected query parameter in S3 URI: 'foo'"):
        exists(Location("s3://images/x?foo=1"))


def test_a_file_in_the_way_of_a_folder_is_refused(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--storage must be a folder that can be written to; .*file is a file"):
        parse_location(str(tmp_path / "file"), "--storage")


def test_a_bucket_that_is_not_there_is_told_with_where_credentials_come_from(bucket) -> None:
    with pytest.raises(InputError, match=r"--storage s3://other/x cannot be used: .*NO_SUCH_BUCKET.*; credentials"):
        check_location(Location("s3://other/x"))


def test_a_store_that_does_not_answer_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr("tuner.common.locations.probe", lambda _location, _name: __import__("time").sleep(120))
    with pytest.raises(InputError, match=r"gs://images cannot be used: no answer in 0\.1 s; .*service account"):
        check_location(Location("gs://images"), within_s=0.1)


def test_a_store_whose_check_ends_otherwise_does_not_count_as_usable(monkeypatch) -> None:
    monkeypatch.setattr("tuner.common.locations.probe", lambda _location, _name: {}["no such key"])
    with pytest.raises(KeyError, match="no such key"):
        check_location(Location("gs://images"))


def test_only_addresses_are_remote(tmp_path) -> None:
    assert is_remote("s3://images") and not is_remote("runs/digits") and not is_remote(str(tmp_path))
    touch(Location(str(tmp_path / "a" / "b")))
    assert Path(tmp_path / "a" / "b").read_bytes() == b""
