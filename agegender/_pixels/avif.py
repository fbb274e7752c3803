"""The true size of the frames coded in an AVIF file, independent of the size given in its boxes.

libavif decodes a frame at the size given in its AV1 data, up to 268 million pixels, and only then scales it
to the size given in the boxes. The size in the boxes is therefore compared with the sequence headers here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from agegender._pixels.formats import Unreadable

__all__ = ["check_frames"]

# Colour, transparency and a gain map or thumbnail may each be as large as the picture; small layers may be
# padded.
_MOST_LAYERS = 3
_PADDING = 2**22
_LONGEST_LIST = 2**20
_MOST_UNITS = 100_000
_SEQUENCE_HEADER = 1


def check_frames(content: bytes, width: int, height: int) -> None:
    """Reject a file whose coded frames are far larger than the picture size that it claims."""
    try:
        n_coded = max((sum(map(_frame, source)) for source in _sources(content)), default=0)
    except (IndexError, struct.error):
        raise Unreadable(
            "is a damaged AVIF file: its boxes or frames are not complete; save it again"
        ) from None
    if n_coded > _MOST_LAYERS * width * height + _PADDING:
        raise Unreadable(f"claims {width} × {height} pixels and has frames of {n_coded:,} pixels in it")


def _sources(content: bytes) -> Iterator[Iterator[bytes]]:
    """Yield the AV1 data of still pictures and of tracks' first frames; libavif decodes one or the other."""
    for kind, start, end in _boxes(content, 0, len(content)):
        if kind == b"meta":
            yield _items(content, start + 4, end)
        elif kind == b"moov":
            tables = _inside(content, start, end, b"trak", b"mdia", b"minf", b"stbl")
            yield (_first_sample(content, *table) for table in tables)


def _boxes(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise IndexError
        yield kind, start + head, start + size
        start += size


def _inside(content: bytes, start: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    if not path:
        yield start, end
        return
    for kind, first, last in _boxes(content, start, end):
        if kind == path[0]:
            yield from _inside(content, first, last, *path[1:])


def _items(content: bytes, start: int, end: int) -> Iterator[bytes]:
    boxes = {kind: (first, last) for kind, first, last in _boxes(content, start, end)}
    if b"iloc" not in boxes or b"iinf" not in boxes:
        return
    if any(boxes[kind][1] - boxes[kind][0] > _LONGEST_LIST for kind in (b"iloc", b"iinf")):
        raise IndexError
    coded = _av1_items(content, *boxes[b"iinf"])
    (inline, _) = boxes.get(b"idat", (0, 0))
    n_bytes = 0
    for item, extents in _locations(content, boxes[b"iloc"][0], inline):
        if item in coded:
            n_bytes += sum(last - first for first, last in extents)
            if n_bytes > len(content):
                raise IndexError
            yield b"".join(content[first:last] for first, last in extents)


def _av1_items(content: bytes, start: int, end: int) -> set[int]:
    found = set()
    version = content[start]
    for kind, first, _ in _boxes(content, start + (6 if version == 0 else 8), end):
        if kind == b"infe" and content[first] >= 2:
            form = ">H2x4s" if content[first] == 2 else ">I2x4s"
            number, item_type = struct.unpack_from(form, content, first + 4)
            if item_type == b"av01":
                found.add(number)
    return found


def _locations(content: bytes, start: int, inline: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield each item's number and the positions of its parts in the file (ISO/IEC 14496-12, 8.11.3)."""
    version, sizes, more = content[start], content[start + 4], content[start + 5]
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version else 0
    place = start + 6

    def number(size: int) -> int:
        nonlocal place
        place += size
        if place > len(content):
            raise IndexError
        return int.from_bytes(content[place - size : place], "big")

    for _ in range(number(2 if version < 2 else 4)):
        item = number(2 if version < 2 else 4)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size) + (inline if method == 1 else 0)
        extents = []
        for _ in range(number(2)):
            number(index_size)
            first = base + number(offset_size)
            length = number(length_size)
            extents.append((first, min(len(content), first + length if length else len(content))))
        yield item, extents


def _first_sample(content: bytes, start: int, end: int) -> bytes:
    boxes = {kind: first for kind, first, _ in _boxes(content, start, end)}
    if b"stsz" not in boxes or (b"stco" not in boxes and b"co64" not in boxes):
        return b""
    size, _, first_size = struct.unpack_from(">III", content, boxes[b"stsz"] + 4)
    form, chunks = (">4xII", boxes[b"stco"]) if b"stco" in boxes else (">4xIQ", boxes[b"co64"])
    _, offset = struct.unpack_from(form, content, chunks)
    return content[offset : offset + (size or first_size)]


def _frame(data: bytes) -> int:
    """Return the number of pixels of the largest frame in AV1 data (AV1 specification, 5.3 to 5.5)."""
    largest = place = 0
    for _ in range(_MOST_UNITS):
        if place >= len(data):
            return largest
        kind, extended, sized = data[place] >> 3 & 15, data[place] & 4, data[place] & 2
        place += 2 if extended else 1
        size = len(data) - place
        if sized:
            size, place = _leb128(data, place)
        if kind == _SEQUENCE_HEADER:
            largest = max(largest, _sequence(data[place : place + size]))
        place += size
    raise IndexError


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        value |= (data[place] & 0x7F) << 7 * i
        place += 1
        if data[place - 1] < 0x80:
            break
    return value, place


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.left = 8 * len(data)
        self.value = int.from_bytes(data, "big")

    def __call__(self, n: int) -> int:
        self.left -= n
        if self.left < 0:
            raise IndexError
        return self.value >> self.left & (1 << n) - 1


def _sequence(data: bytes) -> int:
    bits = _Bits(data[:1024])
    bits(4)  # profile, still picture
    if bits(1):  # the short form for still pictures
        bits(5)
    else:
        _operating_points(bits)
    width_bits, height_bits = bits(4) + 1, bits(4) + 1
    return (bits(width_bits) + 1) * (bits(height_bits) + 1)


def _operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits(1):  # timing
        bits(64)
        if bits(1):
            n_zeros = 0
            while not bits(1):
                n_zeros += 1
            bits(n_zeros if n_zeros < 32 else 0)
        if bits(1):  # decoder model
            delay_bits = bits(5) + 1
            bits(42)
    delays_shown = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > 7:
            bits(1)
        if delay_bits and bits(1):
            bits(2 * delay_bits + 1)
        if delays_shown and bits(1):
            bits(4)
