"""What is trained already: models that come with the package, and the pictures that they may be judged by."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, cast

from agegender._extraction.crops import shipped_crops
from agegender._networks.shipped import SHIPPED
from agegender._utils.validation import check_choice

if TYPE_CHECKING:
    from agegender.classifier import AgeGenderClassifier
    from agegender.pipeline import AgeGenderPipeline

__all__ = ["kept_out_names", "load_pretrained"]


def load_pretrained(name: str = "compact") -> AgeGenderPipeline:
    """Load a pretrained model, without a download and without TensorFlow.

    For non-commercial research only: see ``docs/compact.md`` for its terms, how it was trained, and its
    accuracy by age, gender and race.

    Parameters
    ----------
    name : {"compact"}, default="compact"
        "compact" is the small network in the package with a dense head, trained on UTKFace.

    Returns
    -------
    AgeGenderPipeline
        A fitted pipeline; it can be cloned and trained on other pictures. Genders are 0 male, 1 female.

    Raises
    ------
    ValueError
        If there is no model of this name.
    WeightsError
        If the installation is damaged.

    See Also
    --------
    agegender.pretrained.kept_out_names : Names of the held-out pictures of a pretrained model.
    agegender.load_model : Load a model from a safe file.

    Examples
    --------
    >>> from agegender import load_pretrained
    >>> model = load_pretrained("compact")
    >>> model.extractor
    EmbeddingExtractor(backbone='compact')
    >>> model.predict_frame(["holiday.jpg"])  # doctest: +SKIP
        age  age_low  age_high  gender  gender_proba
    0  42.3     30.1      55.0       1          0.98
    """
    from sklearn.base import clone

    from agegender.extractor import EmbeddingExtractor
    from agegender.persistence import load_model
    from agegender.pipeline import AgeGenderPipeline

    check_choice("name", name, tuple(SHIPPED), "load_pretrained")
    with resources.as_file(resources.files(__name__) / f"{name}.agegender") as file:
        classifier = cast("AgeGenderClassifier", load_model(file))
    model = AgeGenderPipeline(EmbeddingExtractor(name), clone(classifier))
    model.extractor_, model.classifier_ = model.resolve_extractor().fit(), classifier
    model.extractor_.resolved_ = model.extractor_.resolved_.with_crops(shipped_crops())
    model.trained_on_ = SHIPPED[name].trained_on()
    return model


def kept_out_names(name: str = "compact") -> frozenset[str]:
    """Return the names of UTKFace's files that were held out from training; only scores on these are valid.

    Parameters
    ----------
    name : {"compact"}, default="compact"
        The model; see :func:`agegender.load_pretrained`.

    Returns
    -------
    frozenset of str
        File names without folders. None of these pictures has a copy or near-copy among the training pictures.

    Raises
    ------
    ValueError
        If there is no model of this name.

    See Also
    --------
    agegender.load_pretrained : Load the pretrained model of the package.

    Examples
    --------
    >>> from pathlib import Path
    >>> from agegender.datasets import load_utkface
    >>> from agegender.pretrained import kept_out_names
    >>> faces = load_utkface("UTKFace/")  # doctest: +SKIP
    >>> honest = [Path(path).name in kept_out_names() for path in faces.data]  # doctest: +SKIP
    """
    check_choice("name", name, tuple(SHIPPED), "kept_out_names")
    text = (resources.files(__name__) / f"{name}_kept_out.txt").read_text(encoding="utf-8")
    return frozenset(text.split())
