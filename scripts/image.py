#!/usr/bin/env python3
"""Writes an image as a docker-archive of one layer to standard output, where no registry and no builder is:

    scripts/image.py NAME:TAG ROOTFS DOCKERFILE     what the last stage of the Dockerfile says, around that folder
    scripts/image.py NAME:TAG ROOTFS /ENTRYPOINT    a program alone

`ctr images import` and `docker load` take it. The same folder gives the same image.
"""

import hashlib
import io
import json
import re
import shlex
import sys
import tarfile
from pathlib import Path

# Units of durations in Dockerfiles, as images have them.
NANOSECONDS = {"s": 10**9, "m": 60 * 10**9}


def archive(members):
    """A tar of (name, bytes or folder, mode), without what differs from machine to machine."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content, mode in members:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def layer(rootfs):
    for path in sorted(rootfs.rglob("*")):
        name = str(path.relative_to(rootfs))
        if path.is_dir():
            yield name, None, 0o755
        else:
            yield name, path.read_bytes(), 0o755 if path.stat().st_mode & 0o100 else 0o644


def healthcheck(text):
    options, command = text.split("CMD", 1)
    check = {"Test": ["CMD", *json.loads(command)]}
    for option in shlex.split(options):
        name, number, unit = re.fullmatch(r"--(interval|timeout|start-period)=(\d+)([sm])", option).groups()
        check["".join(part.title() for part in name.split("-"))] = int(number) * NANOSECONDS[unit]
    return check


def settings(dockerfile):
    """The configuration that the last stage of a Dockerfile gives to an image."""
    lines = re.sub(r"\\\n", " ", dockerfile.read_text()).splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    if lines[last] != "FROM scratch":
        sys.exit(f"{dockerfile}: the last stage is not FROM scratch")
    config = {}
    for line in lines[last + 1 :]:
        instruction, rest = line.split(None, 1)
        match instruction:
            case "COPY" if rest == "--from=build /rootfs/ /":
                pass
            case "USER":
                config["User"] = rest
            case "EXPOSE":
                config["ExposedPorts"] = {f"{rest}/tcp": {}}
            case "HEALTHCHECK":
                config["Healthcheck"] = healthcheck(rest)
            case "ENTRYPOINT":
                config["Entrypoint"] = json.loads(rest)
            case _:
                sys.exit(f"{dockerfile}: this does not know what to do with: {line}")
    return config


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    name, rootfs, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    config = {"Entrypoint": [what]} if what.startswith("/") and not Path(what).is_file() else settings(Path(what))
    files = archive(layer(rootfs))
    digest = hashlib.sha256(files).hexdigest()
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    members = [("manifest.json", manifest), ("config.json", image)]
    members = [(member, json.dumps(content).encode(), 0o644) for member, content in members]
    sys.stdout.buffer.write(archive([*members, ("layer.tar", files, 0o644)]))


if __name__ == "__main__":
    main()
