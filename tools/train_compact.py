"""Train the compact network from a folder of UTKFace pictures, HSE's FaceRes and InsightFace's MobileFaceNet.

    pip install . -r tools/requirements.txt
    python tools/train_compact.py UTKFace/ --faceres hse_faceres.onnx --mobilefacenet mobilefacenet_arcface.onnx

Everything computed on the way lies in ``--work`` (the pictures, the teachers' answers, a checkpoint an epoch, the
log); ``--resume`` goes on from the last checkpoint. The same seed, threads and epochs give the same network.
``tools/ship_compact.py`` makes the shipped files of it.

UTKFace is for non-commercial research only, and so is what is learnt from it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np


def main() -> None:
    """Read the pictures, ask the teachers, train."""
    options = _options()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a replica has a thread of its own
    import cv2
    import torch
    from compact.loop import Training, watch, write_row

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    lessons, parts, plan = _prepare(options)
    training = Training(lessons, parts.learnt, plan, options.threads, options.seed, options.faceres)
    checkpoint, log = options.work / "checkpoint.pt", options.work / "log.csv"
    if options.resume and checkpoint.exists():
        training.resume(checkpoint)
    elif log.exists():
        log.unlink()
    plan.begin()
    while plan.progress() < 1:
        taught = training.run_epoch()
        watched = watch(training.average, lessons, parts.watched)
        row = {"epoch": training.epoch, "minutes": plan.minutes} | taught | watched
        write_row(log, row)
        training.save(checkpoint)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path, help="folder of UTKFace pictures")
    parser.add_argument("--faceres", type=Path, required=True, help="HSE's FaceRes as ONNX")
    parser.add_argument(
        "--mobilefacenet", type=Path, required=True, help="InsightFace's MobileFaceNet as ONNX"
    )
    parser.add_argument("--work", type=Path, default=Path("compact_work"), help="where everything is kept")
    parser.add_argument("--epochs", type=int, default=30, help="times that so many pictures are seen")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in the work folder"
    )
    return parser.parse_args()


def _prepare(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    import torch
    from compact.data import read_pictures, split
    from compact.loop import BATCH, Lessons, Plan

    from agegender.datasets import load_utkface

    faces = load_utkface(options.data_dir)
    parts = split(faces.target, faces.groups)
    print(
        f"learnt {len(parts.learnt)}, watched {len(parts.watched)}, kept out {len(parts.kept_out)}",
        flush=True,
    )
    pictures = read_pictures(faces.data, options.work / "pictures.npy", options.threads)
    taught = _teach(options, faces, parts)
    races = np.unique(faces.frame["race"], return_inverse=True)[1]
    lessons = Lessons(pictures, torch.from_numpy(np.array(faces.target, np.float32)), races, taught)
    return lessons, parts, Plan(options.epochs, len(parts.learnt) // BATCH)


def _teach(options: argparse.Namespace, faces, parts):  # type: ignore[no-untyped-def]
    """Return what the teachers say of all pictures; what heads on them say, only of those that may be learnt from."""
    import torch
    from compact.data import without_near_copies
    from compact.loop import Taught
    from compact.soft import figures, soft_targets
    from compact.teacher import faceres, mobilefacenet, teacher_features

    first = teacher_features(
        mobilefacenet(options.mobilefacenet),
        faces.data,
        options.work / "mobilefacenet.npz",
        options.threads,
    )
    second = teacher_features(
        faceres(options.faceres), faces.data, options.work / "faceres.npz", options.threads
    )
    scored = without_near_copies(parts, first["embedding"][0])
    names = sorted(Path(path).name for path in faces.data[scored])
    (options.work / "kept_out.txt").write_text("\n".join(names) + "\n")
    rows = np.sort(np.concatenate([parts.learnt, parts.watched]))
    kept = options.work / "soft.npz"
    if not kept.exists():
        both = np.concatenate([first["penultimate"], second["pooled"]], axis=2)
        found = soft_targets(both, faces.target, faces.groups, rows, options.seed)
        np.savez(kept, ages=found[0], genders=found[1])
    with np.load(kept) as stored:
        ages, genders = stored["ages"], stored["genders"]
    years, right = figures(ages[rows], genders[rows], faces.target[rows])
    print(
        f"heads on the teachers, of what they did not see: {years:.2f} years, gender {right:.4f}", flush=True
    )
    return Taught(
        ages=torch.from_numpy(ages),
        genders=torch.from_numpy(genders),
        penultimate=_standardised(first["penultimate"].mean(0), rows),
        pooled=_standardised(second["pooled"].mean(0), rows),
        embedding=torch.from_numpy(first["embedding"].mean(0)),
        imdb_ages=torch.from_numpy(second["imdb_ages"].mean(0)),
        imdb_male=torch.from_numpy(second["imdb_male"].mean(0)),
    )


def _standardised(features, rows):  # type: ignore[no-untyped-def]
    import torch

    known = features[rows]
    return torch.from_numpy((features - known.mean(0)) / (known.std(0) + 1e-6))


if __name__ == "__main__":
    main()
