"""A camera over a WebSocket: only the newest frame is used; faces are tracked, predictions are smoothed.

The client sends a first message as text, JSON with the parameters of ``/v1/predict`` (and ``key``, if the
service has keys), then frames as binary messages, each an encoded picture. The service sends one text message
per frame that was predicted. During a prediction, only the newest frame is kept.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.websockets import WebSocket, WebSocketDisconnect

from agegender import images
from agegender._detectors.tracks import Reading, Track, Tracker
from agegender.exceptions import PictureError
from agegender.serve._parameters import Predict, predict_parameters
from agegender.serve._problems import Problem
from agegender.serve._service import Service

__all__ = ["live"]

_HELLO_SECONDS = 10.0
_IDLE_SECONDS = 60.0
_SEND_SECONDS = 10.0
_MOST_PIXELS = 4_000_000
_LEAST_WEIGHT = 0.1
_TRY_AGAIN, _REFUSED = 1013, 1008


async def live(socket: WebSocket, service: Service) -> None:
    """Serve one camera until it disconnects, sends nothing for a minute, or does not read its answers."""
    await socket.accept()
    try:
        with service.admission.live():
            await _Session(socket, service).run()
    except Problem as problem:
        service.metrics.refusals.labels(problem.name).inc()
        await _send(socket, {"problem": problem.members()})
        await socket.close(_TRY_AGAIN if problem.name in ("busy", "stopping") else _REFUSED)
    except (WebSocketDisconnect, TimeoutError):
        pass  # disconnected or not reading: the connection is closed elsewhere


async def _send(socket: WebSocket, message: Mapping[str, Any]) -> None:
    async with asyncio.timeout(_SEND_SECONDS):
        await socket.send_text(json.dumps(message, ensure_ascii=False))


class _Session:
    """One camera: the newest frame, the tracked faces, and the requested predictions."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket = socket
        self._service = service
        self._arrival = asyncio.Event()
        self._newest: tuple[int, bytes] | None = None
        self._gone: Problem | None = None
        self._ended = False
        self._n_frames = 0
        self._n_dropped = 0
        self._faces = _Faces(service.predictor.model.classes_[1])
        self._task = Predict()

    async def run(self) -> None:
        """Answer frames until there are no more."""
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                await self._begin()
        except TimeoutError:
            raise Problem(
                "slow-upload", f"No first message came within {_HELLO_SECONDS:g} seconds."
            ) from None
        reader = asyncio.create_task(self._read())
        try:
            while await self._answer_next():
                pass
        finally:
            reader.cancel()

    async def _begin(self) -> None:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        wanted = _first_message(message.get("text"))
        address = self._socket.client.host if self._socket.client else "unknown"
        self._service.keys.client(str(wanted.pop("key", "")), address)
        task, _ = predict_parameters(
            wanted, [name for name in self._service.predictor.offered if name != "none"]
        )
        self._wanted = task
        # Uncertain predictions are left out after smoothing, not per frame.
        self._task = replace(task, max_age_range=None, min_gender_proba=None, live=True)
        found = self._service.predictor.detectors[task.faces].name
        await _send(self._socket, {"ready": True, "faces": found})

    async def _read(self) -> None:
        """Keep the newest frame."""
        while not self._ended:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self._ended = True
            elif message.get("bytes") is not None:
                self._n_frames += 1
                if self._newest is not None:
                    self._n_dropped += 1
                    self._service.metrics.frames.labels("dropped").inc()
                self._newest = self._n_frames, message["bytes"]
            else:
                self._gone = Problem("upload", "After the first message, frames are binary messages.")
            self._arrival.set()

    async def _answer_next(self) -> bool:
        """Answer the newest frame; return whether the camera is still connected."""
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._arrival.wait()
        except TimeoutError:
            raise Problem("slow-upload", f"No frame came for {_IDLE_SECONDS:g} seconds.") from None
        self._arrival.clear()
        if self._gone is not None:
            raise self._gone
        if self._ended:
            return False
        if self._newest is not None:
            number, frame = self._newest
            self._newest = None
            started = time.perf_counter()
            answer = await self._answer(frame)
            seconds = round(time.perf_counter() - started, 4)
            await _send(
                self._socket, {"frame": number, "dropped": self._n_dropped, "seconds": seconds, **answer}
            )
        return True

    async def _answer(self, frame: bytes) -> dict[str, Any]:
        metrics, limits = self._service.metrics, self._service.limits
        reason = f"has {len(frame):,} bytes; a frame may have {limits.max_frame:,}"
        if len(frame) <= limits.max_frame:
            try:
                images.check(frame, max_pixels=min(_MOST_PIXELS, limits.max_pixels))
                found = (await self._service.batcher.submit(self._task, [frame], urgent=True))[0]
                reason = found.reason
            except PictureError as error:
                reason = error.reason
        if reason is not None:
            metrics.frames.labels("refused").inc()
            return {"problem": Problem("picture", f"The frame {reason}.").members()}
        metrics.frames.labels("read").inc()
        metrics.faces.inc(len(found.faces))
        return {"faces": self._faces.update(found.faces, self._wanted)}


