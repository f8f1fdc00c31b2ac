"""Make the krew archive of `kubectl hooks`, and its manifest: build.py FOLDER BASE_URL

The archive is pure Python, so one serves all systems: the plugin's modules, PyYAML without its compiled part, and two
launchers. The same sources give the same bytes. BASE_URL is where the archive will be downloaded from.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path
from typing import Final

import yaml

TOP: Final = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "controller"))

from hookstead import __version__  # noqa: E402  (the tree that is built, whatever is installed)

PACKAGE: Final = TOP / "controller" / "hookstead"
MODULES: Final = (
    "__init__.py",
    "cli/__init__.py",
    "cli/client.py",
    "cli/flags.py",
    "cli/hooks/*.py",
    "cli/kubectl_hooks.py",
    "cli/main.py",
    "cli/outcome.py",
    "cli/table.py",
    "resources/__init__.py",
    "resources/suggestion.py",
)
LAUNCHER: Final = """\
#!/bin/sh
# krew links to this file: find the folder that it lies in.
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
  esac
done
lib=$(cd "$(dirname "$self")" && pwd -P)/lib
for python in python3 python3.14 python3.13 python3.12 python3.11; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    exec "$python" -I -S -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from {module} import main
sys.exit(main())' "$lib" "$@"
  fi
done
echo "error: kubectl hooks needs Python 3.11 or later as python3 on PATH" >&2
exit 1
"""


def contents() -> dict[str, tuple[bytes, int]]:
    """Name in the archive: bytes and mode."""
    files = {
        "kubectl-hooks": (LAUNCHER.replace("{module}", "hookstead.cli.kubectl_hooks").encode(), 0o755),
        "kubectl_complete-hooks": (LAUNCHER.replace("{module}", "hookstead.cli.hooks.completion").encode(), 0o755),
        "LICENSE": ((TOP / "LICENSE").read_bytes(), 0o644),
    }
    for pattern in MODULES:
        for path in PACKAGE.glob(pattern):
            files[f"lib/hookstead/{path.relative_to(PACKAGE).as_posix()}"] = (path.read_bytes(), 0o644)
    for path in Path(yaml.__file__).parent.glob("*.py"):
        files[f"lib/yaml/{path.name}"] = (path.read_bytes(), 0o644)
    return files


def archive() -> bytes:
    """A gzipped tar without times, owners or any order but that of names."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, (content, mode) in sorted(contents().items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def main(folder: Path, base_url: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name, content = f"kubectl-hooks-v{__version__}.tar.gz", archive()
    (folder / name).write_bytes(content)
    manifest = (Path(__file__).parent / "hooks.yaml").read_text(encoding="utf-8")
    body = manifest[manifest.index("apiVersion:") :]
    for word, value in (
        ("VERSION", __version__),
        ("URI", f"{base_url.rstrip('/')}/{name}"),
        ("SHA256", hashlib.sha256(content).hexdigest()),
    ):
        body = body.replace(word, value)
    (folder / "hooks.yaml").write_text(body, encoding="utf-8")
    print(folder / name)
    print(folder / "hooks.yaml")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
