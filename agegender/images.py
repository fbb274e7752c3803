"""The one gate through which every picture passes: upright RGB ``uint8`` pixels, or a reason why not.

``docs/pictures.md`` has the table of what is accepted, what is refused and how each kind is converted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from agegender._pixels.decoding import check_header, decode_bytes, open_image, to_pixels
from agegender._pixels.formats import FORMATS, Unreadable
from agegender._pixels.reading import MAX_FILE_BYTES, read_file
from agegender._pixels.turns import turn_of
from agegender.exceptions import PictureError

__all__ = [
    "FORMATS",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "PREPROCESSING_VERSION",
    "SUFFIXES",
    "Picture",
    "check",
    "decode",
    "describe",
    "digest",
    "letterbox",
    "load",
    "pixel_cap",
    "read",
    "trim",
]

Picture: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
Content: TypeAlias = bytes | NDArray[np.uint8]

PREPROCESSING_VERSION = 1
"""Part of every cache key: raised whenever the same picture would give other pixels than before."""

MAX_PIXELS = 64_000_000
"""The most pixels that a header may claim, unless the caller or ``AGEGENDER_MAX_PIXELS`` says otherwise."""

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split()  # noqa: SIM905
)
"""How names of pictures end, in lower case, for searching a folder; what is in a file its bytes alone decide."""


def pixel_cap() -> int:
    """Return the most pixels that a header may claim where the caller does not say.

    The environment variable ``AGEGENDER_MAX_PIXELS`` sets it for everything that reads pictures in this process and
    in those that it starts; `MAX_PIXELS` where it is not set.

    Returns
    -------
    int
        Width × height, in pixels.

    Raises
    ------
    ValueError
        If the variable is not a whole number above 0.

    Examples
    --------
    >>> pixel_cap()
    64000000
    """
    chosen = os.environ.get("AGEGENDER_MAX_PIXELS", "")
    if not chosen:
        return MAX_PIXELS
    if not chosen.isdecimal() or int(chosen) < 1:
        raise ValueError(
            f"AGEGENDER_MAX_PIXELS={chosen!r} is not a whole number of pixels above 0, such as {MAX_PIXELS}."
        )
    return int(chosen)


@contextmanager
def _naming(picture: object) -> Iterator[None]:
    """Turn whatever a decoder raises into an error that names the picture."""
    try:
        yield
    except PictureError:
        raise
    except Unreadable as error:
        raise PictureError(describe(picture), str(error)) from error.__cause__
    except MemoryError as error:
        raise PictureError(describe(picture), "needs more memory to decode than there is") from error
    except Exception as error:
        # Pillow's plugins raise nearly anything on damaged data: SyntaxError, OSError, struct.error, KeyError, …
        said = f"{type(error).__name__}: {error}"[:200]
        reason = f"is damaged, or of a kind that cannot be decoded ({said}); save it again as JPEG or PNG"
        raise PictureError(describe(picture), reason) from error


def describe(picture: object) -> str:
    """Return a short name for a picture, fit for messages and reports.

    Parameters
    ----------
    picture : Picture
        A path, encoded bytes, a PIL image or an array; any other object is named by its type.

    Returns
    -------
    str
        One line of at most 300 characters.

    Examples
    --------
    >>> describe("faces/anna.jpg"), describe(b"12345")
    ('faces/anna.jpg', 'bytes (5)')
    >>> describe(np.zeros((4, 3, 3), np.uint8))
    'array (4, 3, 3)'
    """
    if isinstance(picture, (str, os.PathLike)):
        path = str(os.fspath(picture))
        name = path if path.isprintable() else repr(path)[1:-1]
        return name if len(name) <= 300 else f"{name[:148]} … {name[-149:]}"
    if isinstance(picture, bytes):
        return f"bytes ({len(picture)})"
    if isinstance(picture, np.ndarray):
        return f"array {picture.shape}"
    if isinstance(picture, Image.Image):
        return f"{picture.mode} image {picture.size}"
    return type(picture).__name__


def read(picture: Picture) -> Content:
    """Return the raw content of a picture: what its identity is computed from and its pixels are decoded from.

    Parameters
    ----------
    picture : str, path, bytes, PIL.Image.Image or ndarray of shape (h, w, 3) or (h, w), uint8
        A file's path, an encoded picture, or pixels.

    Returns
    -------
    bytes or ndarray of shape (h, w, 3), uint8
        The bytes of a file as they are; of a PIL image or an array the upright RGB pixels. An array that is RGB and
        contiguous already is returned itself, not copied.

    Raises
    ------
    PictureError
        If there is no such file, it cannot be read, is no regular file, is empty or larger than `MAX_FILE_BYTES`,
        changes while it is read, or if the pixels are not such as can be used without guessing.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        with _naming(picture):
            return read_file(os.fspath(picture))
    if isinstance(picture, np.ndarray):
        return _check_array(picture)
    if isinstance(picture, Image.Image):
        max_pixels = pixel_cap()
        # The same image may stand in X several times, and be read by several threads.
        with _naming(picture), turn_of(picture):
            check_header(picture, max_pixels)
            return to_pixels(picture)
    raise PictureError(
        describe(picture),
        "is not a picture; pass a path, the bytes of a file, a PIL image or an array of RGB uint8 pixels",
    )


