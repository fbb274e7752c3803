"""A cache of embeddings on disk: its keys and its file.

Each directory contains one SQLite file, ``embeddings.sqlite``, which several processes can share. A row is
found by the content of its picture and by a `Recipe`, which contains everything else that decides its numbers.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agegender._cache import statements
from agegender._cache.file import CacheFile, tell
from agegender._utils.validation import check_choice, home

__all__ = ["CacheInfo", "EmbeddingCache", "Recipe", "RecipeInfo", "open_cache"]

FILE_NAME = "embeddings.sqlite"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything except the picture that decides the numbers of a row.

    Parameters
    ----------
    network : str
        The sha256 of the network's file.
    layer : str
        The tensor's name, not a nickname such as "penultimate".
    input_size : tuple of int
        Height and width of the network's input, in pixels.
    color : str
        Order of the network's colour channels, ``"rgb"`` or ``"bgr"``.
    mean, scale : float or tuple of float
        The network is fed (x − mean)·scale.
    crop : float
        Fraction trimmed from every side of the face.
    faces : str or None
        Detector and alignment, None if the picture is used without detection.
    view : str, default="plain"
        The view of the face that was embedded.
    preprocessing : int
        Version of the steps from bytes to pixels.
    dtype : {"float32", "float16", "uint8"}, default="float32"
        Data type on disk; "uint8" is for pixels.

    Raises
    ------
    ValueError
        If a number is not finite or `dtype` is not one of the three.

    See Also
    --------
    agegender.cache.EmbeddingCache : The cache of embeddings on disk.
    agegender.EmbeddingExtractor : From pictures to embeddings.

    Examples
    --------
    >>> recipe = Recipe(network="6336", layer="fc1", input_size=(112, 112), color="bgr", mean=127.5,
    ...                 scale=1 / 128, crop=0.0, faces=None, preprocessing=1)
    >>> recipe.digest.hex()
    '4171cb96a316ec5e87eebd01de82a7ee'
    """

    network: str
    layer: str
    input_size: tuple[int, int]
    color: str
    mean: float | tuple[float, ...]
    scale: float | tuple[float, ...]
    crop: float
    faces: str | None
    view: str = "plain"
    preprocessing: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, ("float32", "float16", "uint8"), "Recipe")
        height, width = self.input_size
        exact = {
            "input_size": (int(height), int(width)),
            "mean": _numbers("mean", self.mean),
            "scale": _numbers("scale", self.scale),
            "crop": _numbers("crop", self.crop),
            "preprocessing": int(self.preprocessing),
        }
        for name, value in exact.items():
            object.__setattr__(self, name, value)

    @property
    def json(self) -> str:
        """The fields as canonical JSON: sorted names, no spaces, floats to the last bit."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @functools.cached_property
    def digest(self) -> bytes:
        """Digest of all fields (BLAKE2b, 16 bytes)."""
        return blake2b(self.json.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class RecipeInfo:
    """Content of a cache for one recipe.

    Parameters
    ----------
    recipe : Recipe
    shape : tuple of int
        Shape of a row.
    n_rows : int
    n_bytes : int
        Size of the numbers, without overhead.
    last_used : date
        The day (UTC) on which a row was last stored or loaded.

    See Also
    --------
    agegender.cache.CacheInfo : Content of a cache.
    agegender.cache.Recipe : Everything except the picture that decides a row.
    """

    recipe: Recipe
    shape: tuple[int, ...]
    n_rows: int
    n_bytes: int
    last_used: datetime.date


@dataclass(frozen=True)
class CacheInfo:
    """Content of a cache.

    Parameters
    ----------
    path : Path
        The file.
    n_rows : int
    n_bytes : int
        Size on disk, with SQLite's overhead.
    recipes : tuple of RecipeInfo
        In the order in which they were first stored.

    See Also
    --------
    agegender.cache.EmbeddingCache : The cache of embeddings on disk.
    agegender.cache.RecipeInfo : Content of a cache for one recipe.
    """

    path: Path
    n_rows: int
    n_bytes: int
    recipes: tuple[RecipeInfo, ...]


def open_cache(
    cache: str | os.PathLike[str] | None, *, on_error: Literal["warn", "raise"] = "warn"
) -> EmbeddingCache | None:
    """Open the cache that an extractor's `cache` parameter names.

    Parameters
    ----------
    cache : "auto", path or None
        ``"auto"``: the user's cache directory, or ``AGEGENDER_HOME`` if it is set. A path: that directory,
        created when the first row is stored. None: no cache.
    on_error : {"warn", "raise"}, default="warn"
        What happens if the disk is full, the directory is read-only or a lock is held too long: one
        `CacheWarning`, and the run continues without the cache, or a `CacheError`.

    Returns
    -------
    EmbeddingCache or None

    Raises
    ------
    TypeError
        If `cache` is not one of these.
    ValueError
        If `on_error` is not one of the two.

    See Also
    --------
    agegender.cache.EmbeddingCache : The cache of embeddings on disk.

    Examples
    --------
    >>> open_cache(None) is None
    True
    >>> open_cache("faces/cache")
    EmbeddingCache('faces/cache')
    """
    if cache is None:
        return None
    if not isinstance(cache, str | os.PathLike):
        raise TypeError(f"cache={cache!r} should be 'auto', a directory or None.")
    return EmbeddingCache(home() if cache == "auto" else cache, on_error=on_error)


class EmbeddingCache:
    """Embeddings on disk, found by recipe and content of the picture.

    Several processes and threads can use it at the same time. A pickled cache contains only its directory. The
    file is opened at the first use.

    Parameters
    ----------
    directory : path
        The directory of the file ``embeddings.sqlite``.
    on_error : {"warn", "raise"}, default="warn"
        See `open_cache`.

    See Also
    --------
    agegender.cache.open_cache : Open the cache of an extractor.
    agegender.cache.Recipe : Everything except the picture that decides a row.

    Examples
    --------
    >>> import tempfile
    >>> recipe = Recipe(network="6336", layer="fc1", input_size=(112, 112), color="bgr", mean=127.5,
    ...                 scale=1 / 128, crop=0.0, faces=None, preprocessing=1)
    >>> pictures = [b"0123456789abcdef", b"fedcba9876543210"]
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     cache = EmbeddingCache(directory)
    ...     kept = cache.store(recipe, pictures[:1], np.ones((1, 3), dtype=np.float32))
    ...     rows = np.zeros((2, 3), dtype=np.float32)
    ...     cache.load(recipe, pictures, out=rows)
    ...     cache.close()
    array([ True, False])
    >>> rows
    array([[1., 1., 1.],
           [0., 0., 0.]], dtype=float32)
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, on_error: Literal["warn", "raise"] = "warn"
    ) -> None:
        check_choice("on_error", on_error, ("warn", "raise"), "EmbeddingCache")
        self.directory = Path(directory).expanduser()
        self.on_error = on_error
        self._file = CacheFile(self.path, on_error)

    def __repr__(self) -> str:
        return f"EmbeddingCache({os.fspath(self.directory)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(EmbeddingCache, on_error=self.on_error), (os.fspath(self.directory),)

    @property
    def path(self) -> Path:
        """The file that contains the rows."""
        return self.directory / FILE_NAME

    def load(self, recipe: Recipe, digests: Sequence[bytes], out: NDArray[Any]) -> NDArray[np.bool_]:
        """Load the rows that are in the cache.

        Parameters
        ----------
        recipe : Recipe
        digests : sequence of bytes, length n
            One 16-byte digest per picture.
        out : ndarray or memmap of shape (n, …), float32 or float16
            Filled with the rows that are in the cache; other rows are not changed.

        Returns
        -------
        ndarray of shape (n,), bool
            Which rows were filled.

        Raises
        ------
        ValueError
            If lengths or shapes do not agree.
        CacheError
            If the file was written by a newer agegender, or cannot be read and `on_error` is "raise".
        """
        _check_rows(digests, out)
        found = np.zeros(len(digests), dtype=bool)
        if os.path.exists(self.path):
            work = functools.partial(statements.load, recipe=recipe, digests=digests, out=out, found=found)
            damaged = self._file.attempt("read", work)
            if damaged:
                tell(
                    f"{len(damaged)} rows of the cache {self.path} fail their checksum; they were dropped and will "
                    "be computed again. If this happens more than once, check the disk."
                )
        return found

    def store(self, recipe: Recipe, digests: Sequence[bytes], rows: NDArray[Any]) -> bool:
        """Store rows, all of them or none (one transaction); rows that are already stored are not changed.

        Parameters
        ----------
        recipe : Recipe
        digests : sequence of bytes, length n
            One 16-byte digest per picture.
        rows : ndarray of shape (n, …)
            Stored as `recipe.dtype`.

        Returns
        -------
        bool
            Whether the rows are stored; False after a warning that the file cannot be written.

        Raises
        ------
        ValueError
            If lengths or shapes do not agree.
        CacheError
            If the file was written by a newer agegender, or cannot be written and `on_error` is "raise".
        """
        _check_rows(digests, rows)
        if not len(digests):
            return True
        work = functools.partial(statements.store, recipe=recipe, digests=digests, rows=rows)
        return bool(self._file.attempt("written", work))

    def info(self) -> CacheInfo:
        """Return the content of the cache; no file is created.

        Returns
        -------
        CacheInfo

        Raises
        ------
        CacheError
            If the file cannot be read.
        """
        if not os.path.exists(self.path):
            return CacheInfo(self.path, 0, 0, ())
        recipes = self._file.attempt("counted", _recipes) or ()
        n_rows = sum(recipe.n_rows for recipe in recipes)
        return CacheInfo(self.path, n_rows, self._file.n_bytes(), recipes)

    def verify(self) -> int:
        """Read every row, compare its checksum and delete the rows that fail.

        If the structure of the file is damaged, the file is renamed and a new one is started, with a
        `CacheWarning`, as at any use.

        Returns
        -------
        int
            The number of deleted rows; they will be computed again.

        Raises
        ------
        CacheError
            If the file cannot be read or written.
        """
        if not os.path.exists(self.path):
            return 0
        return self._file.attempt("verified", statements.verify) or 0

    def prune(self, max_bytes: int) -> int:
        """Delete the least recently used rows until the file has at most `max_bytes`.

        The day of use is recorded; rows of the same day are deleted in the order in which they were stored. An
        empty file has about 100 KB.

        Parameters
        ----------
        max_bytes : int
            The largest size of the file, in bytes.

        Returns
        -------
        int
            The number of deleted rows.

        Raises
        ------
        ValueError
            If `max_bytes` is negative.
        CacheError
            If the file cannot be written.
        """
        if max_bytes < 0:
            raise ValueError(f"max_bytes={max_bytes} should not be negative; 0 deletes every row.")
        if not os.path.exists(self.path):
            return 0
        work = functools.partial(statements.prune, max_bytes=max_bytes)
        return self._file.attempt("pruned", work) or 0

    def clear(self) -> None:
        """Delete every row and all damaged files that were renamed earlier, and free the disk space.

        Raises
        ------
        CacheError
            If the file cannot be written.
        """
        if os.path.exists(self.path):
            self._file.attempt("cleared", statements.clear)
        for file in self._file.set_aside():
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._file.close()


