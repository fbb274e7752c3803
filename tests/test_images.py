from __future__ import annotations

import errno
import io
import os
import random
import re
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from material import Material
from picture_encodings import (
    HEIGHT,
    WIDTH,
    Encoded,
    encode,
    encodings,
    exif,
    grey,
    grey_tiff,
    heic,
    png,
    png_chunk,
    rgb,
    three,
    tiled_tiff,
)
from PIL import Image, ImageFile
from unprivileged import not_root

from agegender import images
from agegender._pixels import avif, decoding
from agegender._pixels.formats import Unreadable
from agegender.exceptions import PictureError

DOCS = Path(__file__).resolve().parents[1] / "docs" / "pictures.md"


def refusal(content: bytes, **options: int) -> str:
    """The reason for which bytes are refused."""
    with pytest.raises(PictureError) as caught:
        images.decode(content, **options)
    return caught.value.reason


def decode_or_none(content: bytes) -> np.ndarray | None:
    """The pixels, or None for a refusal; any other error comes through."""
    try:
        pixels = images.decode(content)
    except PictureError:
        return None
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 0 < pixels.size <= 3 * images.MAX_PIXELS
    return pixels


def photo(height: int = 120, width: int = 160) -> Image.Image:
    """Noise enough for a file of several kilobytes."""
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray((noise + (rows + columns)[..., np.newaxis] // 2).clip(0, 255).astype(np.uint8))


# What is accepted, and how it is converted


@pytest.mark.parametrize("name", encodings())
def test_an_accepted_kind_comes_out_as_the_table_says(name: str) -> None:
    assert_decodes(encodings()[name])


def test_a_heic_photograph_is_decoded() -> None:
    pytest.importorskip("pillow_heif", reason="needs the extra: pip install 'agegender[heic]'")
    assert_decodes(heic())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_photograph_is_turned_upright_once(orientation: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs the extra: pip install 'agegender[heic]'")
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(rgb())).save(file, quality=95, exif=exif(orientation))
    jpeg = images.decode(encode(rgb(), "JPEG", quality=100, subsampling=0, exif=exif(orientation)))
    pixels = images.decode(file.getvalue())
    assert pixels.shape == jpeg.shape
    assert np.abs(pixels.astype(int) - jpeg).mean() < 4


def assert_decodes(encoded: Encoded) -> None:
    images.check(encoded.content)
    pixels = images.decode(encoded.content)
    assert pixels.dtype == np.uint8
    assert pixels.shape == encoded.expected.shape
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.abs(pixels.astype(int) - encoded.expected).mean() <= encoded.tolerance


def test_a_heic_photograph_names_the_extra_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    decoding._opener.cache_clear()
    content = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")
    assert "pip install 'agegender[heic]'" in refusal(content)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_oblong_photograph_is_turned_upright_as_opencv_does(
    orientation: int, order: str, tmp_path: Path
) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(encode(rgb(), "JPEG", quality=95, exif=exif(orientation, order=order)))
    pixels = images.load(path)
    assert pixels.shape == ((HEIGHT, WIDTH, 3) if orientation < 5 else (WIDTH, HEIGHT, 3))
    assert np.array_equal(pixels, cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_other_formats_are_turned_upright_once(kind: str, orientation: int) -> None:
    options = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "AVIF": {"quality": 100}}[kind]
    tag = Image.Exif()
    tag[0x0112] = orientation
    pixels = images.decode(encode(rgb(), kind, exif=tag, **options))
    jpeg = images.decode(encode(rgb(), "JPEG", quality=100, subsampling=0, exif=exif(orientation)))
    assert pixels.shape == jpeg.shape
    assert np.abs(pixels.astype(int) - jpeg).mean() < 2


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0XX*\0\x08\0\0\0\x01\0",
        exif(9),
        exif(0),
        exif(6)[:-8],
        exif(6).replace(b"\x08\0\0\0", b"\xff\xff\xff\xff"),
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x9a\x82\xff\x7f\xff\xff\xff\xff\0\0\0\x10" * 30,
    ],
)
def test_damaged_exif_leaves_a_photograph_as_it_is(block: bytes) -> None:
    pixels = images.decode(encode(rgb(), "JPEG", quality=95, exif=block))
    assert pixels.shape == (HEIGHT, WIDTH, 3)


