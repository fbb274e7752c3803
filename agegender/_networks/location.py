"""Where network files lie, and whether they may be downloaded: folders and environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["existing_file", "mirrored", "offline", "weights_folder"]


def weights_folder() -> Path:
    """Return the folder where deepface keeps weights."""
    from deepface.commons import folder_utils

    return Path(folder_utils.get_deepface_home()) / ".deepface" / "weights"


def mirrored(sources: tuple[str, ...]) -> tuple[str, ...]:
    """Return what ``AGEGENDER_MIRROR`` names, a folder with files of the same names, in place of all addresses."""
    mirror = os.environ.get("AGEGENDER_MIRROR", "").strip()
    return (f"{mirror.rstrip('/')}/",) if mirror else sources


def offline() -> bool:
    """Tell whether ``AGEGENDER_OFFLINE`` forbids downloads."""
    return os.environ.get("AGEGENDER_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path, or raise an error that says what is missing."""
    file = Path(path).expanduser().absolute()
    if file.is_dir():
        raise WeightsError(f"{file} is a folder; a network is one file.")
    if not file.is_file():
        raise WeightsNotFoundError(f"There is no file {file}.")
    return file
