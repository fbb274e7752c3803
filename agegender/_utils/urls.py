"""Handling of URLs: telling them from paths, joining them, and showing them without secrets."""

from __future__ import annotations

import os
import re
from typing import TypeGuard

__all__ = ["absolute", "is_folder", "is_url", "join", "name_of", "parent", "public", "redacted", "suffix_of"]

# Chains of fsspec: "simplecache::s3://…", "zip://a.jpg::s3://bucket/faces.zip". One letter is a drive.
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]+::)*[A-Za-z][A-Za-z0-9+.\-]+://")
# A password may contain a slash, so everything up to the last "@" is treated as one; a port is not.
_PASSWORD = re.compile(r"://[^/@:?\s]*:(?!\d+(?:/|\?|$))[^?\s]*@|://[^/@:?\s]+@")
_QUERY = re.compile(r"\?(?!…)[^\s'\"<>)]+?(?=::|[\s'\"<>)]|$)")
_TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".gz", ".xz", ".bz2", ".zst", ".tar")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://[^\s'\"<>]+")


def is_url(place: object) -> TypeGuard[str]:
    """Return whether a location is a URL that fsspec may open, and not a path.

    Examples
    --------
    >>> is_url("s3://bucket/anna.jpg"), is_url("zip://anna.jpg::faces.zip"), is_url("C:/anna.jpg")
    (True, True, False)
    """
    return isinstance(place, str) and "://" in place and _URL.match(place) is not None


def public(url: str) -> str:
    """Return a URL without user, password and query, which may contain a signature; a path is not changed.

    Examples
    --------
    >>> public("https://me:secret@example.org/anna.jpg?X-Amz-Signature=12ab")
    'https://example.org/anna.jpg?…'
    """
    if not is_url(url):
        return url
    return "::".join(_QUERY.sub("?…", _PASSWORD.sub("://", link)) for link in url.split("::"))


def redacted(text: str, url: str) -> str:
    """Return a store's message without the secrets of the given URL or of other URLs in the message.

    Examples
    --------
    >>> redacted("503 for https://example.org/a.jpg?sig=1", "https://example.org/a.jpg?sig=1")
    '503 for https://example.org/a.jpg?…'
    """
    text = text.replace(url, public(url))
    for secret in _secrets(url):
        text = text.replace(secret, "…")
    return _IN_TEXT.sub(lambda found: public(found[0]), text)


def _secrets(url: str) -> list[str]:
    links = url.split("::")
    parts = [found[0][3:-1] for link in links for found in _PASSWORD.finditer(link)]
    parts += [piece for part in list(parts) for piece in part.split(":", 1)[1:]]
    for query in [query for link in links for query in _QUERY.findall(link)]:
        parts += [query[1:], *(pair.partition("=")[2] for pair in query[1:].split("&"))]
    return sorted((part for part in parts if len(part) > 3), key=len, reverse=True)


def absolute(place: str | os.PathLike[str]) -> str:
    """Return an absolute path; a URL is not changed."""
    return place if is_url(place) else os.path.abspath(place)


def join(folder: str, name: str) -> str:
    """Return the location of a name in a folder: paths are joined with `os.path.join`, URLs with a slash.

    Examples
    --------
    >>> join("s3://bucket/faces/", "anna.jpg"), join("zip://::faces.zip", "anna.jpg")
    ('s3://bucket/faces/anna.jpg', 'zip://anna.jpg::faces.zip')
    """
    if is_url(name):
        return name
    if not is_url(folder):
        return os.path.join(folder, name)
    first, chain = _split(folder)
    base = first if first.endswith("/") else f"{first}/"
    return f"{base}{name.lstrip('/')}{chain}"


def parent(url: str) -> str:
    """Return the folder of a URL's file, without the query.

    Examples
    --------
    >>> parent("https://example.org/faces/table.csv?token=1"), parent("zip://table.csv::faces.zip")
    ('https://example.org/faces', 'zip://::faces.zip')
    """
    first, chain = _split(url)
    scheme, rest = first.split("://", 1)
    return f"{scheme}://{rest.partition('?')[0].rpartition('/')[0]}{chain}"


def name_of(url: str) -> str:
    """Return the last part of a URL, which is the file's name."""
    return _split(url)[0].split("://", 1)[1].partition("?")[0].rpartition("/")[2]


def suffix_of(place: str | os.PathLike[str]) -> str:
    """Return the suffix of a file's name in lower case."""
    name = name_of(place) if is_url(place) else os.fspath(place)
    return os.path.splitext(name)[1].lower()


def is_folder(place: str | os.PathLike[str]) -> bool:
    """Return whether a location is a folder; a URL is a folder if it does not end like a table."""
    if not is_url(place):
        return os.path.isdir(os.path.expanduser(place))
    return suffix_of(place) not in _TABLES


def _split(url: str) -> tuple[str, str]:
    """Split a chain into its first part, with preceding caches, and the rest."""
    start = url.index("://") + 3
    end = url.find("::", start)
    return (url, "") if end < 0 else (url[:end], url[end:])
