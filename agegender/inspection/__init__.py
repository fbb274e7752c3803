"""Inspect a set of labelled faces: wrong labels, copies, bad pictures, gaps and leaks."""

from agegender.inspection._inspect import inspect_faces
from agegender.inspection._inspection import FacesInspection

__all__ = ["FacesInspection", "inspect_faces"]
