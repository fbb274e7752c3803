"""URLs told from paths, joined, and shown without secrets."""

from __future__ import annotations

import pytest

from agegender._utils.urls import absolute, is_url, join, name_of, parent, public, redacted, suffix_of


@pytest.mark.parametrize(
    "url", ["s3://b/a.jpg", "simplecache::s3://b/a.jpg", "zip://a.jpg::b.zip", "hf://datasets/x/a.png"]
)
def test_urls(url: str) -> None:
    assert is_url(url)
    assert absolute(url) == url


@pytest.mark.parametrize(
    "path", ["faces/a.jpg", "C:/a.jpg", "C://a.jpg", "a::b", "data:image/png;base64,AA", "", "/x/a://b"]
)
def test_paths(path: str) -> None:
    assert not is_url(path)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:se/cret@host/a.jpg", "https://host/a.jpg"),
        ("https://token@host/a.jpg", "https://host/a.jpg"),
        ("https://host:8080/a@2x.jpg", "https://host:8080/a@2x.jpg"),
        ("s3://KEY:sec/ret+x@bucket/a.jpg", "s3://bucket/a.jpg"),
        ("zip://a.jpg::https://u:pw@h/f.zip?sig=1", "zip://a.jpg::https://h/f.zip?…"),
        ("https://h/f.jpg?X-Amz-Signature=1&b=2", "https://h/f.jpg?…"),
        ("s3://bucket/path@2x.jpg", "s3://bucket/path@2x.jpg"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert public(url) == shown
    assert public(shown) == shown


def test_a_message_loses_the_secrets_of_its_url_and_of_others() -> None:
    url = "https://anna:pass/word@h/a.jpg?sig=abcdef"
    said = redacted(f"401, url='{url}', key abcdef, pass/word, see https://x:y1234@z/b?t=1", url)
    assert said == "401, url='https://h/a.jpg?…', key …, …, see https://z/b?…"


def test_parts_of_urls() -> None:
    assert join("s3://b", "x/a.jpg") == "s3://b/x/a.jpg"
    assert join("s3://b", "https://h/a.jpg") == "https://h/a.jpg"
    assert join("faces", "a.jpg") == "faces/a.jpg"
    assert parent("zip://in/table.csv::s3://b/x.zip") == "zip://in::s3://b/x.zip"
    assert name_of("zip://in/table.csv::s3://b/x.zip") == "table.csv"
    assert suffix_of("https://h/list.CSV?x=.jpg") == ".csv"
