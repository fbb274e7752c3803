"""Read pictures from a request's body in memory; no temporary file is written."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from agegender import images
from agegender.exceptions import PictureError
from agegender.serve._limits import Limits, Slot
from agegender.serve._problems import Problem

__all__ = ["Upload", "check_pictures", "read_pictures"]

_LONGEST_NAME = 200


@dataclass
class Upload:
    """One picture as it was sent: its name, or None, and its bytes."""

    name: str | None
    content: bytes


async def read_pictures(request: Request, limits: Limits, slot: Slot) -> list[Upload]:
    """Read the pictures of a request: multipart files, or a JSON list of base64 texts.

    Raises
    ------
    Problem
        If the body is too large, arrives too slowly, has another type or is damaged, or contains no or too
        many pictures.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    _check_claim(request, limits)
    if kind == b"multipart/form-data":
        form = _Multipart(parameters.get(b"boundary", b""), limits)
        await _receive(request, limits, slot, form.feed)
        uploads = form.end()
    elif kind == b"application/json":
        body = bytearray()
        await _receive(request, limits, slot, body.extend)
        uploads = await asyncio.to_thread(_from_json, body, limits)
    else:
        raise Problem(
            "media-type",
            f"content-type {request.headers.get('content-type', '')[:80]!r} is neither multipart/form-data (files) "
            "nor application/json (a list of base64 texts).",
        )
    if not uploads:
        raise Problem("upload", "There is no picture in the body.")
    return uploads


async def check_pictures(uploads: list[Upload], limits: Limits) -> dict[int, str]:
    """Return why pictures cannot be used, by index, judged from their headers; no pixels are allocated."""

    def reasons() -> dict[int, str]:
        found = {}
        for index, upload in enumerate(uploads):
            try:
                images.check(upload.content, max_pixels=limits.max_pixels)
            except PictureError as error:
                found[index] = error.reason
        return found

    return await asyncio.to_thread(reasons)


def _check_claim(request: Request, limits: Limits) -> None:
    claimed = request.headers.get("content-length", "0")
    if not claimed.isdecimal() or int(claimed) > limits.max_body:
        raise _too_large(limits)


def _too_large(limits: Limits) -> Problem:
    return Problem(
        "body",
        f"A body may have {limits.max_body:,} bytes; send fewer pictures, or smaller ones, per request.",
    )


async def _receive(request: Request, limits: Limits, slot: Slot, take: Any) -> None:
    """Yield the body as it arrives, within the limits of size and time."""
    n_bytes = 0
    chunks = request.stream().__aiter__()
    try:
        async with asyncio.timeout(limits.upload_seconds):
            while True:
                async with asyncio.timeout(limits.upload_seconds / 3):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                n_bytes += len(chunk)
                if n_bytes > limits.max_body:
                    raise _too_large(limits)
                slot.hold(len(chunk))
                take(chunk)
    except TimeoutError:
        raise Problem(
            "slow-upload", f"The body did not arrive within {limits.upload_seconds:g} seconds."
        ) from None
    except ClientDisconnect:
        raise Problem("upload", "The connection ended before the body did.") from None


@dataclass
class _Part:
    """One part of a multipart body."""

    header: str = ""
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    content: bytearray = field(default_factory=bytearray)


class _Multipart:
    """Collects the files of a multipart body as it arrives."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        if not boundary:
            raise Problem("upload", "The multipart content-type names no boundary.")
        self._limits = limits
        self._part = _Part()
        self._uploads: list[Upload] = []
        self._ended = False
        try:
            self._parser = python_multipart.MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header,
                    "on_header_value": self._value,
                    "on_header_end": self._header_end,
                    "on_part_data": self._data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise Problem("upload", f"The multipart body cannot be read: {error}.") from None

    def feed(self, chunk: bytes) -> None:
        """Add the next bytes."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Problem("upload", f"The multipart body is broken: {str(error)[:200]}.") from None

    def end(self) -> list[Upload]:
        """Return the files after the whole body has arrived."""
        if not self._ended:
            raise Problem("upload", "The multipart body is cut off: its last boundary is missing.")
        return self._uploads

    def _begin(self) -> None:
        if len(self._uploads) >= self._limits.max_pictures:
            raise _too_many(self._limits)
        self._part = _Part()

    def _header(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end].decode("latin-1").lower()

    def _value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _header_end(self) -> None:
        if self._part.header == "content-disposition":
            self._part.disposition = bytes(self._part.value)
        self._part.header = ""
        self._part.value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part.content += data[start:end]

    def _part_end(self) -> None:
        options = parse_options_header(self._part.disposition)[1]
        if b"filename" not in options:
            name = options.get(b"name", b"").decode("utf-8", "replace")[:80]
            raise Problem(
                "upload",
                f"The field {name!r} of the form is no file; parameters stand in the address (?coverage=0.8).",
            )
        name = options[b"filename"].decode("utf-8", "replace")[:_LONGEST_NAME]
        self._uploads.append(Upload(name or None, bytes(self._part.content)))

    def _end(self) -> None:
        self._ended = True


def _too_many(limits: Limits) -> Problem:
    return Problem(
        "pictures", f"A request may have {limits.max_pictures} pictures; send the rest in another."
    )


def _from_json(body: bytearray, limits: Limits) -> list[Upload]:
    wanted = "a JSON list of pictures as base64 texts"
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem("upload", f"The body is no JSON ({str(error)[:120]}); send {wanted}.") from None
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise Problem("upload", f"The body is JSON of another form; send {wanted}.")
    if len(listed) > limits.max_pictures:
        raise _too_many(limits)
    return [Upload(None, _decoded(index, text)) for index, text in enumerate(listed)]


def _decoded(index: int, text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Problem("upload", f"Picture {index} is no base64 text (begins with {text[:20]!r}).") from None
