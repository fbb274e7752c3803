"""The recognition networks of deepface 0.0.103: their inputs, normalisations and files."""

from __future__ import annotations

from typing import Literal

from agegender._networks.publication import Published

__all__ = ["AGE_AND_GENDER", "OF_DEEPFACE", "REFUSED"]

_RELEASE = "https://github.com/serengil/deepface_models/releases/download/v1.0/"
_SECOND = "https://huggingface.co/serengil/deepface/resolve/main/"
_REPRESENT = "deepface's represent, on random weights"
_ONNX_ONLY = "deepface's represent, on a graph of its layout"
_FACENET_LICENCE = (
    "MIT (davidsandberg/facenet), converted by deepface (MIT); trained on face collections that were gathered for "
    "research, whose terms a commercial use should look into"
)
_INSIGHTFACE_LICENCE = "InsightFace: for non-commercial research only"


def _published(
    name: str,
    spelled: str,
    size: tuple[int, int],
    n_numbers: int,
    licence: str,
    *,
    mean: float | tuple[float, float, float] = 0.0,
    scale: float = 1 / 255,
    color: Literal["rgb", "bgr"] = "bgr",
    onnx: str,
    h5: str | None = None,
    onnx_at: tuple[str, ...] | None = None,
    h5_at: tuple[str, ...] | None = None,
    known: dict[str, tuple[str, int | None]] | None = None,
    module: str = "",
    kind: str = "facial_recognition",
    builder: str = "load_model",
    checked: str = _REPRESENT,
    no_keras: str = "",
) -> Published:
    files = {".onnx": onnx} | ({".h5": h5} if h5 else {})
    addresses: dict[str, tuple[str, ...]] = {
        suffix: (_RELEASE + file, _SECOND + file) for suffix, file in files.items()
    }
    given = {".onnx": onnx_at, ".h5": h5_at}
    addresses |= {suffix: urls for suffix, urls in given.items() if urls is not None}
    return Published(
        name=name,
        project="deepface",
        files=files,
        addresses=addresses,
        input_size=size,
        mean=mean,
        scale=scale,
        n_numbers=n_numbers,
        licence=licence,
        color=color,
        spelled=spelled,
        known=known or {},
        module=module and f"{kind}.tf.{module}",
        builder=builder,
        checked=checked,
        no_keras=no_keras,
    )


