"""One picture that is being processed: decoded as large as each face requires, with its faces found once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agegender import images
from agegender._extraction.framing import Framing, scaled
from agegender.faces import Face, no_face

__all__ = ["OpenedPicture"]


# A detector scales a picture down to its input size. Decoding to exactly that size would move landmarks more,
# so the picture is decoded to twice that size.
_SEARCHED = 2


class OpenedPicture:
    """A picture's pixels at one or more sizes, and its faces.

    Without drafting, pictures are decoded only at full size. With drafting, the size at which a face is
    decoded depends only on the picture, the face and the network's input. The numbers of a face are therefore
    the same, whatever else is requested in the call.

    Parameters
    ----------
    framing : Framing
    content : bytes or ndarray
    digest : bytes
        The hash of the content.
    """

    def __init__(self, framing: Framing, content: images.Content, digest: bytes) -> None:
        self.framing = framing
        self.content = content
        self.digest = digest
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._faces: list[Face] | None = None

    def pixels(self, shrink: int) -> NDArray[np.uint8]:
        """Return the picture, decoded at a fraction of its size.

        Raises
        ------
        PictureError
            If it cannot be decoded.
        """
        if shrink not in self._pixels:
            self._pixels[shrink] = images.decode(self.content, shrink=shrink)
        return self._pixels[shrink]

    def faces(self) -> list[Face]:
        """Return all faces, the largest first, in pixels at full size; no faces if there is no finder."""
        finder = self.framing.finder
        if finder is None:
            return []
        if self._faces is None:
            shrink = self._searched()
            known = finder.known(self.digest)
            self._faces = finder(self.pixels(shrink), self.digest, shrink) if known is None else known
        return self._faces

    def check_faces(self) -> None:
        """Raise a NoFaceError if faces are searched and none is found."""
        if self.framing.finder is not None and not self.faces():
            raise no_face(self.pixels(self._searched()), self.framing.finder.detector)

    def faces_at(self, shrink: int) -> list[Face] | None:
        """Return the faces in pixels of the picture shrunk by a factor; None if there is no finder."""
        if self.framing.finder is None:
            return None
        return [scaled(face, 1 / shrink) for face in self.faces()]

    def shrink(self, face: int, input_size: tuple[int, int]) -> int:
        """Return the factor by which the picture may be shrunk for one face and one network."""
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
        """Return the factor of shrinking for detection: to twice the detector's input, or larger."""
        finder = self.framing.finder
        if self.framing.draft is None or finder is None:
            return 1
        return images.shrink_factor(self.content, _SEARCHED * finder.detector.max_side, longer=True)
