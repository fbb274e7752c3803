"""Run the long checks for a bounded time and print their figures, the tables of docs/reliability.md.

    python benchmarks/reliability.py                     # all sections
    python benchmarks/reliability.py Cache --rounds 50   # one of them
    python benchmarks/reliability.py Pictures --minutes 30 --write

`--write` puts the tables into docs/reliability.md, between the section's marks. Ends with 1 where a promise was not
kept. Linux only. A section is a list of checks; each returns its name, its figures and whether the promise was kept.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"


@dataclass(frozen=True)
class Effort:
    """How long the checks may take."""

    minutes: float
    rounds: int


@dataclass(frozen=True)
class Figures:
    check: str
    figures: str
    kept: bool


def mutated_pictures(effort: Effort) -> Figures:
    from fuzz_images import fuzz

    sums = fuzz(effort.minutes, n_workers=2, first=random.SystemRandom().randrange(10**9), limit=60.0)
    figures = (
        f"{sums.counts.total():,} files, {sums.n_bytes / 1e6:,.0f} MB: {sums.counts['pixels']:,} gave pixels, "
        f"{sums.counts['refused']:,} were refused, {len(sums.found)} crashed, hung, raised something else or "
        f"took more memory than promised; slowest {sums.slowest.seconds:.1f} s, highest peak "
        f"{sums.highest.peak / 1e6:.0f} MB"
    )
    return Figures(f"Mutated pictures, {effort.minutes:g} minutes", figures, not sums.found)


def large_pictures(effort: Effort) -> Figures:
    from fuzz_images import decode_large

    peaks = {name: outcome.peak / 16e6 for name, outcome in decode_large() if outcome.kind == "pixels"}
    worst = max(peaks, key=lambda name: peaks[name])
    figures = f"at most {peaks[worst]:.1f} bytes a pixel ({worst})"
    return Figures("Peak memory of whole pictures of 16 megapixels", figures, len(peaks) == 14)


def killed_writers(effort: Effort) -> Figures:
    from cache_crash import BATCH, WRITERS, crash

    lost = crash(effort.rounds, seed=random.SystemRandom().randrange(10**9))
    figures = (
        f"{lost.n_stored:,} batches of {BATCH} rows stored; {lost.n_missing} rows missing of those, "
        f"{lost.n_wrong} wrong rows, {lost.n_broken + lost.n_aside} damaged files"
    )
    return Figures(f"SIGKILL under {WRITERS} writers, {effort.rounds} rounds", figures, not lost.found())


def damaged_files(effort: Effort) -> Figures:
    """Change or cut a cache's file anywhere, load, store what is missing, and load again."""
    from cache_crash import RECIPE, WIDTH, name, rows_of

    from agegender.cache import EmbeddingCache

    numbers, rng = list(range(500)), random.Random()
    contents, expected = [name(i) for i in numbers], rows_of(numbers)
    n_wrong = n_lost = n_aside = n_unmended = 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sound = EmbeddingCache(Path(folder) / "sound")
        sound.store(RECIPE, contents, expected)
        sound.close()
        for _ in range(20 * effort.rounds):
            directory = Path(shutil.copytree(sound.directory, Path(folder) / "damaged"))
            damage(directory / "embeddings.sqlite", rng)
            cache, rows = EmbeddingCache(directory, on_error="raise"), np.zeros((500, WIDTH), np.float32)
            found = cache.load(RECIPE, contents, rows)
            n_lost += int((~found).sum())
            n_wrong += int((rows != expected).any(axis=1)[found].sum())
            # What only a writing meets is mended by the next.
            for _ in range(2):
                cache.store(RECIPE, contents, expected)
                mended = cache.load(RECIPE, contents, rows).all()
            n_unmended += not (mended and np.array_equal(rows, expected))
            n_aside += bool(list(directory.glob("*.damaged-*")))
            cache.close()
            shutil.rmtree(directory)
    figures = (
        f"{n_wrong} wrong rows served, {n_lost:,} rows found out and computed again, {n_aside} files set aside, "
        f"{n_unmended} left unusable"
    )
    return Figures(f"Damage by hand, {20 * effort.rounds:,} files", figures, n_wrong == 0 and n_unmended == 0)