OF_DEEPFACE = (
    _published(
        "arcface",
        "ArcFace",
        (112, 112),
        512,
        "MIT (leondgarse/Keras_insightface), converted by deepface (MIT); InsightFace offers models trained "
        "on its collections for non-commercial research only",
        mean=127.5,
        scale=1 / 128,
        onnx="arcface_weights.onnx",
        h5="arcface_weights.h5",
        known={".h5": ("6336979c0c602cae08d1122a66f4dfb862d059bbcd8ef80306aef2b2249b0c93", 137_026_640)},
        module="ArcFace",
    ),
    _published(
        "facenet",
        "Facenet",
        (160, 160),
        128,
        _FACENET_LICENCE,
        mean=127.5,
        scale=1 / 127.5,
        onnx="facenet_weights.onnx",
        h5="facenet_weights.h5",
        known={".h5": ("90659cc97bfda5999120f95d8e122f4d262cca11715a21e59ba024bcce816d5c", None)},
        module="Facenet",
        builder="load_facenet128d_model",
    ),
    _published(
        "facenet512",
        "Facenet512",
        (160, 160),
        512,
        _FACENET_LICENCE,
        mean=127.5,
        scale=1 / 127.5,
        onnx="facenet512_weights.onnx",
        h5="facenet512_weights.h5",
        known={".h5": ("3f76b5117a9ca574d536af8199e6720089eb4ad3dc7e93534496d88265de864f", 94_955_648)},
        checked=_ONNX_ONLY,
        module="Facenet",
        builder="load_facenet512d_model",
    ),
    _published(
        "openface",
        "OpenFace",
        (96, 96),
        128,
        "Apache-2.0 (cmusatyalab/openface), by way of iwantooxxoox/Keras-OpenFace and deepface (MIT)",
        onnx="openface_weights.onnx",
        h5="openface_weights.h5",
        module="OpenFace",
    ),
    _published(
        "vggface",
        "VGG-Face",
        (224, 224),
        4096,
        "VGG, Oxford: for non-commercial research; converted by deepface (MIT)",
        # Blue, green, red: the means of its training pictures.
        mean=(93.5940, 104.7624, 129.1863),
        scale=1.0,
        onnx="vgg_face_weights.onnx",
        h5="vgg_face_weights.h5",
        known={".h5": ("759266b9614d0fd5d65b97bf716818b746cc77ab5944c7bffc937c6ba9455d8c", None)},
        module="VGGFace",
    ),
    _published(
        "ghostfacenet",
        "GhostFaceNet",
        (112, 112),
        512,
        "MIT (HamadYA/GhostFaceNets); trained on a collection gathered for research",
        mean=127.5,
        scale=1 / 128,
        onnx="ghostfacenet_v1.onnx",
        h5="ghostfacenet_v1.h5",
        h5_at=(
            "https://github.com/HamadYA/GhostFaceNets/releases/download/v1.2/GhostFaceNet_W1.3_S1_ArcFace.h5",
        ),
        module="GhostFaceNet",
    ),
    _published(
        "sface",
        "SFace",
        (112, 112),
        128,
        "Apache-2.0 (OpenCV Zoo); trained on a collection gathered for research",
        mean=0.0,
        scale=1.0,
        color="rgb",
        onnx="face_recognition_sface_2021dec.onnx",
        onnx_at=(
            "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/"
            "face_recognition_sface_2021dec.onnx",
        ),
        known={".onnx": ("f6abbfff9575e3041db692c1e29d782e995191888477fd59ebc81202d99fc63b", 24_227_283)},
        checked=_ONNX_ONLY,
        no_keras="OpenCV publishes it as ONNX alone",
    ),
    _published(
        "buffalo_l",
        "Buffalo_L",
        (112, 112),
        512,
        f"{_INSIGHTFACE_LICENCE}; the file is deepface's own choice, not that of InsightFace's pack buffalo_l",
        mean=127.5,
        scale=1 / 127.5,
        color="rgb",
        onnx="buffalo_l/webface_r50.onnx",
        onnx_at=(
            "https://drive.google.com/uc?export=download&confirm=pbef&id=1N0GL-8ehw_bz2eZQWz2b0A5XBdXdxZhg",
        ),
        checked=_ONNX_ONLY,
        no_keras="InsightFace publishes it as ONNX alone",
    ),
    _published(
        "deepid",
        "DeepID",
        (55, 47),
        160,
        "MIT (Ruoyiran/DeepID-Face-Recognition), converted by deepface (MIT)",
        onnx="deepid_weights.onnx",
        h5="deepid_keras_weights.h5",
        module="DeepID",
    ),
    _published(
        "fbdeepface",
        "DeepFace",
        (152, 152),
        4096,
        "MIT (swghosh/DeepFace), converted by deepface (MIT); trained on VGGFace2, which was gathered for research",
        onnx="VGGFace2_DeepFace_weights_val-0.9034.onnx",
        checked=_ONNX_ONLY,
        no_keras="its locally connected layers need TensorFlow 2.12 or older, in deepface as here",
    ),
)
"""In deepface's order of addition; each gets the normalisation that it was trained with."""

AGE_AND_GENDER = tuple(
    _published(
        f"deepface/{what}",
        "",
        (224, 224),
        n_numbers,
        "deepface (MIT), on VGG-Face of VGG, Oxford: for non-commercial research; trained on IMDB-WIKI",
        onnx=f"{what}_model_weights.onnx",
        h5=f"{what}_model_weights.h5",
        known={".h5": known},
        module=what.capitalize(),
        kind="demography",
        checked="deepface's analyze, on a graph of its layout",
    )
    for what, n_numbers, known in (
        ("age", 101, ("0aeff75734bfe794113756d2bfd0ac823d51e9422c8961125b570871d3c2b114", 538_771_776)),
        ("gender", 2, ("45513ce5678549112d25ab85b1926fb65986507d49c674a3d04b2ba70dba2eb5", None)),
    )
)
"""deepface's own predictors: the embedding is their prediction; the other layers are fine-tuned VGG-Face."""

REFUSED = {
    "dlib": (
        "dlib's network cannot be used here: its weights are a .dat file that dlib's own code alone can run, and "
        "there is neither an ONNX nor a Keras form of it. Of about its size are 'facenet' and 'sface'."
    )
}
"""Networks of deepface that cannot be used here, by folded name, and the reason."""
