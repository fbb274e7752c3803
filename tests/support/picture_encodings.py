"""One small picture in every encoding that is accepted, with the pixels that should come of it.

The keys are the rows of the first table in docs/pictures.md.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 32, 48


class Encoded(NamedTuple):
    content: bytes
    expected: NDArray[np.uint8]
    tolerance: float = 0.0  # of the mean absolute difference, in grey levels


def rgb() -> NDArray[np.uint8]:
    """A smooth picture that looks different from each of its eight sides."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([rows * 7, columns * 5, (rows + columns) * 3], axis=2).astype(np.uint8)


def grey() -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(rgb()).convert("L"))


def three(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(channel[..., np.newaxis], 3, axis=2)


def on_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = alpha[..., np.newaxis] / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def alpha() -> NDArray[np.uint8]:
    """Opaque at the left, transparent at the right."""
    return np.broadcast_to(np.linspace(255, 0, WIDTH).astype(np.uint8), (HEIGHT, WIDTH)).copy()


def encode(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: tuple[bytes, bytes], bits: int = 8, color: int = 2) -> bytes:
    """A PNG file of hand-made chunks, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def tiff(pixels: bytes, **tags: tuple[int, int]) -> bytes:
    """An uncompressed TIFF file with the tags given as number=(type, value) of one SHORT or LONG each."""
    entries = [(int(name[1:]), kind, 1, value) for name, (kind, value) in sorted(tags.items())]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + struct.pack("<I", 0)


def grey_tiff(
    samples: bytes, bits: int, *, photometric: int = 1, sample_format: int = 1, side: int = 0
) -> bytes:
    return tiff(
        samples,
        t256=(4, side or WIDTH),
        t257=(4, side or HEIGHT),
        t258=(3, bits),
        t259=(3, 1),
        t262=(3, photometric),
        t273=(4, 8),
        t277=(3, 1),
        t278=(4, side or HEIGHT),
        t279=(4, len(samples)),
        t339=(3, sample_format),
    )


def tiled_tiff(side: int, *, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A grey picture in one tile of side × side pixels, compressed by deflate."""
    tile = np.zeros((min(side, 64), min(side, 64)), np.uint8)
    tile[:HEIGHT, :WIDTH] = grey()
    samples = zlib.compress(tile.tobytes())
    return tiff(
        samples,
        t256=(4, width),
        t257=(4, height),
        t258=(3, 8),
        t259=(3, 8),
        t262=(3, 1),
        t277=(3, 1),
        t322=(4, side),
        t323=(4, side),
        t324=(4, 8),
        t325=(4, len(samples)),
    )


def exif(orientation: int, *, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def without_adobe_marker(content: bytes) -> bytes:
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") :]


def _jpegs() -> dict[str, Encoded]:
    photo = Image.fromarray(rgb())
    ink = photo.convert("CMYK")
    options = {"quality": 95, "subsampling": 0}
    cmyk = encode(ink, "JPEG", **options)
    return {
        "JPEG, baseline": Encoded(encode(photo, "JPEG", **options), rgb(), 2),
        "JPEG, progressive": Encoded(encode(photo, "JPEG", progressive=True, **options), rgb(), 2),
        "JPEG, grey": Encoded(encode(photo.convert("L"), "JPEG", quality=95), three(grey()), 2),
        "JPEG, CMYK with Adobe's marker": Encoded(cmyk, rgb(), 3),
        "JPEG, CMYK without Adobe's marker": Encoded(without_adobe_marker(cmyk), rgb(), 3),
        "JPEG, several pictures (MPO)": Encoded(
            encode(photo, "MPO", save_all=True, append_images=[photo.rotate(180)], **options), rgb(), 2
        ),
    }


def _pngs() -> dict[str, Encoded]:
    photo = Image.fromarray(rgb())
    wide = (rgb().astype(np.uint16) << 8) + 200
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    few = photo.quantize(16, dither=Image.Dither.NONE)
    see_through = few.copy()
    see_through.info["transparency"] = bytes([0] + [255] * 15)
    hidden = on_white(np.asarray(few.convert("RGB")), np.where(np.asarray(few) == 0, 0, 255).astype(np.uint8))
    tall = grey().astype(np.uint16) * 257
    return {
        "PNG, RGB": Encoded(encode(photo, "PNG"), rgb()),
        "PNG, grey": Encoded(encode(grey(), "PNG"), three(grey())),
        "PNG, black and white": Encoded(
            encode(Image.fromarray(grey() > 99), "PNG"), three((grey() > 99) * np.uint8(255))
        ),
        "PNG, transparent (RGBA)": Encoded(
            encode(np.dstack([rgb(), alpha()]), "PNG"), on_white(rgb(), alpha()), 0.6
        ),
        "PNG, transparent grey": Encoded(
            encode(Image.merge("LA", [Image.fromarray(grey()), Image.fromarray(alpha())]), "PNG"),
            on_white(three(grey()), alpha()),
            0.6,
        ),
        "PNG, palette": Encoded(encode(few, "PNG"), np.asarray(few.convert("RGB"))),
        "PNG, transparent palette": Encoded(encode(see_through, "PNG"), hidden),
        "PNG, 16 bits, grey": Encoded(encode(tall, "PNG"), three(grey())),
        "PNG, 16 bits, RGB": Encoded(png(WIDTH, HEIGHT, (b"IDAT", zlib.compress(rows)), bits=16), rgb()),
        "PNG, animated": Encoded(
            encode(photo, "PNG", save_all=True, append_images=[photo.rotate(180)], default_image=False), rgb()
        ),
    }


def _web() -> dict[str, Encoded]:
    photo, turned = Image.fromarray(rgb()), Image.fromarray(rgb()[::-1, ::-1])
    clear = Image.fromarray(np.dstack([rgb(), alpha()]))
    few = photo.quantize(16, dither=Image.Dither.NONE)
    shown = np.asarray(few.convert("RGB"))
    hidden = on_white(shown, np.where(np.asarray(few) == 3, 0, 255).astype(np.uint8))
    return {
        "WebP, lossy": Encoded(encode(photo, "WEBP", quality=95), rgb(), 3),
        "WebP, lossless": Encoded(encode(photo, "WEBP", lossless=True), rgb()),
        "WebP, transparent": Encoded(
            encode(clear, "WEBP", lossless=True, exact=True), on_white(rgb(), alpha()), 0.6
        ),
        "WebP, animated": Encoded(
            encode(photo, "WEBP", lossless=True, save_all=True, append_images=[turned]), rgb()
        ),
        "GIF": Encoded(encode(few, "GIF"), shown),
        "GIF, transparent": Encoded(encode(few, "GIF", transparency=3), hidden),
        "GIF, animated": Encoded(
            encode(few, "GIF", save_all=True, append_images=[few.rotate(180)]),
            shown,
        ),
        "AVIF": Encoded(encode(photo, "AVIF", quality=95), rgb(), 3),
        "AVIF, animated": Encoded(
            encode(clear, "AVIF", quality=95, save_all=True, append_images=[clear.rotate(180)]),
            on_white(rgb(), alpha()),
            3,
        ),
        "AVIF, transparent": Encoded(encode(clear, "AVIF", quality=95), on_white(rgb(), alpha()), 3),
    }


def _others() -> dict[str, Encoded]:
    photo = Image.fromarray(rgb())
    few = photo.quantize(16, dither=Image.Dither.NONE)
    deep = (rgb()[..., ::-1].astype(np.uint16) << 8) + 100
    twelve = (grey().astype(np.uint32) << 4).reshape(-1, 2)
    packed = (twelve[:, 0] << 12 | twelve[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    sixteen = (grey().astype("<u2") * 257).tobytes()
    return {
        "BMP": Encoded(encode(photo, "BMP"), rgb()),
        "BMP, palette": Encoded(encode(few, "BMP"), np.asarray(few.convert("RGB"))),
        "BMP, 32 bits": Encoded(encode(np.dstack([rgb(), alpha() * 0]), "BMP"), rgb()),
        "TIFF": Encoded(encode(photo, "TIFF"), rgb()),
        "TIFF, compressed (LZW)": Encoded(encode(photo, "TIFF", compression="tiff_lzw"), rgb()),
        "TIFF, compressed (JPEG)": Encoded(encode(photo, "TIFF", compression="jpeg", quality=95), rgb(), 3),
        "TIFF, in a tile larger than the picture": Encoded(tiled_tiff(64), three(grey())),
        "TIFF, CMYK": Encoded(encode(photo.convert("CMYK"), "TIFF"), rgb(), 1),
        "TIFF, L*a*b* colours": Encoded(encode(photo.convert("LAB"), "TIFF"), rgb(), 3),
        "TIFF, 12 bits, grey": Encoded(grey_tiff(packed, 12), three(grey())),
        "TIFF, 16 bits, grey": Encoded(grey_tiff(sixteen, 16), three(grey())),
        "TIFF, 16 bits, grey, zero is white": Encoded(
            grey_tiff(sixteen, 16, photometric=0), three(255 - grey())
        ),
        "TIFF, 16 bits, RGB": Encoded(cv2.imencode(".tif", deep)[1].tobytes(), rgb()),
        "TIFF, several pages": Encoded(
            encode(photo, "TIFF", save_all=True, append_images=[photo.rotate(180)]), rgb()
        ),
    }


def heic() -> Encoded:
    """Need pillow-heif."""
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(rgb())).save(file, quality=95)
    return Encoded(file.getvalue(), rgb(), 4)


@cache
def encodings() -> dict[str, Encoded]:
    """Every encoding but HEIC, by name."""
    return {**_jpegs(), **_pngs(), **_web(), **_others()}
