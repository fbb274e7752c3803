"""Loaders for labelled faces, and functions for their frames; excluded pictures are always listed."""

from agegender.datasets._balance import FacesSummary, balance_ages, describe
from agegender.datasets._containers import open_pictures
from agegender.datasets._drawn import make_faces
from agegender.datasets._imdb_wiki import load_imdb_wiki
from agegender.datasets._table import load_table
from agegender.datasets._utkface import load_utkface

__all__ = [
    "FacesSummary",
    "balance_ages",
    "describe",
    "load_imdb_wiki",
    "load_table",
    "load_utkface",
    "make_faces",
    "open_pictures",
]
