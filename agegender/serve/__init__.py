"""A page with a camera and an HTTP service for one model (``pip install 'agegender[serve]'``).

``agegender serve`` runs it; :func:`create_app` makes the same service as an ASGI application for your own
server. See ``docs/serve.md``.
"""

from agegender._utils.validation import optional_import

for _module in ("starlette", "uvicorn", "httptools", "websockets", "python_multipart", "prometheus_client"):
    optional_import(_module, "serve")

from agegender.serve._app import create_app  # noqa: E402  (what it needs is there now)
from agegender.serve._limits import Limits  # noqa: E402

__all__ = ["Limits", "create_app"]
