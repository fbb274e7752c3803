"""What X may be."""

from __future__ import annotations

import pytest

from agegender._utils.pictures import check_pictures


@pytest.mark.parametrize(
    ("X", "remedy"),
    [
        ({"b.jpg", "a.jpg"}, r"X is a set, which has no order .*: sorted\(X\)"),
        (frozenset(["a.jpg"]), r"frozenset.*sorted\(X\)"),
        ({"a.jpg": 31}, r"X is a dict; .*list\(X.values\(\)\), or list\(X\)"),
        ({"a.jpg": 31}.keys(), "has no order"),
    ],
)
def test_what_has_no_order_is_refused_with_the_remedy(X, remedy: str) -> None:
    with pytest.raises(TypeError, match=remedy):
        check_pictures(X)
