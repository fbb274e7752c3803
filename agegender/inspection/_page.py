"""An inspection as one HTML page without external resources."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from agegender._version import __version__
from agegender.inspection._charts import charts
from agegender.inspection._flags import FLAGS
from agegender.inspection._words import findings
from agegender.reports._parts import environment, style, thumbnail

if TYPE_CHECKING:
    from agegender.inspection._tables import InspectionTables

__all__ = ["render"]

SHOWN_GROUPS = 40
SHOWN_FLAGGED = 24
SMALL = 112


def render(found: InspectionTables, n_shown: int) -> str:
    """Return the page, with the `n_shown` most suspicious pictures."""
    page = environment("inspection")
    script = files(__package__).joinpath("page.js").read_text("utf-8")
    template = page.from_string(files(__package__).joinpath("page.html.jinja").read_text("utf-8"))
    show = _Thumbnails(found.sources)
    text: str = template.render(
        found=found,
        version=__version__,
        style=style(),
        script=type(style())(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        findings=findings(found),
        charts=charts(found),
        cards=[_card(record, show) for record in found.suspicious(n_shown).to_dict("records")],
        folder=_common_folder(found.labels["picture"].tolist()),
        copies=_copies(found, show),
        n_disagreeing=int(found.copies["disagree"].sum()) + int(found.near_copies["disagree"].sum()),
        flagged=_flagged(found, show),
        leaks=found.leaks.head(SHOWN_GROUPS).to_dict("records"),
        power=[(name, part.to_dict("records")) for name, part in found.power.groupby("grouping", sort=False)],
        folds=found.folds.to_dict("records"),
        persons=found.persons.head(SHOWN_GROUPS).to_dict("records"),
        unreadable=found.unreadable.head(SHOWN_GROUPS).to_dict("records"),
        excluded=found.excluded.head(SHOWN_GROUPS).to_dict("records"),
    )
    return text


class _Thumbnails:
    """Small copies of the pictures of a set, each made once."""

    def __init__(self, pictures: Sequence[Any]) -> None:
        self._pictures = pictures
        self._made: dict[int, str | None] = {}

    def __call__(self, row: int) -> str | None:
        if row not in self._made:
            self._made[row] = thumbnail(self._pictures[row], SMALL) if row < len(self._pictures) else None
        return self._made[row]


def _card(record: dict[Any, Any], show: _Thumbnails) -> dict[Any, Any]:
    kinds = [kind for kind in ("age", "gender") if record[f"{kind}_suspicion"] >= 0.5 * record["suspicion"]]
    return record | {"thumbnail": show(record["row"]), "kinds": " ".join(kinds)}


def _copies(found: InspectionTables, show: _Thumbnails) -> list[dict[str, Any]]:
    """Return groups of copies and pairs of near-copies whose labels disagree, the furthest apart first."""
    groups = [
        {"rows": record["rows"], "spread": record["age_spread"], "kind": "copies"}
        for record in found.copies[found.copies["disagree"]].head(SHOWN_GROUPS).to_dict("records")
    ]
    near = found.near_copies[found.near_copies["disagree"].astype(bool)].head(SHOWN_GROUPS)
    for record in near.to_dict("records"):
        kind = "same photograph" if record["same_photograph"] else "near-copies"
        rows = [record["row"], record["other_row"]]
        groups.append({"rows": rows, "spread": record["age_spread"], "kind": kind})
    groups.sort(key=lambda group: -group["spread"])
    labels = found.labels
    for group in groups:
        group["pictures"] = [
            {"thumbnail": show(row), "label": f"{labels['age'][row]:g} {labels['gender'][row]}", "row": row}
            for row in group["rows"][:6]
        ]
    return groups[:SHOWN_GROUPS]


def _flagged(found: InspectionTables, show: _Thumbnails) -> list[dict[str, Any]]:
    sections = []
    for name, (_, words) in FLAGS.items():
        rows = found.pictures.index[found.pictures[name]].tolist()
        if rows:
            shown = [{"thumbnail": show(row), "row": row} for row in rows[:SHOWN_FLAGGED]]
            sections.append({"name": name, "words": words, "n": len(rows), "pictures": shown})
    return sections


def _common_folder(names: list[str]) -> str:
    """Return the folder of all paths, with a slash; cards leave it out."""
    folder = names[0].rpartition("/")[0]
    while folder and not all(name.startswith(f"{folder}/") for name in names):
        folder = folder.rpartition("/")[0]
    return f"{folder}/" if folder else ""
