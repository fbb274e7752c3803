"""A network file identified by its sha256, and the places in which it is searched for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agegender._networks.downloads import download
from agegender._networks.location import offline
from agegender._networks.published import PUBLISHED
from agegender._networks.shipped import SHIPPED
from agegender._utils.digests import sha256_of
from agegender._utils.files import write_whole
from agegender._utils.validation import home
from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["NetworkFile"]


@dataclass(frozen=True)
class NetworkFile:
    """A file that is identified by its content, whatever its path is.

    Attributes
    ----------
    name : str
        The network's name.
    path : pathlib.Path or None
        Where the file was when it was first read.
    sha256, size, suffix : str, int, str
        Digest, size in bytes and suffix of the file.
    """

    name: str
    path: Path | None
    sha256: str
    size: int
    suffix: str

    def find(self, content: bytes | None = None) -> Path:
        """Return the present path of the file; if it is not found, `content` is written.

        Raises
        ------
        WeightsNotFoundError
            If there is neither file nor content, and the file is not a published one.
        """
        if (path := self.here()) is not None:
            return path
        if content is not None:
            return write_whole(self.kept, lambda arriving: arriving.write_bytes(content))
        if (downloaded := self._download()) is not None:
            return downloaded
        raise WeightsNotFoundError(self._where_to_put_it())

    def here(self) -> Path | None:
        """Return the path of the file on this machine, or None if it is not found."""
        for path in (self.path, self.shipped_path, self.kept, self.published_path):
            if path is not None and path.is_file() and sha256_of(path) == self.sha256:
                return path
        return None

    @property
    def kept(self) -> Path:
        """The path at which a network that came with a model is stored, or at which users may put it."""
        return home() / "networks" / f"{self.sha256}{self.suffix}"

    @property
    def shipped_path(self) -> Path | None:
        """Its path in this installation, if it is one of the networks in the package."""
        return SHIPPED[self.name].path if self.name in SHIPPED else None

    @property
    def published_path(self) -> Path | None:
        """The path at which its project stores this file, if it is a published one."""
        published = PUBLISHED.get(self.name)
        if published is None or self.path is None or self.suffix not in published.files:
            return None
        path = published.path(self.suffix)
        return path if path.name == self.path.name else None

    def _download(self) -> Path | None:
        """Download the file, if it is a published one and may have this content."""
        path = self.published_path
        if path is None or path.is_file() or offline():
            return None
        published = PUBLISHED[self.name]
        if published.known.get(self.suffix, (self.sha256, 0))[0] != self.sha256:
            return None
        try:
            path = download(published, self.suffix)
        except (OSError, ValueError, WeightsError):
            return None
        return path if sha256_of(path) == self.sha256 else None

    def _where_to_put_it(self) -> str:
        was = f"It was read from {self.path}" if self.path else "It came with a model"
        if self.path and self.path.is_file():
            was += ", where another file lies now"
        places = f"{self.kept} or at {self.path}" if self.path else str(self.kept)
        return (
            f"The network {self.name!r} is not on this machine: "
            f"{self.path.name if self.path else self.name + self.suffix}, {self.size:,} bytes, "
            f"sha256 {self.sha256}. {was}.{self._published_at()} Put a copy at {places}, and try again."
        )

    def _published_at(self) -> str:
        if self.published_path is None:
            return ""
        published = PUBLISHED[self.name]
        return f" A file of this name is published at {' and '.join(published.urls(self.suffix))}."
