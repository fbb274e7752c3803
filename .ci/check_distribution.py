"""Check what a built wheel and sdist hold: what they should, and nothing else."""

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

# .onnx, .agegender, .json, .txt, .bin: the network and model in the wheel, the record of the network's graph, their
# licence, kept-out names, training digests. .html, .css, .js, .svg: the page of `agegender serve`.
PACKAGE = {
    *(
        ".py",
        ".typed",
        ".jinja",
        ".onnx",
        ".agegender",
        ".json",
        ".txt",
        ".bin",
        ".html",
        ".css",
        ".js",
        ".svg",
    )
}
SOURCE = PACKAGE | {".md", ".toml"}
FOLDERS = {"agegender", "tests", "examples", "benchmarks", "tools", "docs"}
SITE = {"docs": {".svg", ".png", ".csv", ".css", ".rst"}, "examples": {".rst"}, "benchmarks": {".mjs"}}
TOP = {
    *("PKG-INFO", "pyproject.toml", ".gitignore", ".readthedocs.yaml", "Makefile", "CITATION.cff", "LICENSE"),
    *("README.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md"),
}


def strangers_in_wheel(names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if not (name.startswith("agegender/") and PurePosixPath(name).suffix in PACKAGE)
        and not (name.startswith("agegender-") and ".dist-info/" in name)
    ]


def strangers_in_sdist(names: list[str]) -> list[str]:
    found = []
    for name in names:
        path = PurePosixPath(*PurePosixPath(name).parts[1:])
        allowed = SOURCE | SITE.get(path.parts[0], set())
        inside = path.parts[0] in FOLDERS and path.suffix in allowed
        if not inside and str(path) not in TOP:
            found.append(name)
    return found


dist = Path(sys.argv[1])
(wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
in_wheel = zipfile.ZipFile(wheel).namelist()
with tarfile.open(sdist) as archive:
    in_sdist = [member.name for member in archive.getmembers() if member.isfile()]
strangers = strangers_in_wheel(in_wheel) + strangers_in_sdist(in_sdist)
needed = (
    "agegender/__init__.py", "agegender/__main__.py", "agegender/py.typed", "agegender/pretrained/compact.onnx",
    "agegender/serve/static/index.html", "licenses/LICENSE", "entry_points.txt",
)  # fmt: skip
missing = [name for name in needed if not any(entry.endswith(name) for entry in in_wheel)]
missing += [
    name
    for name in (
        "/tests/conftest.py",
        "/docs/conf.py",
        "/Makefile",
        "/LICENSE",
        "/CITATION.cff",
        "/SECURITY.md",
    )
    if not any(entry.endswith(name) for entry in in_sdist)
]
if strangers or missing:
    sys.exit(f"not expected in the distributions: {strangers}; missing: {missing}")
print(f"{wheel.name}: {len(in_wheel)} files; {sdist.name}: {len(in_sdist)} files")
