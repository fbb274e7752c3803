"""Files that are whole or not there, whatever lies under their name."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from agegender._utils.files import check_writable, write_whole


def write(text: str):
    return lambda arriving: arriving.write_text(text)


def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "model", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    assert write_whole(link, write("new")) == link
    assert link.is_symlink()
    assert real.read_text() == "new"
    real.unlink()
    write_whole(link, write("again"))
    assert link.is_symlink()
    assert real.read_text() == "again"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["model"]


def test_a_pipe_stays_a_pipe_and_gets_the_content(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    check_writable(pipe)
    write_whole(pipe, write("people\n"))
    reader.join(10)
    assert got == [b"people\n"]
    assert pipe.is_fifo()


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    link = tmp_path / "nowhere"
    link.symlink_to(os.devnull)
    write_whole(link, write("people"))
    assert Path(os.devnull).is_char_device()
    assert link.is_char_device()


def test_what_cannot_be_written_is_found_out_beforehand(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("old")
    check_writable(kept)
    check_writable(tmp_path / "new" / "model")
    assert kept.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    for path, message in (
        (tmp_path, "is a folder; name the file"),
        (kept / "model", "cannot be written: .*kept"),
        (Path("/proc/nowhere/model"), "cannot be written"),
    ):
        with pytest.raises(OSError, match=message):
            check_writable(path)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_whole(tmp_path, write("new"))