def digest(content: Content) -> bytes:
    """Return the identity of a picture's content: 16 bytes of BLAKE2b.

    Parameters
    ----------
    content : bytes or ndarray of shape (h, w, 3), uint8
        What `read` returned.

    Returns
    -------
    bytes
        Of length 16. Pixels are hashed with their shape and under a tag, so they never collide with encoded bytes.

    Examples
    --------
    >>> digest(b"abc").hex()
    'cf4ab791c62b8d2b2109c90275287816'
    """
    if isinstance(content, bytes):
        return hashlib.blake2b(content, digest_size=16).digest()
    hashed = hashlib.blake2b(digest_size=16, person=b"agegender.pixels")
    hashed.update(repr(content.shape).encode())
    hashed.update(np.ascontiguousarray(content).data)
    return hashed.digest()


def check(content: Content, *, max_pixels: int | None = None, full: bool = False) -> None:
    """Find out cheaply whether a picture can be decoded.

    The format, the header and the claimed size are examined, and for JPEG, PNG and WebP whether the file is complete:
    some 40 µs for a small JPEG file.

    Parameters
    ----------
    content : bytes or ndarray of shape (h, w, 3), uint8
        What `read` returned.
    max_pixels : int, default=None
        The most pixels, width × height, that the header may claim; None: see `pixel_cap`.
    full : bool, default=False
        Decode the picture as well, which finds the damage that only shows in its pixels.

    Raises
    ------
    PictureError
        If `decode` is sure to refuse the picture; with `full`, exactly if it refuses it.
    """
    if full or not isinstance(content, bytes):
        decode(content, max_pixels=max_pixels)
    else:
        max_pixels = pixel_cap() if max_pixels is None else max_pixels
        with _naming(content):
            open_image(content, max_pixels)


def decode(content: Content, *, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Decode a picture to upright RGB pixels.

    Parameters
    ----------
    content : bytes or ndarray of shape (h, w, 3) or (h, w), uint8
        What `read` returned. An array passes through after checks.
    max_pixels : int, default=None
        The most pixels, width × height, that the header of encoded bytes may claim, checked before any is allocated;
        None: see `pixel_cap`.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        Contiguous, red first, turned upright by the EXIF orientation. Grey is repeated in the three channels,
        transparency is laid on white, 16 bits a channel lose the lower eight, and colour profiles are not applied.
        An ordinary JPEG file gives the very pixels that ``cv2.imread`` does.

    Raises
    ------
    PictureError
        If the bytes are in no accepted format, cut off, damaged, or claim more than `max_pixels`, and for pixels
        whose range cannot be known (floats, 32-bit integers).

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 2), 200).save(file, "PNG")
    >>> decode(file.getvalue()).shape
    (2, 4, 3)
    """
    if isinstance(content, np.ndarray):
        return _check_array(content)
    max_pixels = pixel_cap() if max_pixels is None else max_pixels
    with _naming(content):
        return decode_bytes(content, max_pixels)


def load(picture: Picture, *, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Read and decode a picture: `decode` of `read`, with errors that name the picture.

    Parameters
    ----------
    picture : str, path, bytes, PIL.Image.Image or ndarray of shape (h, w, 3) or (h, w), uint8
        A file's path, an encoded picture, or pixels.
    max_pixels : int, default=None
        The most pixels, width × height, that a file's header may claim; None: see `pixel_cap`.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        Upright RGB pixels, contiguous.

    Raises
    ------
    PictureError
        For every reason of `read` and `decode`.
    """
    content = read(picture)
    try:
        return decode(content, max_pixels=max_pixels)
    except PictureError as error:
        raise PictureError(describe(picture), error.reason) from error.__cause__


