"""The parts of a fitted pipeline as ONNX models: each network from pictures to rows, and the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agegender._exporting.nodes import Nodes
from agegender._networks.opening import layers_of, read_network
from agegender.exceptions import ModelFileError

if TYPE_CHECKING:
    from agegender.backbones import Backbone
    from agegender.classifier import AgeGenderClassifier

__all__ = ["NetworkPart", "head_model", "rows"]


@dataclass(frozen=True)
class NetworkPart:
    """One network of a pipeline, cut at the layer that the head reads.

    Attributes
    ----------
    backbone : Backbone
    layer : str
        The name of the tensor.
    rewrite : bool, default=True
        Whether operations that are slow in ONNX Runtime on a CPU are replaced, as the library does it.
    """

    backbone: Backbone
    layer: str
    rewrite: bool = True

    def add_to(self, nodes: Nodes, pictures: str, prefix: str) -> str:
        """Append the network to a graph, from uint8 (n, h, w, 3) in its input size to float32 rows."""
        from onnx import TensorProto

        if self.layer == "input":
            return nodes.add("Cast", pictures, to=TensorProto.FLOAT)
        return nodes.include(self.model(), prefix, [pictures])[0]

    def model(self) -> Any:
        """Return the network as an ONNX model that includes its normalisation and colour order."""
        import onnx

        from agegender._networks.rewrite import runnable

        backbone = self.backbone
        tensor, pooled = layers_of(backbone).find(self.layer)
        if backbone.format == "keras":
            return _converted(backbone, tensor, pooled)
        content = runnable(
            read_network(backbone),
            tensor,
            color=backbone.color,
            mean=backbone.mean,
            scale=backbone.scale,
            pooled=pooled,
            rewrite=self.rewrite,
        )
        return onnx.load_model_from_string(content)


def rows(nodes: Nodes, networks: Sequence[NetworkPart], squares: Sequence[str], dtype: str) -> str:
    """Return the head's input rows; the rows of several networks are flattened and concatenated.

    Parameters
    ----------
    nodes : Nodes
    networks : sequence of NetworkPart
    squares : sequence of str
        The input pictures of each network.
    dtype : {"float32", "float16"}
        The precision that the head was trained on.
    """
    from onnx import TensorProto

    each = [
        part.add_to(nodes, shown, f"network{number}")
        for number, (part, shown) in enumerate(zip(networks, squares, strict=True), 1)
    ]
    if len(each) > 1:
        each = [nodes.add("Flatten", row) for row in each]
    joined = each[0] if len(each) == 1 else nodes.add("Concat", *each, axis=1)
    if dtype == "float16" and any(part.layer != "input" for part in networks):
        joined = nodes.add("Cast", joined, to=TensorProto.FLOAT16)
        joined = nodes.add("Cast", joined, to=TensorProto.FLOAT)
    return joined


def head_model(classifier: AgeGenderClassifier) -> Any:
    """Return the trained head as an ONNX model: standardisation, layers and the mean of an ensemble.

    Raises
    ------
    ModelFileError
        If the head cannot be written as ONNX.
    """
    import onnx

    if classifier._onnx is None:
        raise ModelFileError(
            f"The head {classifier.head!r} has a layer that ONNX or its converter lacks, as the warning at fit "
            "said; train the model with a head of plain layers to export it."
        )
    return onnx.load_model_from_string(classifier._onnx)


def _converted(backbone: Backbone, tensor: str, pooled: bool) -> Any:
    """Return a Keras network as ONNX."""
    from agegender._networks.keras import check_keras, quiet_keras
    from agegender._networks.quantization import quiet_converter
    from agegender.runtime import keras_function

    check_keras()
    import tf2onnx

    function = keras_function(backbone, tensor, pooled)
    with quiet_keras(), quiet_converter():
        converted, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=17)
    return converted
