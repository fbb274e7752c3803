"""Train the compact network from a folder of UTKFace pictures.

    pip install . -r tools/requirements.txt
    python tools/train_compact.py UTKFace/ --teacher mobilefacenet_arcface.onnx --minutes 70

Everything computed on the way lies in ``--work`` (the pictures, the teacher's answers, a checkpoint an epoch, the
log); ``--resume`` goes on from the last checkpoint. The same seed, threads and epochs give the same network; with
``--minutes`` the number of epochs depends on the machine. ``tools/export_compact.py`` makes the shipped files of it.

UTKFace is for non-commercial research only, and so is what is learnt from it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np


def main() -> None:
    """Read the pictures, ask the teacher, train."""
    options = _options()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a replica has a thread of its own
    import cv2
    import torch
    from compact.loop import Training, watch, write_row

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    lessons, parts, plan = _prepare(options)
    training = Training(lessons, parts.learnt, plan, options.threads, options.seed)
    checkpoint, log = options.work / "checkpoint.pt", options.work / "log.csv"
    if options.resume and checkpoint.exists():
        training.resume(checkpoint)
    elif log.exists():
        log.unlink()
    plan.begin()
    while plan.progress() < 1:
        taught = training.run_epoch()
        watched = watch(training.average, lessons, parts.watched)
        row = {"epoch": training.epoch, "minutes": plan.spent} | taught | watched
        write_row(log, row)
        training.save(checkpoint)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_dir", type=Path, help="folder of UTKFace pictures")
    parser.add_argument(
        "--teacher", type=Path, help="InsightFace's MobileFaceNet as ONNX; without it, the labels teach alone"
    )
    parser.add_argument("--work", type=Path, default=Path("compact_work"), help="where everything is kept")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help="times that every picture is seen")
    length.add_argument("--minutes", type=float, help="time for the training, instead of a number of epochs")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in the work folder"
    )
    options = parser.parse_args()
    if options.epochs is None and options.minutes is None:
        options.epochs = 60
    return options


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
    taught = _teach(options, faces, parts) if options.teacher else None
    lessons = Lessons(pictures, torch.from_numpy(np.array(faces.target, np.float32)), taught)
    return lessons, parts, Plan(options.epochs, options.minutes, len(parts.learnt) // BATCH)


def _teach(options: argparse.Namespace, faces, parts):  # type: ignore[no-untyped-def]
    """Return what the teacher says of all pictures; what heads on it say, only of those that may be learnt from."""
    import torch
    from compact.data import without_near_copies
    from compact.loop import Taught
    from compact.soft import figures, soft_targets
    from compact.teacher import teacher_features

    features = teacher_features(faces.data, options.teacher, options.work / "teacher.npz", options.threads)
    scored = without_near_copies(parts, features["embedding"][0])
    names = sorted(Path(path).name for path in faces.data[scored])
    (options.work / "kept_out.txt").write_text("\n".join(names) + "\n")
    rows = np.sort(np.concatenate([parts.learnt, parts.watched]))
    kept = options.work / "soft.npz"
    if not kept.exists():
        found = soft_targets(features["penultimate"], faces.target, faces.groups, rows, options.seed)
        np.savez(kept, ages=found[0], genders=found[1])
    with np.load(kept) as stored:
        ages, genders = stored["ages"], stored["genders"]
    years, right = figures(ages[rows], genders[rows], faces.target[rows])
    print(
        f"heads on the teacher, of what they did not see: {years:.2f} years, gender {right:.4f}", flush=True
    )
    penultimate = features["penultimate"].mean(0)
    known = penultimate[rows]
    return Taught(
        ages=torch.from_numpy(ages),
        genders=torch.from_numpy(genders),
        penultimate=torch.from_numpy((penultimate - known.mean(0)) / (known.std(0) + 1e-6)),
        embedding=torch.from_numpy(features["embedding"].mean(0)),
    )


if __name__ == "__main__":
    main()
