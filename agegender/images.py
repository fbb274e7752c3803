"""Reading and decoding pictures: upright RGB ``uint8`` pixels, or an error with the reason.

The tables in ``docs/pictures.md`` list what is accepted, what is refused and how each kind is converted.
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

from agegender._pixels.decoding import check_header, decode_bytes, jpeg_size, open_image, to_pixels
from agegender._pixels.formats import FORMATS, Unreadable
from agegender._pixels.reading import MAX_FILE_BYTES, read_file
from agegender._pixels.remote import read_url
from agegender._pixels.turns import turn_of
from agegender._utils.stored import StoredPicture
from agegender._utils.urls import is_url, public
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
    "shrink_factor",
    "trim",
]

Picture: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | StoredPicture
Content: TypeAlias = bytes | NDArray[np.uint8]

PREPROCESSING_VERSION = 1
"""Part of every cache key; increased whenever the same picture would give other pixels than before."""

MAX_PIXELS = 64_000_000
"""The default limit of pixels that a header may claim; see ``AGEGENDER_MAX_PIXELS``."""

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split()  # noqa: SIM905
)
"""Suffixes of pictures in lower case, for searching a folder; the format is recognised by the file's bytes."""


def pixel_cap() -> int:
    """Return the default limit of pixels that a header may claim.

    The environment variable ``AGEGENDER_MAX_PIXELS`` sets it for everything that reads pictures in this process
    and in its child processes. If it is not set, the limit is `MAX_PIXELS`.

    Returns
    -------
    int
        Width × height, in pixels.

    Raises
    ------
    ValueError
        If the variable is not a whole number above 0.

    See Also
    --------
    agegender.images.decode : Decode a picture.

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
    """Turn any exception of a decoder into an error that names the picture."""
    try:
        yield
    except PictureError:
        raise
    except Unreadable as error:
        raise PictureError(describe(picture), str(error)) from error.__cause__
    except MemoryError as error:
        raise PictureError(describe(picture), "needs more memory to decode than is available") from error
    except Exception as error:
        # Pillow's plugins raise many kinds of exceptions on damaged data: SyntaxError, OSError, struct.error,
        # KeyError, …
        said = f"{type(error).__name__}: {error}"[:200]
        reason = f"is damaged, or of a kind that cannot be decoded ({said}); save it again as JPEG or PNG"
        raise PictureError(describe(picture), reason) from error


def describe(picture: object) -> str:
    """Return a short name of a picture for messages and reports.

    Parameters
    ----------
    picture : Picture
        A path, encoded bytes, a PIL image or an array; for any other object, its type is named.

    Returns
    -------
    str
        One line of at most 300 characters.

    See Also
    --------
    agegender.images.read : Read a picture's content.

    Examples
    --------
    >>> describe("faces/anna.jpg"), describe(b"12345")
    ('faces/anna.jpg', 'bytes (5)')
    >>> describe(np.zeros((4, 3, 3), np.uint8))
    'array (4, 3, 3)'
    """
    if isinstance(picture, (str, os.PathLike)):
        path = str(os.fspath(picture))
        path = public(path) if is_url(path) else path
        name = path if path.isprintable() else repr(path)[1:-1]
        return name if len(name) <= 300 else f"{name[:148]} … {name[-149:]}"
    if isinstance(picture, StoredPicture):
        return describe(str(picture))
    if isinstance(picture, bytes):
        return f"bytes ({len(picture)})"
    if isinstance(picture, np.ndarray):
        return f"array {picture.shape}"
    if isinstance(picture, Image.Image):
        return f"{picture.mode} image {picture.size}"
    return type(picture).__name__


def read(picture: Picture) -> Content:
    """Return the raw content of a picture, from which its digest is computed and its pixels are decoded.

    Parameters
    ----------
    picture : str, path, bytes, PIL.Image.Image or ndarray of shape (h, w, 3) or (h, w), uint8
        A file's path or URL, an encoded picture, or pixels. URLs are opened by fsspec (``agegender[remote]``), with
        the store's own credentials, and tried again where the store fails for a time.

    Returns
    -------
    bytes or ndarray of shape (h, w, 3), uint8
        The bytes of a file, or the upright RGB pixels of a PIL image or an array. An array that is already RGB
        and contiguous is returned without a copy.

    Raises
    ------
    PictureError
        If the file does not exist, cannot be read, is not a regular file, is empty or larger than
        `MAX_FILE_BYTES`, or changes while it is read, if its store fails every time, or if it is not clear how to use
        the pixels.

    See Also
    --------
    agegender.images.decode : Decode a picture.
    agegender.images.digest : The digest of a picture's content.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, StoredPicture):
        return _read_stored(picture)
    if isinstance(picture, (str, os.PathLike)):
        with _naming(picture):
            return read_url(picture) if is_url(picture) else read_file(os.fspath(picture))
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


def _read_stored(picture: StoredPicture) -> Content:
    """Read a picture out of its container, with errors that name its place there."""
    try:
        return read(picture.read())
    except PictureError as error:
        raise PictureError(describe(picture), error.reason) from error.__cause__
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:200]
        raise PictureError(describe(picture), f"cannot be read from where it is stored ({said})") from error


