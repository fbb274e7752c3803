"""One picture being looked at: decoded as large as each face in it needs, its faces found once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import Framing, scaled
from agegender.faces import Face, no_face

__all__ = ["OpenedPicture"]


# A detector scales a picture down to its own size. From one of that size exactly, landmarks would move more.
_SEARCHED = 2


class OpenedPicture:
    """A picture's pixels at one or more sizes, and its faces.

    Without drafting there is one size, the whole. With it, how large a face is decoded depends on the picture, the
    face and the network's input, and on nothing else: a face's numbers are the same whoever asks for what beside it.

    Parameters
    ----------
    framing : Framing
    content : bytes or ndarray
    digest : bytes
        The identity of the content.
    """

    def __init__(self, framing: Framing, content: images.Content, digest: bytes) -> None:
        self.framing = framing
        self.content = content
        self.digest = digest
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._faces: list[Face] | None = None

    def pixels(self, shrink: int) -> NDArray[np.uint8]:
        """Return the picture, decoded at a fraction of its sides.

        Raises
        ------
        PictureError
            If it cannot be decoded.
        """
        if shrink not in self._pixels:
            self._pixels[shrink] = images.decode(self.content, shrink=shrink)
        return self._pixels[shrink]

    def faces(self) -> list[Face]:
        """Return every face, the largest first, in pixels of the whole picture; none if nothing looks for faces."""
        finder = self.framing.finder
        if finder is None:
            return []
        if self._faces is None:
            shrink = self._searched()
            known = finder.known(self.digest)
            self._faces = finder(self.pixels(shrink), self.digest, shrink) if known is None else known
        return self._faces

    def check_faces(self) -> None:
        """Raise a NoFaceError if faces are looked for and none is found."""
        if self.framing.finder is not None and not self.faces():
            raise no_face(self.pixels(self._searched()), self.framing.finder.detector)

    def faces_at(self, shrink: int) -> list[Face] | None:
        """Return the faces in pixels of the picture decoded at a fraction; None if nothing looks for faces."""
        if self.framing.finder is None:
            return None
        return [scaled(face, 1 / shrink) for face in self.faces()]

    def shrink(self, face: int, input_size: tuple[int, int]) -> int:
        """Return how far the picture may be shrunk for one face and one network."""
        draft = self.framing.draft
        if draft is None:
            return 1
        if self.framing.finder is None:
            return images.shrink_factor(self.content, draft * max(self.framing.size(input_size)))
        shrink = self._searched()
        while shrink > 1 and self.framing.oversampling(self.faces()[face], input_size) / shrink < draft:
            shrink //= 2
        return shrink

    def _searched(self) -> int:
        """Return how far the picture is shrunk to be searched: to twice what the detector takes, or more."""
        finder = self.framing.finder
        if self.framing.draft is None or finder is None:
            return 1
        return images.shrink_factor(self.content, _SEARCHED * finder.detector.max_side, longer=True)
