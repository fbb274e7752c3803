"""Face-recognition networks: their files, inputs and layers.

Everything that decides a network's numbers is in a :class:`Backbone`: the sha256 of its file, the order of its
colours, its normalisation and the size of its pictures. :mod:`agegender.runtime` runs it.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from agegender._networks.location import existing_file
from agegender._networks.source import NetworkFile
from agegender._utils.callers import warn_once
from agegender._utils.files import write_whole
from agegender._utils.validation import check_choice
from agegender.exceptions import NormalizationWarning

if TYPE_CHECKING:
    import pandas as pd

    from agegender._networks.layers import Layers

__all__ = ["CARRIED_BYTES", "Backbone", "describe_backbones", "known_backbones", "register_backbone"]

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
        """Find a network by its name, or read an ONNX file.

        Parameters
        ----------
        name_or_path : str or path
            One of :func:`agegender.backbones.known_backbones`, also as deepface spells it (``"VGG-Face"``);
            ``insightface/<pack>`` or ``insightface/<pack>/<file>.onnx`` for what lies in InsightFace's folder; or an
            ``.onnx`` file as in :meth:`from_onnx` with its defaults.
        weights : path, default=None
            The weights file, ``.onnx`` or ``.h5``. If None, it is searched in the folder of the network's own project
            (``$DEEPFACE_HOME/.deepface/weights``, ``$INSIGHTFACE_HOME/models`` or ``$UNIFACE_CACHE_DIR``; by default
            in the home directory) and otherwise downloaded, unless ``AGEGENDER_OFFLINE=1`` is set. ``compact`` comes
            with its own weights.
        engine : {"auto", "onnx", "keras"}, default="auto"
            The format of the weights: the ``.onnx`` file, or the ``.h5`` file, which is converted to ONNX at its
            first use. "auto" uses the ``.onnx`` file if it exists, and the ``.h5`` file otherwise.

        Raises
        ------
        ValueError
            If there is no network of this name, or it cannot be used here.
        WeightsNotFoundError
            If the file was not found and could not be downloaded.
        WeightsError
            If the file does not contain this network.

        See Also
        --------
        agegender.backbones.known_backbones : The names.
        agegender.backbones.register_backbone : Give a network of your own a name.

        Examples
        --------
        >>> Backbone.load("arcfase")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: There is no backbone 'arcfase'; there are arcface, facenet, ... and any .onnx file. Did you \
