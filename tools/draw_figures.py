"""Draw the figures of the guide into docs/images: ``python tools/draw_figures.py`` (needs the extra "docs").

The photograph is scikit-image's ``data.astronaut()``: Eileen Collins, photographed by NASA, in the public domain. The
predictions come from the model inside the package, or from one that is trained here on drawn faces.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import skimage.data
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from agegender import AgeGenderClassifier, AgeGenderPipeline, EmbeddingExtractor, load_pretrained
from agegender.datasets import make_faces
from agegender.faces import align, detect, load_detector
from agegender.metrics import expected_age

IMAGES = Path(__file__).parents[1] / "docs" / "images"
INK, GREY, BLUE, ORANGE, PALE = "#30343b", "#8a9099", "#0072B2", "#D55E00", "#d6e6f2"
ASTRONAUT = skimage.data.astronaut()
DETECTOR = load_detector("mtcnn")
FACE = detect(ASTRONAUT, detector=DETECTOR)[0]
plt.rcParams |= {"font.size": 10, "svg.hashsalt": "agegender", "text.color": INK, "axes.labelcolor": INK}


def save(figure: plt.Figure, name: str) -> None:
    path = IMAGES / name
    if path.suffix == ".svg":
        figure.savefig(path, metadata={"Date": None})
    else:
        figure.savefig(path, dpi=130)
        Image.open(path).convert("RGB").quantize(192).save(path, optimize=True)
    plt.close(figure)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def show(ax: plt.Axes, pixels: np.ndarray, title: str = "", note: str = "") -> None:
    ax.imshow(pixels)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(note, fontsize=9, color=GREY)


def mark_face(ax: plt.Axes) -> None:
    ax.add_patch(Rectangle((FACE.x, FACE.y), FACE.width, FACE.height, fill=False, color=ORANGE, linewidth=2))
    ax.plot(*FACE.landmarks.T, "o", color=ORANGE, markersize=3)


def flow() -> None:
    """From the file to the prediction."""
    model = load_pretrained()
    square = align(ASTRONAUT, FACE, (80, 80), "utkface")
    row = EmbeddingExtractor("compact", layer="penultimate", cache=None).transform([square])[0]
    table = model.predict_faces([ASTRONAUT]).iloc[0]
    ages = model.predict_proba([ASTRONAUT], faces="mtcnn")[0][0]

    figure = plt.figure(figsize=(9.6, 2.9))
    places = [(0.01, 0.17), (0.22, 0.13), (0.395, 0.13), (0.575, 0.10), (0.72, 0.27)]
    axes = [figure.add_axes((left, 0.26, width, 0.5)) for left, width in places]
    show(axes[0], ASTRONAUT, "picture", "path, bytes,\narray or PIL image")
    mark_face(axes[0])
    show(axes[1], square, "face", "detected, aligned,\ncropped")
    axes[2].imshow(row.reshape(24, 16), cmap="Blues", aspect="auto")
    axes[2].set(xticks=[], yticks=[])
    axes[2].set_title("embedding", fontsize=10)
    axes[2].set_xlabel("frozen network; computed\nonce, then cached", fontsize=9, color=GREY)
    axes[3].set_axis_off()
    axes[3].add_patch(
        FancyBboxPatch((0.08, 0.2), 0.84, 0.6, boxstyle="round,pad=0.05", facecolor=PALE, edgecolor=BLUE)
    )
    axes[3].text(0.5, 0.5, "head", ha="center", va="center")
    axes[3].text(
        0.5, 0.06, "trained on your\nlabels, in seconds", ha="center", va="top", fontsize=9, color=GREY
    )
    axes[4].bar(np.arange(101), ages, width=1, color=BLUE)
    axes[4].axvspan(table.age_low, table.age_high, color=PALE, zorder=0)
    axes[4].axvline(table.age, color=ORANGE)
    axes[4].set(yticks=[], xlim=(0, 80), xlabel="age in years")
    axes[4].spines[["top", "right", "left"]].set_visible(False)
    said = f"{table.age:.0f} years ({table.age_low:.0f} to {table.age_high:.0f})"
    gender = f"{('male', 'female')[int(table.gender)]} {table.gender_proba:.2f}"
    axes[4].set_title(f"{said}, {gender}", fontsize=10)
    for left, right in pairwise(places):
        start, end = left[0] + left[1] + 0.008, right[0] - 0.008
        arrow = FancyArrowPatch(
            (start, 0.51),
            (end, 0.51),
            transform=figure.transFigure,
            arrowstyle="-|>",
            mutation_scale=14,
            color=INK,
        )
        figure.add_artist(arrow)
    save(figure, "flow.png")


def framing() -> None:
    """The detected face, three framings, and three crops of one of them."""
    figure, axes = plt.subplots(1, 6, figsize=(9.6, 2.35), layout="constrained")
    show(axes[0], ASTRONAUT, "detected face", "box and landmarks")
    mark_face(axes[0])
    show(axes[1], align(ASTRONAUT, FACE, (112, 112)), "framing", '"arcface"')
    show(axes[2], align(ASTRONAUT, FACE, (112, 112), "utkface"), "framing", '"utkface"')
    for ax, crop in zip(axes[3:], (-0.2, 0.0, 0.2), strict=True):
        extractor = EmbeddingExtractor("compact", layer="input", faces="mtcnn", crop=crop, cache=None)
        show(ax, extractor.transform([ASTRONAUT])[0], "crop", f"{crop:+.1f}".replace("+0.0", "0"))
    save(figure, "framing.png")


def views() -> None:
    """Eight views of one face."""
    names = ("plain", "mirror", "zoom", "zoom_out", "rotate_left", "shift_right", "darker", "grey")
    extractor = EmbeddingExtractor("compact", layer="input", faces="mtcnn", views=names, cache=None)
    figure, axes = plt.subplots(1, 8, figsize=(9.6, 1.5), layout="constrained")
    for ax, name, pixels in zip(axes, names, extractor.transform([ASTRONAUT])[0], strict=True):
        show(ax, pixels, name)
    save(figure, "views.png")


def interval() -> None:
    """One predicted distribution, with its mean, interval and the true age."""
    with tempfile.TemporaryDirectory() as folder:
        faces = make_faces(900, Path(folder) / "faces", size=120, verbose=0)
        extractor = EmbeddingExtractor("compact", cache=Path(folder) / "cache")
        model = AgeGenderPipeline(extractor, AgeGenderClassifier(ensemble=3, random_state=0))
        model.fit(faces.data[:800], faces.target[:800])
        pictures, truth = faces.data[800:], faces.target[800:, 0]
        table, ages = model.predict_frame(pictures), model.predict_proba(pictures)[0]
        # A face of middle age whose true age differs visibly from the prediction.
        gap = np.abs(np.abs(table.age - truth) - 6) + np.abs(table.age - 45) / 5
        chosen = int(np.argmin(gap))
        picture = Image.open(pictures[chosen]).copy()
    row, mean = table.iloc[chosen], expected_age(ages)[chosen]
    figure, (left, ax) = plt.subplots(1, 2, figsize=(8, 2.9), layout="constrained", width_ratios=(1, 3.4))
    show(left, np.asarray(picture), "", f"drawn as {truth[chosen]:.0f} years old")
    edges = np.arange(102) - 0.5
    ax.stairs(100 * ages[chosen], edges, fill=True, color=BLUE, label="predicted probability per year")
    ax.axvspan(row.age_low, row.age_high, color=PALE, zorder=0, label="90 % interval: age_low to age_high")
    ax.axvline(mean, color=ORANGE, linewidth=2, label=f"predicted age, the mean: {mean:.1f}")
    ax.axvline(truth[chosen], color=INK, linestyle="--", label=f"true age: {truth[chosen]:.0f}")
    ax.set(xlabel="age in years", ylabel="probability in %", xlim=(0, 130), xticks=range(0, 101, 20))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper right", fontsize=9)
    save(figure, "interval.svg")


def layers() -> None:
    """The layers of a MobileFaceNet, and the error of one softmax layer on each (docs/accuracy.md)."""
    figure, ax = plt.subplots(figsize=(9.6, 3.1), layout="constrained")
    ax.set(xlim=(0, 5), ylim=(-0.1, 3.3))
    ax.set_axis_off()
    box(ax, 0, 0, "input", "112 × 112 × 3")
    box(ax, 1, 0, "earlier maps", "_plus9: 14 × 14 × 128")
    box(ax, 2, 0, "feature_map", "7 × 7 × 512")
    box(ax, 3, 0, "penultimate", "512", 4.80)
    box(ax, 4, 0, "embedding", "128", 5.42)
    box(ax, 3, 1.7, "pooled", "512, the mean over positions", 4.76)
    for place in range(1, 5):
        arrow(ax, (place - 0.08, 0.4), (place + 0.08, 0.4))
    arrow(ax, (2.92, 0.7), (3.08, 1.8))
    text = (
        "Below each name is the shape, above it the age MAE of one\n"
        "softmax layer trained on this layer. The embedding is trained\n"
        "to ignore age; earlier layers still contain it."
    )
    ax.text(0.04, 2.9, text, va="top", fontsize=10)
    save(figure, "layers.svg")


def box(ax: plt.Axes, x: float, y: float, name: str, shape: str, error: float | None = None) -> None:
    """Draw a layer with its error above it."""
    style = "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch((x + 0.08, y), 0.84, 0.8, boxstyle=style, facecolor=PALE, edgecolor=BLUE))
    ax.text(x + 0.5, y + 0.53, name, ha="center", va="center", weight="bold")
    ax.text(x + 0.5, y + 0.2, shape, ha="center", va="center", fontsize=7.5)
    if error:
        color = ORANGE if error > 5 else BLUE
        ax.text(x + 0.5, y + 0.9, f"{error:.2f} years", ha="center", va="bottom", color=color, weight="bold")


def arrow(ax: plt.Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=INK, shrinkA=0, shrinkB=0)
    )


FIGURES = {"flow": flow, "framing": framing, "views": views, "interval": interval, "layers": layers}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()
