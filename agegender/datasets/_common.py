"""What all loaders share: the fixed order, and the Bunch that they return."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from agegender._machine.threads import resolve_threads
from agegender._utils.genders import GENDERS
from agegender._utils.stores import find
from agegender._utils.urls import is_url, join, parent

if TYPE_CHECKING:
    import pandas as pd

GENDER_WORDS: dict[Any, int] = {
    **dict.fromkeys(("0", "m", "male", "man", "men", "boy"), 0),
    **dict.fromkeys(("1", "f", "female", "woman", "women", "girl"), 1),
}
CORRECTED = ("path", "age", "gender", "given_age", "given_gender", "reason")


def check_age_range(min_age: float, max_age: float, owner: str) -> None:
    """Raise a ValueError if the range of ages is empty."""
    if not 0 <= min_age <= max_age:
        raise ValueError(
            f"{owner}: min_age={min_age!r} and max_age={max_age!r}; 0 <= min_age <= max_age is needed."
        )


def age_reason(age: float, min_age: float, max_age: float) -> str | None:
    """Return why an age is excluded, or None if it is in the range (both ends included)."""
    if min_age <= age <= max_age:
        return None
    return f"age outside range: {age:g} is not in {min_age:g}…{max_age:g}"


def shuffled_order(names: Sequence[str] | NDArray[np.object_], random_state: Any) -> NDArray[np.intp]:
    """Return a shuffled order of unique names that depends only on the names and the seed.

    Names are sorted by their hash, so that adding or removing a picture does not move the others.
    """
    seed = check_random_state(random_state).randint(2**31 - 1)
    key = int(seed).to_bytes(8, "little")
    places = [
        hashlib.blake2b(n.encode(errors="surrogatepass"), digest_size=16, key=key).digest() for n in names
    ]
    return np.array(sorted(range(len(names)), key=places.__getitem__), dtype=np.intp)


def text_array(values: Iterable[str]) -> NDArray[np.object_]:
    """Return an object array of the strings, whatever their number."""
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def excluded_frame(paths: Iterable[str], reasons: Iterable[str]) -> pd.DataFrame:
    """Return the frame of excluded pictures and reasons, sorted by path."""
    import pandas as pd

    frame = pd.DataFrame({"path": text_array(paths), "reason": text_array(reasons)})
    return frame.sort_values("path", kind="stable", ignore_index=True)


def corrected_frame() -> pd.DataFrame:
    """Return the frame of corrected labels if there are none."""
    import pandas as pd

    return pd.DataFrame({name: [] for name in CORRECTED})


def as_bunch(
    frame: pd.DataFrame, excluded: pd.DataFrame, descr: str, corrected: pd.DataFrame | None = None
) -> Bunch:
    """Return the Bunch of a loader, made from its frame."""
    return Bunch(
        data=text_array(frame["path"]),
        target=frame[["age", "gender"]].to_numpy(dtype=np.float64),
        groups=frame["group"].to_numpy(dtype=np.int64),
        frame=frame,
        excluded=excluded,
        corrected=corrected_frame() if corrected is None else corrected,
        target_names=["age", "gender"],
        gender_names=list(GENDERS),
        DESCR=descr,
    )


def check_some_left(n_kept: int, excluded: pd.DataFrame, where: object, remedy: str = "") -> None:
    """If no picture was kept, raise a ValueError that lists the most frequent reasons."""
    if n_kept:
        return
    kinds = excluded["reason"].str.split(":").str[0].value_counts()
    listed = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    raise ValueError(
        f"None of the {len(excluded)} pictures of {str(where)!r} was kept: {listed}. "
        f"The first: {excluded['path'].iloc[0]}: {excluded['reason'].iloc[0]}.{remedy}"
    )


class Reasons:
    """Reasons why rows are excluded; the first reason of a row is kept."""

    def __init__(self, n_rows: int) -> None:
        self.none = np.ones(n_rows, dtype=bool)
        self.texts = np.full(n_rows, "", dtype=object)

    def add(self, mask: NDArray[np.bool_], say: Callable[[int], str]) -> None:
        rows = np.flatnonzero(mask & self.none)
        self.texts[rows] = [say(row) for row in rows.tolist()]
        self.none[rows] = False


def present(paths: NDArray[np.object_], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which files exist, by listing folders, because half a million single checks take minutes."""
    folders = sorted({parent(path) if is_url(path) else os.path.dirname(path) for path in paths[wanted]})
    with ThreadPoolExecutor(4 + resolve_threads()) as pool:
        there = {path for listed in pool.map(_files_of, folders) for path in listed}
    return np.fromiter((path in there for path in paths), dtype=bool, count=len(paths)) | ~wanted


def _files_of(folder: str) -> list[str]:
    if is_url(folder):
        try:
            return [join(folder, name) for name in find(folder) if "/" not in name]
        except FileNotFoundError:
            return []
    try:
        with os.scandir(folder) as entries:
            return [os.path.join(folder, entry.name) for entry in entries if entry.is_file()]
    except OSError:
        return []