def _check_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an array of pixels as contiguous RGB, or say what it is and what would make pixels of it."""
    remedy = _array_remedy(array)
    if remedy is not None:
        kind = f"is an array of {array.dtype} of shape {array.shape}; pixels are uint8 of shape (height, width, 3)"
        raise PictureError(describe(array), f"{kind}: {remedy}")
    if array.ndim == 2:
        array = np.repeat(array[..., np.newaxis], 3, axis=2)
    return np.ascontiguousarray(array)


def _array_remedy(array: NDArray[Any]) -> str | None:
    shape = array.shape
    if array.dtype.kind == "f":
        return (
            "if its values run from 0 to 1, multiply by 255; then round and convert, .round().astype('uint8')"
        )
    if array.dtype.kind == "b":
        return "multiply by 255 and convert, (array * 255).astype('uint8')"
    if array.dtype != np.uint8:
        return "scale its values to 0…255 and convert, .astype('uint8')"
    if array.size == 0:
        return "this one is empty"
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 3):
        return None
    if len(shape) == 3 and shape[2] == 4:
        return "drop its fourth channel, array[..., :3]"
    if len(shape) == 3 and shape[2] == 1:
        return "pass array[..., 0]"
    if len(shape) == 3 and shape[0] == 3:
        return "move its channels last, array.transpose(1, 2, 0)"
    if len(shape) == 4:
        return "pass its pictures one by one"
    return "reshape it"


def trim(pixels: NDArray[np.uint8], crop: float) -> NDArray[np.uint8]:
    """Trim a fraction from every side.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        A picture.
    crop : float
        The fraction of the height trimmed from top and bottom each, and of the width from left and right each, from
        −1 to below 0.5. Negative: so much black is added. At least one pixel stays.

    Returns
    -------
    ndarray of shape (h', w', 3), uint8
        A view where something is trimmed, `pixels` themselves where nothing is.

    Raises
    ------
    ValueError
        If `crop` is outside its range.

    Examples
    --------
    >>> picture = np.full((10, 20, 3), 255, np.uint8)
    >>> trim(picture, 0.1).shape, trim(picture, -0.5).shape
    ((8, 16, 3), (20, 40, 3))
    """
    if not -1 <= crop < 0.5:
        raise ValueError(f"crop={crop!r} is not from -1 to below 0.5: the fraction trimmed from every side.")
    height, width = pixels.shape[:2]
    if crop < 0:
        rows, columns = round(-crop * height), round(-crop * width)
        padded = np.zeros((height + 2 * rows, width + 2 * columns, 3), np.uint8)
        padded[rows : rows + height, columns : columns + width] = pixels
        return padded
    rows = min(round(crop * height), (height - 1) // 2)
    columns = min(round(crop * width), (width - 1) // 2)
    return pixels[rows : height - rows, columns : width - columns]


def letterbox(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture to fit a network's input, its proportions kept, the rest black.

    Number for number what deepface 0.0.103 does in ``preprocessing.resize_image``: ``cv2.resize`` with bilinear
    interpolation, sides cut down to whole pixels, centred. A side that would vanish, on which deepface fails, becomes
    one pixel.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        A picture.
    size : tuple of int
        The height and width wanted, in pixels.

    Returns
    -------
    ndarray of shape (size[0], size[1], 3), uint8
        `pixels` themselves where they have this size already.

    Examples
    --------
    >>> letterbox(np.full((10, 20, 3), 255, np.uint8), (8, 8))[:, 0, 0].tolist()
    [0, 0, 255, 255, 255, 255, 0, 0]
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    import cv2

    height, width = pixels.shape[:2]
    factor = min(size[0] / height, size[1] / width)
    scaled = cv2.resize(pixels, (max(1, int(width * factor)), max(1, int(height * factor))))
    top, left = (size[0] - scaled.shape[0]) // 2, (size[1] - scaled.shape[1]) // 2
    boxed = np.zeros((size[0], size[1], 3), np.uint8)
    boxed[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return boxed
