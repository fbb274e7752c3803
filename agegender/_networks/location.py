"""Folders of network files, and environment variables for downloads."""

from __future__ import annotations

import os
from pathlib import Path

from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = [
    "existing_file",
    "insightface_folder",
    "mirrored",
    "offline",
    "uniface_folder",
    "weights_folder",
]


def weights_folder() -> Path:
    """Return the folder where deepface keeps weights."""
    from deepface.commons import folder_utils

    return Path(folder_utils.get_deepface_home()) / ".deepface" / "weights"


def insightface_folder() -> Path:
    """Return the folder of InsightFace's packs, in ``INSIGHTFACE_HOME`` or in the user's home."""
    chosen = os.environ.get("INSIGHTFACE_HOME", "").strip()
    return (Path(chosen) if chosen else Path("~/.insightface")).expanduser() / "models"


def uniface_folder() -> Path:
    """Return the folder of UniFace's weights: ``UNIFACE_CACHE_DIR``, or the one in the user's home."""
    chosen = os.environ.get("UNIFACE_CACHE_DIR", "").strip()
    return Path(chosen or "~/.uniface/models").expanduser()


def mirrored(addresses: tuple[str, ...], file_name: str) -> list[str]:
    """Return addresses; if ``AGEGENDER_MIRROR`` is set, only the file of the same name in that folder."""
    mirror = os.environ.get("AGEGENDER_MIRROR", "").strip()
    return [f"{mirror.rstrip('/')}/{file_name}"] if mirror else list(addresses)


def offline() -> bool:
    """Return whether ``AGEGENDER_OFFLINE`` forbids downloads."""
    return os.environ.get("AGEGENDER_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path, or raise an error that says what is missing."""
    file = Path(path).expanduser().absolute()
    if file.is_dir():
        raise WeightsError(f"{file} is a folder; a network is one file.")
    if not file.is_file():
        raise WeightsNotFoundError(f"There is no file {file}.")
    return file
