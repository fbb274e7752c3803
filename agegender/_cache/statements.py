"""The schema of the cache, and statements that read and write rows."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from agegender.exceptions import CacheError

SCHEMA_VERSION = 1
# Written to the header together with user_version; they differ only in a damaged file.
APPLICATION_ID = 0x61670000
SCHEMA = (
    "CREATE TABLE recipes (id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE,"
    " json TEXT NOT NULL, shape TEXT NOT NULL, checksum INTEGER NOT NULL)",
    # Keys are separate from the numbers, so that recording the day of use rewrites only a few bytes per row.
    # AUTOINCREMENT: ids are never reused, so that a key that was read before a prune does not find another row.
    "CREATE TABLE keys (recipe INTEGER NOT NULL, content BLOB NOT NULL, row INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (recipe, content)) WITHOUT ROWID",
    "CREATE TABLE rows (id INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL)",
)
EVERY_RECIPE = "SELECT id, digest, json, shape, checksum FROM recipes"
PARAMETERS = 500
CHUNK_BYTES = 8 << 20
EVICTION_ROWS = 20_000
VACUUM_PAGES = 2048
STAMP_WAIT_MS = 200
OUTSIDE_CODES = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_SCHEMA,
}


class Recipe(Protocol):
    """The part of `agegender.cache.Recipe` that the statements need."""

    @property
    def json(self) -> str: ...

    @property
    def digest(self) -> bytes: ...

    @property
    def dtype(self) -> str: ...


class Key(NamedTuple):
    """The entry in `keys` of one picture; sorted by the row's id, which is the order on disk."""

    row: int
    content: bytes
    checksum: int
    used: int


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Take the write lock immediately; commit everything or nothing."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def prepare(db: sqlite3.Connection, *, shared_memory: bool) -> None:
    """Create the schema in a new file, or check that this version can read an existing one."""
    if _pragma(db, "user_version") == 0:
        _create(db, "WAL" if shared_memory else "DELETE")
    version = _pragma(db, "user_version")
    if _pragma(db, "application_id") != APPLICATION_ID + version:
        raise sqlite3.DatabaseError("the header is not that of a cache")
    if version > SCHEMA_VERSION:
        raise CacheError(
            f"It has layout {version} of a newer agegender; this version reads layouts up to {SCHEMA_VERSION}. "
            "Upgrade agegender, or use another cache directory for this version (cache=… or AGEGENDER_HOME)."
        )
    # A file in rollback mode stays in it, because another machine may be reading it over the network.
    if not shared_memory and _pragma(db, "journal_mode") == "wal":
        db.execute("PRAGMA journal_mode=DELETE").fetchall()
    if _pragma(db, "journal_mode") == "wal":
        db.execute("PRAGMA synchronous=NORMAL")