def _recipes(db: sqlite3.Connection) -> tuple[RecipeInfo, ...]:
    epoch = datetime.date(1970, 1, 1)
    return tuple(
        RecipeInfo(
            recipe := Recipe(**json.loads(fields)),
            shape,
            n_rows,
            n_rows * statements.row_bytes(recipe.dtype, shape),
            epoch + datetime.timedelta(days=day),
        )
        for fields, shape, n_rows, day in statements.recipes(db)
    )


def _numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """Return plain floats, so that 127, 127.0 and NumPy's 127 give the same key."""
    numbers = np.asarray(value, dtype=np.float64) + 0.0  # -0.0 is 0.0
    if not np.isfinite(numbers).all():
        raise ValueError(f"Recipe: {name}={value!r} should be finite.")
    return float(numbers) if numbers.ndim == 0 else tuple(numbers.ravel().tolist())


def _check_rows(digests: Sequence[bytes], rows: NDArray[Any]) -> None:
    if len(digests) != len(rows):
        raise ValueError(f"{len(digests)} pictures and {len(rows)} rows: the numbers should be equal.")
    if rows.ndim < 2 or 0 in rows.shape[1:]:
        raise ValueError(f"Rows of shape {rows.shape} should be (n, …) with at least one number each.")
    if rows.dtype.kind != "f" and rows.dtype != np.uint8:
        raise ValueError(f"Rows of dtype {rows.dtype} should be float32, float16 or uint8.")
    for content in digests:
        if type(content) is not bytes or len(content) != 16:
            raise ValueError(f"A picture is identified by the 16 bytes of its digest, not by {content!r}.")
