"""Errors and warnings."""

from __future__ import annotations

__all__ = [
    "AgeGenderError",
    "CacheError",
    "CacheWarning",
    "CheckpointError",
    "CorrectionsWarning",
    "EnvironmentWarning",
    "FramingWarning",
    "LeakageWarning",
    "ModelFileError",
    "ModelVersionWarning",
    "NoFaceError",
    "NormalizationWarning",
    "PictureError",
    "PictureWarning",
    "TrainingWarning",
    "WeightsError",
    "WeightsNotFoundError",
    "WeightsWarning",
]


class AgeGenderError(Exception):
    """Base class of agegender's errors."""


class PictureError(AgeGenderError, ValueError):
    """A picture cannot be read.

    Parameters
    ----------
    picture : str
        Its path, or a short description.
    reason : str
        The problem and, if there is one, the remedy.
    """

    def __init__(self, picture: str, reason: str) -> None:
        super().__init__(picture, reason)
        self.picture = picture
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.picture}: {self.reason}"


class NoFaceError(PictureError):
    """No face was found in a picture."""


class WeightsError(AgeGenderError):
    """A weights file exists but has the wrong content."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """The weights of a network were not found and could not be downloaded."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CacheError(AgeGenderError):
    """The embedding cache cannot be read or written."""


class CheckpointError(AgeGenderError, ValueError):
    """A training cannot go on from a checkpoint: it is damaged, in use, or that of another training."""


class ModelFileError(AgeGenderError):
    """A model cannot be saved or loaded; no code of it was run."""


class CacheWarning(UserWarning):
    """The cache does not work as it should; the results are still correct."""


class CorrectionsWarning(UserWarning):
    """Corrections of labels are for pictures that are not there, and have no effect."""


class ModelVersionWarning(UserWarning):
    """A pickled model was made with other versions; it may fail or give other predictions."""


class PictureWarning(UserWarning):
    """Pictures could not be read and were skipped."""


class TrainingWarning(UserWarning):
    """A head is trained or tested otherwise than its parameters or its labels suggest."""


class EnvironmentWarning(UserWarning):
    """The installation has a problem; the message contains the commands that fix it."""


class LeakageWarning(UserWarning):
    """Pictures that a model was trained on are among those that it is judged by, or trained on again."""


class FramingWarning(UserWarning):
    """The framing of a model's training crops is unknown; predicted ages may be wrong."""


class NormalizationWarning(UserWarning):
    """A network is fed pixels in another range than its own first operations take."""


class WeightsWarning(UserWarning):
    """A weights file has changed since its first use."""
