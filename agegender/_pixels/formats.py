"""The format and size that a picture file claims, read from its bytes before a decoder allocates memory.

Five formats are parsed here. Pillow's WebP and GIF readers allocate memory for the header's size when they
open a file. Its JPEG reader notices a missing end only while decoding. Its PNG reader does not check the
checksums of pixel data. Its TIFF reader expands tags of any size. For the other formats, opening a file
allocates nothing, and Pillow's header parser is used.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

__all__ = ["FORMATS", "Unreadable", "exif_orientation", "measure", "sniff"]

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")

# A file with more parts than any real file was made to keep a reader busy.
_MOST_PARTS = 100_000
_MOST_JUNK = 65_536
_MOST_SCANS = 100
_MOST_TAGS = 4_096
_MOST_TAG_BYTES = 64 * 2**20
# Pillow makes a Python number from each value, which takes sixteen times the file's bytes.
_MOST_NUMBERS = 2**18
# TIFF tiles may be larger than a small picture, and may extend beyond the edge of a large one.
_ANY_TILE = 2**22
_MOST_PADDING = 1.25
_TIFF_SIDES = (256, 257, 322, 323)
_TIFF_NUMBERS = frozenset({3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18})
_TIFF_SIZES = dict(
    zip([*range(1, 14), 16, 17, 18], [1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 8, 8, 8], strict=True)
)

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)

_STRANGERS = (
    (b"%PDF", "a PDF document; save its page as a JPEG or PNG file"),
    (b"PK\x03\x04", "a zip archive; unpack it and pass the pictures in it"),
    (b"\x1f\x8b", "a gzip archive; unpack it and pass the pictures in it"),
    (b"version https://git-lfs", "a Git LFS pointer, not the picture itself; run: git lfs pull"),
    (b"\x93NUMPY", "a NumPy file; load it with np.load and pass the array"),
    (b"8BPS", "a Photoshop file; save it as JPEG or PNG"),
    (b"\0\0\1\0", "an icon file; save it as PNG"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file; save it as JPEG or PNG"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 file; save it as JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL file; save it as JPEG or PNG"),
    (b"\xff\x0a", "a JPEG XL file; save it as JPEG or PNG"),
)

# The bytes that the Unix `file` command accepts in text: all except control characters that do not occur in
# text.
_TEXT = bytes({7, 8, 9, 10, 12, 13, 27} | set(range(0x20, 0x100)) - {0x7F})


class Unreadable(ValueError):
    """The bytes are not a picture that may be decoded; the message is the reason."""


def sniff(content: bytes) -> str:
    """Return the format, one of `FORMATS`, from the first bytes; the file's name is not used."""
    for magic, name in _MAGIC:
        if content.startswith(magic):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp":
        return _sniff_brands(content)
    raise Unreadable(f"is {_stranger(content)}")


def _sniff_brands(content: bytes) -> str:
    end = min(int.from_bytes(content[:4], "big"), 256, len(content))
    brands = [content[8:12], *(content[start : start + 4] for start in range(16, end, 4))]
    if not _AVIF_BRANDS.isdisjoint(brands):
        return "AVIF"
    if not _HEIC_BRANDS.isdisjoint(brands):
        return "HEIC"
    raise Unreadable("is a video or another ISO media file; pass a frame of it, saved as JPEG or PNG")


def _stranger(content: bytes) -> str:
    if not content:
        return "empty: there are no bytes in it"
    for magic, name in _STRANGERS:
        if content.startswith(magic):
            return name
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "an SVG drawing, not pixels; render it to PNG first"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, most likely an error page saved by a download; fetch the picture again"
    if not content[:512].translate(None, _TEXT):
        return f"text, not a picture (it begins with {content[:20]!r})"
    return f"in no known format (it begins with {content[:8]!r}); known are {', '.join(FORMATS)}"


