#!/usr/bin/env python3
"""Checks what the compiler cannot: sizes, purity, dead files, who may depend on whom, and paths of one machine.

    scripts/check-structure.py              checks this repository; one line per finding, exit status 1 if there is any
    scripts/check-structure.py --self-test  proves on a small tree that each check can fail
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent

MAX_CODE_LINES = 400
MAX_TEST_CODE_LINES = 800

# The decisions of the product: same input, same output, no clock, no network. Everything that touches the world is
# handed in by the crates around them.
PURE = ("crds/src/", "gateway/core/src/", "operator/src/")
NOT_PURE = ("crds/src/bin/",)
IMPURE = {
    r"\basync\b": "async",
    r"\.await\b": ".await",
    r"\bSystemTime::now\b": "SystemTime::now",
    r"\bInstant::now\b": "Instant::now",
    r"\bTimestamp::now\b": "Timestamp::now",
    r"\bZoned::now\b": "Zoned::now",
    r"\benv::vars?(_os)?\b": "env::var",
    r"\btokio(_util)?::": "tokio",
    r"\brdkafka::": "rdkafka",
    r"\bredis::": "redis",
    r"\bsocketioxide::": "socketioxide",
    r"\bkube::(\{[^;]*\b)?Client\b": "kube::Client",
    r"\bstd::(\{[^;]*\b)?fs\b": "std::fs",
    # An address is a value like any other; a socket is not.
    r"\bstd::(\{[^;]*\b)?net\b(?!::(\{\s*)?(Ip|AddrParseError))": "std::net",
}

# (crate, what it must not depend on): the two sides meet only in the contract, which is aldis-crds.
FORBIDDEN_DEPENDENCIES = {
    ("aldis-operator", "aldis-gateway"),
    ("aldis-gateway", "aldis-operator"),
    ("aldis-controller", "aldis-gateway"),
    ("aldis-gateway", "aldis-controller"),
}

# Names that say nothing of what is inside.
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common"}

# Home and work folders of one machine; spelt so that this line does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w./~}-])/(?:work|root)/[\w.]")


def list_files(root):
    """The files that git tracks or would track, relative to root; every file where there is no git."""
    git = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True
    )
    if git.returncode == 0:
        names = set(git.stdout.split("\0")) - {""}
        return sorted(name for name in names if (root / name).is_file())
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


RUST_TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* | /\* )
    | (?P<raw> \b(?:b|c)?r(?P<hashes>\#*)"  )
    | (?P<string> "(?:\\.|[^"\\])*" )
    | (?P<char> '(?:\\(?:u\{[^}]*\}|x[0-9a-fA-F]{2}|.)|[^'\\\n])' )
    """,
    re.VERBOSE | re.DOTALL,
)


