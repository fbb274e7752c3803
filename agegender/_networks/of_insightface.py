"""InsightFace's packs in InsightFace's folder, and UniFace's weights: their files and normalisations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agegender._networks.location import insightface_folder
from agegender._networks.publication import Published
from agegender.exceptions import WeightsError, WeightsNotFoundError

__all__ = ["OF_INSIGHTFACE", "OF_UNIFACE", "PREFIX", "find_in_packs", "normalises_itself"]

PREFIX = "insightface/"

_RELEASES = (
    "https://github.com/deepinsight/insightface/releases/download/model-zoo/",
    "https://github.com/deepinsight/insightface/releases/download/v0.7/",
)
_UNIFACE_RELEASE = "https://github.com/yakhyo/uniface/releases/download/weights/"
_LICENCE = "InsightFace: for non-commercial research only"
_UNIFACE_LICENCE = "MIT (yakhyo/face-recognition); trained on MS1M V2, which was gathered for research"
_W600K_R50 = ("4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43", 174_383_860)
_W600K_MBF = ("9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f", 13_616_099)
_GLINTR100 = ("4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf", 260_665_334)
_FIRST_NODES = 8  # InsightFace too searches these for a normalisation


def _pack(pack: str, file: str, known: tuple[str, int]) -> Published:
    return Published(
        name=f"{PREFIX}{pack}",
        project="insightface",
        files={".onnx": f"{pack}/{file}"},
        addresses={".onnx": tuple(f"{release}{pack}.zip" for release in _RELEASES)},
        input_size=(112, 112),
        mean=127.5,
        scale=1 / 127.5,
        n_numbers=512,
        licence=_LICENCE,
        color="rgb",
        spelled=pack,
        known={".onnx": known},
        checked="InsightFace's get_feat, on a graph of its layout",
        no_keras="InsightFace publishes ONNX files alone",
    )


OF_INSIGHTFACE = (
    _pack("buffalo_l", "w600k_r50.onnx", _W600K_R50),
    _pack("buffalo_m", "w600k_r50.onnx", _W600K_R50),
    _pack("buffalo_s", "w600k_mbf.onnx", _W600K_MBF),
    _pack("buffalo_sc", "w600k_mbf.onnx", _W600K_MBF),
    _pack("antelopev2", "glintr100.onnx", _GLINTR100),
)


def _of_uniface(name: str, published_as: str, sha256: str, licence: str = _UNIFACE_LICENCE) -> Published:
    return Published(
        name=f"uniface/{name}",
        project="uniface",
        files={".onnx": f"{name}.onnx"},
        addresses={".onnx": (f"{_UNIFACE_RELEASE}{published_as}.onnx",)},
        input_size=(112, 112),
        mean=127.5,
        scale=1 / 127.5,
        n_numbers=512,
        licence=licence,
        color="rgb",
        spelled=name,
        known={".onnx": (sha256, None)},
        checked="its published normalisation alone",
        no_keras="UniFace publishes ONNX files alone",
    )


OF_UNIFACE = (
    _of_uniface("arcface_mnet", "w600k_mbf", _W600K_MBF[0], _LICENCE),
    _of_uniface("arcface_resnet", "w600k_r50", _W600K_R50[0], _LICENCE),
    _of_uniface(
        "mobilenetv1_025",
        "mobilenetv1_0.25",
        "eeda7d23d9c2b40cf77fa8da8e895b5697465192648852216074679657f8ee8b",
    ),
    _of_uniface(
        "mobilenetv2", "mobilenetv2", "38b148284dd48cc898d5d4453104252fbdcbacc105fe3f0b80e78954d9d20d89"
    ),
    _of_uniface(
        "mobilenetv3_small",
        "mobilenetv3_small",
        "d4acafa1039a82957aa8a9a1dac278a401c353a749c39df43de0e29cc1c127c3",
    ),
    _of_uniface(
        "mobilenetv3_large",
        "mobilenetv3_large",
        "0e48f8e11f070211716d03e5c65a3db35a5e917cfb5bc30552358629775a142a",
    ),
    _of_uniface("sphere20", "sphere20", "c02878cf658eb1861f580b7e7144b0d27cc29c440bcaa6a99d466d2854f14c9d"),
    _of_uniface("sphere36", "sphere36", "13b3890cd5d7dec2b63f7c36fd7ce07403e5a0bbb701d9647c0289e6cbe7bb20"),
)


def find_in_packs(name: str) -> Path:
    """Return the file that ``insightface/<pack>`` or ``insightface/<pack>/<file>.onnx`` names, of any pack.

    The recognition network of a pack is the one that InsightFace itself would take: in the order of names,
    the first file that takes pictures of 112 × 112 pixels and has one output.

    Raises
    ------
    WeightsNotFoundError
        If there is no such pack or file.
    WeightsError
        If no file of the pack is a recognition network.
    """
    place = insightface_folder() / name.removeprefix(PREFIX)
    if place.suffix == ".onnx" and place.is_file():
        return place
    files = sorted(place.glob("*.onnx")) if place.is_dir() else []
    if not files:
        there = sorted(path.name for path in insightface_folder().glob("*") if path.is_dir())
        raise WeightsNotFoundError(
            f"There is no {place}; in {insightface_folder()} (INSIGHTFACE_HOME moves it) lie the packs: "
            f"{', '.join(there) or 'none'}. Names that can be fetched are "
            f"{', '.join(pack.name for pack in OF_INSIGHTFACE)}."
        )
    for file in files:
        if _recognises(_parsed(file)):
            return file
    raise WeightsError(
        f"No file in {place} takes pictures of 112 × 112 pixels and gives one output, as InsightFace's recognition "
        f"networks do; it has {', '.join(file.name for file in files)}. Name the file: {name}/<file>.onnx."
    )


def normalises_itself(path: Path) -> bool:
    """Return whether a graph itself subtracts and divides, as graphs from MXNet do.

    InsightFace looks at the names of the first nodes; if nodes have no names, their operations are looked at.
    """
    graph = _parsed(path).graph
    names = [node.name or node.output[0] for node in graph.node[:_FIRST_NODES]]
    if "bn_data" in names[:3]:  # a batch normalisation of the pixels
        return True
    return all(
        any(name.startswith(starts) for name in names) for starts in (("Sub", "_minus"), ("Mul", "_mul"))
    )


def _parsed(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own errors have no class that is worth importing
        raise WeightsError(f"{path} is not an ONNX network ({str(error).strip()[:200]}).") from error


def _recognises(model: Any) -> bool:
    from agegender._networks.graph import dims_of

    held = {weight.name for weight in model.graph.initializer}
    pictures = [value for value in model.graph.input if value.name not in held]
    return len(pictures) == 1 and dims_of(pictures[0])[1:] == [3, 112, 112] and len(model.graph.output) == 1
