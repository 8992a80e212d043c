#!/usr/bin/env python3
"""Whether two docker-archives are the same image: the same files with the same rights, and the same settings.

    scripts/same-image.py ONE.tar OTHER.tar     one line per difference, exit status 1 if there is any
"""

import hashlib
import io
import json
import sys
import tarfile

# What a container is started with. Histories and dates are whoever's built it.
SETTINGS = ("User", "Entrypoint", "Cmd", "Env", "ExposedPorts", "Healthcheck", "Volumes", "WorkingDir")
# What both are where nothing is said.
NOTHING = (None, "", [], {}, "/")
# What buildah adds to every image.
ADDED = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}


def read(path):
    """Settings and files of an image; of two layers with one file the upper has it."""
    files = {}
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))[0]
        config = json.load(archive.extractfile(manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(archive.extractfile(layer).read())) as tar:
                for member in tar:
                    name = member.name.strip("/").removeprefix("./")
                    if name and not member.isdir():
                        content = tar.extractfile(member).read() if member.isfile() else member.linkname.encode()
                        executable = bool(member.mode & 0o111)
                        files[name] = (member.type, executable, hashlib.sha256(content).hexdigest())
    return config, files


def differences(one, other):
    (config, files), (other_config, other_files) = one, other
    for setting in SETTINGS:
        values = [c.get(setting) for c in (config, other_config)]
        values = [None if value in NOTHING or value == ADDED.get(setting) else value for value in values]
        if values[0] != values[1]:
            yield f"{setting}: {values[0]!r} and {values[1]!r}"
    for name in sorted(files.keys() | other_files.keys()):
        if files.get(name) != other_files.get(name):
            yield f"/{name}: {files.get(name)} and {other_files.get(name)}"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    images = [read(path) for path in sys.argv[1:]]
    if not images[0][1]:
        sys.exit(f"{sys.argv[1]} has no files")
    found = list(differences(*images))
    for line in found:
        print(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
