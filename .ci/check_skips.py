"""Fails when a test was skipped for a reason that is not on a list.

Usage: check_skips.py JUNIT_XML LIST
"""

import ast
import fnmatch
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def allowed_patterns(text: str) -> list[str]:
    """The patterns of the list: one a line, ``#`` begins a comment."""
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def reason(skipped: ElementTree.Element) -> str:
    """Why; of a module that was skipped whole, pytest writes (file, line, "Skipped: " + reason)."""
    if skipped.get("message") == "collection skipped":
        return ast.literal_eval(skipped.text or "")[2].removeprefix("Skipped: ")
    return skipped.get("message") or ""


def skips(report: ElementTree.Element) -> list[str]:
    """``module.test: reason`` for every skipped test."""
    return [
        f"{case.get('classname')}.{case.get('name')}: {reason(skipped)}"
        for case in report.iter("testcase")
        for skipped in case.iter("skipped")
    ]


def main(report_path: str, list_path: str) -> int:
    report = ElementTree.parse(report_path).getroot()
    patterns = allowed_patterns(Path(list_path).read_text(encoding="utf-8"))
    skipped = skips(report)
    unexpected = [
        skip for skip in skipped if not any(fnmatch.fnmatchcase(skip, p) for p in patterns)
    ]
    ran = sum(1 for _ in report.iter("testcase")) - len(skipped)
    print(f"{ran} tests ran, {len(skipped)} were skipped, {len(unexpected)} without leave")
    for skip in unexpected:
        print(f"  not in {Path(list_path).name}: {skip}", file=sys.stderr)
    return 1 if unexpected or ran == 0 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
