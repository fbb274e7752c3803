"""Weights files of published networks: an existing or downloaded file, which is always checked."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import Literal

from agegender._networks.location import offline
from agegender._networks.onnx_files import looks_like_html
from agegender._networks.publication import Published
from agegender._networks.weights_record import notice_change
from agegender._utils.digests import sha256_of
from agegender._utils.files import write_whole
from agegender.exceptions import WeightsError, WeightsNotFoundError, WeightsWarning

__all__ = ["check_file", "download", "locate"]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# An ONNX file is a protocol buffer whose first field, the version, is a small number.
ONNX_MAGIC = b"\x08"
ZIP_MAGIC = b"PK\x03\x04"
_SUFFIXES = {"auto": (".onnx", ".h5"), "onnx": (".onnx",), "keras": (".h5",)}
_DOWNLOADING = threading.Lock()

Engine = Literal["auto", "onnx", "keras"]


def locate(published: Published, engine: Engine = "auto") -> Path:
    """Return a network's weights file, which is downloaded if it does not exist; ONNX is preferred to HDF5.

    Raises
    ------
    WeightsNotFoundError
        If it does not exist and could not be downloaded.
    WeightsError
        If the existing or downloaded file is not a weights file.
    ValueError
        If the network has no form that the engine runs.
    """
    suffixes = _forms(published, engine)
    for suffix in suffixes:
        if (path := published.path(suffix)).is_file():
            return _check_present(path, published)
    if offline():
        raise _not_found(published, engine, "AGEGENDER_OFFLINE forbids downloads")
    failures = []
    for suffix in suffixes:
        try:
            return download(published, suffix)
        except (OSError, ValueError, WeightsError, zipfile.BadZipFile) as error:
            failures.append(str(error).strip())
    raise _not_found(published, engine, f"they could not be downloaded ({'; '.join(failures)})")


def _forms(published: Published, engine: Engine) -> list[str]:
    """Return the suffixes of the files that an engine could run."""
    suffixes = [suffix for suffix in _SUFFIXES[engine] if suffix in published.files]
    if not suffixes:
        reason = f": {published.no_keras}" if published.no_keras else ""
        raise ValueError(f"{published.name} has no Keras form{reason}; use engine='auto' or 'onnx'.")
    return suffixes


def _check_present(path: Path, published: Published) -> Path:
    """Check a file with the path and the name that its project gives to the published file.

    If it is not the published file, it may be the user's own network, which deepface would use too. Therefore
    only a warning is issued; whether the file fits the network is checked when it is read.
    """
    check_file(path, published.urls(path.suffix))
    expected = published.known.get(path.suffix)
    if expected is None:
        notice_change(path)
        return path
    try:
        check_file(path, published.urls(path.suffix), expected=expected)
    except WeightsError as error:
        warnings.warn(f"{error} Pass your own weights with weights=….", WeightsWarning, stacklevel=4)
    return path


def download(published: Published, suffix: str) -> Path:
    """Download a weights file through deepface: under another name, checked, then renamed.

    All ONNX files of an archive are kept, because InsightFace assumes that an existing pack folder is
    complete.

    Raises
    ------
    WeightsError
        If another file was downloaded.
    ValueError, OSError
        If nothing was downloaded, or the file cannot be written.
    """
    from deepface.commons import weight_utils

    path, urls = published.path(suffix), published.urls(suffix)
    kind = ".zip" if urls and urls[0].endswith(".zip") else suffix
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.parent / f".{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}{kind}"
    with _DOWNLOADING:
        if path.is_file():  # another thread has just downloaded it
            return path
        try:
            weight_utils.download_weights_if_necessary(file_name=str(arriving), source_url=urls)
            if not arriving.is_file():
                raise WeightsError(f"{urls[0]} gave no file")
            if kind == ".zip":
                return _unpack(arriving, path, published)
            check_file(arriving, urls, expected=published.known.get(suffix))
            with arriving.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(arriving, path)
        finally:
            for left in path.parent.glob(f"{arriving.name}*"):
                left.unlink(missing_ok=True)
    return path


def _unpack(archive: Path, path: Path, published: Published) -> Path:
    """Check the wanted ONNX file of a pack, then put all its ONNX files into its folder, that one last."""
    urls = published.urls(path.suffix)
    with archive.open("rb") as file:
        if looks_like_html(file.read(512)):
            raise WeightsError(f"a web page came from {urls[0]}, not a pack")
    with zipfile.ZipFile(archive) as pack:
        # Some packs have their files in a folder inside the archive, others do not.
        members = {PurePosixPath(name).name: name for name in pack.namelist() if name.endswith(".onnx")}
        if path.name not in members:
            raise WeightsError(f"the archive from {urls[0]} has no {path.name}, but {sorted(members)}")
        for name in sorted(members, key=lambda name: name == path.name):
            if (path.parent / name).is_file():
                continue
            content = pack.read(members[name])
            if name == path.name and (expected := published.known.get(path.suffix)) is not None:
                _check_content(content, f"{name} in {urls[0]}", expected[0])
            _write(path.parent / name, content)
    return path


def _check_content(content: bytes, source: str, sha256: str) -> None:
    if (came := hashlib.sha256(content).hexdigest()) != sha256:
        raise WeightsError(f"{source} has sha256 {came} where the published file has {sha256}")


def _write(path: Path, content: bytes) -> None:
    write_whole(path, lambda arriving: arriving.write_bytes(content))


def check_file(path: Path, urls: list[str], *, expected: tuple[str, int | None] | None = None) -> Path:
    """Raise an error if the first bytes of a file are wrong, or if it differs from the known published file."""
    with path.open("rb") as file:
        start = file.read(512)
    remedy = "Delete it and download it again" + (f" from {' or '.join(urls)}." if urls else ".")
    if looks_like_html(start):
        raise WeightsError(f"{path} is a web page, not weights: a download that failed. {remedy}")
    magic = {".onnx": ONNX_MAGIC, ".keras": ZIP_MAGIC}.get(path.suffix, HDF5_MAGIC)
    if not start.startswith(magic):
        raise WeightsError(
            f"{path} ({path.stat().st_size:,} bytes) is not a {path.suffix} weights file. {remedy}"
        )
    if expected is None:
        return path
    sha256, size = expected
    found = path.stat().st_size
    if size is not None and found != size:
        raise WeightsError(f"{path} has {found:,} bytes where the published file has {size:,}. {remedy}")
    if (came := sha256_of(path)) != sha256:
        raise WeightsError(f"{path} has sha256 {came} where the published file has {sha256}. {remedy}")
    return path


def _not_found(published: Published, engine: Engine, why: str) -> WeightsNotFoundError:
    suffixes = _forms(published, engine)
    moved = {"deepface": "DEEPFACE_HOME", "insightface": "INSIGHTFACE_HOME", "uniface": "UNIFACE_CACHE_DIR"}
    files = " or ".join(published.files[suffix] for suffix in suffixes)
    urls = "".join(f"\n  {url}" for suffix in suffixes for url in published.urls(suffix))
    other = {".h5": '; engine="keras" takes the .h5 form', ".onnx": '; engine="onnx" takes the .onnx form'}
    left = "".join(other[suffix] for suffix in published.suffixes if suffix not in suffixes)
    return WeightsNotFoundError(
        f"The weights of {published.name} are not on this machine, and {why}.\n"
        f"Put {files} into {published.folder} ({moved[published.project]} moves it), from one of{urls}\n"
        f"or pass the file with weights=…{left}, or use another network: Backbone.from_onnx(path)."
    )
