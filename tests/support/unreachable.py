"""A disk that a worker does not see, in a module that worker processes can import."""

from __future__ import annotations

from typing import Any

from agegender.exceptions import PictureError


def no_files() -> None:
    """Make a worker see no pictures, as on a machine without the driver's disk."""
    from agegender import images

    read = images.read

    def read_no_files(picture: Any) -> Any:
        if isinstance(picture, str):
            raise PictureError(picture, "does not exist")
        return read(picture)

    images.read, images.kept = read_no_files, read


def files_again() -> None:
    from agegender import images

    images.read = images.kept
