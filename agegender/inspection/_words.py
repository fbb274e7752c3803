"""Findings as sentences, for the page and the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agegender.inspection._tables import InspectionTables

__all__ = ["findings"]

HEAPED = 110
"""Whipple's index from which ages are no longer "fairly accurate"."""


def findings(found: InspectionTables) -> list[tuple[str, str]]:
    """Return the findings as pairs of a heading and a sentence."""
    return [
        ("Labels", _labels(found)),
        ("Copies", _copies(found)),
        ("Pictures", _pictures(found)),
        ("Framing", f"{found.framing['kind'].capitalize()}. {found.framing['advice']}"),
        ("Ages", _ages(found)),
        *([("Persons", _persons(found))] if len(found.persons) else []),
        *([("Leaks", _leaks(found))] if found.counts["leaks"] or len(found.leaks) else []),
        *[("Note", note) for note in found.notes],
    ]


def _labels(found: InspectionTables) -> str:
    counts, noise = found.counts, found.noise
    joined = _joined(found) if "model_age" in found.labels else ""
    return (
        f"{counts['suspicious']:,} of {counts['read']:,} labels are more likely wrong than right. Estimated over "
        f"all: {100 * noise.age_rate:.1f} % of the ages belong to other pictures, {100 * noise.gender_rate:.1f} % of "
        f"the genders are flipped.{joined}"
    )


def _joined(found: InspectionTables) -> str:
    ages, genders = found.noise.age_share, found.noise.gender_share
    if genders is None:
        said = "in the ages; the models that judge genders use its genders"
    else:
        said = f"in the ages and {100 * genders:.0f} % in the genders"
    return f" A trained model read the pictures too. Its share is {100 * ages:.0f} % {said}."


def _copies(found: InspectionTables) -> str:
    counts = found.counts
    if not counts["copies"] and not counts["near_copies"]:
        return "None."
    near = found.near_copies
    return (
        f"{counts['copies']:,} pictures are copies of another one, in {counts['copy_groups']:,} groups, of which "
        f"{counts['disagreeing_copies']:,} disagree about the label. {len(near):,} pairs are near-copies, "
        f"{int(near['disagree'].sum()):,} of them with different labels. Keep them together: "
        "groups=inspection.groups."
    )


def _pictures(found: InspectionTables) -> str:
    from agegender.inspection._flags import FLAGS

    flags = {name: int(found.pictures[name].sum()) for name in FLAGS}
    listed = ", ".join(f"{name} {count:,}" for name, count in flags.items() if count)
    unreadable = found.counts["unreadable"]
    broken = f"{unreadable:,} cannot be read. " if unreadable else ""
    left_out = (
        f"{found.counts['excluded']:,} were left out by the loader. " if found.counts["excluded"] else ""
    )
    return f"{broken}{left_out}{f'Flagged: {listed}' if listed else 'Nothing odd'}."


def _ages(found: InspectionTables) -> str:
    whipple = found.heaping["whipple"]
    heaped = ""
    if whipple is not None:
        heaped = f" Whipple's index {whipple:.0f} ({found.heaping['judgement']}): "
        heaped += (
            "ages ending in 0 and 5 are too frequent."
            if whipple >= HEAPED and found.heaping["p_value"] < 0.01
            else "no heaping on ages ending in 0 and 5."
        )
    empty = found.empty_ages
    shown = ", ".join(map(str, empty[:8])) + (f" and {len(empty) - 8} more" if len(empty) > 8 else "")
    gaps = f" No picture of the ages {shown}." if empty else ""
    low, high = int(found.ages["age"].min()), int(found.ages["age"].max())
    return f"{low} to {high} years, skew {round(found.skew, 1) + 0.0:+.1f}.{heaped}{gaps}"


def _persons(found: InspectionTables) -> str:
    return f"{len(found.persons):,} have ages 30 years or more apart, or both genders."


def _leaks(found: InspectionTables) -> str:
    kinds = found.leaks["kind"].value_counts()
    listed = ", ".join(f"{count:,} as {kind}" for kind, count in kinds.items())
    return f"{found.leaks['row'].nunique():,} pictures stand in the other set too: {listed} (pairs)."
