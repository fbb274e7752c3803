"""What is installed and which parts of it work, for bug reports."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from agegender._version import __version__

__all__ = ["installation", "show_versions"]

_NOT_FOR_USERS = ("dev", "docs", "test")
_SETTINGS = (
    "AGEGENDER_", "CUDA_VISIBLE_DEVICES", "DEEPFACE_HOME", "KERAS_", "LOKY_", "OMP_", "OPENCV_", "TF_CPP_",
    "TF_ENABLE_", "TF_FORCE_", "TF_NUM_", "TF_USE_", "XLA_",
)  # fmt: skip

# Each runs in its own process, because a broken engine may end the process instead of raising an error.
_ENGINES = {
    "ONNX Runtime": "import onnxruntime as o; print(o.__version__, ', '.join(o.get_available_providers()))",
    "TensorFlow": "import tensorflow as t; print(t.__version__, t.config.list_physical_devices('GPU') or 'no GPU')",
    "OpenCV": "import cv2; print(cv2.__version__, 'with' if hasattr(cv2, 'FaceDetectorYN') else 'without', 'YuNet')",
}
_SECONDS = 120


def show_versions() -> None:
    """Print what a bug report needs: versions, engines, devices, detectors, networks and the cache.

    Nothing is downloaded or written. Paths inside the home folder begin with ``~``, so the text can be published.

    See Also
    --------
    agegender.versions.installation : The same as a dictionary.
    sklearn.show_versions : What scikit-learn itself is installed with.

    Examples
    --------
    >>> from agegender import show_versions
    >>> show_versions()  # doctest: +SKIP
    System
        agegender      0.1.0
        Python         3.13.1
        machine        Linux-6.8.0-x86_64
    ...
    """
    for section, entries in installation().items():
        width = max(map(len, entries), default=0)
        lines = (f"    {name:{width}}  {value}" for name, value in entries.items())
        sys.stdout.write("\n".join((section, *lines)) + "\n\n")


def installation() -> dict[str, dict[str, str]]:
    """Return what a bug report needs, by section.

    Returns
    -------
    dict of dict of str
        The sections "System", "Packages", "Engines", "Devices", "Detectors", "Networks", "Cache" and "Settings"
        (environment variables). What fails has its error as its value.

    See Also
    --------
    agegender.show_versions : The same as text.

    Examples
    --------
    >>> from agegender.versions import installation
    >>> sorted(installation())[:3]
    ['Cache', 'Detectors', 'Devices']
    """
    return {
        "System": _system(),
        "Packages": dict(_packages()),
        "Engines": {name: _engine(script) for name, script in _ENGINES.items()},
        "Devices": _devices(),
        "Detectors": _detectors(),
        "Networks": _networks(),
        "Cache": _cache(),
        "Settings": dict(_settings()),
    }


def _system() -> dict[str, str]:
    return {
        "agegender": __version__,
        "Python": sys.version.replace("\n", " "),
        "executable": _short(sys.executable),
        "machine": platform.platform(),
    }


def _packages() -> Iterator[tuple[str, str]]:
    """Yield the version of each package that agegender needs, and of those that its extras need."""
    try:
        requirements = metadata.requires("agegender") or []
    except metadata.PackageNotFoundError:
        yield "agegender", "not installed: it is used from a folder"
        return
    for requirement in requirements:
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        name = re.match(r"[\w.-]+", requirement)
        if name and name[0] != "agegender" and not (extra and extra[1] in _NOT_FOR_USERS):
            yield (
                name[0],
                _version(name[0]) or (f"not installed (extra {extra[1]})" if extra else "not installed"),
            )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _engine(script: str) -> str:
    """Return the version and devices of an engine, or the last line of its error."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            capture_output=True, text=True, env=environment, timeout=_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not work: {error}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"])[-1]
        return f"does not work: {_short(last)}"
    return done.stdout.strip()


def _devices() -> dict[str, str]:
    from agegender._machine.threads import resolve_threads

    return {
        "cores": f"{os.cpu_count()} in the machine; this process uses {resolve_threads()} threads",
        "processor": platform.processor() or platform.machine(),
    }


def _detectors() -> dict[str, str]:
    from agegender._detectors.scrfd import find_scrfd
    from agegender._detectors.yunet import find_yunet
    from agegender._machine.installation import opencv_wheels

    wheels = opencv_wheels()
    return {
        "yunet": _file(find_yunet()),
        "scrfd": _file(find_scrfd()),
        "mtcnn": f"mtcnn {_version('mtcnn')}, with its weights" if _version("mtcnn") else "not installed",
        "OpenCV wheels": ", ".join(wheels) + (" (they overwrite each other)" if len(wheels) > 1 else ""),
    }


def _networks() -> dict[str, str]:
    from agegender._networks.published import PUBLISHED
    from agegender._networks.shipped import SHIPPED

    found = {name: _file(shipped.path) for name, shipped in SHIPPED.items()}
    for name, published in PUBLISHED.items():
        files = [path for suffix in published.suffixes if (path := published.path(suffix)).is_file()]
        if (
            files or published.project == "deepface"
        ):  # whose package is installed: what it lacks is worth a line
            found[name] = "; ".join(map(_file, files)) or _file(None)
    return found


def _file(path: Path | None) -> str:
    """Return where a file is and the beginning of its sha256, by which others can tell whether they have the same."""
    from agegender._utils.digests import sha256_of

    if path is None:
        return "not on this machine"
    try:
        return f"{_short(path)}, {path.stat().st_size:,} bytes, sha256 {sha256_of(path)[:12]}"
    except OSError as error:
        return f"cannot be read: {error}"


def _cache() -> dict[str, str]:
    from agegender.cache import open_cache
    from agegender.exceptions import CacheError

    cache = open_cache("auto", on_error="raise")
    assert cache is not None
    try:
        held = cache.info()
        says = f"{held.n_rows:,} rows, {held.n_bytes / 1e6:,.1f} MB, {len(held.recipes)} recipes"
    except CacheError as error:
        says = f"cannot be read: {error}"
    finally:
        cache.close()
    return {"file": _short(cache.path), "content": says}


def _settings() -> Iterator[tuple[str, str]]:
    for name in sorted(os.environ):
        if name.startswith(_SETTINGS):
            # The address of a mirror may hold a password.
            yield name, re.sub(r"//[^/@]*@", "//***@", _short(os.environ[name]))


def _short(path: str | Path) -> str:
    """Return a text with the home folder, which holds a person's name, written as ``~``."""
    home = os.path.expanduser("~")
    return str(path).replace(home, "~") if len(home) > 1 else str(path)
