"""Drawn faces: labelled pictures for demonstrations and tests."""

from __future__ import annotations

import io
import numbers
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from sklearn.utils import Bunch, check_random_state

from agegender._utils.progress import progress_bar
from agegender.datasets._common import as_bunch, excluded_frame

if TYPE_CHECKING:
    import pandas as pd

OLDEST = 90
SMALLEST, LARGEST = 32, 1024
QUALITY = 92
COMMENT = b"A drawing made by agegender.datasets.make_faces; it shows no real person."
GOLDEN = (5**0.5 - 1) / 2

_DESCR = """\
{n} drawn portraits, ages {low} to {high} years, half of them men, half women. They do not show real people.

Made by `agegender.datasets.make_faces` for demonstrations and tests. The features of a portrait (proportions,
wrinkles, skin, hair, beard, clothes) depend on an age and a gender, with random variation, so that a head can learn
both, but not perfectly. Scores on these pictures say nothing about photographs of people.

Age in years, gender 0 male, 1 female, race always "other". Each picture is its own group."""


@dataclass(frozen=True)
class _Plan:
    """The parameters of a drawing."""

    age: int
    gender: int
    taken: datetime
    seed: tuple[int, int]

    @property
    def name(self) -> str:
        moment = self.taken.strftime("%Y%m%d%H%M%S") + f"{self.taken.microsecond // 1000:03d}"
        return f"{self.age}_{self.gender}_4_{moment}.jpg"


def make_faces(
    n: int,
    directory: str | os.PathLike[str],
    *,
    random_state: int | np.random.RandomState | None = 0,
    size: int = 200,
    verbose: int = 0,
) -> Bunch:
    """Draw portraits of labelled age and gender, for demonstrations and tests.

    They are drawings, not photographs, and do not show real people. Their features depend on age and gender
    (proportions of children, grey and receding hair, wrinkles, uneven skin, beards, brows, jaws, clothes), with
    random variation between persons, so that a head can learn both, but not perfectly. Skin tone, light, pose,
    background and glasses vary too. The files are named as in UTKFace, so that `load_utkface` reads the folder
    too.

    Parameters
    ----------
    n : int
        Number of faces. With a larger `n`, the first faces stay the same.
    directory : path
        The folder for the JPEG files; it is created if it does not exist. Other files in it are not changed.
    random_state : int, RandomState instance or None, default=0
        Seed of the drawings. With the same seed, size and versions of OpenCV and Pillow, the files are
        identical.
    size : int, default=200
        The side of the square pictures in pixels, 32 to 1024.
    verbose : int, default=0
        If 1, show a progress bar.

    Returns
    -------
    faces : :class:`~sklearn.utils.Bunch`
        The `n` faces of this call, in the format of `load_utkface`, in the order in which they were drawn:

        data : ndarray of shape (n,), dtype object
            Paths of the files.
        target : ndarray of shape (n, 2)
            Age in years, uniformly distributed from 0 to 90, and gender (0 male, 1 female), half of each.
        groups : ndarray of shape (n,), int
            Each picture is its own group.
        frame : DataFrame
            ``path``, ``age``, ``gender``, ``race`` (always "other"), ``datetime`` (made up), ``group``.
        excluded : DataFrame
            Empty.
        target_names, gender_names : list of str
            Names of the columns of ``target`` and of its genders.
        DESCR : str
            Description of the pictures.

    Raises
    ------
    ValueError
        If `n` is below 1 or `size` out of range.
    NotADirectoryError
        If `directory` is a file.

    See Also
    --------
    agegender.datasets.load_utkface : Load UTKFace.

    Examples
    --------
    >>> from agegender.datasets import make_faces
    >>> faces = make_faces(600, "faces/")  # doctest: +SKIP
    >>> faces.target[:2]  # doctest: +SKIP
    array([[14.,  0.],
           [70.,  1.]])
    """
    _check_whole("n", n, 1, None)
    _check_whole("size", size, SMALLEST, LARGEST)
    root = Path(directory).expanduser()
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(
            f"make_faces: {str(root)!r} is a file; pass a folder to write the faces into."
        )
    root.mkdir(parents=True, exist_ok=True)
    plans = list(_plans(n, int(check_random_state(random_state).randint(2**31 - 1))))
    with progress_bar(n, "drawing", verbose) as bar:
        for plan in plans:
            _write(plan, root, size)
            bar.update()
    return _bunch(root, plans)


def _check_whole(name: str, value: object, low: int, high: int | None) -> None:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        wanted = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise ValueError(f"make_faces: {name}={value!r} is not an integer {wanted}.")


def _plans(n: int, seed: int) -> Iterator[_Plan]:
    """Yield uniformly distributed ages, by multiples of the golden ratio, and alternating genders."""
    rng = np.random.default_rng(seed)
    offset = rng.random()
    day = datetime(2000, 1, 1) + timedelta(days=int(rng.integers(8000)))
    first = np.random.default_rng([seed, 1]).integers(0, 2, n // 2 + 1)
    for index in range(n):
        age = int((offset + index * GOLDEN) % 1 * (OLDEST + 1))
        gender = int(first[index // 2] + index) % 2
        yield _Plan(age, gender, day + timedelta(milliseconds=index), (seed, index + 2))


def _write(plan: _Plan, root: Path, size: int) -> None:
    from agegender.datasets._portrait import draw_portrait

    pixels = draw_portrait(plan.age, plan.gender, size, np.random.default_rng(plan.seed))
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=QUALITY, comment=COMMENT)
    unfinished = root / f".{plan.name}.{os.getpid()}.part"
    try:
        unfinished.write_bytes(encoded.getvalue())
        os.replace(unfinished, root / plan.name)
    finally:
        unfinished.unlink(missing_ok=True)


def _bunch(root: Path, plans: list[_Plan]) -> Bunch:
    frame = _frame(root, plans)
    low, high = frame["age"].min(), frame["age"].max()
    return as_bunch(frame, excluded_frame([], []), _DESCR.format(n=len(frame), low=low, high=high))


def _frame(root: Path, plans: list[_Plan]) -> pd.DataFrame:
    import pandas as pd

    rows = [(str(root / plan.name), plan.age, plan.gender, "other", plan.taken) for plan in plans]
    frame = pd.DataFrame(rows, columns=["path", "age", "gender", "race", "datetime"])
    frame["datetime"] = frame["datetime"].astype("datetime64[ms]")
    frame["group"] = np.arange(len(frame))
    return frame
