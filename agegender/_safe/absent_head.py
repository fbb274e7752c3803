"""What stands for a head whose code is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agegender.exceptions import ModelFileError

__all__ = ["AbsentHead"]


@dataclass(frozen=True)
class AbsentHead:
    """What a safe file has in place of a head that was a callable of somebody's own.

    The trained head predicts as before; to train again, set the head again: ``set_params(classifier__head=my_head)``.

    Attributes
    ----------
    description : str
        What the head was called.
    """

    description: str

    @property
    def layer(self) -> str:
        """Raise an error: which layer it read is only known to its code."""
        raise self._gone()

    def __call__(self, input_shape: tuple[int, ...], n_ages: int, n_genders: int) -> Any:
        """Raise an error: the code is not here."""
        raise self._gone()

    def _gone(self) -> ModelFileError:
        return ModelFileError(
            f"This model was trained with the head {self.description}, whose code is not kept in safe files. It "
            "predicts; to train again, set it first: set_params(head=…), in a pipeline classifier__head=…."
        )
