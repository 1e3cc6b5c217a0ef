"""A model's files: the same model has the same digest everywhere, and a bad one is refused before anything is done."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlscale.errors import UsageError
from mlscale.providers import artifact


def a_folder(path: Path, files: dict[str, str]) -> Path:
    """Return a folder with these files, written in this order."""
    for name, text in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def an_archive(path: Path, *members: tarfile.TarInfo, text: bytes = b"text") -> Path:
    """Return an archive with these members, each file holding `text`."""
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = len(text) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(text) if member.isreg() else None)
    return path


def a_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a member of an archive: a file, or a link to `target`."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_the_digest_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    """Another place, order, time and mode is the same model; what tools leave behind is no part of it."""
    one = a_folder(tmp_path / "one", {"model.onnx": "m", "sub/a.txt": "a", "sub/b.txt": "b"})
    files = {"sub/b.txt": "b", "sub/__pycache__/x.pyc": "x", ".git/HEAD": "h", ".mlscale/y": "y", "sub/a.txt": "a"}
    two = a_folder(tmp_path / "two", {**files, "model.onnx": "m"})
    (two / "model.onnx").chmod(0o777)
    os.utime(two / "sub" / "a.txt", (0, 0))

    assert artifact.digest(one) == artifact.digest(two)
    assert len(artifact.digest(one)) == 16


@pytest.mark.parametrize(
    "files",
    [
        {"a": "1", "b": "3"},
        {"a": "1", "c": "2"},
        {"a": "1"},
        {"a": "1", "b": "2", "c": ""},
        {"a": "2", "b": "1"},
        {"a": "1", "sub/b": "2"},
        {"a1b": "2"},
        {},
    ],
)
def test_another_name_or_content_is_another_model(tmp_path: Path, files: dict[str, str]) -> None:
    """A file changed, renamed, moved, added, taken away, or exchanged with another: each shows."""
    (tmp_path / "other").mkdir()
    one, other = a_folder(tmp_path / "one", {"a": "1", "b": "2"}), a_folder(tmp_path / "other", files)

    assert artifact.digest(one) != artifact.digest(other)


def test_a_single_file_counts_by_its_bytes(tmp_path: Path) -> None:
    """A model of one file is the same under another name, and is copied under its own."""
    folder = a_folder(tmp_path / "files", {"a.onnx": "m", "b.onnx": "m", "c.onnx": "n"})

    artifact.copy(folder / "a.onnx", tmp_path / "copy")

    assert artifact.digest(folder / "a.onnx") == artifact.digest(folder / "b.onnx")
    assert artifact.digest(folder / "a.onnx") != artifact.digest(folder / "c.onnx")
    assert contents(tmp_path / "copy") == {"a.onnx": "m"}


def test_a_copy_has_the_digest_of_what_was_copied(tmp_path: Path) -> None:
    """A folder is copied whole, less what tools leave behind; a link to a file is copied as the file."""
    source = a_folder(tmp_path / "source", {"model.onnx": "m", "sub/a": "a", "__pycache__/x": "x"})
    (source / "linked").symlink_to(source / "model.onnx")

    artifact.copy(source, tmp_path / "copy")

    assert contents(tmp_path / "copy") == {"model.onnx": "m", "sub/a": "a", "linked": "m"}
    assert not (tmp_path / "copy" / "linked").is_symlink()
    assert artifact.digest(tmp_path / "copy") == artifact.digest(source)


def contents(folder: Path) -> dict[str, str]:
    """Return the texts of a folder's files by name."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_an_archive_is_unpacked_where_it_is_served(tmp_path: Path) -> None:
    """Its files are there, and a link inside of it still points inside."""
    archive = an_archive(tmp_path / "m.tar.gz", a_member("sub/model.onnx"), a_member("l", tarfile.SYMTYPE, "sub"))

    artifact.copy(archive, tmp_path / "copy")

    assert contents(tmp_path / "copy") == {"sub/model.onnx": "text"}
    assert (tmp_path / "copy" / "l").resolve() == tmp_path / "copy" / "sub"


