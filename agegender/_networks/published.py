"""Every published network by its name, and the spellings by which others know it."""

from __future__ import annotations

from agegender._networks.of_deepface import AGE_AND_GENDER, OF_DEEPFACE, REFUSED
from agegender._networks.of_insightface import OF_INSIGHTFACE, OF_UNIFACE
from agegender._networks.publication import Published

__all__ = ["PUBLISHED", "Published", "canonical_name"]

PUBLISHED = {
    published.name: published for published in (*OF_DEEPFACE, *AGE_AND_GENDER, *OF_INSIGHTFACE, *OF_UNIFACE)
}


def canonical_name(name: str) -> str:
    """Return the name that a network has here, for a spelling of its own project's; other names as they are.

    Raises
    ------
    ValueError
        If it is a network that cannot be used here; it says why.

    Examples
    --------
    >>> canonical_name("VGG-Face"), canonical_name("Buffalo_L"), canonical_name("DeepFace"), canonical_name("mine")
    ('vggface', 'buffalo_l', 'fbdeepface', 'mine')
    """
    if (reason := REFUSED.get(_folded(name))) is not None:
        raise ValueError(f"There is no backbone {name!r}: {reason}")
    return _SPELLINGS.get(_folded(name), name)


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")


_SPELLINGS = {_folded(published.name): published.name for published in PUBLISHED.values()} | {
    _folded(published.spelled): published.name for published in OF_DEEPFACE
}
