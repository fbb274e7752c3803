"""All published networks by name, and their names in other projects."""

from __future__ import annotations

from agegender._networks.of_deepface import AGE_AND_GENDER, OF_DEEPFACE, REFUSED
from agegender._networks.of_insightface import OF_INSIGHTFACE, OF_UNIFACE
from agegender._networks.publication import Published

__all__ = ["PUBLISHED", "Published", "canonical_name"]

PUBLISHED = {
    published.name: published for published in (*OF_DEEPFACE, *AGE_AND_GENDER, *OF_INSIGHTFACE, *OF_UNIFACE)
}


def canonical_name(name: str) -> str:
    """Return this library's name for its project's spelling of a network; return other names unchanged.

    Raises
    ------
    ValueError
        If the network cannot be used in this library; the message gives the reason.

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
