"""Face-recognition networks: their files, inputs and layers.

Everything that decides a network's numbers is in a :class:`Backbone`: the sha256 of its file, the order of its
colours, its normalisation and the size of its pictures. :mod:`agegender.runtime` runs it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from agegender._networks.location import existing_file
from agegender._networks.shipped import SHIPPED, Shipped
from agegender._networks.source import NetworkFile
from agegender._utils.callers import warn_once
from agegender._utils.digests import sha256_of
from agegender._utils.files import write_whole
from agegender._utils.validation import check_choice, did_you_mean
from agegender.exceptions import NormalizationWarning, WeightsError

if TYPE_CHECKING:
    from agegender._networks.layers import Layers

__all__ = ["CARRIED_BYTES", "Backbone", "known_backbones"]

Color: TypeAlias = Literal["rgb", "bgr"]
Numbers: TypeAlias = float | tuple[float, float, float]

CARRIED_BYTES = 16 * 2**20
"""Networks up to this size are stored inside saved models."""

_HDF5 = (".h5", ".hdf5")
_COMMON: dict[str, Any] = {"color": "rgb", "mean": 127.5, "scale": 1 / 128, "licence": None}


@dataclass(frozen=True, eq=False, repr=False)
class Backbone:
    """A frozen network that turns pictures of faces into numbers.

    Made by :meth:`load`, :meth:`from_onnx` or :meth:`from_keras`, and never changed afterwards. Two backbones
    are equal if file content, colour order, normalisation and input size are equal. A pickled backbone does not
    contain its network, which is found again by name and sha256; see :meth:`with_content`.

    Attributes
    ----------
    name : str
        Name in messages and column names.
    path : pathlib.Path or None
        Where its file was found; None if it has no file.
    sha256 : str
        Digest of the file's content.
    size : int
        Of the file, in bytes.
    color : {"rgb", "bgr"}
        The colour order of the network's input.
    mean, scale : float or tuple of three floats
        The network is fed (x − mean)·scale for x from 0 to 255; three numbers are in its own colour order.
    input_size : tuple of int
        Height and width of its input, in pixels.
    licence : str or None
        The terms of its weights, if known.
    suffix : str
        The type of its file: ``".onnx"``, ``".h5"`` (deepface's weights) or ``".keras"``.

    See Also
    --------
    agegender.backbones.known_backbones : The names of known networks.
    agegender.EmbeddingExtractor : From pictures to embeddings.
    agegender.runtime.open_network : Open a layer of a network.
    """

    name: str
    path: Path | None
    sha256: str
    size: int
    color: Color
    mean: Numbers
    scale: Numbers
    input_size: tuple[int, int]
    licence: str | None
    suffix: str
    content: bytes | None = field(default=None)

    @classmethod
    def load(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        engine: Literal["auto", "onnx", "keras"] = "auto",
    ) -> Backbone:
        """Find one of deepface's networks or the one inside the package, or read an ONNX file.

        Parameters
        ----------
        name_or_path : str or path
            One of :func:`agegender.backbones.known_backbones`, or an ``.onnx`` file as in :meth:`from_onnx` with its
            defaults.
        weights : path, default=None
            The weights file, ``.onnx`` or ``.h5``. If None, they are searched in deepface's folder
            (``$DEEPFACE_HOME/.deepface/weights``, by default in the home directory) and otherwise downloaded
            through deepface, unless ``AGEGENDER_OFFLINE=1`` is set. ``compact`` comes with its own weights.
        engine : {"auto", "onnx", "keras"}, default="auto"
            The format of the weights: the ``.onnx`` file, which ONNX Runtime runs, or the ``.h5`` file, which
            Keras runs. "auto" uses the ``.onnx`` file if it exists, and the ``.h5`` file otherwise.

        Raises
        ------
        ValueError
            If there is no network of this name.
        WeightsNotFoundError
            If the file was not found and could not be downloaded.
        WeightsError
            If the file does not contain this network.

        Examples
        --------
        >>> Backbone.load("arcfase")
        Traceback (most recent call last):
        ValueError: There is no backbone 'arcfase'; there are arcface, facenet, facenet512, openface, \
compact, and any .onnx file. Did you mean 'arcface'?
        """
        from agegender._networks.downloads import check_file, locate
        from agegender._networks.published import PUBLISHED

        check_choice("engine", engine, ("auto", "onnx", "keras"), "Backbone.load")
        name = os.fspath(name_or_path)
        if name in SHIPPED:
            return _load_shipped(SHIPPED[name], weights, engine)
        published = PUBLISHED.get(name)
        if published is None:
            return _load_file(name, weights, engine)
        path = locate(published, engine) if weights is None else _given(weights, engine)
        check_file(path, published.urls(path.suffix))
        return cls(
            name=name,
            path=path,
            sha256=sha256_of(path),
            size=path.stat().st_size,
            color="bgr",
            mean=published.mean,
            scale=published.scale,
            input_size=published.input_size,
            licence=published.licence,
            suffix=path.suffix,
        )

    @classmethod
    def from_onnx(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        color: Color | None = None,
        mean: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        licence: str | None = None,
        input_size: tuple[int, int] | None = None,
    ) -> Backbone:
        """Read any ONNX network with one input of shape (n, 3, h, w) or (n, h, w, 3) and an output of shape (n, d).

        Parameters
        ----------
        path : path
            The file, weights included.
        name : str, default=None
            Name of the backbone. If None, the name that :meth:`quantize` wrote into the file is used, or else
            the file's name.
        color : {"rgb", "bgr"}, default=None
            The colour order of the network's input. If None, the value that :meth:`quantize` wrote is used, or
            else ``"rgb"``.
        mean, scale : float or three floats, default=None
            The network is fed (x − mean)·scale for x from 0 to 255; three numbers are in the network's colour
            order. If None, the values that :meth:`quantize` wrote are used, or else 127.5 and 1/128. If the
            graph contains its normalisation, pass ``mean=0.0, scale=1.0``; such a graph is recognised by its first
            operations, and a `NormalizationWarning` is issued if neither is given.
        licence : str, default=None
            The terms of its weights.
        input_size : tuple of int, default=None
            Height and width in pixels, if the graph leaves them open.

        Raises
        ------
        WeightsNotFoundError
            If there is no such file.
        WeightsError
            If it is not an ONNX network, or if its input is not a picture.
        """
        file = existing_file(path)
        given = {"name": name, "color": color, "mean": mean, "scale": scale, "licence": licence}
        return cls._from_content(file.read_bytes(), file, input_size, given)

    @classmethod
    def _from_content(
        cls,
        content: bytes,
        file: Path | None,
        input_size: tuple[int, int] | None,
        given: Mapping[str, Any],
    ) -> Backbone:
        """Read an ONNX network from bytes; values not given come from its metadata, or are the defaults."""
        from agegender._networks.onnx_files import read_graph, stated_terms
        from agegender._networks.opening import keep_network

        source = str(file) if file else str(given["name"])
        graph = read_graph(content, source, input_size=input_size)
        stated = stated_terms(graph.model, source)
        terms = _COMMON | {"name": Path(source).stem} | stated
        if not {"mean", "scale"} <= {*stated, *(key for key, value in given.items() if value is not None)}:
            _warn_of_own_normalisation(graph, f"Backbone.from_onnx({source!r}, …)", "--mean 0 --scale {}")
        terms |= {key: value for key, value in given.items() if value is not None}
        backbone = cls(
            name=terms["name"],
            path=file,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            color=_checked_color(terms["color"]),
            mean=_checked_numbers("mean", terms["mean"]),
            scale=_checked_numbers("scale", terms["scale"]),
            input_size=graph.input_size,
            licence=terms["licence"],
            suffix=".onnx",
            content=None if file else content,
        )
        keep_network(backbone, graph)
        return backbone

    @classmethod
    def from_keras(
        cls,
        model: Any,
        *,
        name: str | None = None,
        color: Color = "rgb",
        mean: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        licence: str | None = None,
    ) -> Backbone:
        """Copy a Keras model; training the model further does not change the backbone.

        Parameters
        ----------
        model : keras.Model
            Functional or sequential, with one input (None, h, w, 3) and an output (None, d). A model inside the model
            counts as one layer.
        name : str, default=None
            Name of the backbone; if None, the model's name.
        color, mean, scale, licence
            As in :meth:`from_onnx`; None is ``"rgb"``, 127.5 and 1/128.

        Raises
        ------
        ValueError
            If the model has another input or output.
        WeightsError
            If Keras could not load the model again from a file.
        """
        from agegender._networks.keras import KerasGraph, keras_snapshot, picture_size

        size = picture_size(model)
        if mean is None or scale is None:
            _warn_of_own_normalisation(KerasGraph(model), "Backbone.from_keras(model, …)")
        content = keras_snapshot(model)
        backbone = cls(
            name=name or model.name,
            path=None,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            color=_checked_color(color),
            mean=_checked_numbers("mean", _COMMON["mean"] if mean is None else mean),
            scale=_checked_numbers("scale", _COMMON["scale"] if scale is None else scale),
            input_size=size,
            licence=licence,
            suffix=".keras",
            content=content,
        )
        backbone._layers()  # loads the copy, so that an error is raised here and not in another process
        return backbone

    def quantize(self, sample: Sequence[Any], *, max_error: float = 0.03, verbose: int = 0) -> Backbone:
        """Return the network in 8-bit integers, a new backbone that is two to four times as fast.

        Static quantisation: ranges are measured once, on a sample of pictures. Weights are int8 with one scale
        per channel, activations are uint8. On every other picture of the sample, the embedding and the
        penultimate layer are compared with those of the float network. As few as possible of the last
        operations stay in float32, so that the error is at most `max_error`.

        Parameters
        ----------
        sample : sequence of pictures
            At least 16 face crops in any form that the extractor accepts; a hundred are better. They should be
            like the pictures that the network will be used on.
        max_error : float, default=0.03
            The allowed rounding error of these two layers, as a share of their variance over pictures, above 0
            and up to 1.
        verbose : int, default=0
            If 1, show a progress bar.

        Returns
        -------
        Backbone
            An ONNX network with its own sha256, so that its rows are cached separately; :meth:`save` writes it
            to a file.

        Raises
        ------
        ValueError
            If there are too few pictures, the network is already quantised or `max_error` is out of range.
        PictureError
            If a picture cannot be read.
        WeightsError
            If ONNX Runtime cannot quantise the network, or no part of it within `max_error`.

        Notes
        -----
        Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference, CVPR 2018. It is faster only on processors with instructions for it (AVX-512 VNNI, AVX-VNNI,
        Arm dot product).

        Examples
        --------
        >>> import numpy as np
        >>> from agegender import Backbone
        >>> sample = list(np.random.default_rng(0).integers(0, 256, (16, 80, 80, 3), dtype=np.uint8))
        >>> Backbone.load("compact").quantize(sample, max_error=0.5).name
        'compact-int8'
        """
        from agegender._networks.quantization import quantize_backbone

        content = quantize_backbone(self, sample, max_error=max_error, verbose=verbose)
        return self._from_content(content, None, None, {"name": f"{self.name}-int8"})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the network's file, completely or not at all.

        Parameters
        ----------
        path : path
            Must end in the backbone's ``suffix``.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ValueError
            If `path` ends in something else.
        """
        target = Path(path)
        if target.suffix != self.suffix:
            raise ValueError(f"{self.name} is a {self.suffix} file; {target} should end in {self.suffix}.")
        content = self.read_bytes()
        return write_whole(target, lambda arriving: arriving.write_bytes(content))

    @property
    def format(self) -> Literal["onnx", "keras"]:
        """What runs it: ``"onnx"`` (ONNX Runtime) or ``"keras"`` (Keras on TensorFlow)."""
        return "onnx" if self.suffix == ".onnx" else "keras"

    @property
    def layers(self) -> list[str]:
        """Names of the tensors that can be requested besides "embedding", "penultimate", …; in order."""
        return list(self._layers().shapes)

    def resolve_layer(self, layer: str) -> str:
        """Return the tensor name of a layer, which is part of the cache key.

        Parameters
        ----------
        layer : str
            "embedding" (the output), "penultimate" (the input of the last dense layer), "feature_map" (the last
            map with more than one position), "pooled" (that map, averaged over its positions), "input" (the
            picture itself), a tensor's name, or ``pooled(name)`` of a map.

        Returns
        -------
        str
            The tensor's name; ``pooled(name)`` for an average; ``tensor(name)`` for a tensor whose name is one
            of the words above. Resolving the result again returns it unchanged.

        Raises
        ------
        ValueError
            If the network has no such layer.
        """
        if layer == "input":
            return layer  # without reading the network
        with self._named():
            return self._layers().name(layer)

    def output_shape(self, layer: str) -> tuple[int, ...]:
        """Return the shape of a layer's output for one picture: (d,), or (h, w, channels) for a map.

        Raises
        ------
        ValueError
            If the network has no such layer.
        """
        if layer == "input":
            return (*self.input_size, 3)
        with self._named():
            return self._layers().shape(layer)

    def with_content(self) -> Backbone:
        """Return a copy that contains its file, for use on another machine; above 16 MB, return itself.

        Raises
        ------
        WeightsNotFoundError
            If the file no longer exists.
        """
        if self.content is not None or self.size > CARRIED_BYTES:
            return self
        return replace(self, content=self.read_bytes())

    def read_bytes(self) -> bytes:
        """Return the content of the file.

        Raises
        ------
        WeightsNotFoundError
            If the file is not on this machine and not inside the backbone.
        """
        if self.content is not None:
            return self.content
        return self.ensure_file().read_bytes()

    def ensure_file(self) -> Path:
        """Return a file with its content: at its old path, in deepface's folder or in ``$AGEGENDER_HOME/networks``.

        If the backbone contains its file, the file is written to the last of these folders.

        Raises
        ------
        WeightsNotFoundError
            If the file was not found, is not inside the backbone, and could not be downloaded through deepface.
        """
        return self._network_file().find(self.content)

    def is_here(self) -> bool:
        """Return whether its file is on this machine, without downloading anything."""
        return self._network_file().here() is not None

    @property
    def structure(self) -> tuple[Any, ...]:
        """What decides the layers: an HDF5 file contains only weights, and the name decides the layers."""
        return self.sha256, self.input_size, self.name if self.suffix in _HDF5 else ""

    def _layers(self) -> Layers:
        from agegender._networks.opening import layers_of

        return layers_of(self)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Add the network's name to errors about its layers."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

    def _network_file(self) -> NetworkFile:
        return NetworkFile(self.name, self.path, self.sha256, self.size, self.suffix)

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Backbone) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        return *self.structure, self.color, self.mean, self.scale

    def __copy__(self) -> Backbone:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self  # it is immutable, so scikit-learn's clone may share it

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self.content is not None and self.size > CARRIED_BYTES:
            state |= {"path": self.ensure_file(), "content": None}
        return state

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"<Backbone {self.name}: {self.format}, {height}×{width} {self.color}, sha256 {self.sha256[:12]}…>"


