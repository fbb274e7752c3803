"""Checkpoints: the state of a training after its last epoch, in a file that is complete or not there.

A folder holds one file per training. Its name is made from everything that decides the training, so that the folds of
a cross-validation, the members of an ensemble and the candidates of a search each have a file of their own.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from agegender._fitting.identity import Identity, differences, key_of
from agegender._fitting.locks import is_locked, locked
from agegender._utils.callers import is_cross_validated
from agegender._utils.files import check_writable, write_whole
from agegender.exceptions import CheckpointError, TrainingWarning

__all__ = ["Checkpoint", "Progress", "open_checkpoint"]

SUFFIX = ".checkpoint"
FORMAT = 1

Arrays = dict[str, list[NDArray[Any]]]


@dataclass
class Progress:
    """How far a training has come.

    Attributes
    ----------
    at_split : dict
        State of the random generator before the split of the current round.
    round : int
        The current round, from 1.
    rng : dict or None
        State of the random generator after the last epoch of this round; None before the first one.
    errors : list of float
        The validation errors of this round.
    records : list of dict
        The records of all epochs.
    finished : bool
        Whether all rounds are over.
    """

    at_split: Mapping[str, Any]
    round: int = 1
    rng: Mapping[str, Any] | None = None
    errors: list[float] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False


class Checkpoint:
    """The file of one training.

    Parameters
    ----------
    path : pathlib.Path
    identity : dict
        What decides the training.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path = path
        self.identity = identity

    def read(self) -> tuple[Progress, Arrays] | None:
        """Return how far the training has come and its arrays, or None if it has not begun.

        Raises
        ------
        CheckpointError
            If the file is damaged or from a later version.
        """
        if not self.path.is_file():
            return None
        about, arrays = _read(self.path)
        return Progress(**about["progress"]), arrays

    def write(self, progress: Progress, arrays: Arrays) -> None:
        """Replace the file; if that fails, warn and go on, because the training itself is not affected."""
        about = {"format": FORMAT, "identity": self.identity, "progress": asdict(progress)}
        named = {f"{name}.{i:05}": array for name, group in arrays.items() for i, array in enumerate(group)}

        def write(arriving: Path) -> None:
            with arriving.open("wb") as file:
                np.savez(file, allow_pickle=False, about=_as_array(about), **named)

        try:
            write_whole(self.path, write)
        except OSError as error:
            warnings.warn(
                f"The checkpoint {self.path} could not be written ({error.strerror or error}). The training goes on, "
                "but if it is interrupted, it will continue from the last epoch that was written.",
                TrainingWarning,
                stacklevel=2,
            )


@contextmanager
def open_checkpoint(folder: Path, identity: Identity) -> Iterator[Checkpoint]:
    """Lock the checkpoint of a training for as long as it lasts.

    Parameters
    ----------
    folder : pathlib.Path
        It is created if it does not exist.
    identity : dict
        What decides the training, see `agegender._fitting.identity`.

    Raises
    ------
    CheckpointError
        If another process is training the same; or if the folder has no checkpoint of this training, but one of
        another training that was interrupted. In a cross-validation or search, trainings differ on purpose.
    """
    path = folder / f"{key_of(identity)}{SUFFIX}"
    check_writable(path)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")) as owner:
        if owner is not None:
            raise CheckpointError(
                f"{path} is in use: {owner} is training the same head on the same rows. Wait until it has finished, "
                "or use another folder as checkpoint."
            )
        if not path.exists() and not is_cross_validated():
            _refuse_another(folder, path, identity)
        _tidy(path)
        yield Checkpoint(path, identity)


def _refuse_another(folder: Path, path: Path, identity: Identity) -> None:
    """Raise an error if a training that differs was interrupted in this folder."""
    for other in sorted(folder.glob(f"*{SUFFIX}")):
        if is_locked(other.with_suffix(".lock")):
            continue
        about, _ = _read(other, arrays=False)
        if about["progress"]["finished"]:
            continue
        found = "; ".join(differences(identity, about["identity"]))
        raise CheckpointError(
            f"{folder} has the checkpoint of another training, which was interrupted after "
            f"{len(about['progress']['records'])} epochs: {found}. To continue it, fit with its data, parameters and "
            f"versions. To begin a new training, use another folder as checkpoint, or delete {other.name}."
        )


def _tidy(path: Path) -> None:
    """Delete what a killed process left of a file that it was writing."""
    for partial in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            partial.unlink()


def _read(path: Path, *, arrays: bool = True) -> tuple[dict[str, Any], Arrays]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            groups: Arrays = {}
            for name in sorted(stored.files) if arrays and about["format"] == FORMAT else ():
                if name != "about":
                    groups.setdefault(name.rpartition(".")[0], []).append(stored[name])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}). Delete it to begin anew."
        ) from error
    if about["format"] != FORMAT:
        raise CheckpointError(
            f"{path} was written by another version of agegender, in format {about['format']}; this version reads "
            f"format {FORMAT}. Continue with that version, or delete the file to begin anew."
        )
    return about, groups


def _as_array(about: dict[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(about).encode(), np.uint8)
