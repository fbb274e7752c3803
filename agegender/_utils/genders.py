"""Words for gender labels: 0 male, 1 female, as the loaders give them."""

from __future__ import annotations

from typing import Any

__all__ = ["GENDERS", "gender_word"]

GENDERS = ("male", "female")


def gender_word(label: Any) -> str:
    """Return the word for a gender label; a label of the user's own stays as it is.

    Examples
    --------
    >>> gender_word(1), gender_word("woman")
    ('female', 'woman')
    """
    return GENDERS[int(label)] if label in (0, 1) else str(label)
