"""Loaders, lists and commands that are given URLs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from agegender.cli import app
from agegender.datasets import load_table, load_utkface
from agegender.shards import list_pictures


@pytest.fixture
def store(drawn_faces: Path) -> Iterator[str]:
    """The drawn faces, in fsspec's memory."""
    system = fsspec.filesystem("memory")
    for path in drawn_faces.iterdir():
        system.pipe(f"/bucket/faces/{path.name}", path.read_bytes())
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


def test_utkface_from_a_store_is_that_of_the_folder(store: str, drawn_faces: Path) -> None:
    local, stored = load_utkface(drawn_faces), load_utkface(f"{store}/faces", check="pixels")
    assert [path.removeprefix(f"{store}/faces/") for path in stored.data] == [
        Path(path).name for path in local.data
    ]
    np.testing.assert_array_equal(stored.target, local.target)
    np.testing.assert_array_equal(stored.groups, local.groups)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_a_table_from_a_store_begins_at_its_own_folder(
    store: str, drawn_faces: Path, tmp_path: Path, name: str
) -> None:
    names = [f"faces/{path.name}" for path in sorted(drawn_faces.iterdir())] + ["faces/gone.jpg"]
    frame = pd.DataFrame({"path": names, "age": 30, "gender": "female"})
    (frame.to_parquet if name.endswith("parquet") else frame.to_csv)(tmp_path / name)
    fsspec.filesystem("memory").pipe(f"/bucket/{name}", (tmp_path / name).read_bytes())
    faces = load_table(f"{store}/{name}", check_files=True)
    assert sorted(faces.data) == sorted(f"{store}/{path}" for path in names[:-1])
    assert faces.excluded["reason"].tolist() == ["missing file: not in its folder"]


def test_lists_in_a_store(store: str) -> None:
    folder, names = list_pictures(f"{store}/faces")
    listed = list(names)
    assert folder == f"{store}/faces"
    assert len(listed) == 60
    fsspec.filesystem("memory").pipe("/bucket/list.txt", "\n".join(listed).encode())
    folder, names = list_pictures(f"{store}/list.txt")
    assert (folder, list(names)) == (store, listed)


def test_a_list_with_a_signature_in_it_is_refused() -> None:
    with pytest.raises(ValueError, match="password or a query") as raised:
        list(list_pictures(["https://h/a.jpg?X-Amz-Signature=5ecre7"])[1])
    assert "5ecre7" not in str(raised.value)


def test_commands_take_urls(store: str, drawn_faces: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in sorted(drawn_faces.iterdir())[:3]:
            archive.write(path, path.name)
    arguments = [f"zip://::{tmp_path / 'faces.zip'}", "--faces", "none", "--json", "--quiet"]
    result = CliRunner().invoke(app, ["predict", *arguments])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["picture"].partition("::")[0] for row in found] == [
        f"zip://{path.name}" for path in sorted(drawn_faces.iterdir())[:3]
    ]
    out = tmp_path / "rows.npz"
    result = CliRunner().invoke(
        app, ["embed", f"{store}/faces", "--backbone", "compact", "--out", str(out), "--cache", "none", "-q"]
    )
    assert result.exit_code == 0, result.output
    with np.load(out) as saved:
        assert len(saved["paths"]) == 60
        assert saved["paths"][0].startswith(f"{store}/faces/")