def known_backbones() -> tuple[str, ...]:
    """Return the names that :meth:`agegender.Backbone.load` knows.

    See Also
    --------
    agegender.Backbone : A frozen network.

    Examples
    --------
    >>> known_backbones()
    ('arcface', 'facenet', 'facenet512', 'openface', 'compact')
    """
    from agegender._networks.published import PUBLISHED

    return (*PUBLISHED, *SHIPPED)


def _load_shipped(shipped: Shipped, weights: object, engine: str) -> Backbone:
    if weights is not None:
        raise ValueError(
            f"{shipped.name} comes with its weights, and weights={weights!r} cannot replace them; "
            "Backbone.from_onnx reads other files."
        )
    if engine == "keras":
        raise ValueError(f"{shipped.name} has no Keras form; use engine='auto' or 'onnx'.")
    return Backbone(
        name=shipped.name,
        path=shipped.checked_path(),
        sha256=shipped.sha256,
        size=shipped.size,
        color=shipped.color,
        mean=shipped.mean,
        scale=shipped.scale,
        input_size=shipped.input_size,
        licence=shipped.licence,
        suffix=".onnx",
    )


def _load_file(name: str, weights: object, engine: str) -> Backbone:
    if not name.lower().endswith(".onnx"):
        raise ValueError(
            f"There is no backbone {name!r}; there are {', '.join(known_backbones())}, and any .onnx file."
            f"{did_you_mean(name, known_backbones())}"
        )
    if weights is not None:
        raise ValueError(
            f"{name} is a file with its weights in it; weights={weights!r} can be passed with a name only."
        )
    if engine == "keras":
        raise ValueError(f"{name} is an ONNX file, which has no Keras form; use engine='auto' or 'onnx'.")
    return Backbone.from_onnx(name)