def damage(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if rng.random() < 0.2:
        del content[rng.randrange(len(content)) :]
    for _ in range(rng.choice([1, 10, 200]) if content else 0):
        content[rng.randrange(len(content))] = rng.randrange(256)
    file.write_bytes(content)


def damaged_models(effort: Effort) -> Figures:
    from long_runs import damage_models, fit

    n_files = 40 * effort.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = damage_models(fit(folder), folder, n_files, seed=random.SystemRandom().randrange(10**9))
    figures = (
        f"{found.n_refused:,} refused, {found.n_same:,} predict the same (the damage lies where nothing is read), "
        f"{found.n_other} predict something else or raise another error"
    )
    return Figures(f"Damage to saved models, {n_files:,} files", figures, not found.n_other)


def looped_predictions(effort: Effort) -> Figures:
    """Predict picture by picture; a kilobyte a prediction would be seen."""
    from long_runs import fit, predict_in_a_loop

    n_predictions = 2000 * effort.rounds
    with tempfile.TemporaryDirectory() as name:
        megabytes = predict_in_a_loop(fit(Path(name)), n_predictions)
    growth = megabytes[-1] - megabytes[0]
    figures = (
        f"{megabytes[0]:.0f} MB resident after the first tenth, {megabytes[-1]:.0f} MB at the end "
        f"({growth / (0.9 * n_predictions) * 1e6:.0f} bytes a prediction)"
    )
    return Figures(f"{n_predictions:,} predictions in a loop", figures, growth < 30)


def loaded_service(effort: Effort) -> Figures:
    """16 clients for a minute, with hostile company; drawn faces."""
    from serve import CLIENTS, MOST_GROWTH_MB, measure, tell

    load = measure(60.0)
    kept = load.n_failed == 0 and load.growth < MOST_GROWTH_MB and set(load.statuses) == {200}
    return Figures(f"{CLIENTS} clients for a minute", tell(load), kept)


SECTIONS: dict[str, list[Callable[[Effort], Figures]]] = {
    "Pictures": [mutated_pictures, large_pictures],
    "Cache": [killed_writers, damaged_files],
    "Models": [damaged_models],
    "Long runs": [looped_predictions],
    "Service": [loaded_service],
}


def table(section: str, effort: Effort) -> tuple[str, bool]:
    """Return a section's table, and whether all its promises were kept."""
    results = []
    for check in SECTIONS[section]:
        print(f"{section}: {check.__name__} …", file=sys.stderr, flush=True)
        results.append(check(effort))
    lines = [f"| {each.check} | {each.figures} | {'yes' if each.kept else '**no**'} |" for each in results]
    head = ["| Check | Result | Promise kept |", "| --- | --- | --- |"]
    system = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores."
    return "\n".join([*head, *lines, "", system]), all(each.kept for each in results)


def write(section: str, figures: str) -> None:
    pattern = re.compile(rf"(<!-- figures: {section} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, n_places = pattern.subn(rf"\g<1>\n{figures}\n\n\g<2>", DOCS.read_text("utf-8"))
    if n_places != 1:
        raise SystemExit(f"{DOCS} has {n_places} places for the figures of {section}.")
    DOCS.write_text(text, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--minutes", type=float, default=2.0, help="of fuzzing")
    parser.add_argument(
        "--rounds", type=int, default=50, help="of killing; 20 damaged files and 2,000 predictions each"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into docs/reliability.md")
    options = parser.parse_args()
    unknown = sorted(set(options.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    all_kept = True
    for section in options.sections or SECTIONS:
        figures, kept = table(section, Effort(options.minutes, options.rounds))
        all_kept = all_kept and kept
        print(f"\n### {section}\n\n{figures}\n", flush=True)
        if options.write:
            write(section, figures)
    return 0 if all_kept else 1


if __name__ == "__main__":
    sys.exit(main())
