"""Which device a network is given. No GPU is needed: what ONNX Runtime is asked for is looked at."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from agegender import EmbeddingExtractor
from agegender.backbones import Backbone
from agegender.runtime import close_networks, open_network

CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)


class Asked(list[list[str]]):
    """Provider lists that sessions were asked for; they run on the processor all the same."""

    gpu_is_usable = True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    lists = Asked()

    class Session(onnxruntime.InferenceSession):
        def __init__(self, content, options, providers):
            lists.append(list(providers))
            super().__init__(content, options, providers=["CPUExecutionProvider"])

        def get_providers(self):
            return lists[-1] if lists.gpu_is_usable else super().get_providers()

    close_networks()
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    yield lists
    close_networks()


def has(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(providers))


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("auto", CUDA),
        ("cuda", CUDA),
        ("cpu", ["CPUExecutionProvider"]),
    ],
)
def test_cuda_is_taken_where_it_is_there_unless_the_processor_is_asked_for(
    asked, monkeypatch, device, expected
) -> None:
    has(monkeypatch, *CUDA)
    extractor = EmbeddingExtractor("compact", layer="embedding", device=device, cache=None)
    on_device = extractor.transform(list(PICTURES))
    assert asked == [expected]
    monkeypatch.undo()
    close_networks()
    on_processor = EmbeddingExtractor("compact", layer="embedding", cache=None).transform(list(PICTURES))
    # A GPU gets the graph as it was, the processor the rewritten one: the numbers are the same.
    np.testing.assert_allclose(on_device, on_processor, rtol=1e-4, atol=1e-5)


def test_without_cuda_auto_is_the_processor(asked, monkeypatch) -> None:
    has(monkeypatch, "AzureExecutionProvider", "CPUExecutionProvider")
    open_network(Backbone.load("compact"), "embedding")(PICTURES)
    assert asked == [["CPUExecutionProvider"]]


def test_a_gpu_that_cannot_be_used_is_an_error_if_it_was_asked_for(asked, monkeypatch) -> None:
    has(monkeypatch, *CUDA)
    asked.gpu_is_usable = False
    extractor = EmbeddingExtractor("compact", layer="embedding", device="cuda", cache=None)
    with pytest.raises(RuntimeError, match=r"device='cuda'.*cannot use a GPU here.*device='auto'"):
        extractor.transform(list(PICTURES))


def test_where_a_gpu_cannot_be_used_auto_runs_the_graph_made_for_the_processor(asked, monkeypatch) -> None:
    from agegender import runtime

    rewritten: list[bool] = []
    runnable = runtime.runnable
    monkeypatch.setattr(
        runtime,
        "runnable",
        lambda *args, **options: rewritten.append(options["rewrite"]) or runnable(*args, **options),
    )
    has(monkeypatch, *CUDA)
    asked.gpu_is_usable = False
    open_network(Backbone.load("compact"), "embedding", device="auto")(PICTURES)
    assert asked == [CUDA, ["CPUExecutionProvider"]]
    assert rewritten == [False, True]


def test_asking_for_cuda_in_vain_names_the_package_to_install(monkeypatch) -> None:
    has(monkeypatch, "CPUExecutionProvider")
    extractor = EmbeddingExtractor("compact", layer="embedding", device="cuda", cache=None)
    with pytest.raises(RuntimeError, match="pip uninstall onnxruntime, then pip install onnxruntime-gpu"):
        extractor.transform(list(PICTURES))


def test_a_network_in_keras_form_needs_a_gpu_that_tensorflow_sees() -> None:
    import keras

    picture = keras.Input((16, 16, 3))
    model = keras.Model(picture, keras.layers.Dense(4)(keras.layers.Flatten()(picture)))
    backbone = Backbone.from_keras(model)
    assert open_network(backbone, "embedding", device="cpu")(np.zeros((2, 16, 16, 3), np.uint8)).shape == (
        2,
        4,
    )
    with pytest.raises(RuntimeError, match=r"TensorFlow finds no GPU.*tensorflow\[and-cuda\]"):
        open_network(backbone, "embedding", device="cuda")


def test_another_device_is_named_with_the_choice(monkeypatch) -> None:
    extractor = EmbeddingExtractor("compact", device="gpu")
    with pytest.raises(ValueError, match=r"device='gpu'.*auto.*cpu.*cuda"):
        extractor.transform(list(PICTURES))
