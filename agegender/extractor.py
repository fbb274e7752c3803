"""The transformer that turns pictures into a frozen network's activations, each computed once, ever."""

from __future__ import annotations

import os
import time
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.metadata_routing import UNUSED

from agegender._environment import check_opencv
from agegender._extraction import Extraction, ExtractionReport, Failure
from agegender._pictures import check_pictures
from agegender._threads import resolve_threads
from agegender._validation import check_choice
from agegender.backbones import Backbone
from agegender.cache import open_cache
from agegender.heads import DenseHead, head_layer

__all__ = ["EmbeddingExtractor", "ExtractionReport", "Failure"]


class EmbeddingExtractor(TransformerMixin, BaseEstimator):
    """Turn pictures of faces into activations of a frozen face-recognition network.

    Stateless: ``transform`` works without ``fit``. Each picture's activations are computed once and kept on
    disk, under a key made of the picture's content and of everything that decides the numbers.

    Parameters
    ----------
    backbone : str or Backbone, default="arcface"
        A network of deepface's by name (``arcface``, ``facenet``, ``facenet512``, ``openface``) or any other
        as a :class:`~agegender.backbones.Backbone`.
    layer : str, default="auto"
        ``embedding``, ``penultimate`` (what the last dense layer reads), ``pooled`` (the feature map averaged
        over space), ``feature_map`` (height, width, channels) or the name of a tensor. ``auto`` is what the
        head in an :class:`~agegender.AgeGenderPipeline` asks for; alone, what a dense head would ask for.
    weights : path, default=None
        The weights file of a network given by name; None looks in deepface's folder, then downloads.
    faces : None
        Each picture is a face crop and is taken as it is.
    crop : float, default=0.0
        Fraction trimmed from every side of the picture; negative pads it with black.
    engine : {"auto", "onnx", "keras"}, default="auto"
        What runs a network given by name: ONNX Runtime where its ``.onnx`` file is there, else Keras.
    batch_size : int, default=64
        Pictures that pass through the network at once. Never changes the numbers.
    cache : "auto", path or None, default="auto"
        Folder of the cache: the user's cache directory (``AGEGENDER_HOME`` overrides it), a folder of your
        own, or none.
    n_jobs : int, default=None
        Threads for decoding and for the network; None takes every core.
    on_error : {"raise", "nan"}, default="raise"
        What becomes of a picture that cannot be read: an error, or a row of NaN and a line in ``report_``.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    report_ : ExtractionReport
        What the last ``transform`` on this object did.
    backbone_ : Backbone
        The network that ``fit`` found; saved with a fitted extractor when its file has at most 16 MB.

    Examples
    --------
    >>> from agegender import EmbeddingExtractor
    >>> extractor = EmbeddingExtractor("facenet", layer="pooled", crop=0.05)
    >>> extractor.transform(["anna.jpg", "bert.jpg"])  # doctest: +SKIP
    array([[0.12, ...], [0.08, ...]], dtype=float32)
    >>> extractor.report_.n_computed  # doctest: +SKIP
    2
    """

    __metadata_request__transform: ClassVar = {"out": UNUSED}

    def __init__(
        self,
        backbone: str | Backbone = "arcface",
        *,
        layer: str = "auto",
        weights: str | os.PathLike[str] | None = None,
        faces: None = None,
        crop: float = 0.0,
        engine: Literal["auto", "onnx", "keras"] = "auto",
        batch_size: int = 64,
        cache: str | os.PathLike[str] | None = "auto",
        n_jobs: int | None = None,
        on_error: str = "raise",
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.weights = weights
        self.faces = faces
        self.crop = crop
        self.engine = engine
        self.batch_size = batch_size
        self.cache = cache
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
        return self

    def transform(self, X: Any, *, out: NDArray[Any] | None = None) -> Any:
        """Return one row of activations a picture, in the order of X.

        Parameters
        ----------
        X : sequence of pictures, or ndarray of shape (n_samples, height, width, 3)
            Paths, ``bytes``, PIL images or RGB ``uint8`` arrays, mixed as you like.
        out : ndarray or memmap of shape (n_samples, ...), default=None
            Where to write, for outputs larger than memory; float32 or float16.

        Returns
        -------
        ndarray of shape (n_samples, n_features) or (n_samples, height, width, channels), float32
            `out` where it is given.

        Raises
        ------
        PictureError
            If a picture cannot be read and ``on_error="raise"``.
        WeightsNotFoundError
            If the network's file is neither here nor to be had.
        """
        started = time.perf_counter()
        self._check_parameters()
        pictures = check_pictures(X)
        backbone = self.resolve_backbone()
        layer = backbone.resolve_layer(self._layer(backbone))
        shape = backbone.output_shape(layer)
        self._check_output(shape)
        report = ExtractionReport(n_images=len(pictures))
        extract = Extraction(
            pictures=pictures,
            backbone=backbone,
            layer=layer,
            crop=float(self.crop),
            rows=_output(out, (len(pictures), *shape)),
            cache=open_cache(self.cache),
            batch_size=int(self.batch_size),
            n_threads=resolve_threads(self.n_jobs),
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
        return extract.rows

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return a name a column: backbone, layer, number.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str objects
        """
        backbone = self.resolve_backbone()
        layer = self._layer(backbone)
        shape = backbone.output_shape(layer)
        if len(shape) != 1:
            raise ValueError(f"layer={layer!r} gives maps of shape {shape}, whose columns have no names.")
        return np.array([f"{backbone.name}_{layer}_{i}" for i in range(shape[0])], dtype=object)

    def resolve_backbone(self) -> Backbone:
        """Return the network: the fitted one where the parameters are still the fitted ones."""
        if getattr(self, "_fitted_with", None) == (self.backbone, self.weights, self.engine):
            return self.backbone_
        if isinstance(self.backbone, Backbone):
            return self.backbone
        return Backbone.load(self.backbone, weights=self.weights, engine=self.engine)

    def _layer(self, backbone: Backbone) -> str:
        return head_layer(DenseHead(), backbone) if self.layer == "auto" else self.layer

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        check_choice("on_error", self.on_error, ("raise", "nan"), owner)
        check_choice("engine", self.engine, ("auto", "onnx", "keras"), owner)
        if self.faces is not None:
            raise ValueError(
                f"{owner}: faces={self.faces!r} is not None; this version reads face crops only."
            )
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
                f"layer={self.layer!r} gives maps of shape {shape}, which do not fit into a table; "
                f'set_output(transform="default") or a flat layer ("pooled", "penultimate") does.'
            )

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


def _output(out: NDArray[Any] | None, shape: tuple[int, ...]) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, dtype=np.float32)
    if out.shape != shape or out.dtype not in (np.float32, np.float16):
        raise ValueError(
            f"out has shape {out.shape} and type {out.dtype}; it should be {shape}, float32 or float16."
        )
    return out
