"""A published network's weights file: the one that is here, else a downloaded one, checked either way."""

from __future__ import annotations

import os
import threading
import uuid
import warnings
from pathlib import Path
from typing import Literal

from agegender._networks.location import offline, weights_folder
from agegender._networks.onnx_files import looks_like_html
from agegender._networks.published import Published
from agegender._networks.weights_record import notice_change
from agegender._utils.digests import sha256_of
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
    """Return a network's weights file: the one that is here, else a downloaded one; ONNX before HDF5.

    Raises
    ------
    WeightsNotFoundError
        If it is not here and cannot be downloaded.
    WeightsError
        If what is here, or was downloaded, is not a weights file.
    """
    folder = weights_folder()
    for suffix in _SUFFIXES[engine]:
        if (path := folder / f"{published.stem}{suffix}").is_file():
            return _check_present(path, published)
    if offline():
        raise _not_found(published, engine, folder, "AGEGENDER_OFFLINE forbids to download them")
    failures = []
    for suffix in _SUFFIXES[engine]:
        try:
            return download(published, suffix)
        except (OSError, ValueError, WeightsError) as error:
            failures.append(str(error).strip())
    raise _not_found(published, engine, folder, f"they could not be downloaded ({'; '.join(failures)})")


def _check_present(path: Path, published: Published) -> Path:
    """Check a file that lies in deepface's folder, under the name that deepface gives to the published one.

    One that is not the published one may be a network of the user's own training: deepface would take it too. It is
    said aloud, and whether it fits the network is seen when it is read.
    """
    check_file(path, published.urls(path.suffix))
    expected = published.known.get(path.suffix)
    if expected is None:
        notice_change(path)
        return path
    try:
        check_file(path, published.urls(path.suffix), expected=expected)
    except WeightsError as error:
        warnings.warn(f"{error} Weights of your own are named with weights=….", WeightsWarning, stacklevel=4)
    return path


def download(published: Published, suffix: str) -> Path:
    """Fetch a weights file through deepface: under another name, checked, then renamed.

    Raises
    ------
    WeightsError
        If what came is not the file that was wanted.
    ValueError, OSError
        If nothing came, or it cannot be written.
    """
    from deepface.commons import weight_utils

    folder, urls = weights_folder(), published.urls(suffix)
    path = folder / f"{published.stem}{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    arriving = folder / f".{published.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}{suffix}"
    with _DOWNLOADING:
        if path.is_file():  # another thread has just fetched it
            return path
        try:
            weight_utils.download_weights_if_necessary(file_name=arriving.name, source_url=urls)
            if not arriving.is_file():
                raise WeightsError(f"no file came from {urls[0]}")
            check_file(arriving, urls, expected=published.known.get(suffix))
            with arriving.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(arriving, path)
        finally:
            for left in folder.glob(f"{arriving.name}*"):
                left.unlink(missing_ok=True)
    return path


def check_file(path: Path, urls: list[str], *, expected: tuple[str, int] | None = None) -> Path:
    """Raise an error unless a file begins as its kind does and, where that is known, is the published one."""
    with path.open("rb") as file:
        start = file.read(512)
    remedy = "Delete it and fetch it again" + (f" from {' or '.join(urls)}." if urls else ".")
    if looks_like_html(start):
        raise WeightsError(f"{path} is a web page, not weights: a download that failed. {remedy}")
    magic = {".onnx": ONNX_MAGIC, ".keras": ZIP_MAGIC}.get(path.suffix, HDF5_MAGIC)
    if not start.startswith(magic):
        size = path.stat().st_size
        raise WeightsError(f"{path} ({size:,} bytes) is not a {path.suffix} weights file. {remedy}")
    if expected is None:
        return path
    sha256, size = expected
    if (found := path.stat().st_size) != size:
        raise WeightsError(f"{path} has {found:,} bytes where the published file has {size:,}. {remedy}")
    if (came := sha256_of(path)) != sha256:
        raise WeightsError(f"{path} has sha256 {came} where the published file has {sha256}. {remedy}")
    return path


def _not_found(published: Published, engine: Engine, folder: Path, why: str) -> WeightsNotFoundError:
    suffixes = _SUFFIXES[engine]
    files = " or ".join(f"{published.stem}{suffix}" for suffix in suffixes)
    urls = "".join(f"\n  {url}" for suffix in suffixes for url in published.urls(suffix))
    other = {"onnx": '; engine="keras" takes the .h5 form', "keras": '; engine="onnx" takes the .onnx form'}
    return WeightsNotFoundError(
        f"The weights of {published.name} are not on this machine, and {why}.\n"
        f"Put {files} into {folder} (DEEPFACE_HOME moves it), from one of{urls}\n"
        f"or name the file with weights=…{other.get(engine, '')}, or use another network: Backbone.from_onnx(path)."
    )