@pytest.mark.parametrize(
    "member",
    [
        a_member("../outside"),
        a_member("sub/../../outside"),
        a_member("link", tarfile.SYMTYPE, "/etc/passwd"),
        a_member("link", tarfile.SYMTYPE, "../../outside"),
        a_member("link", tarfile.LNKTYPE, "../outside"),
        a_member("device", tarfile.CHRTYPE),
    ],
    ids=lambda member: f"{member.name} {member.linkname}".strip(),
)
@pytest.mark.parametrize("act", [artifact.digest, lambda path: artifact.copy(path, path.parent / "copy")])
def test_an_archive_that_reaches_outside_is_refused(
    tmp_path: Path, act: Callable[[Path], object], member: tarfile.TarInfo
) -> None:
    """A path with ../, a link that leads out, or a device is refused, and nothing is unpacked."""
    archive = an_archive(tmp_path / "m.tar.gz", a_member("model.onnx"), member)

    with pytest.raises(UsageError) as caught:
        act(archive)

    assert caught.value.what == "an archive would write outside its folder"
    assert caught.value.why.startswith(f"{archive}: ")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["m.tar.gz"]


def test_a_path_from_the_root_is_unpacked_below_the_folder(tmp_path: Path) -> None:
    """A leading slash is taken away, as tar itself does."""
    artifact.copy(an_archive(tmp_path / "m.tar.gz", a_member("/sub/model.onnx")), tmp_path / "copy")

    assert contents(tmp_path / "copy") == {"sub/model.onnx": "text"}


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """A name that says archive on a file that is none."""
    (tmp_path / "m.tar.gz").write_text("no archive")

    with pytest.raises(UsageError) as caught:
        artifact.digest(tmp_path / "m.tar.gz")

    assert (caught.value.what, caught.value.hint) == ("an archive can't be read", "make it again")


@pytest.mark.parametrize("length", [0, 5, 60])
def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    """Half a download is an error that says so, not a traceback."""
    archive = an_archive(tmp_path / "m.tar.gz", a_member("model.onnx"), text=bytes(range(256)) * 40)
    archive.write_bytes(archive.read_bytes()[:length])

    with pytest.raises(UsageError) as caught:
        artifact.digest(archive)

    assert caught.value.what == "an archive can't be read"


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    """The error names the link, not the whole folder."""
    folder = a_folder(tmp_path / "m", {"a": "1"})
    (folder / "gone").symlink_to(tmp_path / "none")

    with pytest.raises(UsageError) as caught:
        artifact.digest(folder)

    assert caught.value.why == str(folder / "gone")


def test_a_name_that_is_not_utf8_is_digested(tmp_path: Path) -> None:
    """A file from another system counts by the bytes of its name."""
    folder = a_folder(tmp_path / "m", {"a": "1"})
    before = artifact.digest(folder)
    (folder / os.fsdecode(b"caf\xe9")).write_text("")

    assert artifact.digest(folder) != before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """What the spec names and is not there is an error with its path."""
    with pytest.raises(UsageError) as caught:
        artifact.digest(tmp_path / "none")

    assert (caught.value.what, caught.value.why) == ("a file that the spec names is missing", str(tmp_path / "none"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file without permission is an error, not a traceback."""
    folder = a_folder(tmp_path / "one", {"a": "1"})
    (folder / "a").chmod(0)

    with pytest.raises(UsageError) as caught:
        artifact.digest(folder)

    assert caught.value.what == "a file that the spec names can't be read"


def test_files_that_run_code_when_loaded_are_found(tmp_path: Path) -> None:
    """Pickles by the endings that pickles have: in a folder, alone, and inside an archive."""
    folder = a_folder(tmp_path / "m", {"sub/a.joblib": "", "b.pkl": "", "c.pt": "", "d.onnx": "", "e.json": ""})
    archive = an_archive(tmp_path / "m.tar.gz", a_member("sub/f.pickle"), a_member("g.onnx"))

    assert artifact.pickles(folder) == ("a.joblib", "b.pkl", "c.pt")
    assert artifact.pickles(folder / "b.pkl") == ("b.pkl",)
    assert artifact.pickles(folder / "d.onnx") == ()
    assert artifact.pickles(archive) == ("sub/f.pickle",)


def test_the_runtime_is_copied_whole_and_has_a_digest(tmp_path: Path) -> None:
    """What runs next to a model is a package of its own: the serving code without what only the gateway needs."""
    artifact.copy_runtime(tmp_path)

    names = {file.name for file in (tmp_path / "mlscale" / "serving").iterdir()}
    assert names == {file.name for file in artifact.runtime_files()}
    assert {"server.py", "handler.py", "__init__.py"} <= names
    assert names.isdisjoint(artifact.GATEWAY_ONLY)
    assert (tmp_path / "mlscale" / "__init__.py").is_file()
    assert artifact.runtime_digest() == artifact.runtime_digest()
