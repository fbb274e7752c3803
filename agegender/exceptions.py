"""Errors and warnings of their own kind, so that a caller can catch exactly what it can mend."""

from __future__ import annotations

__all__ = [
    "AgeGenderError",
    "CacheError",
    "CacheWarning",
    "EnvironmentWarning",
    "FramingWarning",
    "LeakageWarning",
    "ModelFileError",
    "ModelVersionWarning",
    "NoFaceError",
    "PictureError",
    "PictureWarning",
    "WeightsError",
    "WeightsNotFoundError",
    "WeightsWarning",
]


class AgeGenderError(Exception):
    """Base class of every error that is agegender's own."""


class PictureError(AgeGenderError, ValueError):
    """A picture cannot be read.

    Parameters
    ----------
    picture : str
        The picture as a person would name it: its path, or a short description.
    reason : str
        What is wrong with it and, where there is one, the remedy.
    """

    def __init__(self, picture: str, reason: str) -> None:
        super().__init__(picture, reason)
        self.picture = picture
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.picture}: {self.reason}"


class NoFaceError(PictureError):
    """No face is found in a picture that can be read."""


class WeightsError(AgeGenderError):
    """A weights file is there but is not what it should be."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """A network's weights are neither on this machine nor to be had."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CacheError(AgeGenderError):
    """The embedding cache cannot be read or written."""


class ModelFileError(AgeGenderError):
    """A model cannot be saved or loaded; nothing of it was run."""


class CacheWarning(UserWarning):
    """The cache does not work as it should; results are right all the same."""


class ModelVersionWarning(UserWarning):
    """A pickled model was made with other versions; it may fail, or predict other numbers."""


class PictureWarning(UserWarning):
    """Pictures could not be read and were left out."""


class EnvironmentWarning(UserWarning):
    """The installation is not as the library needs it; the message has the commands that mend it."""


class LeakageWarning(UserWarning):
    """Pictures that a model was trained on are among those that it is judged by, or trained on again."""


class FramingWarning(UserWarning):
    """It is not known how the face crops that a model was trained on are framed; its ages may be off."""


class WeightsWarning(UserWarning):
    """A weights file is no longer what it was when it was first used."""
