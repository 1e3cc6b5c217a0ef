"""What of a model's files is refused, because it would be left out or change unseen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlscale.errors import UsageError
from mlscale.providers import artifact


@pytest.mark.parametrize(
    "line",
    [
        "-r base.txt", "-rbase.txt", "--requirement=base.txt", "-c limits.txt", "--constraint limits.txt", "-e .",
        "--editable ../mine", "./wheels/one.whl", "../one", "/srv/one.whl", "wheels/one-1.0-py3-none-any.whl",
        "file:///srv/one.whl", "mine @ file:///srv/mine.whl", "--find-links wheels", "-f ./wheels", "one.tar.gz",
    ],
)  # fmt: skip
def test_a_line_that_names_a_file_is_found(tmp_path: Path, line: str) -> None:
    """Whatever stands for something on this machine is returned as it is written."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"# -r comment.txt\nnumpy>=1\n  {line}\n")

    assert artifact.other_files(requirements) == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "numpy", "scikit-learn==1.9.1", "uvicorn[standard]>=0.30 ; python_version < '3.13'", "--index-url https://a/simple",
        "--extra-index-url http://localhost:8080/simple", "--find-links https://a/wheels", "--no-binary :all:",
        "mine @ https://a/mine-1.0.zip", "mine @ git+https://a/mine.git@v1", "numpy==2.0 --hash=sha256:ab",
        "--pre", "requests # see ./notes.txt", "numpy==2.0 \\\n    --hash=sha256:ab",
    ],
)  # fmt: skip
def test_a_line_that_an_index_answers_is_fine(tmp_path: Path, line: str) -> None:
    """Packages by name or URL, and options about indexes, are no files of this machine."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{line}\n")

    assert artifact.other_files(requirements) == ()


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    """A linked folder would be left out of digest and copy alike, so it is an error that names it."""
    (tmp_path / "elsewhere").mkdir()
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UsageError) as caught:
        artifact.digest(model)

    assert (caught.value.what, caught.value.why) == ("a folder of the model is a link", str(model / "weights"))


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """A named pipe, which has no end, is an error and not a wait."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UsageError, match="is no file"):
        artifact.digest(tmp_path)


def test_a_link_to_a_file_counts_as_the_file(tmp_path: Path) -> None:
    """A linked file is the file: the digest is that of a copy."""
    (tmp_path / "linked").mkdir()
    (tmp_path / "copied").mkdir()
    (tmp_path / "weights").write_bytes(b"1")
    (tmp_path / "linked" / "weights").symlink_to(tmp_path / "weights")
    (tmp_path / "copied" / "weights").write_bytes(b"1")

    assert artifact.digest(tmp_path / "linked") == artifact.digest(tmp_path / "copied")


def test_a_broken_link_is_a_missing_file(tmp_path: Path) -> None:
    """A link to nothing is told like a file that is not there."""
    (tmp_path / "weights").symlink_to(tmp_path / "nothing")

    with pytest.raises(UsageError, match="a file that the spec names is missing"):
        artifact.digest(tmp_path)
