"""Zip files as containers, without compression or unpacking; every member is listed with its sha256."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

from agegender.exceptions import ModelFileError

__all__ = ["MANIFEST", "pack", "parse_json", "read_members", "unpack"]

MANIFEST = "manifest.json"
MOST_MEMBERS = 256
MOST_JSON_BYTES = 16 * 2**20
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can store
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")
_ENCRYPTED = 0x1


def pack(manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> bytes:
    """Return a reproducible zip file of members and a manifest with the sha256 and size of each."""
    listed = {name: {"sha256": _sha256(content), "size": len(content)} for name, content in members.items()}
    text = json.dumps({**manifest, "members": listed}, indent=1, sort_keys=True, allow_nan=False)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, member in ((MANIFEST, text.encode()), *members.items()):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), member)
    return content.getvalue()


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and the checked members of a file of `pack`.

    Raises
    ------
    ModelFileError
        If anything is missing, added, changed, compressed or oddly named.
    """
    members = read_members(content)
    if MANIFEST not in members:
        raise ModelFileError(f"there is no {MANIFEST} in it")
    manifest = parse_json(members.pop(MANIFEST), MANIFEST)
    listed = manifest.get("members") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict):
        raise ModelFileError(f"{MANIFEST} lists no members")
    if strange := sorted(set(members) ^ set(listed)):
        raise ModelFileError(f"{MANIFEST} and the file disagree about {', '.join(map(repr, strange[:5]))}")
    for name, member in members.items():
        if listed[name] != {"sha256": _sha256(member), "size": len(member)}:
            raise ModelFileError(f"{name} differs from {MANIFEST}: it was damaged or changed")
    return manifest, members


def read_members(content: bytes, allowed: Collection[str] | None = None) -> dict[str, bytes]:
    """Return the members of an uncompressed zip file, without using more memory than the file.

    Parameters
    ----------
    content : bytes
        The zip file.
    allowed : collection of str, default=None
        The names that may occur; None allows every plain file name.

    Raises
    ------
    ModelFileError
        If it is not a zip file, or not a zip file of this kind.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_directory(archive.infolist(), len(content), allowed)
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelFileError(f"it is truncated or damaged ({error})") from error


def _check_directory(entries: list[zipfile.ZipInfo], size: int, allowed: Collection[str] | None) -> None:
    """Check the directory of the zip file before reading members."""
    if min((entry.header_offset for entry in entries), default=0) > 0:
        raise ModelFileError("it is truncated or damaged (it does not begin where it should)")
    if len(entries) > MOST_MEMBERS:
        raise ModelFileError(f"it has {len(entries):,} members, more than {MOST_MEMBERS}")
    names = [entry.filename for entry in entries]
    for entry in entries:
        name = entry.orig_filename
        if not _PLAIN_NAME.fullmatch(name) or (allowed is not None and name not in allowed):
            raise ModelFileError(f"it has a member {name[:80]!r}, a name that no such file has")
        if entry.flag_bits & _ENCRYPTED:
            raise ModelFileError(f"{name} is encrypted")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ModelFileError(f"{name} is compressed, which could hide any size")
    if len(set(names)) < len(names):
        raise ModelFileError("it has two members of one name")
    if sum(entry.file_size for entry in entries) > size:
        raise ModelFileError("its members are larger together than the file")


def parse_json(content: bytes, name: str) -> Any:
    """Return the content of a JSON member.

    Raises
    ------
    ModelFileError
        If it is too long, nested too deeply, or not JSON.
    """
    if len(content) > MOST_JSON_BYTES:
        raise ModelFileError(f"{name} has {len(content):,} bytes, more than {MOST_JSON_BYTES:,}")
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{name} cannot be read ({error})") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
