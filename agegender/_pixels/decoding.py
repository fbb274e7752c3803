"""Decoding with Pillow, from encoded bytes to upright RGB pixels.

Each format is opened by its own class. Registered plugins are not tried, and global limits and warning
filters are neither read nor changed, so that any number of threads can decode at the same time.
"""

from __future__ import annotations

import importlib
import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, WebPImagePlugin

from agegender._pixels.avif import check_frames
from agegender._pixels.formats import Unreadable, exif_orientation, measure, sniff

__all__ = ["check_header", "decode_bytes", "jpeg_size", "open_image", "to_pixels"]

# Pixels are converted in bands of about this many, so that three versions of a large picture are never in
# memory.
_BAND = 1 << 20

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Jpeg(JpegImagePlugin.JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        # Pillow warns here about damaged EXIF. Only the orientation is needed, and it is read elsewhere.
        pass


class _WebP(WebPImagePlugin.WebPImageFile):
    def _get_next(self) -> tuple[bytes, int, int]:
        # Only the first frame is needed. Without the decoder's two canvases, peak memory is 12 bytes per
        # pixel, not 16.
        frame = super()._get_next()
        self._decoder = None
        return frame


class _Strict(io.BytesIO):
    """A stream that raises an error at its end, even if another library set ``LOAD_TRUNCATED_IMAGES``."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data and size:
            raise EOFError("the file is truncated")
        return data


@cache
def _opener(name: str) -> type[ImageFile.ImageFile]:
    if name == "JPEG":
        return _Jpeg
    if name == "WebP":
        return _WebP
    if name == "HEIC":
        return _heic_opener()
    module = importlib.import_module(f"PIL.{name.capitalize()}ImagePlugin")
    opener: type[ImageFile.ImageFile] = getattr(module, f"{name.capitalize()}ImageFile")
    return opener


def _heic_opener() -> type[ImageFile.ImageFile]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise Unreadable("is a HEIC photograph; to read it: pip install 'agegender[heic]'") from error
    opener: type[ImageFile.ImageFile] = HeifImageFile
    return opener


def open_image(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Parse a picture's header; the claimed size is checked before it is passed to a decoder."""
    name = sniff(content)
    size = measure(name, content)
    if size is not None:
        _check_size(size, max_pixels)
    image = _opener(name)(io.BytesIO(content))
    check_header(image, max_pixels)
    if name == "AVIF":
        check_frames(content, *image.size)
    # Pillow would then fill the missing end of these files with black or grey. The other formats are checked
    # for a missing end, or read from a strict stream.
    if ImageFile.LOAD_TRUNCATED_IMAGES and name in ("BMP", "GIF", "TIFF"):
        image.fp = _Strict(content)
    return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise Unreadable(f"is {width} × {height} pixels in size by its header")
    if width * height > max_pixels:
        raise Unreadable(
            f"claims {width} × {height} pixels, more than the {max_pixels:,} that are allowed; scale it down, "
            "or set AGEGENDER_MAX_PIXELS where it comes from someone you trust"
        )


def check_header(image: Image.Image, max_pixels: int) -> None:
    """Reject a size above the limit, and pixels with an unknown value range."""
    _check_size(image.size, max_pixels)
    if image.mode in ("F", "I"):
        kind = "floating-point numbers" if image.mode == "F" else "integers of 32 bits"
        raise Unreadable(f"holds {kind}, whose range cannot be known; scale them to 0…255 and save as 8 bits")


def to_pixels(image: Image.Image, shrink: int = 1) -> NDArray[np.uint8]:
    """Decode an open image, turn it upright and convert it to RGB, band by band."""
    if shrink > 1:
        # A JPEG decoder can decode to a half, a quarter or an eighth by using fewer coefficients.
        image.draft(None, (max(1, image.width // shrink), max(1, image.height // shrink)))
    image.load()
    tags = getattr(image, "tag_v2", {})
    bits, inverted = tags.get(_BITS_PER_SAMPLE, (16,))[0], tags.get(_PHOTOMETRIC) == 0
    # The fourth channel of a BMP file is padding more often than transparency.
    transparent = image.has_transparency_data and image.format != "BMP"
    turn = _UPRIGHT.get(exif_orientation(image.info.get("exif")))
    if turn is not None:
        image = image.transpose(turn)
    width, height = image.size
    rows = max(1, _BAND // width)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        band = image if rows >= height else image.crop((0, top, width, bottom))
        if band.mode.startswith("I;16"):
            grey = (np.asarray(band) >> (bits - 8)).astype(np.uint8)[..., np.newaxis]
            pixels[top:bottom] = ~grey if inverted else grey
        else:
            pixels[top:bottom] = _rgb(band, transparent)
    return pixels


def _rgb(image: Image.Image, transparent: bool) -> NDArray[np.uint8]:
    if transparent:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def decode_bytes(content: bytes, max_pixels: int, shrink: int = 1) -> NDArray[np.uint8]:
    """Decode encoded bytes; exceptions of the decoder are not changed."""
    # The open image is not bound to a name, because it and a rotated copy would then both stay in memory.
    return to_pixels(open_image(content, max_pixels), shrink)


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return the upright height and width of a JPEG file from its header; None for other formats.

    Raises
    ------
    Unreadable
        If the file is truncated or its format is not known.
    """
    if sniff(content) != "JPEG":
        return None
    with _Jpeg(io.BytesIO(content)) as image:
        width, height = image.size
        sideways = exif_orientation(image.info.get("exif")) in (5, 6, 7, 8)
    return (width, height) if sideways else (height, width)
