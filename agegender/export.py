"""A fitted pipeline as one ONNX file, for any language that ONNX Runtime has a binding for.

``docs/export.md`` has the file's inputs and outputs, and shows it in Python, JavaScript and C++.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agegender._exporting import readout
from agegender._exporting.description import describe, state
from agegender._exporting.nodes import HIGHEST_OPSET, Nodes
from agegender._exporting.parts import NetworkPart, head_model, rows
from agegender._exporting.squares import shown
from agegender._exporting.trial import OUTPUTS, try_out
from agegender._utils.files import write_whole
from agegender.calibration import check_coverage
from agegender.exceptions import ModelFileError
from agegender.views import View

if TYPE_CHECKING:
    from agegender._extraction.resolved import Resolved
    from agegender.backbones import Backbone
    from agegender.classifier import AgeGenderClassifier
    from agegender.extractor import EmbeddingExtractor
    from agegender.pipeline import AgeGenderPipeline

__all__ = ["OUTPUTS", "export_onnx"]

_OPSET = 17


def export_onnx(
    model: AgeGenderPipeline,
    path: str | os.PathLike[str],
    *,
    resize: bool = False,
    coverage: float | None = 0.9,
    float16: bool = False,
    rewrite: bool = True,
) -> Path:
    """Write a fitted pipeline as one ONNX file, from pictures of faces to calibrated ages and genders.

    The file has one input, ``pictures``: uint8 of shape (n, h, w, 3), RGB, any number of face crops, framed as those
    that the model was trained on. Its outputs, float32, are the numbers of ``predict_frame(pictures, faces=None)``
    and ``predict_proba``: ``age``, ``age_low`` and ``age_high`` (n,) in years, ``gender_proba`` (n, 2) and
    ``age_proba`` (n, max_age + 1). Its operators are ONNX's own, of opset 17 (18 with `resize` and views), without
    branches and loops. It is run on a few drawn faces, and compared with the pipeline, before it is written.

    Parameters
    ----------
    model : AgeGenderPipeline
        Fitted.
    path : path
        Where to; ends in ``.onnx``. Written under a temporary name and renamed.
    resize : bool, default=False
        False: pictures have the size of the network's input, to which the caller brings them; with a positive `crop`
        in the extractor, that of the square before it is trimmed. True: they have any size, one size in a call, and
        the file scales them as the library does.
    coverage : float or None, default=0.9
        The share of pictures whose true age is to lie from ``age_low`` to ``age_high``, 0.01 to 0.99. None makes it a
        second input, ``coverage``: float32 of shape (1,).
    float16 : bool, default=False
        Keep weights in half precision, which halves the file. What is computed stays in single precision.
    rewrite : bool, default=True
        Replace operations of the network that ONNX Runtime is slow with on a processor (PReLU) by others that give
        the same numbers, as the library does. False leaves them: faster in WebAssembly and on graphics processors.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ModelFileError
        If a part of the model has no ONNX form, a network has branches, loops or operators that only one runtime
        knows, or the file would not give the pipeline's numbers.
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is no pipeline.
    ValueError
        If `path` or `coverage` is not as described.

    See Also
    --------
    agegender.save_model : A file that the library loads again.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import onnxruntime
    >>> from agegender import load_pretrained
    >>> from agegender.export import export_onnx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export_onnx(load_pretrained("compact"), f"{folder}/compact.onnx")
    ...     session = onnxruntime.InferenceSession(path)
    >>> age, low, high, gender_proba, age_proba = session.run(
    ...     None, {"pictures": np.zeros((3, 112, 112, 3), np.uint8)}
    ... )
    >>> age.shape, gender_proba.shape, age_proba.shape
    ((3,), (3, 2), (3, 101))
    """
    target = Path(path).expanduser().absolute()
    if target.suffix != ".onnx":
        raise ValueError(f"export_onnx: path={str(path)!r} should end in .onnx.")
    if coverage is not None:
        check_coverage(coverage)
    plan = _plan(model, resize, rewrite)
    made = _graph(plan, coverage, float16)
    description = describe(
        plan.resolved,
        plan.classifier,
        plan.networks,
        input_size=plan.side,
        coverage=coverage,
        float16=float16,
    )
    description["largest_difference"] = try_out(
        made,
        plan.extractor.with_parameters(faces=None, framing=None, crop=plan.crop, on_error="raise"),
        plan.classifier,
        side=plan.side,
        coverage=coverage,
        exact=not float16 and not any(_is_warped(view) for view in plan.resolved.views),
    )
    state(made, description)
    content = made.SerializeToString()
    return write_whole(target, lambda arriving: arriving.write_bytes(content))


@dataclass(frozen=True)
class _Plan:
    """A fitted pipeline as its file will have it.

    ``crop`` is what is trimmed from the pictures, and ``side`` their height and width, None if these are open.
    """

    extractor: EmbeddingExtractor
    resolved: Resolved
    classifier: AgeGenderClassifier
    networks: tuple[NetworkPart, ...]
    crop: float
    side: tuple[int, int] | None


def _plan(model: AgeGenderPipeline, resize: bool, rewrite: bool) -> _Plan:
    extractor, classifier = _fitted_parts(model)
    resolved = extractor._resolved()
    if resize and resolved.framing is not None:
        raise ModelFileError(
            f"This model brings face crops into another framing (framing={resolved.framing!r}), which resize=True "
            "does not do. Export it with resize=False, and give it the squares of agegender.faces.reframe or align; "
            "the file's metadata tell where landmarks lie in them."
        )
    # Where a face is aligned, a negative crop is part of how.
    crop = max(resolved.crop, 0.0) if resolved.finds_faces or resolved.framing else resolved.crop
    return _Plan(
        extractor=extractor,
        resolved=resolved,
        classifier=classifier,
        networks=tuple(NetworkPart(source.backbone, source.tensor, rewrite) for source in resolved.sources),
        crop=crop,
        side=None if resize else _side(resolved.backbones, crop),
    )


def _fitted_parts(model: Any) -> tuple[EmbeddingExtractor, AgeGenderClassifier]:
    from sklearn.utils.validation import check_is_fitted

    from agegender.pipeline import AgeGenderPipeline

    if not isinstance(model, AgeGenderPipeline):
        remedy = " Pass its best_estimator_." if hasattr(model, "best_estimator_") else ""
        raise TypeError(f"export_onnx takes a fitted AgeGenderPipeline, not {type(model).__name__}.{remedy}")
    check_is_fitted(model, "classifier_")
    return model.extractor_, model.classifier_


def _side(backbones: Sequence[Backbone], crop: float) -> tuple[int, int]:
    """Return height and width of the squares, so large that the largest network's input is left of them."""
    height, width = (max(lengths) for lengths in zip(*(one.input_size for one in backbones), strict=True))
    left = 1 - 2 * max(crop, 0.0)
    return round(height / left), round(width / left)