def block_comment_end(text, start):
    """Where the block comment that opens at start ends: Rust's may be nested."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


def blank(text, strings):
    """The Rust source with its comments blanked out, and the insides of its strings too if asked; lines stay lines."""
    out, at = [], 0
    while token := RUST_TOKEN.search(text, at):
        start, end = token.span()
        if token["comment"] == "/*":
            end = block_comment_end(text, start)
        elif token["raw"]:
            close = text.find('"' + token["hashes"], end)
            end = len(text) if close < 0 else close + 1 + len(token["hashes"])
        out.append(text[at:start])
        piece = text[start:end]
        out.append(re.sub(r"[^\n]", " ", piece) if token["comment"] or strings else piece)
        at = end
    return "".join(out) + text[at:]


def is_test(name):
    path = Path(name)
    return path.name == "tests.rs" or "tests" in path.parts[:-1]


def check_sizes(root, sources):
    for name in sources:
        lines = sum(1 for line in blank((root / name).read_text(), strings=False).splitlines() if line.strip())
        limit = MAX_TEST_CODE_LINES if is_test(name) else MAX_CODE_LINES
        if lines > limit:
            yield f"{name}: {lines} lines of code, more than {limit}: split it at a seam"


def check_purity(root, sources):
    for name in sources:
        if not name.startswith(PURE) or name.startswith(NOT_PURE) or is_test(name):
            continue
        code = blank((root / name).read_text(), strings=True)
        for pattern, what in IMPURE.items():
            for match in re.finditer(pattern, code):
                line = code.count("\n", 0, match.start()) + 1
                yield f"{name}:{line}: {what} in a pure crate: take the value as an argument, or move the call outwards"


MODULES = re.compile(r"\bmod\s+(?P<name>(?:r\#)?\w+)\s*(?P<end>[;{])|(?P<brace>[{}])")
PATH_ATTRIBUTE = re.compile(r'#\[path\s*=\s*"([^"]+)"\]\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;')


def declared_modules(file, is_root):
    """The files that the `mod name;` lines of this file may mean, those inside inline modules too."""
    text = file.read_text()
    paths = {name: path for path, name in PATH_ATTRIBUTE.findall(blank(text, strings=False))}
    home = file.parent if is_root or file.name == "mod.rs" else file.parent / file.stem
    inline = []  # one entry per open brace: the inline module's name, or None
    for token in MODULES.finditer(blank(text, strings=True)):
        name = (token["name"] or "").removeprefix("r#")
        if token["brace"] == "}":
            if inline:
                inline.pop()
        elif token["brace"] or token["end"] == "{":
            inline.append(name or None)
        elif name in paths:
            yield file.parent / paths[name]
        else:
            folder = home.joinpath(*filter(None, inline))
            yield folder / f"{name}.rs"
            yield folder / name / "mod.rs"


def crate_roots(crate, manifest):
    targets = [manifest.get("lib", {}), *(t for kind in ("bin", "test", "example", "bench") for t in manifest.get(kind, []))]
    roots = [crate / target["path"] for target in targets if "path" in target]
    roots += [crate / "build.rs", crate / "src/lib.rs", crate / "src/main.rs"]
    for folder in ("src/bin", "tests", "examples", "benches"):
        roots += [*(crate / folder).glob("*.rs"), *(crate / folder).glob("*/main.rs")]
    return [root for root in roots if root.is_file()]


def check_reachable(root, sources, manifests):
    reached = set()
    for name, manifest in manifests.items():
        open_files = [(file, True) for file in crate_roots((root / name).parent, manifest)]
        while open_files:
            file, is_root = open_files.pop()
            if file.resolve() in reached or not file.is_file():
                continue
            reached.add(file.resolve())
            open_files += [(declared, False) for declared in declared_modules(file, is_root)]
    for name in sources:
        if (root / name).resolve() not in reached:
            yield f"{name}: no `mod` line leads here from its crate's root, so it is never compiled: declare or delete it"


def check_names(files):
    for name in files:
        if Path(name).name.split(".")[0].lower() in EMPTY_NAMES:
            yield f"{name}: the name does not say what is inside: name it after what it does"


def check_dependencies(manifests):
    for name, manifest in manifests.items():
        package = manifest.get("package", {}).get("name")
        for table in (manifest, *manifest.get("target", {}).values()):
            for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
                for key, value in table.get(kind, {}).items():
                    crate = value.get("package", key) if isinstance(value, dict) else key
                    if (package, crate) in FORBIDDEN_DEPENDENCIES:
                        yield f"{name}: {package} must not depend on {crate}: what both need belongs to aldis-crds or aldis-core"


def check_machine_paths(root, files):
    for name in files:
        try:
            text = (root / name).read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := MACHINE_PATH.search(line):
                yield f"{name}:{number}: a path of one machine ({line[match.start():][:40].strip()}): make it relative"


def findings(root):
    files = list_files(root)
    sources = [name for name in files if name.endswith(".rs")]
    manifests = {name: tomllib.loads((root / name).read_text()) for name in files if Path(name).name == "Cargo.toml"}
    return [
        *check_sizes(root, sources),
        *check_purity(root, sources),
        *check_reachable(root, sources, manifests),
        *check_names(files),
        *check_dependencies(manifests),
        *check_machine_paths(root, files),
    ]


# A tree with nothing to find, full of what looks like a finding and is none.
CLEAN_TREE = {
    "gateway/core/Cargo.toml": '[package]\nname = "aldis-core"\n',
    "gateway/core/src/lib.rs": """
        // tokio:: in a comment, /* nested */ .await
        /* std::fs /* again */ Instant::now() */
        mod route;
        mod outer { mod inner; }
        #[path = "elsewhere.rs"]
        mod moved;
        use std::net::IpAddr;
        const TEXT: &str = "async { tokio::spawn } \\" // ";
        const RAW: &str = r#"mod gone; std::fs "quoted" "#;
        const QUOTE: char = '"';
        fn life<'a>(x: &'a str) -> &'a str { x }
    """,
    "gateway/core/src/route.rs": "#[cfg(test)]\nmod tests;\n" + "// why\n\n" * MAX_CODE_LINES,
    "gateway/core/src/route/tests.rs": "async fn waits() { std::fs::read(x).await }\n" * (MAX_CODE_LINES + 1),
    "gateway/core/src/outer/inner.rs": "",
    "gateway/core/src/elsewhere.rs": "",
    "crds/Cargo.toml": '[package]\nname = "aldis-crds"\n',
    "crds/src/bin/crdgen.rs": "fn main() { std::env::var(x) }",
    "gateway/Cargo.toml": '[package]\nname = "aldis-gateway"\n[dependencies]\naldis-core.workspace = true\n',
    "gateway/tests/recovery.rs": "mod session;",
    "gateway/tests/session.rs": "",
    "gateway/src/main.rs": "async fn main() { tokio::spawn(x).await }",
    "operator/Cargo.toml": '[package]\nname = "aldis-operator"\n[dependencies]\naldis-core.workspace = true\n',
    "docs/paths.md": "GET /root and ./work/x and https://example.org/work/y and ${HOME}/work/z",
}

# (file, its text, what must be said): each is laid over the clean tree alone.
FAULTS = [
    ("gateway/src/main.rs", "fn f() {}\n" * (MAX_CODE_LINES + 1), "more than 400"),
    ("gateway/core/src/route/tests.rs", "fn f() {}\n" * (MAX_TEST_CODE_LINES + 1), "more than 800"),
    *(
        ("gateway/core/src/route.rs", f"mod tests;\nfn f() {{ {code} }}", f"route.rs:2: {what} in a pure crate")
        for code, what in [
            ("async move {}", "async"),
            ("x.await", ".await"),
            ("std::time::SystemTime::now()", "SystemTime::now"),
            ("std::time::Instant::now()", "Instant::now"),
            ("jiff::Timestamp::now()", "Timestamp::now"),
            ("jiff::Zoned::now()", "Zoned::now"),
            ("std::env::var(x)", "env::var"),
            ("tokio::spawn(x)", "tokio"),
            ("rdkafka::x()", "rdkafka"),
            ("redis::x()", "redis"),
            ("socketioxide::x()", "socketioxide"),
            ("use kube::{Api, Client};", "kube::Client"),
            ("use std::{collections::BTreeMap, fs};", "std::fs"),
            ("std::net::TcpStream::connect(x)", "std::net"),
        ]
    ),
    ("crds/src/lib.rs", "use std::fs;", "crds/src/lib.rs:1: std::fs in a pure crate"),
    ("operator/src/lib.rs", 'const URL: &str = "http://x"; use std::fs;', "operator/src/lib.rs:1: std::fs in a pure crate"),
    ("gateway/core/src/dead.rs", "", "dead.rs: no `mod` line leads here"),
    ("gateway/core/src/route.rs", "// mod tests;", "route/tests.rs: no `mod` line leads here"),
    ("gateway/core/src/inner.rs", "", "src/inner.rs: no `mod` line leads here"),
    ("gateway/tests/recovery/dead.rs", "", "recovery/dead.rs: no `mod` line leads here"),
    ("tests/node/helpers.js", "", "helpers.js: the name does not say"),
    ("gateway/Cargo.toml", '[package]\nname = "aldis-gateway"\n[dev-dependencies]\naldis-operator.workspace = true\n',
     "aldis-gateway must not depend on aldis-operator"),
    ("operator/Cargo.toml", '[package]\nname = "aldis-operator"\n[target."cfg(unix)".dependencies]\n'
     'g = { package = "aldis-gateway", path = "../gateway" }\n', "aldis-operator must not depend on aldis-gateway"),
    ("docs/paths.md", "see `/" + "work/x`", "docs/paths.md:1: a path of one machine"),
    ("docs/paths.md", "\ncd /" + "root/.cache", "docs/paths.md:2: a path of one machine"),
]  # fmt: skip


def findings_in(tree):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in tree.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return findings(root)


def self_test():
    if found := findings_in(CLEAN_TREE):
        sys.exit("self-test: the clean tree is not clean:\n  " + "\n  ".join(found))
    for name, text, expected in FAULTS:
        found = findings_in(CLEAN_TREE | {name: text})
        if len(found) != 1 or expected not in found[0]:
            sys.exit(f"self-test: expected one finding with '{expected}', found: {found}")
    print(f"structure self-test: {len(FAULTS)} faults planted, {len(FAULTS)} found")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    if sys.argv[1:]:
        sys.exit(__doc__)
    found = findings(REPO)
    for line in found:
        print(line)
    if found:
        sys.exit(f"structure: {len(found)} findings")
    print("structure: nothing found")


if __name__ == "__main__":
    main()
