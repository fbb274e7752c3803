"""Tables whose pictures lie beside their labels: Hugging Face data sets, WebDataset tars, Parquet files of bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agegender._utils.stored import StoredPictures, dataset_pictures
from agegender._utils.stores import open_place
from agegender._utils.urls import is_url, public, suffix_of
from agegender._utils.validation import did_you_mean, optional_import
from agegender.datasets._common import text_array
from agegender.datasets._containers import ParquetPictures, TarPictures, byte_column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["stored_table"]


def stored_table(table: Any, path: str) -> tuple[pd.DataFrame, str] | None:
    """Return a frame with the places of pictures in the column `path`, and a name for messages; else None.

    Labels are read, pictures are not.
    """
    if type(table).__module__.partition(".")[0] == "datasets":
        return _of_dataset(table, path), "the data set"
    if isinstance(table, (list, tuple)) and table and all(_suffix(part) == ".tar" for part in table):
        return _of_tars([_place(part) for part in table], path), f"{len(table)} tars"
    if not isinstance(table, (str, os.PathLike)):
        return None
    place = _place(table)
    if _suffix(table) == ".tar":
        return _of_tars([place], path), public(place)
    if _suffix(table) in (".parquet", ".pq") and (is_url(place) or Path(place).is_file()):
        found = _of_parquet(place, path)
        return None if found is None else (found, public(place))
    return None


def _place(part: Any) -> str:
    return part if is_url(part) else str(Path(part).expanduser())


def _suffix(part: Any) -> str:
    return suffix_of(part) if isinstance(part, (str, os.PathLike)) else ""


def _with_pictures(frame: pd.DataFrame, path: str, pictures: StoredPictures) -> pd.DataFrame:
    return frame.assign(**{path: text_array(pictures)})  # type: ignore[arg-type]


def _of_dataset(data: Any, path: str) -> pd.DataFrame:
    if not hasattr(data, "column_names") or not hasattr(data, "__len__") or isinstance(data, dict):
        raise TypeError(
            f"load_table: table is a {type(data).__name__}; pass one split of a data set that is not streamed: "
            "load_dataset(name, split='train')."
        )
    if path not in data.column_names:
        raise ValueError(
            f"load_table: there is no column {path!r} among {data.column_names}."
            f"{did_you_mean(path, data.column_names)} path='image' names the column of pictures."
        )
    if type(data.features[path]).__name__ != "Image" and "binary" not in str(data.features[path]):
        return data.to_pandas()  # paths
    labels = [
        name
        for name, feature in data.features.items()
        if name != path and type(feature).__name__ not in ("Image", "Audio", "Video")
    ]
    frame = data.select_columns(labels).with_format(None).to_pandas()
    for name in labels:
        names = getattr(data.features[name], "names", None)
        if names is not None:  # numbers that stand for words
            frame[name] = [names[code] if 0 <= code < len(names) else None for code in frame[name]]
    pictures = dataset_pictures(data, path)
    assert pictures is not None
    return _with_pictures(frame, path, pictures)


def _of_tars(places: list[str], path: str) -> pd.DataFrame:
    tars = TarPictures(places)
    return _with_pictures(tars.labels(), path, StoredPictures(tars))


def _of_parquet(place: str, path: str) -> pd.DataFrame | None:
    """Return a Parquet file's frame where its column of pictures holds bytes; None where it holds paths."""
    optional_import("pyarrow", "parquet")
    parquet = optional_import("pyarrow.parquet", "parquet")
    with open_place(place) as opened, parquet.ParquetFile(opened) as file:
        schema = file.schema_arrow
        try:
            column = byte_column(schema, path, place)
        except ValueError:
            return None
        frame = file.read(columns=[name for name in schema.names if name != column]).to_pandas()
    return _with_pictures(frame, path, StoredPictures(ParquetPictures(place, column)))