def _given(weights: str | os.PathLike[str], engine: str) -> Path:
    path = existing_file(weights)
    suffixes = {"onnx": (".onnx",), "keras": _HDF5}.get(engine, (".onnx", *_HDF5))
    if path.suffix not in suffixes:
        raise WeightsError(
            f"{path} does not end in {' or '.join(suffixes)}, which engine={engine!r} requires; rename it."
        )
    return path


def _warn_of_own_normalisation(graph: Any, call: str, options: str = "") -> None:
    """Warn of the common normalisation before a network that normalises by itself."""
    from agegender._networks.normalisation import own_range

    highest = own_range(graph)
    if highest is None:
        return
    scale = "1.0" if highest == 255 else "1 / 255"
    remedy = call.replace("…", f"mean=0.0, scale={scale}")
    by_command = options.format("1" if highest == 255 else "1/255")
    warn_once(
        f"This network normalises by itself: its first operations take pixels from 0 to {highest:g}. It was given no "
        "mean and scale, and the common ones (127.5 and 1/128) come on top of its own: its numbers are those of a "
        f"grey picture, nearly. Use {remedy}{f' (in commands {by_command})' if by_command else ''}; if the common "
        "ones are meant, give them: mean=127.5, scale=1 / 128.",
        NormalizationWarning,
    )


def _checked_color(color: str) -> Color:
    check_choice("color", color, ("rgb", "bgr"), "Backbone")
    return "rgb" if color == "rgb" else "bgr"


def _checked_numbers(name: str, value: ArrayLike) -> Numbers:
    numbers = tuple(float(number) for number in np.ravel(value))
    if len(numbers) not in (1, 3) or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"Backbone: {name}={value!r} should be one number, or three, one per colour.")
    if name == "scale" and 0.0 in numbers:
        raise ValueError(f"Backbone: scale={value!r} would make every picture the same; it cannot be 0.")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])
