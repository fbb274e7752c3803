"""Join labels to a list of pictures by the pictures' names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agegender._shards.files import ShardFolder
from agegender.datasets import load_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Joined", "join_labels"]


@dataclass
class Joined:
    """The pictures of a list with their labels.

    ``places`` are the ascending positions in the list of pictures that have a row and, if there is a table, a
    label; ``names`` are their names, ``labels`` their rows of the table (None without a table), ``excluded``
    the names of other pictures and the reasons.
    """

    places: NDArray[np.int64]
    names: list[str]
    labels: pd.DataFrame | None
    excluded: list[tuple[str, str]]


def join_labels(folder: ShardFolder, labels: Any, options: dict[str, Any]) -> Joined:
    """Join a table of labels to the shards' names.

    Raises
    ------
    ValueError
        If the table contains a picture twice with different labels, or no name matches.
    """
    table = _Table(labels, options) if labels is not None else None
    places, names, codes, excluded = [], [], [], []
    for file in folder.files:
        listed, errors = file.names_and_errors()
        known = np.zeros(len(listed), np.int64) if table is None else table.rows_of(listed)
        kept = known >= 0
        for place in np.flatnonzero(~kept).tolist():
            excluded.append((listed[place], table.why_not(listed[place]) if table else ""))
        for place, reason in errors.items():
            if kept[place]:
                excluded.append((listed[place], f"failed: {reason}"))
                kept[place] = False
        chosen = np.flatnonzero(kept)
        places.append(file.indices[chosen])
        codes.append(known[chosen])
        names += [listed[place] for place in chosen.tolist()]
    order = np.argsort(np.concatenate(places), kind="stable")
    if table is not None:
        excluded += table.unused()
        if not len(order):
            table.explain_nothing(names, excluded)
    return Joined(
        np.concatenate(places)[order],
        [names[place] for place in order.tolist()],
        None if table is None else table.frame.iloc[np.concatenate(codes)[order]].reset_index(drop=True),
        excluded,
    )


class _Table:
    """A table of labels whose rows are found by the pictures' names."""

    def __init__(self, labels: Any, options: dict[str, Any]) -> None:
        import pandas as pd

        # Names are compared as they are in list and table, so no folder is put before them.
        root = "" if isinstance(labels, (str, os.PathLike)) else None
        loaded = load_table(labels, image_root=root, **options)
        self.frame = _without_repeats(loaded.frame)
        self._index = pd.Index(self.frame["path"])
        self._seen = np.zeros(len(self.frame), dtype=bool)
        self._left_out = dict(zip(loaded.excluded["path"], loaded.excluded["reason"], strict=True))

    def rows_of(self, names: list[str]) -> NDArray[np.int64]:
        """Return the table's row of each name, or -1 if there is none."""
        rows = np.asarray(self._index.get_indexer(names), dtype=np.int64)
        self._seen[rows[rows >= 0]] = True
        return rows

    def why_not(self, name: str) -> str:
        """Return the reason why a picture has no label."""
        return self._left_out.get(name, "no label: the table does not name it")

    def unused(self) -> list[tuple[str, str]]:
        """Return the labels of pictures that are in no shard."""
        names = self.frame["path"].to_numpy()[~self._seen].tolist()
        return [(name, "no row: no shard has it") for name in names]

    def explain_nothing(self, names: list[str], excluded: list[tuple[str, str]]) -> None:
        """Raise an error if no name matches; the message contains one name of list and table each."""
        listed = next((name for name, reason in excluded if not reason.startswith("no row")), "")
        raise ValueError(
            f"No picture has both a row and a label. The shards name {listed!r} and the like, the table "
            f"{str(self.frame['path'].iloc[0])!r}; names are compared as they stand. Write them alike in both."
        )


def _without_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop rows that repeat another row; raise an error for rows that contradict one."""
    import pandas as pd

    repeated = frame[frame.duplicated("path", keep=False)]
    if repeated.empty:
        return frame
    codes = pd.DataFrame({name: pd.factorize(repeated[name])[0] for name in ("age", "gender", "group")})
    codes["path"] = repeated["path"].to_numpy()
    differ = codes.drop_duplicates().duplicated("path")
    if differ.any():
        name = codes.drop_duplicates()["path"][differ].iloc[0]
        raise ValueError(f"The labels name {name!r} twice, with different labels; keep one of the rows.")
    return frame.drop_duplicates("path").reset_index(drop=True)
