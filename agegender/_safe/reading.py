"""Reading a safe model file: everything is checked before it is used, and objects are made of listed classes only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from agegender._networks.exported import described_file, what_it_is
from agegender._networks.location import existing_file
from agegender._safe.archive import parse_json, unpack
from agegender._safe.declaration import SafeState
from agegender._safe.networks import decode_network
from agegender._safe.values import Members, Values
from agegender._utils.versions import check_own_version
from agegender.backbones import Backbone
from agegender.exceptions import ModelFileError

__all__ = ["FORMAT", "FORMAT_VERSION", "MODEL", "Classes", "read_content", "read_file"]

FORMAT = "agegender model"
FORMAT_VERSION = 2
MOST_BYTES = 2**32
"""Larger files are refused, because no model is that large."""

MODEL = "model.json"
_NOTHING = SafeState()


@dataclass(frozen=True)
class Classes:
    """The classes of which objects are made, and how files of earlier formats differ.

    Parameters
    ----------
    find : callable
        Returns a class by its name in the file. It is called only with the names of `names`.
    names : collection of str
        All classes that a file may contain.
    top : collection of str
        Those of which the model itself may be.
    renamed : mapping of str to str
        Classes that have a different name in files of format 1.
    fitted_before : mapping of str to tuple of str
        The attributes that only files of format 1 contain, by class.
    upgraded : callable
        Called with an object and its attributes from a file of format 1; returns those of this version.
    """

    find: Callable[[str], Any]
    names: Collection[str]
    top: Collection[str]
    renamed: Mapping[Any, str]
    fitted_before: Mapping[str, tuple[str, ...]]
    upgraded: Callable[[Any, dict[str, Any]], dict[str, Any]]


def read_file(path: str | os.PathLike[str], classes: Classes) -> Any:
    """Return the model in a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, was changed, comes from a later agegender, or contains anything that is not allowed.
    """
    file = existing_file(path)
    if (size := file.stat().st_size) > MOST_BYTES:
        raise ModelFileError(f"{file} has {size:,} bytes; a model has at most {MOST_BYTES:,}.")
    content = file.read_bytes()
    if not content.startswith(b"PK"):
        if (description := described_file(content)) is not None:
            raise ModelFileError(
                f"{file} {what_it_is(description)}. Load the model that it was exported from, or export it anew."
            )
        raise ModelFileError(
            f"{file} is not a file of agegender.save_model. joblib.load reads files of joblib.dump, and runs "
            "the code in them: load only files that you made or trust."
        )
    try:
        return read_content(content, classes)
    except ModelFileError as error:
        raise ModelFileError(f"{file} cannot be loaded: {error}") from error


def read_content(content: bytes, classes: Classes) -> Any:
    """Check a file's content and return its model; the errors do not name the file."""
    manifest, contents = unpack(content)
    if manifest.get("format") != FORMAT or MODEL not in contents:
        raise ModelFileError("it contains no agegender model")
    written = manifest.get("versions")
    if not isinstance(written, dict) or not isinstance(written.get("agegender"), str):
        raise ModelFileError("it does not contain the version that saved it")
    if manifest.get("format_version") not in (1, FORMAT_VERSION):
        check_own_version(written["agegender"])
        raise ModelFileError(
            f"it has the format {str(manifest.get('format_version'))[:20]}, not {FORMAT_VERSION} or 1"
        )
    entry = parse_json(contents.pop(MODEL), MODEL)
    reader = _Reader(Members(contents), manifest["format_version"], classes)
    try:
        model = reader.object(entry, classes.top)
    except ModelFileError:
        check_own_version(written["agegender"])  # this is then the reason
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{MODEL} is not as it should be ({type(error).__name__}: {error})") from error
    if unused := sorted(set(contents) - reader.members.taken):
        raise ModelFileError(f"nothing in it uses {unused[0]!r}")
    return model


class _Reader(Values):
    """Makes objects from JSON and members."""

    def __init__(self, members: Members, format_version: int, classes: Classes) -> None:
        super().__init__(members)
        self._format = format_version
        self._classes = classes
        self._networks: dict[str, Backbone] = {}

    def decode(self, entry: Any) -> Any:
        """Return the value that was written: an object, a network, or a plain value."""
        if isinstance(entry, dict) and "class" in entry:
            return self.object(entry, self._classes.names)
        if isinstance(entry, dict) and set(entry) == {"network"}:
            return self._network(entry["network"])
        return super().decode(entry)

    def object(self, entry: Any, allowed: Collection[str]) -> Any:
        """Return an object of one of the allowed classes."""
        name = entry.get("class") if isinstance(entry, dict) else None
        if self._format == 1:
            name = self._classes.renamed.get(name, name)
        if not isinstance(name, str) or name not in allowed:
            raise ModelFileError(f"it contains {str(name)[:80]!r}; allowed are {', '.join(allowed)}")
        kind = self._classes.find(name)
        kept: SafeState = getattr(kind, "_safe", _NOTHING)
        before = self._classes.fitted_before.get(name, ()) if self._format == 1 else ()
        if strange := sorted(set(entry["fitted"]) - {*kept.fitted, *before}):
            raise ModelFileError(f"{name} has no attribute {strange[0][:80]!r}")
        made = kind(**{key: self.decode(found) for key, found in entry["parameters"].items()})
        fitted = {key: self._decode_fitted(kept, key, found) for key, found in entry["fitted"].items()}
        vars(made).update(fitted if self._format == FORMAT_VERSION else self._classes.upgraded(made, fitted))
        if hasattr(made, "_check_safe"):
            made._check_safe()
        return made

    def _decode_fitted(self, kept: SafeState, name: str, entry: Any) -> Any:
        if name in kept.members and entry is not None:
            return self.members.take(entry["bytes"], (kept.members[name],))
        return self.decode(entry)

    def _network(self, entry: Any) -> Backbone:
        """Return a network, the same object for the same entry."""
        key = json.dumps(entry, sort_keys=True)
        if key not in self._networks:
            self._networks[key] = decode_network(entry, self)
        return self._networks[key]
