"""The file of the cache: opened at first use, shared by processes and threads, renamed if it is damaged."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

from agegender._cache.statements import is_outside, prepare
from agegender._machine.fork import after_fork
from agegender.exceptions import CacheError, CacheWarning

BUSY_SECONDS = 30.0
BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
SUFFIXES = ("", "-wal", "-shm", "-journal")
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "afp", "beegfs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"}
    | {"glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs"}
)
REMEDY = (
    "Free the disk or the lock, use another directory (cache=… or AGEGENDER_HOME), or no cache (cache=None)."
)
T = TypeVar("T")

_alive: weakref.WeakSet[CacheFile] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []
_told_of_network: set[Path] = set()


class CacheFile:
    """A connection to the file, opened at first use, with error handling.

    Parameters
    ----------
    path : Path
        The database file.
    on_error : {"warn", "raise"}
        Whether a file that cannot be read or written ends the run.
    """

    def __init__(self, path: Path, on_error: Literal["warn", "raise"]) -> None:
        self.path = path
        self.on_error = on_error
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = threading.RLock()
        self._given_up: set[str] = set()
        _alive.add(self)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def attempt(self, purpose: str, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do some work on the file, or on a new file if this one is damaged.

        Parameters
        ----------
        purpose : str
            ``"read"`` or ``"written"``: if it fails, one warning is issued if `on_error` allows it. Otherwise
            an error is raised.
        work : callable
            Takes the connection; it must do everything or nothing, because it may be called again.

        Returns
        -------
        object
            The result of `work`; None if it failed with a warning.

        Raises
        ------
        CacheError
            If it failed and `on_error` requires an error.
        """
        with self._lock:
            if purpose in self._given_up:
                return None
            for _ in range(2):
                try:
                    return self._patiently(work)
                except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
                    raise
                except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                    problem = error  # Python cannot decode SQLite's error message for some damaged files
                if isinstance(problem, OSError) or is_outside(problem) or not self._set_aside(problem):
                    break
            self._give_up(purpose, problem)
            return None

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None

    def n_bytes(self) -> int:
        """Return the size of the database and its log, without the log's index, which is temporary."""
        files = (Path(f"{self.path}{suffix}") for suffix in SUFFIXES if suffix != "-shm")
        return sum(file.stat().st_size for file in files if file.exists())

    def set_aside(self) -> list[Path]:
        """Return the damaged files that were renamed earlier."""
        return sorted(self.path.parent.glob(f"{self.path.name}.damaged-*"))

    def _patiently(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Try again, because SQLite does not always wait for a lock (recovery, change of journal mode)."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return work(self._connection())
            except sqlite3.OperationalError as error:
                if _code(error) not in BUSY_CODES or time.monotonic() > deadline:
                    raise
            time.sleep(random.uniform(0.005, 0.05))

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None and self._identity != _identity(self.path):
            self.close()  # deleted, or renamed by another process
        db = self._db if self._db is not None else self._open()
        if db.in_transaction:  # Ctrl-C was pressed between two statements
            db.execute("ROLLBACK")
        return db

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        network = network_file_system(self.path.parent)
        with _directory_lock(self.path.parent, exclusive=False):
            try:
                self._db = self._connect(str(self.path), shared_memory=network is None)
            except sqlite3.OperationalError:
                if not self._is_read_only():
                    raise
                # WAL must write next to the file, unless the file is opened as immutable.
                address = f"{self.path.absolute().as_uri()}?immutable=1"
                self._db = self._connect(address, shared_memory=True)
        if network is not None:
            self._tell_of_network(network)
        return self._db

    def _connect(self, address: str, *, shared_memory: bool) -> sqlite3.Connection:
        db = sqlite3.connect(
            address,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            uri=address.startswith("file:"),
        )
        try:
            self._identity = _identity(self.path)
            prepare(db, shared_memory=shared_memory)
        except CacheError as error:
            db.close()
            raise CacheError(f"{self.path}: {error}") from None
        except BaseException:
            db.close()
            raise
        return db

    def _is_read_only(self) -> bool:
        wal = Path(f"{self.path}-wal")
        return self.path.exists() and not os.access(self.path.parent, os.W_OK) and not wal.exists()

    def _set_aside(self, problem: Exception) -> bool:
        """Rename a damaged file, unless another process did; return whether a new one may be created."""
        self.close()
        stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S%f")
        aside = f"{self.path}.damaged-{stamp}"
        with _directory_lock(self.path.parent, exclusive=True):
            if self._identity != _identity(self.path):
                return True
            try:
                # The database first, because SQLite deletes a log next to an empty database.
                os.rename(self.path, aside)
                for suffix in SUFFIXES[1:]:
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")
            except OSError:
                return False
        tell(
            f"The cache {self.path} is damaged ({problem}). It was renamed to {Path(aside).name} and a new one "
            "was created: rows are computed again, and results are correct. `agegender cache clear` deletes it."
        )
        return True

    def _give_up(self, purpose: str, problem: Exception) -> None:
        self.close()
        message = f"The cache {self.path} cannot be {purpose} ({problem}). {REMEDY}"
        if self.on_error == "raise" or purpose not in ("read", "written"):
            raise CacheError(message) from problem
        if not self._given_up:
            tell(f"{message} This run continues without it.")
        self._given_up.add(purpose)

    def _tell_of_network(self, kind: str) -> None:
        if self.path.parent in _told_of_network:
            return
        _told_of_network.add(self.path.parent)
        tell(
            f"The cache {self.path} is on a network file system ({kind}): it uses a rollback journal, which is "
            "slower than on a local disk and only as safe as the server's locks. Give each machine "
            "a local directory (cache=… or AGEGENDER_HOME), or at least its own directory."
        )

    def _after_fork(self) -> None:
        """Do not use the parent's connection in a child process; SQLite forbids even closing it."""
        if self._db is not None:
            _inherited.append(self._db)
        self._db = None
        self._lock = threading.RLock()


def tell(message: str) -> None:
    """Warn that the cache does not work as it should."""
    warnings.warn(message, CacheWarning, stacklevel=3)


def network_file_system(directory: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of a directory's network file system; None if it is local or unknown."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    there = directory.resolve()
    kind, depth = "", -1
    for fields in (line.split() for line in lines):
        # The table writes spaces as octal escapes.
        point = Path(fields[1].replace(r"\040", " ").replace(r"\011", "\t").replace(r"\134", "\\"))
        if len(point.parts) >= depth and (point == there or point in there.parents):
            kind, depth = fields[2], len(point.parts)
    return kind if kind in NETWORK_FILE_SYSTEMS else None


@contextlib.contextmanager
def _directory_lock(directory: Path, *, exclusive: bool) -> Iterator[None]:
    """Lock opening and renaming against each other, because a new file must not get an old log.

    It is used if the system supports it; otherwise SQLite's checks remain.
    """
    try:
        import fcntl

        handle = os.open(directory, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough if another thread forked meanwhile
        os.close(handle)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _forget_all() -> None:
    for file in list(_alive):
        file._after_fork()


after_fork(_forget_all)