def _is_warped(view: View) -> bool:
    """Tell whether a view has pixels between others, which OpenCV may round to the other side."""
    return (view.zoom, view.turn, view.right, view.down, view.blur) != (1, 0, 0, 0, 0)


def _graph(plan: _Plan, coverage: float | None, float16: bool) -> Any:
    """Return the whole graph: views and scaling, networks, head, calibration."""
    scales_views = plan.side is None and any(view != View() for view in plan.resolved.views)
    nodes = Nodes(HIGHEST_OPSET if scales_views else _OPSET, float16=float16)
    squares = [
        shown(
            nodes,
            "pictures",
            side=plan.side,
            views=plan.resolved.views,
            crop=plan.crop,
            size=part.backbone.input_size,
        )
        for part in plan.networks
    ]
    joined = rows(nodes, plan.networks, squares, plan.resolved.dtype)
    _read_out(nodes, plan.classifier, joined, len(plan.resolved.views), coverage)
    return _assembled(nodes, plan.classifier, plan.side, coverage)


def _read_out(
    nodes: Nodes, classifier: AgeGenderClassifier, joined: str, n_views: int, coverage: float | None
) -> None:
    """Append the head and its calibration; the last nodes give `OUTPUTS`."""
    n_ages, calibration = len(classifier.classes_[0]), classifier.calibration_
    ages, genders = nodes.include(head_model(classifier), "head", [joined])
    ages = nodes.add("Identity", readout.mean_of_views(nodes, ages, n_views, n_ages), name="age_proba")
    genders = readout.mean_of_views(nodes, genders, n_views, 2)
    readout.expected_age(nodes, ages, n_ages, name="age")
    share = readout.outside(nodes, "coverage" if coverage is None else coverage, calibration)
    readout.age_interval(nodes, ages, share, n_ages, names=("age_low", "age_high"))
    readout.scaled_genders(nodes, genders, calibration.temperature, name="gender_proba")


def _assembled(
    nodes: Nodes, classifier: AgeGenderClassifier, side: tuple[int, int] | None, coverage: float | None
) -> Any:
    """Return the graph as a model that ONNX's own checker accepts."""
    import onnx
    from onnx import TensorProto, helper

    shape = ["n", *(side or ("height", "width")), 3]
    inputs = [helper.make_tensor_value_info("pictures", TensorProto.UINT8, shape)]
    if coverage is None:
        inputs.append(helper.make_tensor_value_info("coverage", TensorProto.FLOAT, [1]))
    widths = {"gender_proba": 2, "age_proba": len(classifier.classes_[0])}
    outputs = [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, ["n", *([widths[name]] if name in widths else [])]
        )
        for name in OUTPUTS
    ]
    made = nodes.model("agegender", inputs, outputs)
    onnx.checker.check_model(made, full_check=True)
    return made
