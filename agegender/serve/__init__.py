"""A page with a camera and an HTTP service for one model (``pip install 'agegender[serve]'``).

``agegender serve`` runs it; :func:`create_app` makes the same service as an ASGI application for a server of your
own. See ``docs/serve.md``.
"""

from agegender.serve._app import create_app
from agegender.serve._limits import Limits

__all__ = ["Limits", "create_app"]
