"""Pictures in a container (a data set's column, an archive, a table) that are read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Protocol

import numpy as np

__all__ = [
    "Container",
    "StoredPicture",
    "StoredPictures",
    "dataset_pictures",
    "part_of",
    "unwrapped",
    "wrapped",
]


class Container(Protocol):
    """An object that returns pictures by number."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        ...

    def picture(self, index: int) -> Any:
        """Return a picture: bytes, a path, an image or an array."""
        ...

    def name(self, index: int) -> str:
        """Return its name in messages."""
        ...


@total_ordering
@dataclass(frozen=True, eq=False, repr=False)
class StoredPicture:
    """The position of a picture in a container; the picture is read each time that it is needed."""

    container: Container
    index: int

    def read(self) -> Any:
        """Return the picture: bytes, a path, an image or an array."""
        return unwrapped(self.container.picture(self.index))

    def __str__(self) -> str:
        return self.container.name(self.index)

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredPicture) and str(self) == str(other)

    def __lt__(self, other: object) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class StoredPictures(Sequence[StoredPicture]):
    """The pictures of a container, none of which is kept in memory.

    Parameters
    ----------
    container : Container
    """

    def __init__(self, container: Container) -> None:
        self.container = container

    def __len__(self) -> int:
        return len(self.container)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [StoredPicture(self.container, number) for number in range(len(self))[index]]
        return StoredPicture(self.container, range(len(self))[index])


class _Part(Sequence[Any]):
    """A range of a sequence; items are read when they are requested."""

    def __init__(self, whole: Sequence[Any], places: range) -> None:
        self.whole, self.places = whole, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Part(self.whole, self.places[index])
        return self.whole[self.places[index]]


def part_of(pictures: Sequence[Any], start: int, stop: int) -> Sequence[Any]:
    """Return some consecutive pictures; if the sequence creates pictures on request, none is created here."""
    if isinstance(pictures, (list, np.ndarray)):
        return pictures[start:stop]
    return _Part(pictures, range(start, min(stop, len(pictures))))


@dataclass(frozen=True)
class _Items:
    """A sequence whose items contain pictures."""

    items: Any
    title: str

    def __len__(self) -> int:
        return len(self.items)

    def picture(self, index: int) -> Any:
        return self.items[index]

    def name(self, index: int) -> str:
        return f"{self.title}[{index}]"


def wrapped(pictures: Any) -> Any:
    """Return a sequence or, if its items contain pictures and other values, only the pictures."""
    if isinstance(pictures, np.ndarray) and pictures.dtype != object:
        return pictures
    first = pictures[0]
    # A picture and its label (torch), bytes and a path (Hugging Face), a scalar (pyarrow), a tensor.
    if isinstance(first, (dict, tuple)) or hasattr(first, "as_py") or _is_tensor(first):
        return StoredPictures(_Items(pictures, type(pictures).__name__))
    return pictures


def unwrapped(item: Any) -> Any:
    """Return the picture in an item of a data set."""
    if hasattr(item, "as_py"):
        item = item.as_py()
    if isinstance(item, tuple) and item:
        item = item[0]
    if isinstance(item, dict):
        item = _of_dict(item)
    if _is_tensor(item):
        item = item.detach().cpu().numpy()
    return bytes(item) if isinstance(item, (bytearray, memoryview)) else item


def _is_tensor(item: Any) -> bool:
    return hasattr(item, "detach") and hasattr(item, "numpy")


def _of_dict(item: dict[str, Any]) -> Any:
    """Return the picture of an undecoded Hugging Face image, or of a row with one column of pictures."""
    if set(item) <= {"bytes", "path"}:
        return item["path"] if item.get("bytes") is None else item["bytes"]
    for name in ("image", "img", "picture"):
        if name in item:
            return unwrapped(item[name])
    return item


def dataset_pictures(data: Any, column: str | None = None) -> StoredPictures | None:
    """Return the pictures of a Hugging Face data set or of one of its columns, or None for anything else.

    They are read in encoded form, so that a picture has the same digest wherever it is stored.

    Raises
    ------
    TypeError
        If the data set is a stream.
    ValueError
        If it is not clear which column contains the pictures.
    """
    if type(data).__module__.partition(".")[0] != "datasets":
        return None
    if not hasattr(data, "__len__"):
        raise TypeError(
            f"X is a stream ({type(data).__name__}), whose pictures come once and in an unknown number. Load it "
            "without streaming=True, or pass parts of it: list(data.take(1000))."
        )
    name = getattr(data, "column_name", column)
    source = getattr(data, "source", data)
    if not hasattr(source, "cast_column"):
        return StoredPictures(_Items(data, "data"))  # a column within a column
    name = _image_column(source) if name is None else name
    if source.format["type"] == "custom":
        return StoredPictures(_Items(source[name], name))
    feature = source.features[name]
    if type(feature).__name__ == "Image":
        source = source.cast_column(name, type(feature)(decode=False))
    return StoredPictures(_Items(source.with_format(None)[name], name))


def _image_column(source: Any) -> str:
    names = [name for name, feature in source.features.items() if type(feature).__name__ == "Image"]
    if len(names) != 1:
        raise ValueError(
            f"The data set has {len(names)} columns of pictures among {list(source.features)}; pass one of its "
            "columns: data['image']."
        )
    return str(names[0])