def _first_message(text: str | None) -> dict[str, Any]:
    wanted = 'the first message is text, JSON with parameters such as {"faces": "auto"}'
    try:
        message = json.loads(text or "")
    except (ValueError, RecursionError):
        raise Problem("upload", f"The first message is no JSON: {wanted}.") from None
    if not isinstance(message, dict):
        raise Problem("upload", f"The first message is no JSON object: {wanted}.")
    return {name: value for name, value in message.items() if value is not None}


class _Faces:
    """The faces of one camera, tracked from frame to frame, with averaged predictions."""

    def __init__(self, labels: NDArray[Any]) -> None:
        self._labels = labels
        self._tracker = Tracker()
        self._curves: dict[int, NDArray[np.float64]] = {}

    def update(self, found: list[dict[str, Any]], wanted: Predict) -> list[dict[str, Any]]:
        """Add the faces of the next frame; return the averaged predictions per face, the largest first."""
        readings = [self._reading(face) for face in found]
        of_box = {reading.box: face for reading, face in zip(readings, found, strict=True)}
        tracks = self._tracker.update(readings)
        answers = [self._answer(track, of_box[track.reading.box], wanted) for track in tracks]
        followed = {track.number for track in self._tracker.tracks}
        self._curves = {number: curve for number, curve in self._curves.items() if number in followed}
        return sorted(answers, key=lambda face: -face["width"] * face["height"])

    def _reading(self, face: dict[str, Any]) -> Reading:
        is_second = face["gender"] == self._labels[1]
        return Reading(
            (face["x"], face["y"], face["width"], face["height"]),
            face["age"],
            face["age_low"],
            face["age_high"],
            face["gender_proba"] if is_second else 1 - face["gender_proba"],
        )

    def _answer(self, track: Track, face: dict[str, Any], wanted: Predict) -> dict[str, Any]:
        seen = track.reading
        gender = int(seen.second >= 0.5)
        proba = seen.second if gender else 1 - seen.second
        age_sure = wanted.max_age_range is None or seen.age_high - seen.age_low <= wanted.max_age_range
        gender_sure = wanted.min_gender_proba is None or proba >= wanted.min_gender_proba
        x, y, width, height = (round(number, 1) for number in seen.box)
        answer = {
            **{"number": track.number, "x": x, "y": y, "width": width, "height": height},
            "score": round(face["score"], 4),
            **{name: face[name] for name in ("quality", "reliable", "doubts")},
            "age": round(seen.age, 2) if age_sure else None,
            "age_low": round(seen.age_low, 2),
            "age_high": round(seen.age_high, 2),
            "gender": self._labels[gender].item() if gender_sure else None,
            "gender_proba": round(proba, 4),
        }
        if "age_proba" in face:
            answer["age_proba"] = self._curve(track, np.asarray(face["age_proba"])).round(5).tolist()
        return answer

    def _curve(self, track: Track, new: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average a distribution in the same way as the track averages its numbers."""
        weight = max(_LEAST_WEIGHT, 1 / track.n_readings)
        old = self._curves.get(track.number, new)
        self._curves[track.number] = curve = (1 - weight) * old + weight * new
        return np.asarray(curve)
