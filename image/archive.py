#!/usr/bin/env python3
"""Packs a root folder into an image archive, with the configuration that the last stage of a Dockerfile says.

    image/archive.py FOLDER DOCKERFILE REFERENCE ARCHIVE

The archive is an OCI image layout with Docker's manifest.json beside it, so that containerd, docker, podman, skopeo, kind,
k3d and minikube all take it. Equal input gives equal bytes: order, owners, times and compression are fixed.
"""

import gzip
import hashlib
import io
import json
import platform
import shlex
import sys
import tarfile
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
OCI = "application/vnd.oci.image"


def main(folder, dockerfile, reference, archive):
    registry, _, rest = reference.partition("/")
    if not (registry == "localhost" or "." in registry or ":" in registry) or ":" not in rest:
        sys.exit(f"{reference} is no full reference; allowed: REGISTRY/NAME:TAG, such as localhost/quorate:0.1.0")
    files = image(layer_of(Path(folder)), config_of(Path(dockerfile).read_text()), reference)
    written = Path(archive).write_bytes(tar((entry(name), content) for name, content in files))
    print(f"{archive}: {reference}, {written / 1e6:.1f} MB")


def config_of(dockerfile):
    """What the last stage says, in the words of an OCI configuration. What is not known here, or said twice, is refused: the
    archive would lack what it does."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    instructions = [line.split(maxsplit=1) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]
    last = max(position for position, (word, _) in enumerate(instructions) if word == "FROM")
    stage = dict(instructions[last:])
    if len(stage) < len(instructions) - last:
        sys.exit("the last stage has an instruction twice; write it as one")
    config = {"WorkingDir": "/"}
    for word, rest in stage.items():
        match word:
            case "FROM" if rest == "scratch":
                pass
            case "COPY" if rest == "--from=build /image/ /":
                pass
            case "LABEL":
                config["Labels"] = dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "ENV":
                config["Env"] = shlex.split(rest)
            case "EXPOSE":
                config["ExposedPorts"] = {port: {} for port in rest.split()}
            case "USER":
                config["User"] = rest
            case "STOPSIGNAL":
                config["StopSignal"] = rest
            case "ENTRYPOINT" | "CMD":
                config[word.capitalize()] = json.loads(rest)
            case _:
                sys.exit(f"the last stage says {word} {rest}, which this program does not know how to do")
    return config


def layer_of(folder):
    """The folder as a layer that belongs to root."""
    paths = sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts)
    return tar(
        (entry(str(path.relative_to(folder)), path.stat().st_mode), None if path.is_dir() else path.read_bytes())
        for path in paths
    )


def image(layer, config, reference):
    """The files of an image's archive, in order."""
    compressed = gzip.compress(layer, compresslevel=6, mtime=0)
    machine = {"architecture": ARCHITECTURES[platform.machine()], "os": "linux"}
    config = to_json(machine | {"config": config, "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}})
    manifest = to_json({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": [descriptor("layer.v1.tar+gzip", compressed)],
    })
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference.rpartition(":")[2]}
    described = descriptor("manifest.v1+json", manifest) | {"platform": machine, "annotations": names}
    yield "oci-layout", to_json({"imageLayoutVersion": "1.0.0"})
    yield "index.json", to_json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [described]})
    yield "manifest.json", to_json([{"Config": blob(config), "RepoTags": [reference], "Layers": [blob(compressed)]}])
    for content in (config, manifest, compressed):
        yield blob(content), content


def tar(files):
    """The bytes of a tar archive of entries with their content; a folder has none."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, content in files:
            if content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            archive.addfile(info, content and io.BytesIO(content))
    return buffer.getvalue()


def entry(name, mode=0o644):
    """An entry of a tar archive, owned by root and of no time."""
    info = tarfile.TarInfo(name)
    info.mode = mode & 0o7777
    return info


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob(content):
    return "blobs/" + digest(content).replace(":", "/")


def descriptor(kind, content):
    return {"mediaType": f"{OCI}.{kind}", "digest": digest(content), "size": len(content)}


def to_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
