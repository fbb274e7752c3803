"""The service as an ASGI application: its addresses and their functions."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Collection, Sequence
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from agegender.serve._about import about
from agegender.serve._batching import Batcher
from agegender.serve._limits import Admission, Limits, Slot
from agegender.serve._live import live
from agegender.serve._metrics import CONTENT_TYPE, Metrics
from agegender.serve._openapi import describe
from agegender.serve._parameters import Embed, Predict, embed_parameters, predict_parameters
from agegender.serve._predictor import Answer, Predictor
from agegender.serve._problems import KINDS, Problem
from agegender.serve._security import CLIENT, Guard, Keys
from agegender.serve._service import Service
from agegender.serve._uploads import Upload, check_pictures, read_pictures

__all__ = ["create_app"]

_STATIC_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FRESH = {"cache-control": "no-store"}


def create_app(
    model: Any,
    *,
    faces: Any = "auto",
    name: str = "model",
    sha256: str | None = None,
    trained_on: str | None = None,
    limits: Limits | None = None,
    keys: Sequence[str] = (),
    hosts: Collection[str] = (),
    n_jobs: int | None = None,
) -> Starlette:
    """Make the service of ``agegender serve`` as an ASGI application for your own server.

    The server determines who can reach it: pass `keys` if other machines can. The server also has to limit
    slow and idle connections; ``agegender serve`` does so for uvicorn (``docs/serve.md``).

    Parameters
    ----------
    model : AgeGenderPipeline or agegender.inference.Predictor
        A fitted model. It is not changed, and the service has no cache: nothing of a picture is stored.
    faces : {"auto", "yunet", "mtcnn"}, path or Detector, default="auto"
        The meaning of "auto" in requests; by default, the detector that is stored in the model.
    name : str, default="model"
        The name of the model in ``/v1/model`` and on the page.
    sha256, trained_on : str, default=None
        The digest of the model's file and the training pictures, as stated by ``/v1/model``.
    limits : Limits, default=None
        If None, ``Limits()``.
    keys : sequence of str, default=()
        API keys; if empty, everybody who can reach the service may use it.
    hosts : collection of str, default=()
        Names that are allowed in the ``Host`` header besides localhost and addresses.
    n_jobs : int, default=None
        Number of threads for prediction; None means one per core.

    Returns
    -------
    Starlette

    See Also
    --------
    Limits : The limits of a service.
    agegender.AgeGenderPipeline.predict_faces : The same predictions in Python.

    Examples
    --------
    >>> from agegender import load_pretrained
    >>> from agegender.serve import create_app
    >>> app = create_app(load_pretrained("compact"), faces="mtcnn", name="compact")
    >>> [route.path for route in app.routes][:3]
    ['/', '/static/{name}', '/v1/predict']
    """
    limits = Limits() if limits is None else limits
    predictor = Predictor(model, faces, n_jobs)
    admission, metrics = Admission(limits), Metrics()
    service = Service(
        predictor=predictor,
        batcher=Batcher(
            predictor,
            max_batch=limits.max_batch,
            max_wait=limits.max_wait,
            n_arriving=lambda: admission.n_arriving,
            metrics=metrics,
        ),
        admission=admission,
        metrics=metrics,
        limits=limits,
        keys=Keys(keys),
        about=about(
            predictor.model,
            predictor.detectors,
            name=name,
            sha256=sha256,
            trained_on=trained_on,
            limits=limits,
        ),
    )
    endpoints = _Endpoints(service)
    routes = endpoints.routes()
    guard = Middleware(
        Guard,
        keys=service.keys,
        hosts=hosts,
        paths=[route.path for route in routes],
        metrics=metrics,
    )
    return Starlette(
        routes=routes,
        middleware=[guard],
        exception_handlers={Problem: endpoints.refuse, HTTPException: _as_problem, Exception: _failed},
        lifespan=endpoints.lifespan,
    )


class _Endpoints:
    """The functions behind the addresses."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._static = _read_static()
        self._openapi = json.dumps(describe(service.about), ensure_ascii=False)

    def routes(self) -> list[Any]:
        """Return the addresses."""
        return [
            Route("/", self.page),
            Route("/static/{name}", self.static),
            Route("/v1/predict", self.predict, methods=["POST"]),
            Route("/v1/embed", self.embed, methods=["POST"]),
            Route("/v1/model", self.model),
            Route("/v1/problems/{name}", _problem),
            WebSocketRoute("/v1/live", self.live),
            Route("/openapi.json", self.openapi),
            Route("/healthz", self.healthz),
            Route("/metrics", self.metrics),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Start predicting; at shutdown, finish the waiting pictures."""
        await asyncio.to_thread(self._service.predictor.warm_up)
        self._service.batcher.start()
        try:
            yield
        finally:
            await self._service.batcher.stop()

    async def page(self, request: Request) -> Response:
        """Return the HTML page."""
        return self._file("index.html", request)

    async def static(self, request: Request) -> Response:
        """Return a file of the page."""
        return self._file(request.path_params["name"], request)

    def _file(self, name: str, request: Request) -> Response:
        if name not in self._static:
            raise Problem("not-found", f"The page has no file {name[:80]!r}.")
        content, kind, tag = self._static[name]
        headers = {"cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    async def predict(self, request: Request) -> Response:
        """Answer with every face of every picture."""
        task, skip = predict_parameters(_query(request), self._service.predictor.offered)
        uploads, answers = await self._answers(request, task, skip)
        return _json({"pictures": _listed(uploads, answers)})

    async def embed(self, request: Request) -> Response:
        """Answer with the activations of every face of every picture."""
        task, skip = embed_parameters(_query(request), self._service.predictor.offered)
        uploads, answers = await self._answers(request, task, skip)
        return _json({"layer": task.layer, "pictures": _listed(uploads, answers)})

    async def _answers(
        self, request: Request, task: Predict | Embed, skip: bool
    ) -> tuple[list[Upload], list[Answer]]:
        with self._service.admission.request(request.scope[CLIENT]) as slot:
            with self._service.metrics.timed("upload"):
                uploads = await read_pictures(request, self._service.limits, slot)
            return uploads, await self._read(uploads, task, skip, slot)

    async def _read(
        self, uploads: list[Upload], task: Predict | Embed, skip: bool, slot: Slot
    ) -> list[Answer]:
        service = self._service
        with service.metrics.timed("check"):
            reasons = await check_pictures(uploads, service.limits)
        if reasons and not skip:
            raise _unusable(uploads, reasons)
        readable = [index for index in range(len(uploads)) if index not in reasons]
        slot.arrived()
        try:
            async with asyncio.timeout(service.limits.predict_seconds):
                found = await service.batcher.submit(task, [uploads[index].content for index in readable])
        except TimeoutError:
            raise Problem(
                "slow",
                f"No answer within {service.limits.predict_seconds:g} seconds; send fewer pictures, or later.",
                retry_after=5,
            ) from None
        except ValueError as error:
            raise Problem("parameter", str(error)) from None
        answers = {index: Answer([], reason) for index, reason in reasons.items()}
        answers |= dict(zip(readable, found, strict=True))
        late = {index: answer.reason for index, answer in answers.items() if answer.reason is not None}
        if late and not skip:
            raise _unusable(uploads, late)
        service.metrics.pictures.inc(len(answers) - len(late))
        service.metrics.faces.inc(sum(len(answer.faces) for answer in found))
        return [answers[index] for index in range(len(uploads))]

    async def live(self, socket: WebSocket) -> None:
        """Serve a camera."""
        await live(socket, self._service)

    async def model(self, request: Request) -> Response:
        """Describe the model."""
        return _json(self._service.about)

    async def openapi(self, request: Request) -> Response:
        """Describe the service."""
        return Response(self._openapi, headers=_FRESH, media_type="application/json")

    async def healthz(self, request: Request) -> Response:
        """Confirm that the service is running."""
        return _json({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """Return the metrics."""
        admission, metrics = self._service.admission, self._service.metrics
        metrics.running.labels("requests").set(admission.n_requests)
        metrics.running.labels("cameras").set(admission.n_live)
        metrics.running.labels("bytes").set(admission.held)
        return Response(metrics.text(), headers=_FRESH | {"content-type": CONTENT_TYPE})

    async def refuse(self, request: Any, problem: Any) -> Response:
        """Answer with a problem, and count it."""
        self._service.metrics.refusals.labels(problem.name).inc()
        return _refusal(problem)


def _refusal(problem: Problem) -> Response:
    return problem.response()


def _query(request: Request) -> dict[str, str]:
    given = request.query_params.multi_items()
    names = [name for name, _ in given]
    for name in names:
        if names.count(name) > 1:
            raise Problem("parameter", f"{name[:80]!r} is given more than once.", parameter=name[:80])
    return dict(given)


def _listed(uploads: Sequence[Upload], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    listed = []
    for index, (upload, answer) in enumerate(zip(uploads, answers, strict=True)):
        entry: dict[str, Any] = {"picture": index, "name": upload.name, "faces": answer.faces}
        if answer.reason is not None:
            entry["error"] = answer.reason
        listed.append(entry)
    return listed


def _unusable(uploads: Sequence[Upload], reasons: dict[int, str]) -> Problem:
    named = [
        {"picture": index, "name": uploads[index].name, "reason": reason}
        for index, reason in sorted(reasons.items())
    ]
    first = named[0]
    name = first["name"] or f"Picture {first['picture']}"
    detail = f"{name} {first['reason']}."
    if len(named) > 1:
        detail += f" {len(named) - 1} more cannot be used; on_error=nan answers for the rest."
    return Problem("picture", detail, pictures=named)


def _json(content: Any) -> Response:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body, headers=_FRESH, media_type="application/json")


async def _problem(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in KINDS:
        raise Problem("not-found", f"There is no problem {name[:80]!r}; there are {', '.join(KINDS)}.")
    return _json({"type": f"/v1/problems/{name}", "title": KINDS[name].title, "status": KINDS[name].status})


def _as_problem(request: Any, error: Any) -> Response:
    """Answer requests that Starlette itself refuses: an unknown address or method."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        response = _refusal(Problem("method", f"{request.method} is not allowed here; {allowed} is."))
        response.headers["allow"] = allowed
        return response
    return _refusal(
        Problem("not-found", f"{request.url.path[:100]!r} is not here; /openapi.json lists what is.")
    )


def _failed(request: Any, error: Any) -> Response:
    return _refusal(Problem("internal", "An error that the service did not expect; its log says more."))


def _read_static() -> dict[str, tuple[bytes, str, str]]:
    """Return the files of the page: content, type and entity tag by name."""
    files = {}
    for entry in (resources.files("agegender.serve") / "static").iterdir():
        kind = _STATIC_TYPES.get(PurePosixPath(entry.name).suffix)
        if kind is not None:
            content = entry.read_bytes()
            files[entry.name] = content, kind, f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    return files
