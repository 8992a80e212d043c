#!/usr/bin/env python3
"""Checks docs/parity.md: every row is there once, and what is ticked names tests that exist.

    scripts/check-parity.py              checks this repository; one line per finding, exit status 1 if there is any
    scripts/check-parity.py --self-test  proves on a small page that each check can fail
"""

import re
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PAGE = "docs/parity.md"
BENCHMARKS = "docs/benchmarks.md"

# The rows of the reference system, which has no 93, and of the union of all five.
IDS = [f"S0-{n:02}" for n in range(1, 113) if n != 93] + [f"U-{n:02}" for n in range(1, 101)]

# What stands in a row's first cell.
DONE, PART, MEASURED, NOT_YET, NOT_OURS = "✓", "part", "measured", "not yet", "elsewhere"

ROW = re.compile(r"^\|(?P<state>[^|]*)\|\s*(?P<id>(?:S0|U)-\d+)\s*\|(?P<rest>.*)\|\s*$")
TEST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?(?:async\s+)?fn\s+(\w+)")
# A macro that makes tests is given their names, one a line: `name: arguments;`
MACRO = re.compile(r"^macro_rules!\s*(\w+)\s*\{(.*?)^\}", re.DOTALL | re.MULTILINE)


def test_names(sources):
    """Names of all tests in these Rust sources."""
    names = set()
    for text in sources:
        names.update(TEST.findall(text))
        for macro in (name for name, body in MACRO.findall(text) if re.search(r"#\[(tokio::)?test\b", body)):
            for call in re.finditer(rf"^{macro}!\s*[{{(](.*?)^[}})]", text, re.DOTALL | re.MULTILINE):
                names.update(re.findall(r"^\s*(\w+)\s*[:;,]", call[1], re.MULTILINE))
    return names


def findings(page, tests, benchmarks):
    seen = []
    for number, line in enumerate(page.splitlines(), 1):
        row = ROW.match(line)
        if not row:
            continue
        at = f"{PAGE}:{number}: {row['id']}"
        seen.append(row["id"])
        state = row["state"].strip()
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row["rest"])]
        if len(cells) != 3 or not all(cells[:2]):
            yield f"{at}: a row is | state | id | what | how | shown by |, of which the last may be empty"
            continue
        shown = re.findall(r"`([^`]+)`", cells[2])
        if state in (DONE, PART):
            if not shown:
                yield f"{at}: it names no test"
            for name in shown:
                if name not in tests:
                    yield f"{at}: there is no test {name}"
        elif state == MEASURED:
            if not shown or any(f"`{scenario}`" not in benchmarks for scenario in shown):
                yield f"{at}: it names no scenario of {BENCHMARKS}"
        elif state not in (NOT_YET, NOT_OURS):
            yield f"{at}: {state!r} is none of: {DONE}, {PART}, {MEASURED}, {NOT_YET}, {NOT_OURS}"
        elif cells[2]:
            yield f"{at}: what is {state} is shown by nothing"
    for id in IDS:
        if seen.count(id) != 1:
            yield f"{PAGE}: {id} is there {seen.count(id)} times: each row is there once"
    for id in sorted(set(seen) - set(IDS)):
        yield f"{PAGE}: there is no {id}"


CLEAN_PAGE = "\n".join(f"| ✓ | {id} | what | how | `it_works`, `client_works` |" for id in IDS)
SOURCES = [
    "#[tokio::test(flavor = \"multi_thread\")]\n#[ignore]\npub(crate) async fn it_works() {}\nfn helper() {}",
    "macro_rules! matrix {\n ($name:ident) => { #[tokio::test]\n async fn $name() {} }\n}\nmatrix! {\n    client_works: 4;\n}\n",
]
# (a row in place of the first one, what must be said)
FAULTS = [
    ("| ✓ | S0-01 | what | how | |", "it names no test"),
    ("| part | S0-01 | what | how | soon |", "it names no test"),
    ("| ✓ | S0-01 | what | how | `it_works`, `helper` |", "there is no test helper"),
    ("| ✓ | S0-01 | what | | `it_works` |", "a row is"),
    ("| ✓ | S0-01 | what | `it_works` |", "a row is"),
    ("| yes | S0-01 | what | how | `it_works` |", "is none of"),
    ("| not yet | S0-01 | what | how | `it_works` |", "is shown by nothing"),
    ("| measured | S0-01 | what | how | `slow` |", "names no scenario"),
    ("", "S0-01 is there 0 times"),
    ("| ✓ | S0-01 | a | b | `it_works` |\n| ✓ | S0-01 | a | b | `it_works` |", "S0-01 is there 2 times"),
    ("| ✓ | S0-01 | a | b | `it_works` |\n| ✓ | S0-93 | a | b | `it_works` |", "there is no S0-93"),
]
GOOD = ["| measured | S0-01 | what | how | `steady` |", "| not yet | S0-01 | what | why | |", "| elsewhere | S0-01 | a | b | |"]


def self_test():
    tests = test_names(SOURCES)
    first = CLEAN_PAGE.splitlines()[0]

    def found(row):
        return list(findings(CLEAN_PAGE.replace(first, row), tests, "| `steady` | |"))

    for row in [first, *GOOD]:
        if said := found(row):
            sys.exit(f"self-test: nothing is wrong with {row}, found: {said}")
    for row, expected in FAULTS:
        said = found(row)
        if len(said) != 1 or expected not in said[0]:
            sys.exit(f"self-test: expected one finding with '{expected}' for {row}, found: {said}")
    print(f"parity self-test: {len(FAULTS)} faults planted, {len(FAULTS)} found")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    if sys.argv[1:]:
        sys.exit(__doc__)
    folders = ["cli", "crds", "gateway", "operator", "tests"]
    sources = [file.read_text() for folder in folders for file in sorted((REPO / folder).rglob("*.rs"))]
    page = (REPO / PAGE).read_text()
    found = list(findings(page, test_names(sources), (REPO / BENCHMARKS).read_text()))
    for line in found:
        print(line)
    if found:
        sys.exit(f"parity: {len(found)} findings")
    states = [row["state"].strip() for row in map(ROW.match, page.splitlines()) if row]
    print("parity: " + ", ".join(f"{states.count(s)} {s}" for s in (DONE, PART, MEASURED, NOT_YET, NOT_OURS)))


if __name__ == "__main__":
    main()