def _create(db: sqlite3.Connection, journal_mode: str) -> None:
    _refuse_foreign(db)
    db.execute("PRAGMA page_size=16384")
    db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute(f"PRAGMA journal_mode={journal_mode}").fetchall()
    with transaction(db):
        if _pragma(db, "user_version") == 0:  # another process may have been faster
            for statement in SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID + SCHEMA_VERSION}")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _refuse_foreign(db: sqlite3.Connection) -> None:
    """Refuse a valid database of another application."""
    (n_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    # Read after the count: a process that creates the cache right now sets both in one transaction.
    if n_tables and _pragma(db, "user_version") == 0:
        if _pragma(db, "application_id") == 0:
            raise CacheError("It is an SQLite database of another application. Use another cache directory.")
        raise sqlite3.DatabaseError("the header is not that of a cache")


def _pragma(db: sqlite3.Connection, name: str) -> Any:
    return db.execute(f"PRAGMA {name}").fetchone()[0]


def load(
    db: sqlite3.Connection,
    recipe: Recipe,
    digests: Sequence[bytes],
    out: NDArray[Any],
    found: NDArray[np.bool_],
) -> list[Key]:
    """Fill `out` and `found` for rows in the cache; delete damaged rows and return their keys."""
    recipe_id = _find_recipe(db, recipe, out.shape[1:])
    if recipe_id is None:
        return []
    places: dict[bytes, int] = {}
    first = [places.setdefault(digest, i) for i, digest in enumerate(digests)]
    keys = sorted(_find_keys(db, recipe_id, list(places)))
    damaged = _read(db, recipe, keys, places, out, found)
    for i, j in enumerate(first):
        if i != j and found[j]:
            out[i], found[i] = out[j], True
    today = _today()
    _settle(db, recipe_id, damaged, [key for key in keys if key.used != today], today)
    return damaged


def _read(
    db: sqlite3.Connection,
    recipe: Recipe,
    keys: list[Key],
    places: dict[bytes, int],
    out: NDArray[Any],
    found: NDArray[np.bool_],
) -> list[Key]:
    dtype, shape = _on_disk(recipe), out.shape[1:]
    size = row_bytes(recipe.dtype, shape)
    seed = zlib.crc32(recipe.digest)
    damaged = []
    for part in _chunks(keys, min(PARAMETERS, max(1, CHUNK_BYTES // size))):
        ids = [key.row for key in part]
        data = dict(db.execute(f"SELECT id, data FROM rows WHERE id IN ({_marks(ids)})", ids))
        where, blobs = [], []
        for row, content, checksum, _ in part:
            blob = data.get(row)
            if type(blob) is bytes and len(blob) == size and _checksum(seed, content, blob) == checksum:
                where.append(places[content])
                blobs.append(blob)
            else:
                damaged.append(Key(row, content, checksum, 0))
        if where:
            out[where] = np.frombuffer(b"".join(blobs), dtype).reshape(-1, *shape)
            found[where] = True
    return damaged


def _settle(db: sqlite3.Connection, recipe_id: int, damaged: list[Key], stale: list[Key], today: int) -> None:
    """Delete damaged rows and record the day of use, once per day, if the file can be written."""
    if not damaged and not stale:
        return
    timeout = _pragma(db, "busy_timeout")
    db.execute(f"PRAGMA busy_timeout={STAMP_WAIT_MS}")
    try:
        with transaction(db):
            _drop(db, [(recipe_id, key.content, key.row) for key in damaged])
            db.executemany(
                "UPDATE keys SET used=? WHERE recipe=? AND content=?",
                [(today, recipe_id, key.content) for key in stale],
            )
    except sqlite3.OperationalError as error:
        if not is_outside(error):
            raise
    finally:
        db.execute(f"PRAGMA busy_timeout={timeout}")


def store(db: sqlite3.Connection, recipe: Recipe, digests: Sequence[bytes], rows: NDArray[Any]) -> bool:
    """Insert new rows in one transaction; return True."""
    block = np.ascontiguousarray(rows, dtype=_on_disk(recipe)).reshape(len(rows), -1).view(np.uint8)
    seed, today = zlib.crc32(recipe.digest), _today()
    with transaction(db):
        recipe_id = _find_recipe(db, recipe, rows.shape[1:])
        if recipe_id is None:
            recipe_id = _insert_recipe(db, recipe, rows.shape[1:])
        new = dict(zip(digests, block, strict=True))
        for key in _find_keys(db, recipe_id, list(new)):
            del new[key.content]
        keys = []
        for content, data in new.items():
            row = db.execute("INSERT INTO rows (data) VALUES (?)", (data,)).lastrowid
            keys.append((recipe_id, content, row, _checksum(seed, content, data), today))
        db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)", keys)
    return True


def verify(db: sqlite3.Connection) -> int:
    """Compare the checksum of every row; delete those that fail and return their number."""
    (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(said.replace("\n", " "))
    damaged = []
    for recipe_id, digest, *rest in db.execute(EVERY_RECIPE).fetchall():
        _sound_shape(digest, *rest)
        damaged += [(recipe_id, content, row) for content, row in _unsound(db, recipe_id, zlib.crc32(digest))]
    with transaction(db):
        _drop(db, damaged)
    return len(damaged)


def _unsound(db: sqlite3.Connection, recipe_id: int, seed: int) -> Iterator[tuple[bytes, int]]:
    """Iterate over a recipe's rows in the order of their keys, with one row in memory at a time."""
    for content, row, checksum, data in db.execute(
        "SELECT content, row, checksum, data FROM keys LEFT JOIN rows ON id = row WHERE recipe=?",
        (recipe_id,),
    ):
        if (
            type(content) is not bytes
            or type(data) is not bytes
            or _checksum(seed, content, data) != checksum
        ):
            yield content, row


def recipes(db: sqlite3.Connection) -> list[tuple[str, tuple[int, ...], int, int]]:
    """Return canonical JSON, shape, number of rows and last day of use of each recipe."""
    table = db.execute(
        "SELECT json, digest, shape, checksum, n, day FROM recipes JOIN"
        " (SELECT recipe, count(*) AS n, max(used) AS day FROM keys GROUP BY recipe) ON recipe = id ORDER BY id"
    ).fetchall()
    return [
        (fields, _sound_shape(digest, fields, shape, checksum), n, day)
        for fields, digest, shape, checksum, n, day in table
    ]


def prune(db: sqlite3.Connection, max_bytes: int) -> int:
    """Delete the least recently used rows until the used pages fit; return their number."""
    n_dropped = 0
    while (in_use := _bytes_in_use(db)) > max_bytes:
        # A hundredth more than requested, so that the last pages do not take one round each.
        going = _oldest(db, in_use, in_use - max_bytes + max_bytes // 100)
        if not going:
            break
        with transaction(db):
            _drop(db, going)
        n_dropped += len(going)
    with transaction(db):
        db.execute("DELETE FROM recipes WHERE id NOT IN (SELECT recipe FROM keys)")
    release(db)
    return n_dropped


def _oldest(db: sqlite3.Connection, in_use: int, excess: float) -> list[tuple[int, bytes, int]]:
    """Return the keys of the least recently used rows that take `excess` bytes of the file's `in_use`."""
    sizes, counts = (
        dict(_row_sizes(db)),
        dict(db.execute("SELECT recipe, count(*) FROM keys GROUP BY recipe")),
    )
    overhead = in_use / max(1, sum(sizes.get(recipe, 0) * count for recipe, count in counts.items()))
    keys = db.execute(
        f"SELECT recipe, content, row FROM keys ORDER BY used, row LIMIT {EVICTION_ROWS}"
    ).fetchall()
    going = []
    for key in keys:
        if excess <= 0:
            break
        going.append(key)
        excess -= sizes.get(key[0], 0) * overhead
    return going


def clear(db: sqlite3.Connection) -> None:
    """Drop everything."""
    with transaction(db):
        for table in ("keys", "rows", "recipes"):
            db.execute(f"DELETE FROM {table}")
    release(db)


def release(db: sqlite3.Connection) -> None:
    """Return free pages to the disk in small steps, so that other processes do not wait long for the lock."""
    free = _pragma(db, "freelist_count")
    while free:
        db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        before, free = free, _pragma(db, "freelist_count")
        if free >= before:
            break
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def is_outside(error: Exception) -> bool:
    """Return whether an error is due to the disk, permissions or locks, and not to a damaged file.

    Any other error means damage, because the statements are fixed.
    """
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) in OUTSIDE_CODES


def _find_recipe(db: sqlite3.Connection, recipe: Recipe, shape: tuple[int, ...]) -> int | None:
    line = db.execute(
        "SELECT id, json, shape, checksum FROM recipes WHERE digest=?", (recipe.digest,)
    ).fetchone()
    if line is None:
        return None
    recipe_id, *rest = line
    kept = _sound_shape(recipe.digest, *rest)
    if kept != tuple(shape):
        raise ValueError(
            f"Rows of shape {tuple(shape)} do not fit this recipe, whose rows in the cache have shape {kept}: "
            f"each recipe has one shape. The recipe: {recipe.json}"
        )
    return int(recipe_id)


def _insert_recipe(db: sqlite3.Connection, recipe: Recipe, shape: tuple[int, ...]) -> int:
    text = json.dumps(shape)
    checksum = _recipe_checksum(recipe.digest, recipe.json, text)
    statement = "INSERT INTO recipes (digest, json, shape, checksum) VALUES (?, ?, ?, ?)"
    return int(db.execute(statement, (recipe.digest, recipe.json, text, checksum)).lastrowid or 0)


def _sound_shape(digest: Any, fields: Any, shape: Any, checksum: Any) -> tuple[int, ...]:
    """Return a recipe's shape, after checking the checksum of the recipe."""
    try:
        sound = _recipe_checksum(digest, fields, shape) == checksum
    except (AttributeError, TypeError):
        sound = False
    if not sound:
        raise sqlite3.DatabaseError("a recipe fails its checksum")
    return tuple(json.loads(shape))


def _recipe_checksum(digest: bytes, fields: str, shape: str) -> int:
    return zlib.crc32(shape.encode(), zlib.crc32(fields.encode(), zlib.crc32(digest)))


def _find_keys(db: sqlite3.Connection, recipe_id: int, digests: list[bytes]) -> Iterator[Key]:
    for part in _chunks(digests, PARAMETERS):
        asked = set(part)
        for key in db.execute(
            "SELECT row, content, checksum, used FROM keys"
            f" WHERE recipe=? AND content IN ({_marks(part)}) AND typeof(row)='integer'",
            (recipe_id, *part),
        ).fetchall():
            # SQLite trusts a damaged index, which may find other keys than requested, or one key twice.
            if key[1] not in asked:
                raise sqlite3.DatabaseError("its index finds keys that were not requested")
            asked.remove(key[1])
            yield Key._make(key)


def _drop(db: sqlite3.Connection, keys: Sequence[tuple[int, bytes, int]]) -> None:
    db.executemany("DELETE FROM keys WHERE recipe=? AND content=?", [key[:2] for key in keys])
    db.executemany("DELETE FROM rows WHERE id=?", [key[2:] for key in keys])


def _row_sizes(db: sqlite3.Connection) -> Iterable[tuple[int, int]]:
    for recipe_id, digest, *rest in db.execute(EVERY_RECIPE).fetchall():
        yield recipe_id, row_bytes(json.loads(rest[0])["dtype"], _sound_shape(digest, *rest))


def row_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the bytes of one row's numbers."""
    return np.dtype(dtype).itemsize * int(np.prod(shape))


def _bytes_in_use(db: sqlite3.Connection) -> int:
    return int((_pragma(db, "page_count") - _pragma(db, "freelist_count")) * _pragma(db, "page_size"))


def _on_disk(recipe: Recipe) -> np.dtype[Any]:
    return np.dtype(recipe.dtype).newbyteorder("<")


def _checksum(seed: int, content: bytes, data: Any) -> int:
    """Return a checksum of the key and the numbers; a row with a wrong key is damaged too."""
    return zlib.crc32(data, zlib.crc32(content, seed))


def _today() -> int:
    return int(time.time() // 86_400)


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _chunks(values: Any, size: int) -> Iterator[Any]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
