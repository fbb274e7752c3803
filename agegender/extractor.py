"""The transformer that turns pictures into a frozen network's activations, each computed once, ever."""

from __future__ import annotations

import copy
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED

from agegender._extraction.every_face import EveryFace
from agegender._extraction.framing import FaceFinder, Framing, measure_framing
from agegender._extraction.one_pass import Extraction
from agegender._extraction.report import ExtractionReport, Failure
from agegender._extraction.task import Task
from agegender._machine.devices import DEVICES
from agegender._machine.installation import check_opencv
from agegender._machine.threads import resolve_threads
from agegender._utils.pictures import check_pictures
from agegender._utils.validation import check_choice
from agegender._utils.versions import VersionedState
from agegender.backbones import Backbone
from agegender.cache import EmbeddingCache, Recipe, open_cache
from agegender.exceptions import FramingWarning, WeightsError
from agegender.faces import FRAMINGS, Detector, Face, Template, load_detector
from agegender.heads import DenseHead, head_layer
from agegender.views import View, resolve_views, view_axis

__all__ = ["EmbeddingExtractor", "ExtractionReport", "FacesParameter", "Failure"]

FacesParameter: TypeAlias = str | os.PathLike[str] | Detector | None


class EmbeddingExtractor(TransformerMixin, VersionedState, BaseEstimator):
    """Turn pictures of faces into activations of a frozen face-recognition network.

    Stateless: ``transform`` works without ``fit``. Each picture's activations are computed once and kept on
    disk, under a key made of the picture's content and of everything that decides the numbers.

    Parameters
    ----------
    backbone : str or Backbone, default="arcface"
        A network of deepface's by name (``arcface``, ``facenet``, ``facenet512``, ``openface``), the one in the
        package (``compact``), or any other as a :class:`~agegender.backbones.Backbone`.
    layer : str, default="auto"
        ``embedding``, ``penultimate`` (what the last dense layer reads), ``pooled`` (the feature map averaged
        over space), ``feature_map`` (height, width, channels), ``input`` (the pixels that the network is given,
        RGB, 0 … 255) or the name of a tensor. ``auto`` is what the head in an
        :class:`~agegender.AgeGenderPipeline` asks for; alone, what a dense head would ask for.
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
    backbone_ : Backbone
        The network that ``fit`` found; saved with a fitted extractor when its file has at most 16 MB.
    detector_ : Detector
        What "auto" stands for since ``fit``, or the detector that `faces` names. Pickled with the extractor; a safe
        file (:func:`agegender.save_model`) keeps its name.
    framing_ : ndarray of shape (5, 2) or None
        Where the landmarks lie in the face crops that :meth:`measure_framing` was shown, in fractions of their side.

    Examples
    --------
    >>> from agegender import EmbeddingExtractor
    >>> extractor = EmbeddingExtractor("facenet", layer="pooled", crop=0.05)
    >>> extractor.transform(["anna.jpg", "bert.jpg"])  # doctest: +SKIP
    array([[0.12, ...], [0.08, ...]], dtype=float32)
    >>> extractor.report_.n_computed  # doctest: +SKIP
    2
    """

    __metadata_request__transform: ClassVar = {"out": UNUSED, "faces": UNUSED}

    def __init__(
        self,
        backbone: str | Backbone = "arcface",
        *,
        layer: str = "auto",
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
        """Check the parameters and find the network; no picture is read.

        Parameters
        ----------
        X : ignored
        y : ignored

        Returns
        -------
        self : EmbeddingExtractor
        """
        self._check_parameters()
        self.backbone_ = self.resolve_backbone()
        self._fitted_with = (self.backbone, self.weights, self.engine)
        self.backbone_.resolve_layer(self._layer(self.backbone_))
        self._find_detector()
        return self

    def measure_framing(self, X: Any) -> Self:
        """Find out how face crops are framed, so that faces found in photographs can be shown in the same framing.

        The landmarks of 32 of the pictures are found, once where there is a cache, and their medians kept as
        ``framing_``. :class:`~agegender.AgeGenderPipeline` does so at ``fit`` when `faces` and `framing` are None.

        Parameters
        ----------
        X : sequence of pictures
            Those that a head is trained on.

        Returns
        -------
        self : EmbeddingExtractor
        """
        detector = self._detector("auto")
        self.framing_ = measure_framing(check_pictures(X), FaceFinder(detector, self._open_cache()))
        return self

    def transform(
        self, X: Any, *, out: NDArray[Any] | None = None, faces: FacesParameter | Literal["own"] = "own"
    ) -> Any:
        """Return one row of activations a picture, in the order of X.

        Parameters
        ----------
        X : sequence of pictures, or ndarray of shape (n_samples, height, width, 3)
            Paths, ``bytes``, PIL images or RGB ``uint8`` arrays, mixed as you like.
        out : ndarray or memmap of shape (n_samples, ...), default=None
            Where to write, for outputs larger than memory; float32 or float16, for pixels uint8 too.
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path, Detector or None, default="own"
            Overrides the parameter `faces` in this call. Where `framing_` is known and `framing` is None, a found
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
            If the network's file is neither here nor to be had.
        """
        started = time.perf_counter()
        self._check_parameters()
        pictures = check_pictures(X)
        backbone = self.resolve_backbone()
        layer = backbone.resolve_layer(self._layer(backbone))
        shape = (len(pictures), *view_axis(self.views), *backbone.output_shape(layer))
        self._check_output(shape)
        rows = _output(out, shape, self._dtypes(layer))
        cache = self._open_cache()
        report = ExtractionReport(n_images=len(pictures))
        framing = self._framing(backbone, self.faces if faces == "own" else faces, cache)
        extract = Extraction(
            pictures=pictures,
            task=self._task(backbone, layer, framing),
            rows=rows if view_axis(self.views) else rows[:, np.newaxis],
            cache=cache,
            trust_mtime=self.trust_mtime,
            dtype=self._kept_dtype(layer),
            verbose=self.verbose,
            skip_failures=self.on_error == "nan",
            report=report,
        )
        try:
            extract()
        finally:
            report.failures.sort()
            report.seconds = time.perf_counter() - started
            self.report_ = report
        return rows

    def transform_blocks(
        self, X: Any, max_bytes: float, *, faces: FacesParameter | Literal["own"] = "own"
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
        pictures = check_pictures(X)
        self._check_parameters()
        row_bytes = np.dtype(self.row_dtype()).itemsize * math.prod(self.row_shape())
        size = int(max(1, min(len(pictures), max_bytes // row_bytes)))
        report = ExtractionReport()
        for start in range(0, len(pictures), size):
            block = [pictures[i] for i in range(start, min(start + size, len(pictures)))]
            rows = self.transform(block, faces=faces)
            self.report_ = report = report.followed_by(self.report_)
            yield rows

    def recipes(self) -> list[Recipe]:
        """Return all that decides the numbers of a row besides the picture, for each view.

        Returns
        -------
        list of agegender.cache.Recipe
            What rows are kept under in the cache.
        """
        self._check_parameters()
        backbone = self.resolve_backbone()
        layer = backbone.resolve_layer(self._layer(backbone))
        task = self._task(backbone, layer, self._framing(backbone, self.faces, None))
        return task.recipes(self._kept_dtype(layer))

    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of what ``transform`` gives for one picture, several views' axis included."""
        backbone = self.resolve_backbone()
        return (*view_axis(self.views), *backbone.output_shape(backbone.resolve_layer(self._layer(backbone))))

    def row_dtype(self) -> str:
        """Return the type of the numbers that ``transform`` gives."""
        return self._dtypes(self._layer(self.resolve_backbone()))[0]

    def transform_faces(
        self, X: Any, *, faces: FacesParameter | Literal["own"] = "own"
    ) -> tuple[list[list[Face]], NDArray[Any]]:
        """Find every face of every picture, and return one row of activations a face.

        Parameters
        ----------
        X : sequence of pictures
        faces : {"own", "auto", "yunet", "mtcnn", "scrfd"}, path or Detector, default="own"
            What finds faces; "own" is the parameter `faces`, or "auto" where that is None.

        Returns
        -------
        found : list of lists of Face
            The faces of each picture, the largest first; an empty list where there is none.
        rows : ndarray of shape (n_faces, ...)
            A row a face, picture by picture, in the order of `found`. ``report_`` counts faces; its failures are
            pictures that could not be read.

        Raises
        ------
        PictureError
            If a picture cannot be read and ``on_error="raise"``.
        ValueError
            If `faces` is None: then there is nothing to find.
        """
        started = time.perf_counter()
        self._check_parameters()
        if faces is None:
            raise ValueError("faces=None finds no faces; pass a detector, or use transform on face crops.")
        wanted = "auto" if faces == "own" and self.faces is None else self.faces if faces == "own" else faces
        framing = self._framing(self.resolve_backbone(), wanted, self._open_cache())
        every = EveryFace(check_pictures(X), framing, resolve_threads(self.n_jobs), self.on_error == "nan")
        squares = copy.copy(self).set_params(faces=None, framing=None, crop=framing.trimmed, verbose=0)
        rows, self.report_ = every(squares, self.verbose)
        self.report_.seconds = time.perf_counter() - started
        return every.found, rows

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return a name a column: backbone, layer, number.

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
        shape = self.row_shape()
        if len(shape) != 1:
            raise ValueError(f"{self._no_table(shape)}: they have no columns to name.")
        backbone = self.resolve_backbone()
        layer = self._layer(backbone)
        return np.array([f"{backbone.name}_{layer}_{i}" for i in range(shape[0])], dtype=object)

    def resolve_backbone(self) -> Backbone:
        """Return the network: the fitted one where the parameters are still the fitted ones."""
        if getattr(self, "_fitted_with", None) == (self.backbone, self.weights, self.engine):
            return self.backbone_
        if isinstance(self.backbone, Backbone):
            return self.backbone
        return Backbone.load(self.backbone, weights=self.weights, engine=self.engine)

    def _find_detector(self) -> None:
        """Keep the detector that `faces` names; what "auto" stands for where it is None, if that is to be had."""
        try:
            self.detector_ = load_detector("auto" if self.faces is None else self.faces)
        except WeightsError:
            if self.faces is not None:
                raise
            return
        self._detects, self._detector_name = self.faces, self.detector_.name

    def _detector(self, faces: str | os.PathLike[str] | Detector) -> Detector:
        """Return a detector: the fitted one for "auto" and for what it was fitted with."""
        if hasattr(self, "detector_") and (faces == "auto" or faces == self._detects):
            return self.detector_
        # A safe file keeps the name alone: what it held would be a program for OpenCV to read.
        return load_detector(getattr(self, "_detector_name", "auto") if faces == "auto" else faces)

    def _task(self, backbone: Backbone, layer: str, framing: Framing) -> Task:
        return Task(
            backbone=backbone,
            layer=layer,
            views=resolve_views(self.views),
            framing=framing,
            batch_size=int(self.batch_size),
            n_jobs=self.n_jobs,
            device=self.device,
        )

    def _kept_dtype(self, layer: str) -> str:
        return "uint8" if layer == "input" else self.dtype

    def _framing(self, backbone: Backbone, faces: FacesParameter, cache: EmbeddingCache | None) -> Framing:
        crop = float(self.crop)
        if faces is None:
            return Framing(backbone.input_size, crop, source=self.framing)
        finder = FaceFinder(self._detector(faces), cache)
        return Framing(backbone.input_size, crop, finder=finder, template=self._template())

    def _template(self) -> Template:
        """Return where a found face's landmarks go: where they lay in the crops that a head was trained on."""
        if self.framing is not None or not hasattr(self, "framing_"):
            return "arcface"
        if self.framing_ is None:
            warnings.warn(
                "It is not known how the faces that this model was trained on are framed: hardly any were found, or "
                "each lies elsewhere. Faces are aligned as for face recognition, and ages may be off; train with "
                'faces="auto", or framing="utkface" on crops framed like that.',
                FramingWarning,
                stacklevel=4,
            )
            return "arcface"
        return self.framing_

    def _open_cache(self) -> EmbeddingCache | None:
        return open_cache(self.cache, on_error=self.on_cache_error)

    def _layer(self, backbone: Backbone) -> str:
        return head_layer(DenseHead(), backbone) if self.layer == "auto" else self.layer

    def _dtypes(self, layer: str) -> tuple[str, ...]:
        """Return the types that rows may have, the one that they get without `out` first."""
        if layer != "input":
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
        if len(shape) > 2 and config != "default":
            raise ValueError(
                f'{self._no_table(shape[1:])}, which do not fit into a table; set_output(transform="default"), or '
                'views=1 and a flat layer ("pooled", "penultimate"), does.'
            )

    def _no_table(self, shape: tuple[int, ...]) -> str:
        if view_axis(self.views):
            return f"views={self.views!r} gives rows of shape {shape}, a picture's views one below the other"
        return f"layer={self.layer!r} gives maps of shape {shape}"

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "backbone_" in state:
            state["backbone_"] = state["backbone_"].with_content()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # What was carried along serves refits and clones on the new machine too.
        if isinstance(self.backbone, Backbone) and self.backbone == state.get("backbone_"):
            self.backbone = self.backbone_
            self._fitted_with = (self.backbone, self.weights, self.engine)

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