mean 'arcface'?
        """
        from agegender._networks.naming import find_by_name, find_in_file
        from agegender._networks.registry import registered

        check_choice("engine", engine, ("auto", "onnx", "keras"), "Backbone.load")
        name = os.fspath(name_or_path)
        if (found := find_by_name(name, weights, engine)) is not None:
            return cls(**found)
        if not name.endswith(".onnx") and (own := registered(name, cls)) is not None:
            return _load_registered(name, own, weights)
        path, terms = find_in_file(name, weights, engine)
        return cls.from_onnx(path, **terms)

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
        from agegender._networks.onnx_files import read_graph
        from agegender._networks.opening import keep_network
        from agegender._networks.terms import stated_terms

        source = str(file) if file else str(given["name"])
        graph = read_graph(content, source, input_size=input_size)
        stated = stated_terms(graph.model, source)
        terms = _COMMON | {"name": Path(source).stem} | stated
        if not {"mean", "scale"} <= {*stated, *(key for key, value in given.items() if value is not None)}:
            _warn_of_own_normalisation(
                graph,
                f"Backbone.from_onnx({source!r}, …)",
                "--mean 0 --scale {0}, or file.onnx,mean=0,scale={0}",
            )
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
        >>> import tempfile
        >>> from agegender import Backbone
        >>> from agegender.datasets import make_faces
        >>> with tempfile.TemporaryDirectory() as folder:  # drawings; for real use, pictures like those to come
        ...     sample = make_faces(24, folder, size=112).data
        ...     made = Backbone.load("compact").quantize(sample, max_error=0.3)
        >>> made.name
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
        """The form of its file: ``"onnx"`` or ``"keras"``; an ``.h5`` file runs in the ONNX form made of it."""
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
        """Return a file with its content: at its old path, in its project's folder or ``$AGEGENDER_HOME/networks``.

        If the backbone contains its file, the file is written to the last of these folders.

        Raises
        ------
        WeightsNotFoundError
            If the file was not found, is not inside the backbone, and could not be downloaded.
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

    Returns
    -------
    tuple of str
        deepface's networks, InsightFace's packs, UniFace's networks, the one in this package, and those registered.

    See Also
    --------
    register_backbone : Add a name.
    agegender.Backbone : A frozen network.

    Examples
    --------
    >>> "vggface" in known_backbones(), "insightface/buffalo_l" in known_backbones()
    (True, True)
    """
    from agegender._networks.naming import known_names

    return known_names()


def describe_backbones() -> pd.DataFrame:
    """Return a table of every network that has a name, whether its file is here or not; nothing is downloaded.

    Returns
    -------
    DataFrame
        name, here, path (where its file lies, or would lie), size (bytes), licence, input, fed_as, embedding (how
        many numbers), worth (what a head on one of its layers was measured to reach; empty where nobody has measured
        it) and checked: what agegender's numbers were compared with. That was with the network's real weights only
        where it says so.

    See Also
    --------
    known_backbones : The names alone.

    Examples
    --------
    >>> from agegender.backbones import describe_backbones
    >>> table = describe_backbones().set_index("name")
    >>> table.loc["facenet", "input"], table.loc["facenet", "fed_as"], int(table.loc["facenet", "embedding"])
    ('160 × 160 BGR', '(x − 127.5) / 127.5', 128)
    """
    import pandas as pd

    from agegender._networks.listing import list_networks

    return pd.DataFrame([vars(listed) for listed in list_networks(Backbone.load)]).astype(
        {"size": "Int64", "embedding": "Int64"}
    )


def register_backbone(
    name: str, backbone: Backbone | str | os.PathLike[str] | Callable[[], Backbone] | None
) -> None:
    """Give a network of your own a name, by which ``EmbeddingExtractor`` and everything else then find it.

    The name holds in this process. An installed package names networks for every process by entry points in the group
    ``agegender.backbones``: ``[project.entry-points."agegender.backbones"]``, ``mine = "my_package:make_backbone"``.

    Parameters
    ----------
    name : str
        Letters, digits, ``-``, ``_``, ``.`` and ``/``; not one that means another network already, and not ending in
        ``.onnx``. A name registered earlier is replaced.
    backbone : Backbone, path, callable or None
        The network; an ``.onnx`` file, read as by :meth:`agegender.Backbone.from_onnx`; a function without parameters
        that makes the backbone when it is needed; None removes the name.

    Raises
    ------
    ValueError
        If the name is not one, or means another network already.
    TypeError
        If `backbone` is none of these.

    See Also
    --------
    known_backbones : All names there are.
    agegender.Backbone.load : Load a network by its name.

    Examples
    --------
    >>> from agegender import Backbone
    >>> from agegender.backbones import register_backbone
    >>> register_backbone("mine", lambda: Backbone.load("compact"))
    >>> Backbone.load("mine").input_size
    (112, 112)
    >>> register_backbone("mine", None)
    """
    from agegender._networks.naming import published_name
    from agegender._networks.registry import forget, register

    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or name.endswith(".onnx"):
        raise ValueError(
            f"register_backbone: name={name!r} should be of letters, digits, '-', '_', '.' and '/', and not end in "
            "'.onnx', which is a file."
        )
    if (other := published_name(name)) is not None:
        raise ValueError(f"register_backbone: {name!r} already means {other!r}; choose another name.")
    if backbone is None:
        return forget(name)
    if isinstance(backbone, str | os.PathLike):
        backbone = Backbone.from_onnx(backbone)
    if not isinstance(backbone, Backbone) and not callable(backbone):
        raise TypeError(
            f"register_backbone takes a Backbone, the path of an .onnx file or a function that makes a Backbone, not "
            f"{type(backbone).__name__}."
        )
    return register(name, backbone)


def _load_registered(name: str, backbone: Backbone, weights: object) -> Backbone:
    if weights is not None:
        raise ValueError(f"{name} is registered with its weights; weights={weights!r} cannot replace them.")
    return backbone


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
