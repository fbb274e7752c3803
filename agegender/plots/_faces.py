"""Pictures with the faces found in them: boxes, ages, genders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from agegender import images
from agegender._utils.pictures import check_pictures
from agegender.exceptions import PictureError
from agegender.plots._axes import INK
from agegender.plots._marked import MarkedFace, MarkedPicture, marked_faces
from agegender.plots._sheet_of_faces import sheet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FacesDisplay"]


class FacesDisplay:
    """Pictures with a box around each face, its age with the interval, and its gender.

    Make one by `from_estimator` or `from_predictions`. In a notebook it shows itself as HTML, which holds the
    pictures, scaled down, and loads nothing: whoever is given the notebook is given the faces in it. `plot` draws the
    same with matplotlib.

    Parameters
    ----------
    pictures : sequence of pictures
        Paths, ``bytes``, PIL images or RGB ``uint8`` arrays.
    table : DataFrame
        As `AgeGenderPipeline.predict_faces` gives it, or `predict_frame`: then every picture is one face.
    gender_names : dict, default=None
        Words for gender labels, such as ``{0: "male", 1: "female"}``; None shows the labels.
    max_pictures : int, default=24
        How many pictures are shown; of more, the first, and a line that tells how many are left out.
    max_side : int, default=480
        Pixels of a picture's longer side in HTML.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        Those of the pictures, after `plot`.
    figure_ : matplotlib Figure
        After `plot`.

    Raises
    ------
    ValueError
        If the table lacks a column, names a picture that is not there, or has another number of rows than there are
        pictures and no column ``picture``.

    See Also
    --------
    AgeDistributionDisplay : The whole distribution predicted for a picture.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from agegender.plots import FacesDisplay
    >>> table = pd.DataFrame(
    ...     {
    ...         "picture": [0],
    ...         **{"x": [8.0], "y": [4.0], "width": [20.0], "height": [24.0]},
    ...         **{"age": [31.4], "age_low": [25.0], "age_high": [38.2], "gender": [1], "gender_proba": [0.97]},
    ...     }
    ... )
    >>> FacesDisplay.from_predictions([np.zeros((40, 40, 3), np.uint8)], table, gender_names={1: "female"})
    <FacesDisplay: 1 face in 1 picture>
    """

    def __init__(
        self,
        pictures: Any,
        table: pd.DataFrame,
        *,
        gender_names: Mapping[Any, str] | None = None,
        max_pictures: int = 24,
        max_side: int = 480,
    ) -> None:
        self.pictures = check_pictures(pictures)
        self.table = table
        self.gender_names = gender_names
        self.max_pictures = max_pictures
        self.max_side = max_side
        self._faces = marked_faces(table, len(self.pictures), gender_names or {})

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, faces: Any = "own", coverage: float = 0.9, **kwargs: Any
    ) -> Self:
        """Find every face of every picture, and return their display.

        Parameters
        ----------
        estimator : AgeGenderPipeline
            Fitted.
        X : sequence of pictures
        faces : default="own"
            What finds faces, as in `AgeGenderPipeline.predict_faces`; None takes each picture as a face crop.
        coverage : float, default=0.9
            The fraction of faces whose true age is to lie in the interval.
        **kwargs
            See `FacesDisplay`.

        Returns
        -------
        FacesDisplay
        """
        pictures = check_pictures(X)
        predict = estimator.predict_frame if faces is None else estimator.predict_faces
        return cls(pictures, predict(pictures, faces=faces, coverage=coverage), **kwargs)

    @classmethod
    def from_predictions(cls, pictures: Any, table: pd.DataFrame, **kwargs: Any) -> Self:
        """Return the display of predictions; nothing is drawn before it is shown, or `plot` is called.

        Parameters
        ----------
        pictures : sequence of pictures
        table : DataFrame
            What ``predict_faces(pictures)`` or ``predict_frame(pictures)`` returned.
        **kwargs
            See `FacesDisplay`.

        Returns
        -------
        FacesDisplay
        """
        return cls(pictures, table, **kwargs)

    def plot(self, *, axes: Any = None, columns: int = 3, **kwargs: Any) -> Self:
        """Draw with matplotlib.

        Parameters
        ----------
        axes : matplotlib Axes or sequence of them, default=None
            One for each picture that is shown. None makes a figure.
        columns : int, default=3
            Pictures in a row of that figure.
        **kwargs
            For the boxes.

        Returns
        -------
        FacesDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there are fewer axes than pictures to show.
        """
        shown = self._shown()
        self.axes_ = _axes(axes, len(shown), columns)
        self.figure_ = self.axes_[0].figure
        for ax, marked in zip(self.axes_, shown, strict=False):
            _draw(ax, marked, kwargs)
        return self

    def _shown(self) -> list[MarkedPicture]:
        """Return the pictures that are shown, read now; what cannot be read has its reason instead of pixels."""
        return [
            _marked(self.pictures[index], index, self._faces.get(index, []))
            for index in range(min(len(self.pictures), self.max_pictures))
        ]

    def _repr_html_(self) -> str:
        return sheet(self._shown(), len(self.pictures), self.max_side)

    def __repr__(self) -> str:
        n_faces = sum(map(len, self._faces.values()))
        counted = (_counted(n_faces, "face"), _counted(len(self.pictures), "picture"))
        return f"<FacesDisplay: {' in '.join(counted)}>"


def _counted(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def _marked(picture: images.Picture, index: int, faces: Sequence[MarkedFace]) -> MarkedPicture:
    named = isinstance(picture, (str, bytes)) or hasattr(picture, "__fspath__")
    name = images.describe(picture) if named and not isinstance(picture, bytes) else f"picture {index}"
    try:
        return MarkedPicture(name, images.load(picture), tuple(faces))
    except PictureError as error:
        return MarkedPicture(name, None, (), error.reason)


def _axes(axes: Any, n: int, columns: int) -> Any:
    if axes is not None:
        given = np.ravel(axes)
        if len(given) < n:
            raise ValueError(
                f"axes has {len(given)} axes for {n} pictures; pass one for each, or max_pictures."
            )
        return given
    from matplotlib import pyplot

    columns = max(1, min(columns, n))
    rows = math.ceil(n / columns)
    size = (3.6 * columns, 3.8 * rows)
    figure, made = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in made.ravel()[n:]:
        figure.delaxes(ax)
    return made.ravel()[:n]


def _draw(ax: Any, marked: MarkedPicture, style: Mapping[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    ax.set_axis_off()
    ax.set_title(marked.short_name, fontsize="small", color=INK)
    if marked.pixels is None:
        ax.text(0.5, 0.5, marked.problem, transform=ax.transAxes, ha="center", va="center", wrap=True)
        return
    ax.imshow(marked.pixels)
    for face in marked.faces:
        x, y, width, height = face.box_in(marked.pixels.shape)
        options: dict[str, Any] = {"fill": False, "edgecolor": face.color, "linewidth": 2} | dict(style)
        ax.add_patch(Rectangle((x, y), width, height, **options))
        plate = {"facecolor": face.color, "edgecolor": "none", "pad": 1.5}
        ax.text(x, y, face.label, fontsize="x-small", color="white", va="bottom", bbox=plate, clip_on=True)
