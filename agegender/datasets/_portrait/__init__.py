"""Portraits drawn from an age and a gender, without a photograph anywhere.

`_person` decides how somebody looks, `_canvas` knows how to put shapes on pixels, `_head`, `_features`, `_marks`,
`_hair` and `_scene` draw, and `_draw` says in which order.
"""

from agegender.datasets._portrait._draw import draw_portrait

__all__ = ["draw_portrait"]