def measure(name: str, content: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the header, after a check for truncated files.

    The result is None for formats whose Pillow reader allocates nothing before pixels are requested.
    """
    walk = _WALKS.get(name)
    if walk is None:
        return None
    try:
        return walk(content)
    except (IndexError, struct.error):
        raise Unreadable(_cut_off(name, "its header is not complete")) from None


def _cut_off(name: str, how: str) -> str:
    return f"is a truncated {name} file: {how}; copy or download it again"


def _jpeg(content: bytes) -> tuple[int, int]:
    """Parse the segments up to the first scan, then search for the end marker (missing if truncated)."""
    size, position, junk = None, 2, 0
    for _ in range(_MOST_PARTS):
        found = content.find(b"\xff", position)
        junk += found - position
        if found < 0 or junk > _MOST_JUNK:
            break
        marker, position = content[found + 1], found + 2
        if marker == 0xFF:
            position -= 1
        elif marker == 0xD9:
            break
        elif marker > 0x01 and not 0xD0 <= marker <= 0xD8:
            (length,) = struct.unpack_from(">H", content, position)
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack_from(">HH", content, position + 3)
                size = width, height
            position += length
            if marker == 0xDA and size is not None:
                _check_scans(content, position)
                return size
    raise Unreadable(_cut_off("JPEG", "there is no picture after its header"))


def _check_scans(content: bytes, start: int) -> None:
    # In a scan 0xFF is always followed by 0x00 or a restart marker, so neither pair can occur by chance.
    end = content.find(b"\xff\xd9", start)
    if end < 0:
        raise Unreadable(_cut_off("JPEG", "its end-of-image marker is missing"))
    if content.count(b"\xff\xda", start, end) > _MOST_SCANS:
        raise Unreadable(f"is a JPEG file of more than {_MOST_SCANS} scans, made to keep a decoder busy")


def _png(content: bytes) -> tuple[int, int]:
    """Parse all chunks and compare each checksum."""
    size, position, view = None, 8, memoryview(content)
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            raise Unreadable(_cut_off("PNG", f"it ends within a chunk {kind!r}"))
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise Unreadable(f"is a damaged PNG file: the checksum of a chunk {kind!r} is wrong")
        if size is None:
            size = struct.unpack_from(">II", content, position + 8)
        if kind == b"IEND":
            return size
        position = end + 4
    raise Unreadable(f"is a PNG file of more than {_MOST_PARTS:,} chunks, made to keep a decoder busy")


def _gif(content: bytes) -> tuple[int, int]:
    """Find the first frame; a frame that extends beyond the screen enlarges it, as in Pillow."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    within_extension = False
    for _ in range(_MOST_PARTS):
        block = content[position]
        if within_extension:
            within_extension, position = block != 0, position + 1 + block
        elif block == 0x21:
            within_extension, position = True, position + 2
        elif block == 0x2C:
            left, top, wide, high = struct.unpack_from("<4H", content, position + 1)
            return max(width, left + wide), max(height, top + high)
        elif block == 0x3B:
            break
        else:
            position += 1
    raise Unreadable("is a GIF file without a picture in it")


def _webp(content: bytes) -> tuple[int, int]:
    if int.from_bytes(content[4:8], "little") + 8 > len(content):
        raise Unreadable(_cut_off("WebP", "it is shorter than its header says"))
    kind = content[12:16]
    if kind == b"VP8X":
        return _uint24(content, 24) + 1, _uint24(content, 27) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise Unreadable(f"is a WebP file with an unknown first chunk {kind!r}")


def _uint24(content: bytes, position: int) -> int:
    return int.from_bytes(content[position : position + 3], "little")


def _tiff(content: bytes) -> tuple[int, int]:
    """Read the first directory, and limit what Pillow and libtiff would expand or allocate because of it."""
    order = ">" if content[:1] == b"M" else "<"
    wide = content[2:4] in (b"+\0", b"\0+")
    offset, number, entry = ("Q", "Q", "HHQ") if wide else ("I", "H", "HHI")
    (start,) = struct.unpack_from(order + offset, content, 8 if wide else 4)
    (count,) = struct.unpack_from(order + number, content, start)
    if count > _MOST_TAGS:
        raise Unreadable(f"is a TIFF file with {count:,} tags; {_MOST_TAGS:,} are the most that are read")
    first, step = start + struct.calcsize(number), 20 if wide else 12
    sides: dict[int, int] = {}
    n_bytes = 0
    for place in range(first, first + count * step, step):
        tag, kind, n_values = struct.unpack_from(order + entry, content, place)
        size = n_values * _TIFF_SIZES.get(kind, 0)
        n_bytes += size
        if n_bytes > _MOST_TAG_BYTES or (kind in _TIFF_NUMBERS and n_values > _MOST_NUMBERS):
            raise Unreadable(
                f"is a TIFF file whose tag {tag} has {n_values:,} values, more than are read; save it as one flat "
                "picture, as JPEG or PNG"
            )
        if tag in _TIFF_SIDES and n_values == 1 and kind in (3, 4, 16):
            value = place + (12 if wide else 8)
            (sides[tag],) = struct.unpack_from(order + {3: "H", 4: "I", 16: "Q"}[kind], content, value)
    return _tiff_size(*(sides.get(tag, 0) for tag in _TIFF_SIDES))


def _tiff_size(width: int, height: int, tile_width: int, tile_height: int) -> tuple[int, int]:
    # libtiff allocates a whole tile, even if the picture is much smaller.
    if tile_width * tile_height > max(_ANY_TILE, _MOST_PADDING * width * height):
        raise Unreadable(
            f"is a TIFF file of {width} × {height} pixels in tiles of {tile_width} × {tile_height}, "
            "made to take memory"
        )
    return width, height


_WALKS: dict[str, Callable[[bytes], tuple[int, int] | None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WebP": _webp,
    "TIFF": _tiff,
}


def exif_orientation(exif: object) -> int:
    """Return the orientation, 1 … 8, from EXIF bytes; 1 if it is missing or not valid.

    Pillow's reader is not used, because it warns about damaged EXIF and may raise an exception. A photograph
    must not be rejected because of its metadata.
    """
    if not isinstance(exif, bytes):
        return 1
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    count = struct.unpack_from(order + "H", tiff, start)[0] if start + 2 <= len(tiff) else 0
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == 0x0112:
            return value if kind == 3 and 1 <= value <= 8 else 1
    return 1
