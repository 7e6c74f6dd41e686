"""Fails when a wheel lacks what it should hold, or holds anything else.

Usage: check_wheel.py WHEEL
"""

import re
import sys
import zipfile
from pathlib import Path

# What stands in a wheel, and how often.
WANTED = {
    r"dlcore/lib/libdlcore\.(so|dylib)": 1,
    r".*\.h": 1,
    r"dlcore/include/dlcore\.h": 1,
    r"dlcore/_arrays\..*\.so": 1,
    r"dlcore/_calls\..*\.so": 1,
    r"dlcore/_native\..*\.so": 1,
    r"dlcore/_ops\..*\.so": 1,
    r"dlcore/_packed\..*\.so": 1,
    r"dlcore/_plan\..*\.so": 1,
    r"dlcore/_probe\..*\.so": 1,
    r"dlcore/_training\..*\.so": 1,
    r".*\.(so|dylib)": 9,
    r"dlcore/_native\.pxd": 1,
    r"dlcore/_native\.pyi": 1,
    r"dlcore/_arrays\.pxd": 1,
    r"dlcore/_arrays\.pyi": 1,
    r"dlcore/_calls\.pyi": 1,
    r"dlcore/_ops\.pyi": 1,
    r"dlcore/_packed\.pxd": 1,
    r"dlcore/_packed\.pyi": 1,
    r"dlcore/_training\.pyi": 1,
    r"dlcore/_plan\.pxd": 1,
    r"dlcore/_plan\.pyi": 1,
    r"dlcore/_probe\.pyi": 1,
    r"dlcore/bench/command\.py": 1,
    r"dlcore/py\.typed": 1,
    r"dlcore/__init__\.py": 1,
    r"dlcore/cli\.py": 1,
    r"dlcore-[^/]*\.dist-info/licenses/LICENSE": 1,
    # sources of the core, what a build leaves, and other trees
    r".*\.(c|pyx|o|a|ninja|cmake)": 0,
    r"(?!dlcore/|dlcore-[^/]*\.dist-info/).*": 0,
    r".*(csrc|CMake|__pycache__).*": 0,
}


def complaints(names: list[str]) -> list[str]:
    """What is wrong with the files of a wheel, a sentence each."""
    result = []
    for pattern, count in WANTED.items():
        found = [name for name in names if re.fullmatch(pattern, name)]
        if len(found) != count:
            listed = f": {', '.join(found[:5])}" if found else ""
            result.append(f"{len(found)} files match {pattern}, not {count}{listed}")
    return result


def main(path: str) -> int:
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
    wrong = complaints(names)
    print(f"{Path(path).name}: {len(names)} files, {Path(path).stat().st_size / 1e6:.2f} MB")
    for complaint in wrong:
        print(f"  {complaint}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