def test_exif_of_a_megabyte_is_no_obstacle() -> None:
    plain = encode(rgb(), "JPEG", quality=95)
    segment = b"\xff\xe1" + struct.pack(">H", 65_002) + exif(1).ljust(65_000, b"\0")
    assert np.array_equal(images.decode(plain[:2] + segment * 16 + plain[2:]), images.decode(plain))


def test_real_jpegs_have_the_pixels_that_opencv_reads(shared: Material) -> None:
    paths = sorted((shared / "data/utkface_mini").glob("*.jpg"))
    assert len(paths) > 100
    different = [path.name for path in paths if not np.array_equal(images.load(path), bgr_turned(path))]
    assert different == []


def bgr_turned(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (33, 200), (200, 33), (121, 161)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}])
def test_a_jpeg_of_any_shape_has_the_pixels_that_opencv_reads(size: tuple[int, int], options: dict) -> None:
    content = encode(photo(*size), "JPEG", quality=80, **options)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(images.decode(content), expected)


def test_a_picture_of_many_bands_is_put_together_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: images.decode(encoded.content) for name, encoded in encodings().items()}
    monkeypatch.setattr(decoding, "_BAND", 5 * WIDTH)
    assert all(np.array_equal(images.decode(encodings()[name].content), whole[name]) for name in whole)


# What is refused


def claiming(side: int) -> dict[str, bytes]:
    """Small files whose headers claim a picture of side × side pixels."""
    jpeg, webp = encode(rgb(), "JPEG"), encode(photo(), "WEBP", lossless=True)
    frame = jpeg.index(b"\xff\xc0") + 5
    few = Image.fromarray(grey()).convert("P")
    gif, bmp = encode(few, "GIF"), encode(rgb(), "BMP")
    alpha = encode(np.dstack([rgb(), rgb()[..., 0]]), "WEBP", exif=exif(1))
    short = struct.pack("<HH", side, side)
    assert webp[12:16] == b"VP8L"
    assert alpha[12:16] == b"VP8X"
    bits = struct.pack("<I", min(side, 16384) - 1 | min(side, 16384) - 1 << 14)
    return {
        "JPEG": jpeg[:frame] + struct.pack(">HH", side, side) + jpeg[frame + 4 :],
        "PNG": png(side, side, (b"IDAT", zlib.compress(b"\0" * 1000))),
        "GIF screen": gif[:6] + short + gif[10:],
        "GIF frame": gif_frame(gif, side),
        "WebP lossless": webp[:21] + bits + webp[25:],
        "WebP canvas": alpha[:24] + (side - 1).to_bytes(3, "little") * 2 + alpha[30:],
        "BMP": bmp[:18] + struct.pack("<ii", side, side) + bmp[26:],
        "TIFF": grey_tiff(bytes(100), 8, side=side),
    }


def gif_frame(gif: bytes, side: int) -> bytes:
    """A frame wider than the screen, to be disposed of: Pillow allocates it while it opens the file."""
    place = gif.index(b",\0\0\0\0")
    control = b"!\xf9\x04\x08\0\0\0\0"
    return gif[:place] + control + gif[place : place + 5] + struct.pack("<HH", side, side) + gif[place + 9 :]


@pytest.mark.parametrize("name", claiming(20_000))
def test_a_header_that_claims_too_much_is_refused(name: str) -> None:
    reason = refusal(claiming(20_000)[name])
    assert re.search(r"claims \d+ × \d+ pixels, more than the 64,000,000 that are allowed", reason)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds memory on Linux only")
