"""Print the lowest versions that pyproject.toml allows, as constraints for pip."""

import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in map(
    Requirement, chain(project["dependencies"], *project["optional-dependencies"].values())
):
    for clause in requirement.specifier:
        if clause.operator in (">=", "=="):
            print(f"{requirement.name}=={clause.version}")
