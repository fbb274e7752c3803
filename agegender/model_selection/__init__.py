"""Cross-validation without data leakage: stratified folds that keep copies and persons together."""

from agegender.model_selection._embed import CrossValidatedRows, cross_val_embed
from agegender.model_selection._groups import connected_groups, duplicate_groups
from agegender.model_selection._predict import cross_val_predict_frame
from agegender.model_selection._similar import similar_face_groups
from agegender.model_selection._splits import AgeGenderKFold, grouped_split

__all__ = [
    "AgeGenderKFold",
    "CrossValidatedRows",
    "connected_groups",
    "cross_val_embed",
    "cross_val_predict_frame",
    "duplicate_groups",
    "grouped_split",
    "similar_face_groups",
]