def test_a_huge_claim_is_refused_without_allocating_it() -> None:
    code = f"""
import resource, sys
sys.path[:0] = {[str(folder) for folder in (Path(__file__).parent, Path(__file__).parent / "support")]!r}
from test_images import claiming, images, PictureError
contents = claiming(20_000)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, -1))
for name, content in contents.items():
    try:
        images.decode(content)
    except PictureError as error:
        assert "claims" in error.reason, error.reason
    else:
        raise SystemExit(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_cap_is_the_callers_to_set() -> None:
    content = encode(rgb(), "PNG")
    assert images.decode(content, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    assert "1,535" in refusal(content, max_pixels=HEIGHT * WIDTH - 1)
    with pytest.raises(PictureError, match=r"bytes \(\d+\): claims 48 × 32 pixels"):
        images.check(content, max_pixels=100)


def test_the_environment_sets_the_cap_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(rgb(), "PNG")
    monkeypatch.setenv("AGEGENDER_MAX_PIXELS", "100")
    with pytest.raises(PictureError, match=r"more than the 100 that are allowed.*set AGEGENDER_MAX_PIXELS"):
        images.decode(content)
    with pytest.raises(PictureError, match="more than the 100"):
        images.check(content)
    with pytest.raises(PictureError, match="more than the 100"):
        images.read(Image.fromarray(rgb()))
    assert images.decode(content, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    monkeypatch.setenv("AGEGENDER_MAX_PIXELS", "2000")
    assert images.load(content).shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setenv("AGEGENDER_MAX_PIXELS", "64e6")
    with pytest.raises(ValueError, match="AGEGENDER_MAX_PIXELS='64e6' is not a whole number of pixels"):
        images.decode(content)


PROGRESSIVE = {"JPEG": {}, "JPEG, progressive": {"progressive": True}}


@pytest.fixture(params=[False, True], ids=["", "truncated pictures allowed in Pillow"])
def pillow_flag(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many programs set this flag for themselves; it must not let half-grey pictures in here."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", request.param)


@pytest.mark.usefixtures("pillow_flag")
@pytest.mark.parametrize("options", PROGRESSIVE.values(), ids=PROGRESSIVE)
@pytest.mark.parametrize("part", range(25))
def test_a_truncated_jpeg_is_refused_wherever_it_ends(part: int, options: dict) -> None:
    content = encode(photo(), "JPEG", quality=90, **options)
    cut = content[: len(content) * part // 25] if part else content[:-1]
    reason = refusal(cut)
    assert "truncated JPEG" in reason
    with pytest.raises(PictureError, match="truncated JPEG"):
        images.check(cut)
    padded = cut.ljust(len(content), b"\0")
    assert "truncated JPEG" in refusal(padded)


@pytest.mark.usefixtures("pillow_flag")
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_other_formats_cut_off_are_refused(kind: str) -> None:
    content = encode(photo().quantize(64) if kind == "GIF" else photo(), kind)
    for part in range(1, 26):
        cut = content[: len(content) * part // 26]
        assert refusal(cut)


@pytest.mark.usefixtures("pillow_flag")
def test_a_png_with_a_damaged_byte_is_refused() -> None:
    content = encode(photo(), "PNG")
    for place in range(40, len(content) - 12, len(content) // 40):
        damaged = content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]
        assert re.search("damaged PNG|truncated PNG", refusal(damaged))


@pytest.mark.parametrize("seed", range(25))
def test_garbage_amid_a_jpeg_gives_a_picture_or_a_refusal(seed: int) -> None:
    content = bytearray(encode(photo(), "JPEG", quality=90))
    rng = random.Random(seed)
    start = rng.randrange(len(content) // 4, len(content) - 200)
    content[start : start + 100] = rng.randbytes(100)
    pixels = decode_or_none(bytes(content))
    assert pixels is None or pixels.shape == (120, 160, 3)


def many_scans() -> bytes:
    content = encode(photo(), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * 120 + b"\xff\xd9"


def big_tiff_directory() -> bytes:
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 10**9) + b"\0" * 100


def tiff_of_many_values(tag: int, n_values: int, *, kind: int = 4) -> bytes:
    """A tag whose values are the whole file over and over: cheap to write, dear to unfold."""
    content = bytearray(grey_tiff(bytes(HEIGHT * WIDTH), 8))
    (start,) = struct.unpack_from("<I", content, 4)
    place = next(
        p for p in range(start + 2, len(content), 12) if content[p : p + 2] == struct.pack("<H", tag)
    )
    struct.pack_into("<HII", content, place + 2, kind, n_values, 8)
    return bytes(content).ljust(4 * n_values, b"\0") if n_values < 10**6 else bytes(content)


def avif_of_larger_frames() -> bytes:
    """A flat picture of nine million pixels that claims to be one of 64 × 64."""
    content = bytearray(encode(Image.new("RGB", (3000, 3000)), "AVIF", speed=10))
    struct.pack_into(">II", content, content.index(b"ispe") + 8, 64, 64)
    return bytes(content)


REFUSED = {
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing"),
    "PDF": (b"%PDF-1.7\n", "PDF document"),
    "Zip": (b"PK\x03\x04\x14\0", "zip archive"),
    "Gzip": (zlib.compress(b"x", wbits=31), "gzip archive"),
    "Text": (b"A photograph of Anna.\n", "text, not a picture"),
    "Text, not ASCII": ("Ein Foto von Jürgen, 50 €\n".encode(), "text, not a picture"),
    "Web page": (b"\n<!DOCTYPE html><html><title>404</title>", "web page"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "NumPy file": (b"\x93NUMPY\x01\0", "np.load"),
    "Photoshop": (b"8BPS\0\x01", "Photoshop"),
    "Icon": (b"\0\0\x01\0\x01\0", "icon file"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "JPEG XL": (b"\xff\x0a\xff\xff", "JPEG XL"),
    "Video": (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video"),
    "Unknown bytes": (bytes(range(1, 40)), "in no known format"),
    "No bytes": (b"", "empty"),
    "JPEG header only": (b"\xff\xd8\xff\xe0", "truncated JPEG"),
    "JPEG of over 100 scans": (many_scans(), "more than 100 scans"),
    "PNG, damaged": (encode(rgb(), "PNG").replace(b"IDAT", b"IDAX"), "checksum of a chunk b'IDAX'"),
    "PNG of endless chunks": (
        b"\x89PNG\r\n\x1a\n" + png(1, 1)[8:33] + png_chunk(b"teSt", b"") * 100_001,
        "100,000 chunks",
    ),
    "PNG with a text bomb": (
        png(1, 1, (b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26)))),
        "Decompressed data too large",
    ),
    "GIF without a picture": (b"GIF89a\x01\0\x01\0\0\0\0;", "without a picture"),
    "WebP, unknown": (b"RIFF\x10\0\0\0WEBPVP9 \0\0\0\0\0\0\0\0", "unknown first chunk"),
    "TIFF of endless tags": (big_tiff_directory(), "1,000,000,000 tags"),
    "TIFF with a tag of many values": (tiff_of_many_values(258, 300_000), "tag 258 has 300,000 values"),
    "TIFF with a tag of many bytes": (tiff_of_many_values(258, 2**26 + 1, kind=7), "67,108,865 values"),
    "TIFF in huge tiles": (tiled_tiff(20_000), "in tiles of 20000 × 20000, made to take memory"),
    "AVIF with frames larger than it claims": (
        avif_of_larger_frames(),
        "claims 64 × 64 pixels and has frames of 9,000,000 pixels",
    ),
    "AVIF, damaged": (
        encodings()["AVIF"].content.replace(b"\x0a\x09\x18", b"\x0a\x01\x18"),
        "boxes or frames are not complete",
    ),
    "TIFF, floats": (grey_tiff(bytes(4 * HEIGHT * WIDTH), 32, sample_format=3), "floating-point"),
    "TIFF, 32-bit integers": (grey_tiff(bytes(4 * HEIGHT * WIDTH), 32), "integers of 32 bits"),
    "A side of no pixels": (png(0, 5, (b"IDAT", zlib.compress(b""))), "0 × 5 pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_with_its_own_reason(name: str) -> None:
    content, reason = REFUSED[name]
    assert reason in refusal(content)
    with pytest.raises(PictureError, match=re.escape(reason)):
        images.check(content, full=True)


def test_the_frames_of_an_animated_avif_are_measured_in_its_tracks_too() -> None:
    photo = Image.new("RGB", (3000, 3000))
    content = encode(photo, "AVIF", speed=10, save_all=True, append_images=[photo])
    avif.check_frames(content, 3000, 3000)
    for kind in (b"meta", b"moov"):
        with pytest.raises(Unreadable, match="frames of 9,000,000 pixels"):
            avif.check_frames(content.replace(kind, b"free", 1), 64, 64)


def test_pixel_data_that_unfold_to_a_hundred_times_the_claim_are_not_unfolded() -> None:
    content = png(8, 8, (b"IDAT", zlib.compress(bytes(2**26))))
    assert images.decode(content).shape == (8, 8, 3)


def test_the_quick_check_leaves_damaged_pixels_to_the_full_one() -> None:
    content = encode(photo(), "BMP")[:-1000]
    images.check(content)
    with pytest.raises(PictureError, match="truncated"):
        images.check(content, full=True)


# Files


def missing(folder: Path) -> Path:
    return folder / "missing.jpg"


def empty_file(folder: Path) -> Path:
    (folder / "empty.jpg").touch()
    return folder / "empty.jpg"


def named_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jpg")
    return folder / "pipe.jpg"


def socket_file(folder: Path) -> Path:
    place = Path(os.path.relpath(folder / "s.jpg"))  # a socket's path may have 108 bytes at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
    return place


def link_to_nothing(folder: Path) -> Path:
    (folder / "link.jpg").symlink_to("nothing.jpg")
    return folder / "link.jpg"


def link_in_a_circle(folder: Path) -> Path:
    (folder / "a.jpg").symlink_to("b.jpg")
    (folder / "b.jpg").symlink_to("a.jpg")
    return folder / "a.jpg"


def huge_file(folder: Path) -> Path:
    with open(folder / "huge.jpg", "wb") as file:
        file.truncate(images.MAX_FILE_BYTES + 1)  # sparse: takes no room
    return folder / "huge.jpg"


def text_file(folder: Path) -> Path:
    (folder / "text.jpg").write_text("not a picture")
    return folder / "text.jpg"


def file_taken_for_a_folder(folder: Path) -> Path:
    return text_file(folder) / "anna.jpg"


FILES = {
    "Missing file": (missing, "does not exist"),
    "File taken for a folder": (file_taken_for_a_folder, "does not exist"),
    "Empty file": (empty_file, "is an empty file"),
    "Text file named .jpg": (text_file, "is text, not a picture"),
    "Folder": (lambda folder: folder, "is a folder; pass the pictures in it"),
    "Named pipe": (named_pipe, "is a named pipe"),
    "Socket": (socket_file, "is a socket"),
    "Device": (lambda folder: "/dev/zero", "is a device"),
    "Link to nothing": (link_to_nothing, "is a symbolic link to nothing.jpg, which does not exist"),
    "Link in a circle": (link_in_a_circle, "leads round in a circle"),
    "Name too long": (lambda folder: folder / ("a" * 5000), "longer than the file system allows"),
    "Name with a zero byte": (lambda folder: "a\0b.jpg", "no possible file name"),
    "Name that is a URL of nothing": (
        lambda folder: "memory://nowhere/anna.jpg",
        "does not exist in its store",
    ),
    "Name that is a data URL": (lambda folder: "data:image/jpeg;base64,/9j/" + "A" * 9000, "data URL"),
    "Name that begins with ~": (lambda folder: "~/missing.jpg", "os.path.expanduser"),
    "File too large": (huge_file, "536,870,913 bytes"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_refused_with_its_own_reason(name: str, tmp_path: Path) -> None:
    make, reason = FILES[name]
    path = make(tmp_path)
    with pytest.raises(PictureError) as caught:
        images.load(path)
    assert reason in caught.value.reason
    assert caught.value.picture == images.describe(path)


def test_permission_denied_is_said(tmp_path: Path) -> None:
    path = tmp_path / "secret.jpg"
    path.write_bytes(encode(rgb(), "JPEG"))
    path.chmod(0)
    with not_root(), pytest.raises(PictureError, match="permission denied; change its permissions"):
        images.read(path)


def test_any_other_failure_of_the_disk_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = text_file(tmp_path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("agegender._pixels.reading.os.open", fail)
    with pytest.raises(PictureError, match="cannot be read: Input/output error"):
        images.read(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_a_pipe_put_in_a_files_place_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    regular = os.stat(text_file(tmp_path))
    path = named_pipe(tmp_path)
    monkeypatch.setattr("agegender._pixels.reading.os.stat", lambda _: regular)
    with pytest.raises(PictureError, match="named pipe"):
        images.read(path)


@pytest.mark.parametrize("change", ["grows", "shrinks", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "anna.jpg"
    path.write_bytes(encode(rgb(), "JPEG"))
    os.utime(path, ns=(0, 0))
    real, size = os.fstat, path.stat().st_size

    def fstat_then_change(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        path.write_bytes(b"x" * {"grows": size + 9, "shrinks": size - 9, "rewritten": size}[change])
        return status

    monkeypatch.setattr("agegender._pixels.reading.os.fstat", fstat_then_change)
    with pytest.raises(PictureError, match="changed while it was read"):
        images.read(path)


@pytest.mark.parametrize(
    "name", ["Žluťoučký kůň 🐎.jpg", "anna\n2.jpg", "a" * 251 + ".jpg", "-rf", " .jpg", "a\udcff.jpg"]
)
def test_odd_names_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    try:
        path.write_bytes(encode(rgb(), "JPEG"))
    except (OSError, UnicodeEncodeError) as error:
        pytest.skip(f"this file system refuses the name: {error}")
    assert images.load(str(path)).shape == (HEIGHT, WIDTH, 3)
    assert images.describe(path).isprintable()


def test_a_path_bytes_an_image_and_an_array_give_the_same_pixels(tmp_path: Path) -> None:
    content = encode(rgb(), "JPEG", exif=exif(6))
    path = tmp_path / "anna.jpg"
    path.write_bytes(content)
    expected = images.decode(content)
    with Image.open(path) as image:
        assert np.array_equal(images.load(image), expected)
    for picture in (path, str(path), content, expected):
        assert np.array_equal(images.load(picture), expected)


# Pixels


def test_grey_and_unordered_arrays_become_contiguous_rgb() -> None:
    assert np.array_equal(images.load(grey()), three(grey()))
    turned = images.load(rgb()[::-1, ::-1])
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, rgb()[::-1, ::-1])
    ready = rgb()
    assert images.read(ready) is ready


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (rgb() / 255, "if its values run from 0 to 1, multiply by 255"),
        (rgb().astype(np.float16), "multiply by 255"),
        (rgb() > 9, "(array * 255)"),
        (rgb().astype(np.int64), "scale its values to 0…255"),
        (rgb().astype(np.uint16), "scale its values to 0…255"),
        (rgb()[:0], "empty"),
        (np.dstack([rgb(), grey()]), "array[..., :3]"),
        (grey()[..., np.newaxis], "array[..., 0]"),
        (rgb().transpose(2, 0, 1), "array.transpose(1, 2, 0)"),
        (rgb()[np.newaxis], "one by one"),
        (rgb()[0, 0], "reshape"),
        (np.dstack([rgb(), rgb()]), "reshape"),
    ],
)
def test_an_array_that_would_need_guessing_is_refused_with_the_remedy(array: np.ndarray, remedy: str) -> None:
    with pytest.raises(PictureError) as caught:
        images.read(array)
    assert remedy in caught.value.reason
    assert str(array.dtype) in caught.value.reason
    assert str(array.shape) in str(caught.value)
    with pytest.raises(PictureError):
        images.decode(array)


@pytest.mark.parametrize("thing", [None, 3, float("nan"), ["a.jpg"], io.BytesIO(b"")])
def test_what_is_no_picture_at_all_is_refused(thing: object) -> None:
    with pytest.raises(PictureError, match=f"{type(thing).__name__}: is not a picture; pass a path"):
        images.load(thing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "RGBX", "PA", "LAB"]
)
def test_a_pil_image_of_any_usual_mode_is_read(mode: str) -> None:
    image = Image.new(mode, (5, 4), 0)
    before = image.tobytes(), dict(image.info)
    assert images.read(image).shape == (4, 5, 3)
    assert (image.tobytes(), dict(image.info)) == before


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_pil_image_of_unknown_range_is_refused(mode: str) -> None:
    with pytest.raises(PictureError, match=f"{mode} image"):
        images.read(Image.new(mode, (5, 4)))


def test_a_pil_image_that_was_closed_is_refused() -> None:
    image = Image.open(io.BytesIO(encode(rgb(), "PNG")))
    image.close()
    with pytest.raises(PictureError):
        images.read(image)


def test_a_digest_tells_contents_apart() -> None:
    content, pixels = encode(rgb(), "PNG"), rgb()
    contents = [
        content,
        content[:-1],
        pixels.tobytes(),
        pixels,
        pixels[::-1],
        pixels.reshape(WIDTH, HEIGHT, 3),
    ]
    assert len({images.digest(each) for each in contents}) == len(contents)
    assert all(len(images.digest(each)) == 16 for each in contents)
    assert images.digest(pixels[::-1]) == images.digest(pixels[::-1].copy())


def test_names_are_short_and_on_one_line() -> None:
    assert images.describe(Path("a") / "b.jpg") == os.path.join("a", "b.jpg")
    assert images.describe(Image.new("L", (3, 2))) == "L image (3, 2)"
    assert images.describe(None) == "NoneType"
    assert images.describe("a\nb\0\udcff") == r"a\nb\x00\udcff"
    assert len(images.describe("a" * 99_999)) <= 300


# Geometry


def deepface_letterbox(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from deepface.modules.preprocessing import resize_image

    return resize_image(pixels, size)[0]


def assert_as_deepface(pixels: np.ndarray, size: tuple[int, int]) -> None:
    ours = images.letterbox(pixels, size)
    assert ours.dtype == np.uint8
    theirs = deepface_letterbox(pixels, size)
    assert np.array_equal((ours.astype(np.float32) / 255.0).astype(np.float32), theirs)


SHAPES = (
    "200x200 112x112 224x224 56x56 100x230 230x100 3x2 1x1 40x1 1x40 2x112 61x113 113x61 400x10 1200x1800"
)


@pytest.mark.parametrize("shape", [tuple(map(int, shape.split("x"))) for shape in SHAPES.split()])
@pytest.mark.parametrize("size", [(112, 112), (160, 160), (112, 96)])
def test_letterboxing_is_deepfaces_to_the_last_number(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert_as_deepface(np.random.default_rng(1).integers(2, 256, (*shape, 3), dtype=np.uint8), size)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([96, 112, 152, 160, 224]))
def test_letterboxing_is_deepfaces_on_any_shape(height: int, width: int, side: int) -> None:
    if min(int(height * side / max(height, width)), int(width * side / max(height, width))) > 0:
        pixels = np.random.default_rng(height).integers(2, 256, (height, width, 3), dtype=np.uint8)
        assert_as_deepface(pixels, (side, side))


@pytest.mark.parametrize("shape", [(2000, 1), (1, 2000), (40_000, 2)])
def test_a_picture_too_slim_for_deepface_keeps_one_pixel(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 200, np.uint8)
    with pytest.raises(cv2.error):
        deepface_letterbox(pixels, (112, 112))
    boxed = images.letterbox(pixels, (112, 112))
    assert boxed.shape == (112, 112, 3)
    assert (boxed[..., 0] == 200).sum() == 112


def test_trimming_takes_the_same_fraction_from_every_side() -> None:
    pixels = rgb()
    assert np.array_equal(images.trim(pixels, 0.25), pixels[8:24, 12:36])
    assert np.array_equal(images.trim(pixels, 0.0), pixels)
    padded = images.trim(pixels, -0.25)
    assert padded.shape == (48, 72, 3)
    assert np.array_equal(padded[8:40, 12:60], pixels)
    assert padded.sum() == pixels.sum()


@given(st.integers(1, 40), st.integers(1, 40), st.floats(-1, 0.499))
def test_trimming_leaves_at_least_a_pixel(height: int, width: int, crop: float) -> None:
    trimmed = images.trim(np.ones((height, width, 3), np.uint8), crop)
    assert min(trimmed.shape) >= 1
    assert trimmed.max() == 1


@pytest.mark.parametrize("crop", [0.5, 1, -1.01, float("nan"), float("inf")])
def test_a_crop_that_leaves_nothing_is_refused(crop: float) -> None:
    with pytest.raises(ValueError, match=r"is not from -1 to below 0\.5"):
        images.trim(rgb(), crop)


# The whole


def test_many_threads_decode_the_same_pixels_and_leave_globals_alone() -> None:
    contents = [encoded.content for encoded in encodings().values()]
    expected = [images.decode(content) for content in contents]
    before = (
        list(warnings.filters),
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        threading.active_count(),
    )
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(images.decode, contents * 8))
    assert all(np.array_equal(a, b) for a, b in zip(decoded, expected * 8, strict=True))
    after = (
        list(warnings.filters),
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        threading.active_count(),
    )
    assert after == before


def test_importing_the_gate_imports_no_heavy_library() -> None:
    heavy = {"tensorflow", "keras", "cv2", "deepface", "pandas", "sklearn", "onnxruntime", "pillow_heif"}
    code = f"import sys, agegender.images; print({heavy} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "none"


def test_the_suffixes_are_those_of_the_formats() -> None:
    known = {
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name.upper() in {"PNG", "JPEG", "WEBP"}
    }
    assert {".png", ".jpg", ".jpeg", ".webp"} <= known & images.SUFFIXES
    assert all(suffix == suffix.lower() for suffix in images.SUFFIXES)


def test_the_documented_table_has_a_test_for_each_row() -> None:
    rows = set(re.findall(r"^\| ([^|]+?) \|", DOCS.read_text("utf-8"), re.M)) - {"Kind", "Input", "---"}
    apart = {
        "HEIC",
        "EXIF orientation 1 … 8",
        "Damaged or huge EXIF",
        "Truncated JPEG",
        "Truncated, other formats",
    }
    apart |= {"Garbage amid a JPEG", "Claim above the cap", "No permission", "Changed while it is read"}
    apart |= {"Array", "PIL image", "Anything else"}
    assert rows == {*encodings(), *REFUSED, *FILES, *apart}


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real file with some bytes changed, cut out, doubled, or replaced by another's."""
    contents = [encoded.content for encoded in encodings().values()]
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        end = place + draw(st.integers(1, 64))
        action = draw(st.sampled_from(["change", "cut", "double", "splice", "end"]))
        if action == "change":
            change = draw(
                st.binary(min_size=1, max_size=4) | st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff"])
            )
            content[place : place + len(change)] = change
        elif action == "cut":
            del content[place:end]
        elif action == "double":
            content[place:place] = content[place:end]
        elif action == "splice":
            content[place:end] = draw(st.sampled_from(contents))[place:end]
        else:
            del content[max(place, 16) :]
    return bytes(content)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_mutated_file_gives_pixels_or_a_refusal_and_nothing_else(content: bytes) -> None:
    decode_or_none(content)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", *(e.content[:12] for e in encodings().values())]))
