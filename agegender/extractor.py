"""The transformer from pictures to embeddings: each picture is embedded once and then cached."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED

from agegender._extraction.crops import SeenCrops, measure_crops
from agegender._extraction.extraction import Embedded, Extraction, Own, Running
from agegender._extraction.framing import FaceFinder
from agegender._extraction.report import ExtractionReport, Failure
from agegender._extraction.resolved import Asked, FacesParameter, Resolved, carried_names, resolve
from agegender._machine.installation import check_opencv
from agegender._safe.declaration import SafeState
from agegender._safe.declared import EXTRACTOR
from agegender._utils.pictures import check_pictures
from agegender._utils.validation import check_choice
from agegender._utils.versions import VersionedState
from agegender.backbones import Backbone
from agegender.cache import Recipe
from agegender.exceptions import ModelFileError, WeightsError
from agegender.faces import FRAMINGS, Detector, Face, open_detector
from agegender.views import View, resolve_views

__all__ = ["EmbeddingExtractor", "ExtractionReport", "FacesParameter", "Failure"]


class EmbeddingExtractor(TransformerMixin, VersionedState, BaseEstimator):
    """Turn pictures of faces into embeddings of a frozen face-recognition network.

    It is stateless: ``transform`` works without ``fit``. Each picture is embedded once. Its row is cached on
    disk; the key contains the picture's content and everything else that decides the numbers.

    Parameters
    ----------
    backbone : str, Backbone, or tuple of them, default="arcface"
        The name of a network of deepface (``arcface``, ``facenet``, ``facenet512``, ``openface``) or of the one
        in the package (``compact``), or any other network as a :class:`~agegender.backbones.Backbone`. The rows
        of several networks are concatenated in this order. Each network is cached separately, so that adding a
        network computes only that one.
    layer : str or tuple of str, default="auto"
        ``embedding``, ``penultimate`` (the input of the last dense layer), ``pooled`` (the feature map averaged
        over space), ``feature_map`` (height, width, channels), ``input`` (the pixels of the network's input,
        RGB, 0 … 255) or the name of a tensor. ``auto`` is the layer of the head in an
        :class:`~agegender.AgeGenderPipeline`; without a pipeline, the layer of a dense head. A tuple has one
        layer per network. Several networks need flat layers.
    weights : path, default=None
        The weights file of a network given by name. If None, it is read from deepface's folder or downloaded.
    faces : {"auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default=None
        If None, each picture is a face crop. Otherwise the face detector, as in
        :func:`agegender.faces.load_detector`. The largest face of each picture is aligned by its landmarks to
        the template of face recognition, scaled to the network's input. The detector for "auto" is chosen at
        ``fit``.
    framing : {"utkface"} or None, default=None
        The framing of face crops. If None, they are passed to the network unchanged. ``"utkface"``: they are
        tight like UTKFace's, and are brought into the framing of aligned faces by a fixed similarity transform.
    crop : float, default=0.0
        Fraction trimmed from every side: of the picture if it is a face crop, of the template's square if the
        face is aligned. If negative, more is shown: more of a photograph, or a black border around a face crop.
    draft : float, default=None
        JPEG files are decoded at 1/2, 1/4 or 1/8 of their sides if a face then still has this many times the
        pixels along a side that the network takes; 2.0 is a good value. For a photograph of 45 megapixels this
        halves the time to find and embed the faces and saves 220 MB. The embedding then has a cosine of 0.989
        to 0.999 with that of the whole photograph (``docs/speed.md``); therefore the default is None, decoding
        the whole photograph.
    views : int, str, View or tuple of str and View, default=1
        Fixed changes of each picture, such as ``("plain", "mirror", "mirror+zoom")``: see
        :mod:`agegender.views`. A number n means the first n of `agegender.views.ORDER`. A tuple, or a number
        above 1, adds an axis: (n_samples, n_views, ...). Each view is cached separately.
    engine : {"auto", "onnx", "keras"}, default="auto"
        What runs a network given by name. "auto" is ONNX Runtime if its ``.onnx`` file exists, and Keras otherwise.
    device : {"auto", "cpu", "cuda"}, default="auto"
        The device of the network. "auto" is a GPU if the installed ONNX Runtime can use one, and the processor
        otherwise; "cuda" raises an error if it cannot.
    batch_size : int, default=64
        Pictures per batch of the network. It does not change the numbers.
    cache : "auto", path or None, default="auto"
        Folder of the cache. "auto": the user's cache directory, or ``AGEGENDER_HOME`` if it is set. None: no
        cache.
    trust_mtime : bool, default=False
        If False, every file is read and hashed in each call, whatever its name and time. If True, a file that
        this process has hashed is not read again as long as its size, modification time and inode stay the
        same. This is faster, but changes that keep all three are not noticed.
    on_cache_error : {"warn", "raise"}, default="warn"
        What happens if the disk is full, the folder is read-only or a lock is held too long: one
        :class:`~agegender.exceptions.CacheWarning`, and the run continues without the cache, or a
        :class:`~agegender.exceptions.CacheError`.
    dtype : {"float32", "float16"}, default="float32"
        Precision of the rows, in the cache and in the output. Half precision takes half the memory, disk space
        and reading time. Pixels are always bytes.
    n_jobs : int, default=None
        Threads for decoding and for the network; if None, all cores.
    on_error : {"raise", "nan"}, default="raise"
        What happens if a picture cannot be read or no face is found: an error, or a row of NaN and an entry in
        ``report_``.
    verbose : int, default=0
        If 1, show a progress bar.

    Attributes
    ----------
    report_ : ExtractionReport
        The report of the last ``transform`` of this object.
    resolved_ : Resolved
        What ``fit`` decided: networks, layers, detector, views, crop. Everything that reads or writes rows uses it.
    backbones_ : tuple of Backbone
        The networks; they are saved with a fitted extractor if their files have at most 16 MB each.
    backbone_ : Backbone
        The network, if there is only one.
    detector_ : Detector
        The detector for "auto", or the one that `faces` names. It is pickled with the extractor; a safe file
        (:func:`agegender.save_model`) contains its name and the sha256 of its weights.
    framing_ : ndarray of shape (5, 2) or None
        Positions of the landmarks in the face crops that :meth:`measure_framing` was called with, in fractions
        of their side.

    See Also
    --------
    AgeGenderPipeline : The extractor and a classifier as one estimator.
    AgeGenderClassifier : The classifier on embeddings.

    Examples
    --------
    >>> from agegender import EmbeddingExtractor
    >>> extractor = EmbeddingExtractor("facenet", layer="pooled", crop=0.05)
    >>> extractor.transform(["anna.jpg", "bert.jpg"])  # doctest: +SKIP
    array([[0.12, ...], [0.08, ...]], dtype=float32)
    >>> extractor.report_.n_computed  # doctest: +SKIP
    2
    """

    report_: ExtractionReport
    resolved_: Resolved
    _safe: ClassVar[SafeState] = EXTRACTOR
    __metadata_request__transform: ClassVar = {"out": UNUSED, "faces": UNUSED}

    def __init__(
        self,
        backbone: str | Backbone | Sequence[str | Backbone] = "arcface",
        *,
        layer: str | Sequence[str] = "auto",
        weights: str | os.PathLike[str] | None = None,
        faces: FacesParameter = None,
        framing: str | None = None,
        crop: float = 0.0,
        draft: float | None = None,
        views: int | str | View | Sequence[str | View] = 1,
        engine: Literal["auto", "onnx", "keras"] = "auto",
        device: Literal["auto", "cpu", "cuda"] = "auto",
        batch_size: int = 64,
        cache: str | os.PathLike[str] | None = "auto",
        trust_mtime: bool = False,
        on_cache_error: Literal["warn", "raise"] = "warn",
        dtype: str = "float32",
        n_jobs: int | None = None,
        on_error: str = "raise",
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.weights = weights
        self.faces = faces
        self.framing = framing
        self.crop = crop
        self.draft = draft
        self.views = views
        self.engine = engine
        self.device = device
        self.batch_size = batch_size
        self.cache = cache
        self.trust_mtime = trust_mtime
        self.on_cache_error = on_cache_error
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check the parameters and load the networks; no pictures are read.

        Parameters
        ----------
        X : ignored
        y : ignored

        Returns
        -------
        self : EmbeddingExtractor
        """
        self._check_parameters()
        asked = Asked.of(self)
        resolved = resolve(asked, decide_auto=True)
        for source in resolved.sources:
            source.backbone.resolve_layer(source.layer)
        self.resolved_, self._asked = resolved, asked
        return self

    def measure_framing(self, X: Any) -> Self:
        """Measure the framing of face crops, so that faces in photographs can be aligned in the same way.

        The landmarks in 32 of the pictures are detected, once if there is a cache, and their medians are stored
        as ``framing_``, with the sizes of the pictures. :class:`~agegender.AgeGenderPipeline` does this at
        ``fit`` if `faces` and `framing` are None.

        Parameters
        ----------
        X : sequence of pictures or None
            The training pictures. If None, they are not known, and a prediction that needs the framing warns.

        Returns
        -------
        self : EmbeddingExtractor
        """
        resolved = self._resolved(decide_auto=True)
        if X is None:
            self._keep(resolved.with_crops(SeenCrops(None)))
            return self
        try:
            finder = FaceFinder(resolved.detector_for("auto", self.faces), self._running().open_cache())
        except WeightsError:
            finder = None
        self._keep(resolved.with_crops(measure_crops(check_pictures(X), finder)))
        return self

    def transform(
        self, X: Any, *, out: NDArray[Any] | None = None, faces: FacesParameter | Own = "own"
    ) -> Any:
        """Return one embedding per picture, in the order of X.

        Parameters
        ----------
        X : sequence of pictures, or ndarray of shape (n_samples, height, width, 3)
            Paths, ``bytes``, PIL images or RGB ``uint8`` arrays; they can be mixed.
        out : ndarray or memmap of shape (n_samples, ...), default=None
            Array for the output, for outputs larger than memory; float32 or float16, for pixels also uint8.
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default="own"
            Overrides the parameter `faces` in this call. If `framing_` is known and `framing` is None, detected
            faces are aligned to it.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, height, width, channels), of `dtype`
            With several views, there is an additional second axis. If `out` is given, it is returned. Pixels
            (``layer="input"``) are uint8, or with ``on_error="nan"`` float16.

        Raises
        ------
        PictureError
            If a picture cannot be read and ``on_error="raise"``; a NoFaceError, if no face is found in it.
        CacheError
            If the cache cannot be used and ``on_cache_error="raise"``.
        ValueError
            If a number is too large for half precision.
        WeightsNotFoundError
            If a network's file was not found and could not be downloaded.
        """
        self._check_output(self.row_shape())
        return self.embed(X, out=out, faces=faces).rows

    def embed(
        self,
        X: Any,
        *,
        out: NDArray[Any] | None = None,
        faces: FacesParameter | Own = "own",
        with_faces: bool = False,
    ) -> Embedded[NDArray[Any]]:
        """Return the rows of ``transform`` and the digests of the pictures, whatever ``set_output`` is.

        Parameters
        ----------
        X, out, faces
            As in :meth:`transform`.
        with_faces : bool, default=False
            Whether to return the faces too.

        Returns
        -------
        Embedded
            A tuple of `rows` (ndarray), `digests` (list of 16 bytes per picture; None if it could not be read) and
            `faces` (list of Face or None per picture; None if they were not asked for or not searched).
        """
        with self._reporting() as extraction:
            return extraction.embed(X, out=out, faces=faces, with_faces=with_faces)

    def transform_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Own = "own"
    ) -> Iterator[Any]:
        """Yield the rows of ``transform`` in blocks, in order.

        ``report_`` includes all blocks so far; copies of a picture in different blocks count as different pictures.

        Parameters
        ----------
        X : sequence of pictures
        max_bytes : float
            The largest size of a block in bytes; a block has at least one row.
        faces : default="own"
            As in :meth:`transform`.

        Yields
        ------
        ndarray of shape (n_rows, ...)
        """
        return (block.rows for block in self.embed_blocks(X, max_bytes, faces=faces))

    def embed_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Own = "own"
    ) -> Iterator[Embedded[NDArray[Any]]]:
        """Yield the result of ``embed`` in blocks, in order.

        Parameters
        ----------
        X, max_bytes, faces
            As in :meth:`transform_blocks`.

        Yields
        ------
        Embedded
        """
        with self._reporting() as extraction:
            for block in extraction.embed_blocks(X, max_bytes, faces=faces):
                assert extraction.report is not None
                self.report_ = extraction.report
                yield block

    def recipes(self) -> list[Recipe]:
        """Return everything that decides the numbers of a row except the picture, for each network and view.

        Returns
        -------
        list of agegender.cache.Recipe
            The recipes in the cache keys of the rows.
        """
        return self.extraction().recipes()

    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of a row of ``transform``, with the axis of views."""
        return self._resolved().row_shape

    def row_dtype(self) -> str:
        """Return the dtype of the result of ``transform``."""
        return Extraction(self._resolved(), self._running(), self.faces).row_dtypes[0]

    def transform_faces(
        self, X: Any, *, faces: FacesParameter | Own = "own"
    ) -> tuple[list[list[Face]], NDArray[Any]]:
        """Detect all faces of all pictures, and return one embedding per face.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            The detector; "own" is the parameter `faces`, or "auto" if that is None.

        Returns
        -------
        found : list of lists of Face
            The faces of each picture, the largest first; an empty list if there is none.
        rows : ndarray of shape (n_faces, ...)
            One row per face, in the order of `found`. ``report_`` counts faces; its failures are pictures that
            could not be read.

        Raises
        ------
        PictureError
            If a picture cannot be read and ``on_error="raise"``.
        ValueError
            If `faces` is None.
        """
        pictures = check_pictures(X)
        found: list[list[Face]] = [[] for _ in range(len(pictures))]
        parts = []
        for places, rows in self.transform_faces_blocks(pictures, math.inf, faces=faces):
            parts.append(rows)
            for index, face in places:
                found[index].append(face)
        if not parts:
            return found, np.empty((0, *self.row_shape()), self.row_dtype())
        return found, np.concatenate(parts)

    def transform_faces_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Own = "own"
    ) -> Iterator[tuple[list[tuple[int, Face]], NDArray[Any]]]:
        """Yield the result of ``transform_faces`` in blocks, in order.

        Parameters
        ----------
        X : sequence of pictures
        max_bytes : float
            The largest size of a block's rows in bytes; a block has at least one row.
        faces : default="own"
            As in :meth:`transform_faces`.

        Yields
        ------
        places : list of tuples of int and Face
            The index of the picture in X and the face, per row.
        rows : ndarray of shape (n_rows, ...)
        """
        with self._reporting() as extraction:
            yield from extraction.faces_blocks(X, max_bytes, faces=faces)

    def check_pictures_are_crops(self, X: Any) -> None:
        """Warn if pictures differ from the face crops of the training; only a few pictures are checked.

        Parameters
        ----------
        X : sequence of pictures

        Warns
        -----
        FramingWarning
            If most of the checked pictures show a face that is much smaller or larger than in the crops.
        """
        Extraction(self._resolved(), self._running(), self.faces).check_pictures_are_crops(X)

    def extraction(self) -> Extraction:
        """Return what computes the rows: what is resolved, and how a call runs.

        Returns
        -------
        agegender._extraction.extraction.Extraction
            It does not change if parameters of this extractor are set.
        """
        self._check_parameters()
        return Extraction(self._resolved(), self._running(), self.faces)

    def with_parameters(self, **params: Any) -> EmbeddingExtractor:
        """Return a copy with other parameters and the same fitted state.

        Parameters
        ----------
        **params
            Names and values.

        Returns
        -------
        EmbeddingExtractor
        """
        other: EmbeddingExtractor = clone(self).set_params(**params)
        kept = ("resolved_", "_asked", "_sklearn_output_config")
        other.__dict__ |= {name: value for name, value in vars(self).items() if name in kept}
        return other

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the column names: network, layer, number.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str objects

        Raises
        ------
        ValueError
            If rows are maps or several views, which have no columns.
        """
        resolved = self._resolved()
        if len(resolved.row_shape) != 1:
            raise ValueError(f"{self._no_table(resolved.row_shape)}: they have no columns to name.")
        return np.array(resolved.feature_names(), dtype=object)

    def resolve_backbones(self) -> tuple[Backbone, ...]:
        """Return the networks: the fitted ones as long as the parameters are the fitted ones."""
        return self._resolved().backbones

    @property
    def backbones_(self) -> tuple[Backbone, ...]:
        """The fitted networks."""
        return self._fitted().backbones

    @property
    def backbone_(self) -> Backbone:
        """The fitted network, if there is only one."""
        found = self._fitted().backbones
        if len(found) > 1:
            raise AttributeError(f"This extractor has {len(found)} networks; use backbones_.")
        return found[0]

    @property
    def detector_(self) -> Detector:
        """The fitted face detector."""
        detector = self._fitted().detector
        if detector is None:
            raise AttributeError("This extractor was fitted without a detector.")
        return open_detector(detector)

    @property
    def framing_(self) -> NDArray[np.float64] | None:
        """The positions of the landmarks in the face crops that `measure_framing` was called with."""
        crops = self._fitted().crops
        if crops is None:
            raise AttributeError("The framing of face crops was not measured; call measure_framing(X).")
        return crops.landmarks

    def _fitted(self) -> Resolved:
        if "resolved_" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} is not fitted.")
        return self.resolved_

    def _resolved(self, *, decide_auto: bool = False) -> Resolved:
        """Return the resolved parameters; those that have not changed since fit come from the fitted state."""
        asked, earlier = Asked.of(self), vars(self).get("_asked")
        if earlier is not None and earlier == asked:
            return self.resolved_
        return resolve(asked, vars(self).get("resolved_"), earlier, decide_auto=decide_auto)

    def _keep(self, resolved: Resolved) -> None:
        self.resolved_, self._asked = resolved, Asked.of(self)

    def _running(self) -> Running:
        return Running.of(vars(self))

    @contextmanager
    def _reporting(self) -> Iterator[Extraction]:
        """Lend an extraction for one call, and keep its report whatever happens."""
        extraction = self.extraction()
        try:
            yield extraction
        finally:
            if extraction.report is not None:
                self.report_ = extraction.report

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        self._running().check(owner)
        check_choice("engine", self.engine, ("auto", "onnx", "keras"), owner)
        check_choice("framing", self.framing, (None, *FRAMINGS), owner)
        check_choice("dtype", self.dtype, ("float32", "float16"), owner)
        resolve_views(self.views)
        if self.draft is not None and not (isinstance(self.draft, Real) and 1 <= self.draft < np.inf):
            raise ValueError(
                f"{owner}: draft={self.draft!r} is neither None nor a number of at least 1: how many times the "
                "pixels that the network takes a face keeps, along a side."
            )
        if not -1 <= self.crop < 0.5:
            raise ValueError(
                f"{owner}: crop={self.crop!r} is not in [-1, 0.5): it is the fraction trimmed from each side."
            )
        check_opencv()

    def _check_output(self, shape: tuple[int, ...]) -> None:
        config = (
            getattr(self, "_sklearn_output_config", {}).get("transform") or get_config()["transform_output"]
        )
        if len(shape) > 1 and config != "default":
            raise ValueError(
                f'{self._no_table(shape)}, which do not fit into a table; use set_output(transform="default"), or '
                'views=1 and a flat layer ("pooled", "penultimate").'
            )

    def _no_table(self, shape: tuple[int, ...]) -> str:
        if self._resolved().has_view_axis:
            return f"views={self.views!r} gives rows of shape {shape}, a picture's views one below the other"
        return f"layer={self.layer!r} gives maps of shape {shape}"

    def carrying(self) -> EmbeddingExtractor:
        """Return a copy that contains the files of small networks, for use on another machine."""
        if "resolved_" not in vars(self):
            return self
        carried = self.resolved_.carried()
        # One network, one object: its file stands in a pickle once, and a refit or a clone finds it there too.
        fitted = self._asked.backbone
        other = self.with_parameters(backbone=carried_names(self.backbone, fitted, carried.backbones))
        other.resolved_ = carried
        other._asked = replace(self._asked, backbone=carried_names(fitted, fitted, carried.backbones))
        if "report_" in vars(self):
            other.report_ = self.report_
        return other

    def __getstate__(self) -> dict[str, Any]:
        return dict(VersionedState.__getstate__(self.carrying()))

    def _check_safe(self) -> None:
        """Check the content of a safe file."""
        if self.cache not in ("auto", None):
            raise ModelFileError("it names a folder for the cache")
        named = self.backbone if isinstance(self.backbone, (tuple, list)) else (self.backbone,)
        if not all(isinstance(one, Backbone | str | os.PathLike) for one in named):
            raise ModelFileError("its backbone is neither a name nor a network")
        if "resolved_" in vars(self):
            if not isinstance(self.resolved_, Resolved):
                raise ModelFileError("its fitted state is none")
            self._asked = Asked.of(self)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags
