"""The transformer that turns pictures into frozen networks' activations: embedded once, then cached."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED

from agegender._extraction.crops import measure_crops, warn_of_other_pictures
from agegender._extraction.every_face import EveryFace
from agegender._extraction.framing import FaceFinder, Framing
from agegender._extraction.one_pass import OnePass
from agegender._extraction.report import ExtractionReport, Failure
from agegender._extraction.resolved import Asked, FacesParameter, Resolved, resolve, same_networks
from agegender._extraction.task import Task
from agegender._machine.devices import DEVICES
from agegender._machine.installation import check_opencv
from agegender._safe.declaration import SafeState
from agegender._utils.pictures import check_pictures
from agegender._utils.validation import check_choice
from agegender._utils.versions import VersionedState
from agegender.backbones import Backbone
from agegender.cache import EmbeddingCache, Recipe, open_cache
from agegender.exceptions import ModelFileError, WeightsError
from agegender.faces import FRAMINGS, Detector, Face, open_detector
from agegender.views import View, resolve_views

__all__ = ["EmbeddingExtractor", "ExtractionReport", "FacesParameter", "Failure"]

Own = Literal["own"]


class Embedded(NamedTuple):
    """Rows, and the identity of each picture's content; None if it could not be read."""

    rows: NDArray[Any]
    digests: list[bytes | None]


class EmbeddingExtractor(TransformerMixin, VersionedState, BaseEstimator):
    """Turn pictures of faces into activations of a frozen face-recognition network.

    Stateless: ``transform`` works without ``fit``. Each picture's activations are computed once and kept on
    disk, under a key made of the picture's content and of everything that decides the numbers.

    Parameters
    ----------
    backbone : str, Backbone, or tuple of them, default="arcface"
        A network of deepface's by name (``arcface``, ``facenet``, ``facenet512``, ``openface``), the one in the
        package (``compact``), or any other as a :class:`~agegender.backbones.Backbone`. Of several networks, the rows
        stand side by side in this order; each is cached by itself, so that one more network computes that one alone.
    layer : str or tuple of str, default="auto"
        ``embedding``, ``penultimate`` (what the last dense layer reads), ``pooled`` (the feature map averaged
        over space), ``feature_map`` (height, width, channels), ``input`` (the pixels that the network is given,
        RGB, 0 … 255) or the name of a tensor. ``auto`` is what the head in an
        :class:`~agegender.AgeGenderPipeline` asks for; alone, what a dense head would ask for. A tuple has a layer
        per network. Several networks take flat layers only.
    weights : path, default=None
        The weights file of a network given by name; None looks in deepface's folder, then downloads.
    faces : {"auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default=None
        None: each picture is a face crop. Otherwise what finds faces in photographs, as in
        :func:`agegender.faces.load_detector`; the largest face of each is aligned by its landmarks to the template
        of face recognition, scaled to the network's input. What "auto" stands for is decided at ``fit``.
    framing : {"utkface"} or None, default=None
        How face crops are framed. None: they are shown to the network as they are. ``"utkface"``: they are tight, as
        UTKFace's are, and are brought into the framing of aligned faces by one similarity.
    crop : float, default=0.0
        Fraction trimmed from every side of the face: of the picture where it is a face crop, of the template's square
        where a face is aligned. Negative shows more: of a photograph what is there, around a face crop black.
    views : int, str, View or tuple of str and View, default=1
        Fixed changes of each picture, such as ``("plain", "mirror", "mirror+zoom")``: see :mod:`agegender.views`. A
        number stands for the first so many of `agegender.views.ORDER`. A tuple, and a number above 1, give one more
        axis, (n_samples, n_views, ...); 1 and a single name give none. Each view is cached on its own.
    engine : {"auto", "onnx", "keras"}, default="auto"
        What runs a network given by name: ONNX Runtime where its ``.onnx`` file is there, else Keras.
    device : {"auto", "cpu", "cuda"}, default="auto"
        What the network runs on. "auto" is a GPU where the installed ONNX Runtime can use one, else the processor;
        "cuda" is an error where it cannot.
    batch_size : int, default=64
        Pictures that pass through the network at once. Never changes the numbers.
    cache : "auto", path or None, default="auto"
        Folder of the cache: the user's cache directory (``AGEGENDER_HOME`` overrides it), a folder of your
        own, or none.
    trust_mtime : bool, default=False
        Every file is read and hashed in each call, whatever its name and time. True: one that this process has hashed
        already, and whose size, time of change and inode are the same, is not read again; it spares a second call on
        the same files the reading, and does not see a change that leaves all three as they were.
    on_cache_error : {"warn", "raise"}, default="warn"
        What a full disk, a read-only folder or a lock held too long leads to: one
        :class:`~agegender.exceptions.CacheWarning` and a run that goes on without the cache, or a
        :class:`~agegender.exceptions.CacheError`.
    dtype : {"float32", "float16"}, default="float32"
        Precision of the rows, in the cache as in the output. Half precision takes half the memory, disk and time to
        read. Pixels are bytes either way.
    n_jobs : int, default=None
        Threads for decoding and for the network; None takes every core.
    on_error : {"raise", "nan"}, default="raise"
        What becomes of a picture that cannot be read, or in which no face is found: an error, or a row of NaN and a
        line in ``report_``.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    report_ : ExtractionReport
        What the last ``transform`` on this object did.
    resolved_ : Resolved
        What ``fit`` decided: networks, layers, detector, views, crop. All that reads or writes rows goes by it.
    backbones_ : tuple of Backbone
        The networks that ``fit`` found; saved with a fitted extractor if their files have at most 16 MB each.
    backbone_ : Backbone
        The same of an extractor of one network.
    detector_ : Detector
        What "auto" stands for since ``fit``, or the detector that `faces` names. Pickled with the extractor; a safe
        file (:func:`agegender.save_model`) keeps its name and the sha256 of its weights.
    framing_ : ndarray of shape (5, 2) or None
        Where the landmarks lie in the face crops that :meth:`measure_framing` was shown, in fractions of their side.

    See Also
    --------
    AgeGenderPipeline : The extractor and a classifier as one estimator.
    AgeGenderClassifier : What reads the rows.

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
    _safe: ClassVar[SafeState] = SafeState(
        fitted=("resolved_", "_sklearn_output_config"), dropped=("report_", "_asked", "_metadata_request")
    )
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
        """Check the parameters and find the networks; no picture is read.

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
        """Find out how face crops are framed, so that faces found in photographs can be shown in the same framing.

        The landmarks of 32 of the pictures are found, once if there is a cache, and their medians kept as
        ``framing_``, with the sizes of the pictures. :class:`~agegender.AgeGenderPipeline` does so at ``fit`` if
        `faces` and `framing` are None.

        Parameters
        ----------
        X : sequence of pictures
            Those that a head is trained on.

        Returns
        -------
        self : EmbeddingExtractor
        """
        resolved = self._resolved(decide_auto=True)
        try:
            finder = FaceFinder(resolved.detector_for("auto", self.faces), self._open_cache())
        except WeightsError:
            finder = None
        self._keep(resolved.with_crops(measure_crops(check_pictures(X), finder)))
        return self

    def transform(
        self, X: Any, *, out: NDArray[Any] | None = None, faces: FacesParameter | Own = "own"
    ) -> Any:
        """Return one row of activations per picture, in the order of X.

        Parameters
        ----------
        X : sequence of pictures, or ndarray of shape (n_samples, height, width, 3)
            Paths, ``bytes``, PIL images or RGB ``uint8`` arrays, mixed as you like.
        out : ndarray or memmap of shape (n_samples, ...), default=None
            Where to write, for outputs larger than memory; float32 or float16, for pixels uint8 too.
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default="own"
            Overrides the parameter `faces` in this call. If `framing_` is known and `framing` is None, a found
            face is aligned to it.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, height, width, channels), of `dtype`
            With several views, one more axis after the first. `out` where it is given. Pixels (``layer="input"``)
            are uint8, or with ``on_error="nan"`` float16.

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
        self, X: Any, *, out: NDArray[Any] | None = None, faces: FacesParameter | Own = "own"
    ) -> Embedded:
        """Return the rows of ``transform`` with the identities of the pictures, whatever ``set_output`` says.

        Parameters
        ----------
        X, out, faces
            As in :meth:`transform`.

        Returns
        -------
        Embedded
            A tuple of `rows` (ndarray) and `digests` (list of 16 bytes per picture; None if it could not be read).
        """
        started = time.perf_counter()
        self._check_parameters()
        pictures = check_pictures(X)
        resolved = self._resolved()
        rows = _output(out, (len(pictures), *resolved.row_shape), self._dtypes(resolved))
        cache = self._open_cache()
        framing = self._framing(resolved, self.faces if _is_own(faces) else faces, cache)
        extract = OnePass(
            pictures,
            self._task(resolved, framing),
            cache,
            resolved.kept_dtype,
            trust_mtime=self.trust_mtime,
            skip_failures=self.on_error == "nan",
            verbose=self.verbose,
        )
        try:
            extract(rows if resolved.has_view_axis else rows[:, np.newaxis])
        finally:
            self._report(extract.report, started)
        return Embedded(rows, extract.digests)

    def transform_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Own = "own"
    ) -> Iterator[Any]:
        """Yield the rows of ``transform`` a block at a time, in order.

        ``report_`` is of all blocks so far; a copy in a later block than its first counts as another picture.

        Parameters
        ----------
        X : sequence of pictures
        max_bytes : float
            The most bytes that a block takes; one picture's row at least.
        faces : default="own"
            As in :meth:`transform`.

        Yields
        ------
        ndarray of shape (n_rows, ...)
        """
        return (block.rows for block in self.embed_blocks(X, max_bytes, faces=faces))

    def embed_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Own = "own"
    ) -> Iterator[Embedded]:
        """Yield what ``embed`` gives a block at a time, in order.

        Parameters
        ----------
        X, max_bytes, faces
            As in :meth:`transform_blocks`.

        Yields
        ------
        Embedded
        """
        pictures = check_pictures(X)
        self._check_parameters()
        size = self._rows_within(max_bytes, len(pictures))
        report = ExtractionReport()
        for start in range(0, len(pictures), size):
            block = [pictures[i] for i in range(start, min(start + size, len(pictures)))]
            embedded = self.embed(block, faces=faces)
            self.report_ = report = report.followed_by(self.report_)
            yield embedded

    def recipes(self) -> list[Recipe]:
        """Return all that decides the numbers of a row besides the picture, for each network and view.

        Returns
        -------
        list of agegender.cache.Recipe
            What rows are kept under in the cache.
        """
        self._check_parameters()
        resolved = self._resolved()
        task = self._task(resolved, self._framing(resolved, self.faces, None))
        return task.recipes(resolved.kept_dtype)

    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of what ``transform`` gives for one picture, several views' axis included."""
        return self._resolved().row_shape

    def row_dtype(self) -> str:
        """Return the type of the numbers that ``transform`` gives."""
        return self._dtypes(self._resolved())[0]

    def transform_faces(
        self, X: Any, *, faces: FacesParameter | Own = "own"
    ) -> tuple[list[list[Face]], NDArray[Any]]:
        """Find every face of every picture, and return one row of activations per face.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            What finds faces; "own" is the parameter `faces`, or "auto" if that is None.

        Returns
        -------
        found : list of lists of Face
            The faces of each picture, the largest first; an empty list if there is none.
        rows : ndarray of shape (n_faces, ...)
            A row per face, picture by picture, in the order of `found`. ``report_`` counts faces; its failures are
            pictures that could not be read.

        Raises
        ------
        PictureError
            If a picture cannot be read and ``on_error="raise"``.
        ValueError
            If `faces` is None: then there is nothing to find.
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
        """Yield what ``transform_faces`` gives a block at a time, in order.

        Parameters
        ----------
        X : sequence of pictures
        max_bytes : float
            The most bytes that a block's rows take; one face's row at least.
        faces : default="own"
            As in :meth:`transform_faces`.

        Yields
        ------
        places : list of tuples of int and Face
            The picture's place in X and the face of each row.
        rows : ndarray of shape (n_rows, ...)
        """
        started = time.perf_counter()
        self._check_parameters()
        if faces is None:
            raise ValueError("faces=None finds no faces; pass a detector, or use transform on face crops.")
        wanted = self.faces if _is_own(faces) else faces
        resolved, cache = self._resolved(), self._open_cache()
        framing = self._framing(resolved, "auto" if wanted is None else wanted, cache)
        assert framing.finder is not None
        every = EveryFace(
            check_pictures(X),
            self._task(resolved, framing),
            framing.finder,
            cache,
            resolved.kept_dtype,
            trust_mtime=self.trust_mtime,
            skip_failures=self.on_error == "nan",
            verbose=self.verbose,
        )
        shape = (len(resolved.views), *resolved.features_shape)
        try:
            for places, rows in every.rows(shape, self.row_dtype(), self._rows_within(max_bytes)):
                yield places, rows if resolved.has_view_axis else rows[:, 0]
        finally:
            self._report(every.report, started)

    def check_pictures_are_crops(self, X: Any) -> None:
        """Warn if pictures do not look like the face crops that a head was trained on; look at a few only.

        Parameters
        ----------
        X : sequence of pictures

        Warns
        -----
        FramingWarning
            If most of the pictures looked at show a face much smaller or larger than the crops did.
        """
        resolved = self._resolved()
        if resolved.finds_faces or resolved.crops is None:
            return

        def finder() -> FaceFinder:
            return FaceFinder(resolved.detector_for("auto", self.faces), self._open_cache())

        warn_of_other_pictures(check_pictures(X), resolved.crops, finder)

    def with_parameters(self, **params: Any) -> EmbeddingExtractor:
        """Return an extractor with other parameters, that has everything this one has been fitted to.

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
        """Return a name per column: network, layer, number.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str objects

        Raises
        ------
        ValueError
            If rows are maps, or views of a picture, and no columns of a table.
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
        """The networks that ``fit`` found."""
        return self._fitted().backbones

    @property
    def backbone_(self) -> Backbone:
        """The one network that ``fit`` found."""
        found = self._fitted().backbones
        if len(found) > 1:
            raise AttributeError(f"This extractor has {len(found)} networks: backbones_ has them all.")
        return found[0]

    @property
    def detector_(self) -> Detector:
        """What finds faces since ``fit``."""
        detector = self._fitted().detector
        if detector is None:
            raise AttributeError("No detector was there when this extractor was fitted.")
        return open_detector(detector)

    @property
    def framing_(self) -> NDArray[np.float64] | None:
        """Where the landmarks lie in the face crops that `measure_framing` was shown."""
        crops = self._fitted().crops
        if crops is None:
            raise AttributeError("The framing of face crops was not measured: measure_framing(X) does so.")
        return crops.landmarks

    def _fitted(self) -> Resolved:
        if "resolved_" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} is not fitted.")
        return self.resolved_

    def _resolved(self, *, decide_auto: bool = False) -> Resolved:
        """Return what the parameters stand for: what was found at fit, as far as they are the same since."""
        asked, earlier = Asked.of(self), vars(self).get("_asked")
        if earlier is not None and earlier == asked:
            return self.resolved_
        return resolve(asked, vars(self).get("resolved_"), earlier, decide_auto=decide_auto)

    def _keep(self, resolved: Resolved) -> None:
        self.resolved_, self._asked = resolved, Asked.of(self)

    def _task(self, resolved: Resolved, framing: Framing) -> Task:
        return Task(
            sources=resolved.sources,
            views=resolved.views,
            framing=framing,
            batch_size=int(self.batch_size),
            n_jobs=self.n_jobs,
            device=self.device,
        )

    def _framing(self, resolved: Resolved, faces: FacesParameter, cache: EmbeddingCache | None) -> Framing:
        if faces is None:
            return Framing(resolved.crop, source=resolved.framing)
        finder = FaceFinder(resolved.detector_for(faces, self.faces), cache)
        return Framing(resolved.crop, finder=finder, template=resolved.template())

    def _open_cache(self) -> EmbeddingCache | None:
        return open_cache(self.cache, on_error=self.on_cache_error)

    def _rows_within(self, max_bytes: float, most: int = 2**31) -> int:
        """Return how many rows a block of so many bytes has."""
        row_bytes = np.dtype(self.row_dtype()).itemsize * math.prod(self.row_shape())
        return int(max(1, min(most, max_bytes // row_bytes)))

    def _report(self, report: ExtractionReport, started: float) -> None:
        report.failures.sort()
        report.seconds = time.perf_counter() - started
        self.report_ = report

    def _dtypes(self, resolved: Resolved) -> tuple[str, ...]:
        """Return the types that rows may have, the one that they get without `out` first."""
        if not resolved.gives_pixels:
            return tuple(dict.fromkeys([self.dtype, "float32", "float16"]))
        # Half precision holds every pixel value exactly, and NaN for a picture that cannot be read.
        return ("float16", "float32") if self.on_error == "nan" else ("uint8", "float16", "float32")

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        check_choice("on_error", self.on_error, ("raise", "nan"), owner)
        check_choice("on_cache_error", self.on_cache_error, ("warn", "raise"), owner)
        check_choice("engine", self.engine, ("auto", "onnx", "keras"), owner)
        check_choice("device", self.device, DEVICES, owner)
        check_choice("framing", self.framing, (None, *FRAMINGS), owner)
        check_choice("dtype", self.dtype, ("float32", "float16"), owner)
        resolve_views(self.views)
        if not isinstance(self.batch_size, (int, np.integer)) or self.batch_size < 1:
            raise ValueError(f"{owner}: batch_size={self.batch_size!r} is not a whole number of at least 1.")
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
                f'{self._no_table(shape)}, which do not fit into a table; set_output(transform="default"), or '
                'views=1 and a flat layer ("pooled", "penultimate"), does.'
            )

    def _no_table(self, shape: tuple[int, ...]) -> str:
        if self._resolved().has_view_axis:
            return f"views={self.views!r} gives rows of shape {shape}, a picture's views one below the other"
        return f"layer={self.layer!r} gives maps of shape {shape}"

    def carrying(self) -> EmbeddingExtractor:
        """Return a fitted extractor with the files of small networks inside, to be taken to another machine."""
        if "resolved_" not in vars(self):
            return self
        carried = self.resolved_.carried()
        # One network, one object: its file stands in a pickle once, and a refit or a clone finds it there too.
        other = self.with_parameters(backbone=same_networks(self.backbone, carried.backbones))
        other._keep(carried)
        if "report_" in vars(self):
            other.report_ = self.report_
        return other

    def __getstate__(self) -> dict[str, Any]:
        return dict(VersionedState.__getstate__(self.carrying()))

    def _check_safe(self) -> None:
        """Look at what a safe file held."""
        if self.cache not in ("auto", None):
            raise ModelFileError("it names a folder for the cache")
        named = self.backbone if isinstance(self.backbone, tuple) else (self.backbone,)
        if not all(isinstance(one, Backbone | str) for one in named):
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


def _output(out: NDArray[Any] | None, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, dtype=dtypes[0])
    if out.shape != shape or out.dtype.name not in dtypes:
        raise ValueError(
            f"out has shape {out.shape} and type {out.dtype}; it should be {shape}, {' or '.join(dtypes)}."
        )
    return out


def _is_own(faces: Any) -> bool:
    return isinstance(faces, str) and faces == "own"
