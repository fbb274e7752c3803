"""A placeholder for a head whose code is not available."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agegender.exceptions import ModelFileError

__all__ = ["AbsentHead"]


@dataclass(frozen=True)
class AbsentHead:
    """The placeholder in a safe file for a head that was a user's own callable.

    The trained head predicts as before; to train again, set the head again: ``set_params(classifier__head=my_head)``.

    Attributes
    ----------
    description : str
        The name of the head.
    """

    description: str

    @property
    def layer(self) -> str:
        """Raise an error, because only the head's code knows its layer."""
        raise self._gone()

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Raise an error, because the code is not available."""
        raise self._gone()

    def _gone(self) -> ModelFileError:
        return ModelFileError(
            f"This model was trained with the head {self.description}, whose code is not kept in safe files. It "
            "predicts; to train again, set it first: set_params(head=…), in a pipeline classifier__head=…."
        )
