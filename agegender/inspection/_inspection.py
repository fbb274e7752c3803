"""The result of an inspection: tables, with JSON, HTML and terminal output, and a table of corrections."""

from __future__ import annotations

import json
import numbers
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agegender._utils.files import write_whole
from agegender._version import __version__
from agegender.inspection._clean import actions
from agegender.inspection._tables import InspectionTables

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FacesInspection"]

SCHEMA_VERSION = 1
MOST_LISTED = 500
TABLES = ("copies", "near_copies", "persons", "leaks", "unreadable", "excluded", "ages", "folds", "power")


class FacesInspection(InspectionTables):
    """What is wrong, unusual or missing in a set of labelled faces. Made by `inspect_faces`.

    A suspicion is the probability that a label belongs to another picture, estimated by models that were
    trained neither on the picture nor on its copies. It is not a proof: look at the picture before you
    correct its label.

    Attributes
    ----------
    title : str
    coverage : float
        The share of pictures for which ``age_low`` … ``age_high`` is to contain the age.
    gender_names : tuple of str
    counts : dict of str to int
        ``pictures``, ``excluded`` (by the loader), ``unreadable``, ``read`` (by models), ``suspicious``
        (labels that are more likely wrong than right), ``copies`` (pictures beyond the first of their
        content), ``disagreeing_copies`` (groups), ``near_copies`` (pairs), ``leaks`` (pairs).
    noise : Noise
        The estimated share of wrong labels: ``age_rate``, ``gender_rate``.
    labels : DataFrame
        One row per picture, in their order: ``row``, ``picture``, ``age``, ``gender`` (as labelled),
        ``group``, ``fold``, ``n_readings``, ``read_age`` and ``read_female`` (mean age, and probability of
        the second gender, whose name it has, as models gave them), ``model_age`` and ``model_female`` (what a
        trained model says, if one read the pictures), ``rank`` (1 is the most suspicious),
        ``suspicion``, ``age_suspicion``, ``gender_suspicion``, ``age_label_proba`` and ``gender_label_proba``
        (of the label, under models that did not see it), ``suggested_age``, ``age_low``, ``age_high``
        (years), ``suggested_gender``, ``suggested_gender_proba``, ``neighbours`` (rows of the nearest faces
        of other groups) and ``reason``, in words. If a picture could not be read, its values are missing.
    pictures : DataFrame
        One row per picture: ``row``, ``picture``, ``readable``, ``flagged`` (text), a boolean column per flag
        ("no face", "several faces", "tiny face", "off-centre", "rotated", "blurred", "grey", "dark", "pale", "black
        border", "flat"), and the measurements.
    copies : DataFrame
        One row per group of equal content: ``rows``, ``n``, ``ages``, ``genders``, ``age_spread`` (years),
        ``disagree``.
    near_copies : DataFrame
        One row per pair of near-copies, with both labels, ``similarity`` and whether they are the
        ``same_photograph``.
    persons : DataFrame
        Persons whose ages differ by 30 years or more, or who have both genders.
    leaks : DataFrame
        Pairs of a picture and its copy or near-copy in the other set: ``kind``, ``similarity``.
    unreadable : DataFrame
        ``row``, ``picture``, ``reason``.
    excluded : DataFrame
        Pictures that the loader left out: ``path``, ``reason``.
    framing : dict
        Crops or photographs, sizes, the template that fits, and what to do about it.
    ages : DataFrame
        Pictures of each year and gender, empty years included.
    skew : float
        Skewness of the ages; positive if most ages are young, with a long tail of old ages.
    empty_ages : list of int
    heaping : dict
        Whipple's index and the share of each last digit.
    folds : DataFrame
        Description of each test part.
    power : DataFrame
        The smallest difference to all others that a group of this size can show.
    groups : ndarray of shape (n_pictures,), int
        Copies, near-copies and the given groups, for ``AgeGenderKFold`` and ``fit``.
    notes : list of str
        What could not be determined, and why.

    See Also
    --------
    inspect_faces : Makes an inspection.
    agegender.datasets.load_utkface, agegender.datasets.load_table : Loaders that take the table from `clean`.
    """

    def clean(
        self,
        *,
        suspicious: str = "review",
        min_suspicion: float = 0.5,
        no_face: str = "review",
        leaks: str = "review",
    ) -> pd.DataFrame:
        """Return a table with an action per picture, which you can edit and pass to a loader.

        Nothing is changed on disk. Save it with ``to_csv("corrections.csv", index=False)``, edit it, and pass it as
        ``corrections=`` to a loader.

        Parameters
        ----------
        suspicious : {"review", "relabel", "drop", "keep"}, default="review"
            What to do about labels that are more suspicious than `min_suspicion`.
        min_suspicion : float, default=0.5
            The suspicion from which this action is set.
        no_face : {"review", "drop", "keep"}, default="review"
            What to do about pictures in which no face is found.
        leaks : {"review", "drop", "keep"}, default="review"
            What to do about pictures that are also in the other set.

        Returns
        -------
        DataFrame
            One row per picture, those with an action other than "keep" first: ``path``, ``action``,
            ``new_age``, ``new_gender`` (the label that "relabel" sets; if empty, it is not changed), ``age``,
            ``gender``, ``suspicion``, ``age_low``, ``age_high``, ``reason``, ``row``. "review" changes
            nothing until you replace it by "relabel", "drop" or "keep". For pictures that cannot be read, the
            action is "drop"; for copies whose labels differ by more than five years, it is "review".

        Raises
        ------
        ValueError
            If a parameter is not as described.
        """
        return actions(self, suspicious, min_suspicion, no_face, leaks)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as numbers, text, lists and dicts.

        Returns
        -------
        dict
            ``schema_version`` (1), ``agegender_version``, ``created`` and the attributes; a table is a list
            of records, and unknown values are None. Instead of ``labels``, ``pictures`` and ``groups``, there
            are the 500 most suspicious labels (``suspicious``) and the pictures with a flag (``flagged``); the CSV
            files of `save` have all.
        """
        heading = {
            "schema_version": SCHEMA_VERSION,
            "agegender_version": __version__,
            "created": self.created,
        }
        flagged = self.pictures[self.pictures["flagged"] != ""][["row", "picture", "flagged"]]
        return heading | {
            "title": self.title,
            "coverage": self.coverage,
            "gender_names": list(self.gender_names),
            "counts": self.counts,
            "noise": asdict(self.noise),
            "framing": self.framing,
            "skew": self.skew,
            "empty_ages": self.empty_ages,
            "heaping": self.heaping,
            "notes": self.notes,
            "suspicious": _records(self.suspicious(MOST_LISTED)),
            "flagged": _records(flagged),
            **{name: _records(getattr(self, name)) for name in TABLES},
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)

    def to_html(self, n_shown: int = 120) -> str:
        """Return one HTML page with embedded plots and pictures; it loads no external resources.

        Needs ``pip install 'agegender[inspection]'``.

        Parameters
        ----------
        n_shown : int, default=120
            The number of most suspicious pictures that are shown.

        Returns
        -------
        str
        """
        from agegender.inspection._page import render

        if isinstance(n_shown, bool) or not isinstance(n_shown, numbers.Integral) or n_shown < 0:
            raise ValueError(
                f"FacesInspection.to_html: n_shown={n_shown!r} should be an integer of at least 0: how many of the "
                "most suspicious pictures the page shows."
            )
        return render(self, n_shown)

    def save(self, folder: str | os.PathLike[str], *, n_shown: int = 120) -> Path:
        """Write ``inspection.html``, ``inspection.json``, ``labels.csv``, ``pictures.csv`` and ``corrections.csv``.

        Each file is written completely or not at all. An existing ``corrections.csv`` is not changed, because
        it may have been edited; the new one is then called ``corrections-new.csv``.

        Parameters
        ----------
        folder : path
            The folder, which is created if it does not exist.
        n_shown : int, default=120
            The number of most suspicious pictures on the page.

        Returns
        -------
        Path
            The path of ``inspection.html``.
        """
        target = Path(folder).expanduser()
        page, data = self.to_html(n_shown), self.to_json()
        edited = target / "corrections.csv"
        tables = {
            "labels.csv": self.labels.assign(neighbours=self.labels["neighbours"].map(json.dumps)),
            "pictures.csv": self.pictures,
            "corrections-new.csv" if edited.exists() else "corrections.csv": self.clean(),
        }
        for name, table in tables.items():
            # With a byte order mark, spreadsheets read the names of edited pictures as UTF-8.
            code = "utf-8-sig" if name.startswith("corrections") else "utf-8"
            write_whole(
                target / name,
                lambda path, table=table, code=code: table.to_csv(path, index=False, encoding=code),  # type: ignore[misc]
            )
        write_whole(target / "inspection.json", lambda path: path.write_text(data, encoding="utf-8"))
        return write_whole(target / "inspection.html", lambda path: path.write_text(page, encoding="utf-8"))

    def __rich__(self) -> Any:
        from agegender.inspection._terminal import overview

        return overview(self)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return records