def test_noise_gives_pixels_or_a_refusal_and_nothing_else(noise: bytes, magic: bytes) -> None:
    decode_or_none(magic + noise)


def test_one_image_object_may_be_read_by_many_threads() -> None:
    expected = np.asarray(photo(600, 800))
    content = encode(expected, "PNG")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(15):
            image = Image.open(io.BytesIO(content))
            for pixels in pool.map(images.read, [image] * 8):
                np.testing.assert_array_equal(pixels, expected)


def test_a_jpeg_is_decoded_at_a_fraction_of_its_sides() -> None:
    def as_file(pixels: np.ndarray, kind: str) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        return file.getvalue()

    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).resize((800, 600)))
    content = as_file(smooth, "JPEG")
    whole = images.decode(content)
    for factor in (2, 4, 8):
        small = images.decode(content, shrink=factor)
        assert small.shape == (600 // factor, 800 // factor, 3)
        averaged = whole.reshape(600 // factor, factor, 800 // factor, factor, 3).mean(axis=(1, 3))
        assert np.abs(small - averaged).mean() < 2
    assert images.decode(as_file(smooth, "PNG"), shrink=4).shape == (600, 800, 3)
    assert images.shrink_factor(content, 150) == 4
    assert images.shrink_factor(content, 151) == 2
    assert images.shrink_factor(content, 200, longer=True) == 4
    assert images.shrink_factor(content, 601) == 1
    assert images.shrink_factor(as_file(smooth, "PNG"), 10) == 1
    assert images.shrink_factor(smooth, 10) == 1