def digest(content: Content) -> bytes:
    """Return the digest of a picture's content: 16 bytes of BLAKE2b.

    Parameters
    ----------
    content : bytes or ndarray of shape (h, w, 3), uint8
        The result of `read`.

    Returns
    -------
    bytes
        Of length 16. Pixels are hashed with their shape and a tag, so that they differ from encoded bytes.

    See Also
    --------
    agegender.images.read : Read a picture's content.

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
    """Check quickly whether a picture can be decoded.

    Format, header and claimed size are checked, and for JPEG, PNG and WebP whether the file is complete. This
    takes about 40 µs for a small JPEG file.

    Parameters
    ----------
    content : bytes or ndarray of shape (h, w, 3), uint8
        The result of `read`.
    max_pixels : int, default=None
        The largest number of pixels, width × height, that the header may claim. If None, see `pixel_cap`.
    full : bool, default=False
        Also decode the picture, which finds damage in its pixels.

    Raises
    ------
    PictureError
        If `decode` would certainly refuse the picture; with `full`, if and only if it refuses it.

    See Also
    --------
    agegender.images.decode : Decode a picture.
    """
    if full or not isinstance(content, bytes):
        decode(content, max_pixels=max_pixels)
    else:
        max_pixels = pixel_cap() if max_pixels is None else max_pixels
        with _naming(content):
            open_image(content, max_pixels)


def decode(content: Content, *, max_pixels: int | None = None, shrink: int = 1) -> NDArray[np.uint8]:
    """Decode a picture to upright RGB pixels.

    Parameters
    ----------
    content : bytes or ndarray of shape (h, w, 3) or (h, w), uint8
        The result of `read`. An array is checked and returned.
    max_pixels : int, default=None
        The largest number of pixels, width × height, that the header of encoded bytes may claim; it is checked
        before memory is allocated. If None, see `pixel_cap`.
    shrink : {1, 2, 4, 8}, default=1
        A JPEG file is decoded at this fraction of its sides, which takes less time and memory; other formats are
        decoded whole. See :func:`shrink_factor`.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        Contiguous, in the order red, green, blue, rotated by the EXIF orientation. Grey values are repeated in
        the three channels, transparent pictures get a white background, of 16 bits per channel the lower eight
        are dropped, and colour profiles are not applied. A usual JPEG file gives the same pixels as
        ``cv2.imread``.

    Raises
    ------
    PictureError
        If the format is not accepted, the file is truncated or damaged, its header claims more than
        `max_pixels`, or the range of the values is unknown (floats, 32-bit integers).

    See Also
    --------
    agegender.images.read : Read a picture's content.
    agegender.images.load : Read and decode a picture.

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
        return decode_bytes(content, max_pixels, shrink)


def shrink_factor(content: Content, least_side: float, *, longer: bool = False) -> int:
    """Return how far a JPEG file can be shrunk by its decoder, so that a side keeps a number of pixels.

    Parameters
    ----------
    content : bytes or ndarray
        The result of `read`.
    least_side : float
        Pixels that the shorter side has at least afterwards.
    longer : bool, default=False
        Whether it is the longer side instead.

    Returns
    -------
    int
        1, 2, 4 or 8; 1 of anything but a JPEG file.

    Raises
    ------
    PictureError
        If the bytes are no picture.

    See Also
    --------
    agegender.images.decode : Decode a picture.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> Image.new("L", (4000, 3000), 200).save(file, "JPEG")
    >>> factor = shrink_factor(file.getvalue(), 600)
    >>> factor, decode(file.getvalue(), shrink=factor).shape
    (4, (750, 1000, 3))
    """
    if isinstance(content, np.ndarray):
        return 1
    with _naming(content):
        size = jpeg_size(content)
    if size is None:
        return 1
    side = max(size) if longer else min(size)
    return next((factor for factor in (8, 4, 2) if side / factor >= least_side), 1)


def load(picture: Picture, *, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """Read and decode a picture: `decode` of `read`, with errors that name the picture.

    Parameters
    ----------
    picture : str, path, bytes, PIL.Image.Image or ndarray of shape (h, w, 3) or (h, w), uint8
        A file's path, an encoded picture, or pixels.
    max_pixels : int, default=None
        The largest number of pixels, width × height, that a file's header may claim. If None, see `pixel_cap`.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        Upright RGB pixels, contiguous.

    Raises
    ------
    PictureError
        For the reasons given in `read` and `decode`.

    See Also
    --------
    agegender.images.read : Read a picture's content.
    agegender.images.decode : Decode a picture.
    """
    content = read(picture)
    try:
        return decode(content, max_pixels=max_pixels)
    except PictureError as error:
        raise PictureError(describe(picture), error.reason) from error.__cause__


def _check_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an array of pixels as contiguous RGB; the error explains how to convert other arrays."""
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
        The fraction of the height trimmed from top and bottom each, and of the width from left and right each,
        from −1 to below 0.5. If negative, a black border of that size is added. At least one pixel remains.

    Returns
    -------
    ndarray of shape (h', w', 3), uint8
        A view if something is trimmed; `pixels` itself if nothing is.

    Raises
    ------
    ValueError
        If `crop` is outside its range.

    See Also
    --------
    agegender.images.letterbox : Scale a picture to a network's input size.

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
    """Scale a picture to a network's input size, with its proportions kept and a black border.

    The result is the same as that of ``preprocessing.resize_image`` of deepface 0.0.103: ``cv2.resize`` with
    bilinear interpolation, sides rounded down to whole pixels, centred. If a side would have no pixels,
    deepface fails; here it gets one pixel.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
        A picture.
    size : tuple of int
        The required height and width, in pixels.

    Returns
    -------
    ndarray of shape (size[0], size[1], 3), uint8
        `pixels` itself if it already has this size.

    See Also
    --------
    agegender.images.trim : Trim a fraction from every side.

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
