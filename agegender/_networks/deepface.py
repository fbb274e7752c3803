"""The networks that deepface publishes: names, files, addresses, and how deepface itself builds them."""

from __future__ import annotations

import importlib
import os
import threading
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agegender._networks.files import sha256_of
from agegender._networks.keras import (
    check_keras,
    check_weights_are_from,
    check_weights_are_numbers,
    name_layers_by_order,
    quiet_keras,
)
from agegender._networks.onnx_files import looks_like_html
from agegender._networks.weights_record import notice_change
from agegender.exceptions import WeightsError, WeightsNotFoundError, WeightsWarning

__all__ = [
    "PUBLISHED",
    "Published",
    "build_keras",
    "check_file",
    "download",
    "locate",
    "mirrored",
    "offline",
    "weights_folder",
]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# An ONNX file is a protocol buffer whose first field, the version, is a small number.
ONNX_MAGIC = b"\x08"
ZIP_MAGIC = b"PK\x03\x04"
_SOURCES = (
    "https://github.com/serengil/deepface_models/releases/download/v1.0/",
    "https://huggingface.co/serengil/deepface/resolve/main/",
)
_SUFFIXES = {"auto": (".onnx", ".h5"), "onnx": (".onnx",), "keras": (".h5",)}
# deepface is given our file by putting a function of ours in place of its own: one at a time.
_BUILDING = threading.Lock()
_DOWNLOADING = threading.Lock()

Engine = Literal["auto", "onnx", "keras"]


@dataclass(frozen=True)
class Published:
    """A network that deepface publishes.

    Attributes
    ----------
    name : str
        Its name here.
    module, builder : str
        Where deepface builds it: the module under ``deepface.models.facial_recognition.tf`` and the function.
    stem : str
        The name of its weights files, without suffix.
    input_size : tuple of int
        Height and width, in pixels.
    mean, scale : float
        The network is fed (x − mean)·scale.
    n_numbers : int
        The length of its embedding.
    licence : str
        Under what terms code and weights are published, and by whom.
    known : dict of str to (str, int)
        By suffix, the sha256 and the size in bytes of the published file, where they are known.
    """

    name: str
    module: str
    builder: str
    stem: str
    input_size: tuple[int, int]
    mean: float
    scale: float
    n_numbers: int
    licence: str
    known: dict[str, tuple[str, int]]

    def urls(self, suffix: str) -> list[str]:
        """Return the addresses of the weights file with this suffix, the first being the main one."""
        return [f"{source}{self.stem}{suffix}" for source in mirrored(_SOURCES)]


_FACENET_LICENCE = (
    "MIT (davidsandberg/facenet), converted by deepface (MIT); trained on face collections that were gathered for "
    "research, whose terms a commercial use should look into"
)
PUBLISHED = {
    published.name: published
    for published in (
        Published(
            name="arcface",
            module="ArcFace",
            builder="load_model",
            stem="arcface_weights",
            input_size=(112, 112),
            mean=127.5,
            scale=1 / 128,
            n_numbers=512,
            licence=(
                "MIT (leondgarse/Keras_insightface), converted by deepface (MIT); InsightFace offers models trained "
                "on its collections for non-commercial research only"
            ),
            known={
                ".h5": ("6336979c0c602cae08d1122a66f4dfb862d059bbcd8ef80306aef2b2249b0c93", 137_026_640),
            },
        ),
        Published(
            name="facenet",
            module="Facenet",
            builder="load_facenet128d_model",
            stem="facenet_weights",
            input_size=(160, 160),
            mean=127.5,
            scale=1 / 127.5,
            n_numbers=128,
            licence=_FACENET_LICENCE,
            known={},
        ),
        Published(
            name="facenet512",
            module="Facenet",
            builder="load_facenet512d_model",
            stem="facenet512_weights",
            input_size=(160, 160),
            mean=127.5,
            scale=1 / 127.5,
            n_numbers=512,
            licence=_FACENET_LICENCE,
            known={
                ".h5": ("3f76b5117a9ca574d536af8199e6720089eb4ad3dc7e93534496d88265de864f", 94_955_648),
            },
        ),
        Published(
            name="openface",
            module="OpenFace",
            builder="load_model",
            stem="openface_weights",
            input_size=(96, 96),
            mean=0.0,
            scale=1 / 255,
            n_numbers=128,
            licence="Apache-2.0 (cmusatyalab/openface), by way of iwantooxxoox/Keras-OpenFace and deepface (MIT)",
            known={},
        ),
    )
}


def weights_folder() -> Path:
    """Return the folder where deepface keeps weights."""
    from deepface.commons import folder_utils

    return Path(folder_utils.get_deepface_home()) / ".deepface" / "weights"


def mirrored(sources: tuple[str, ...]) -> tuple[str, ...]:
    """Return what ``AGEGENDER_MIRROR`` names, a folder with files of the same names, in place of all addresses."""
    mirror = os.environ.get("AGEGENDER_MIRROR", "").strip()
    return (f"{mirror.rstrip('/')}/",) if mirror else sources


def offline() -> bool:
    """Tell whether ``AGEGENDER_OFFLINE`` forbids downloads."""
    return os.environ.get("AGEGENDER_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


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


def build_keras(published: Published, path: Path) -> Any:
    """Build a network through deepface's own functions, with the weights of one given file in it.

    Raises
    ------
    WeightsError
        If the file does not fill every layer: another network's weights, or a damaged file.
    RuntimeError
        If deepface cannot build Keras 3 models in this process.
    """
    check_keras()
    from deepface.commons import weight_utils

    given = []

    def give(file_name: str, source_url: Any, compress_type: Any = None) -> str:
        given.append(file_name)
        return str(path)

    with _BUILDING, quiet_keras():
        module = importlib.import_module(f"deepface.models.facial_recognition.tf.{published.module}")
        _check_keras_3(module)
        original = weight_utils.download_weights_if_necessary
        weight_utils.download_weights_if_necessary = give
        try:
            model = getattr(module, published.builder)()
        except (ValueError, OSError, KeyError) as error:
            raise _not_its_weights(published, path, error) from error
        finally:
            weight_utils.download_weights_if_necessary = original
    if not given:
        raise RuntimeError(
            f"deepface built {published.name} without asking for its weights; nothing was loaded."
        )
    check_weights_are_numbers(model, str(path))
    check_weights_are_from(model, path)
    name_layers_by_order(model)
    return model


def _check_keras_3(module: Any) -> None:
    import keras

    if not issubclass(module.Model, keras.Model):
        raise RuntimeError(
            "deepface was imported with TF_USE_LEGACY_KERAS=1 in this process (its main module, deepface.DeepFace, "
            "sets it), so its networks are not Keras 3 models. Use the .onnx form of the weights, or load the "
            "backbone in a process that does not import deepface.DeepFace."
        )


def _not_its_weights(published: Published, path: Path, error: BaseException) -> WeightsError:
    reason = str(error.__cause__ or error).strip().splitlines()[0][:300]
    known = published.known.get(path.suffix)
    right = f" The right file has sha256 {known[0]} and {known[1]:,} bytes." if known else ""
    return WeightsError(
        f"{path} ({path.stat().st_size:,} bytes) does not hold the weights of {published.name}, or only a part of "
        f"them ({reason}). Delete it and fetch {published.stem}{path.suffix} from "
        f"{' or '.join(published.urls(path.suffix))}.{right}"
    )


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
