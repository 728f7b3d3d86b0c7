"""The stand-in for `debian:trixie-slim`."""

from __future__ import annotations

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from kbpg.lab.docker import build, docker
from kbpg.lab.standin.packages import certificate_bundle, certificates, labels, require_tools, run
from kbpg.lab.templates import lab_templates

# What makes the public image slim; the licences stay.
LEFT_OUT = ("doc/*", "man/*", "info/*", "locale/*", "groff/*", "lintian/*", "linda/*")


def build_debian(tag: str) -> None:
    """Build `tag` with mmdebstrap from the archive that Debian's own tools reach on this machine.

    Where the machine trusts more certificates than Debian does, the image trusts them too.
    """
    require_tools("mmdebstrap")
    with TemporaryDirectory(prefix="kbpg-standin-") as scratch:
        root = Path(scratch) / "root.tar"
        run(mmdebstrap_arguments(root))
        release, trusted = _read(root)
        imported = docker("import", str(root), timeout=300)
        context = Path(scratch) / "context"
        write_certificates(context / "certificates", trusted)
        dockerfile = lab_templates() / "standin" / "debian.Dockerfile"
        build(context, dockerfile, tag, args={"IMPORTED": imported}, labels=labels({"debian": release}))


def write_certificates(directory: Path, trusted: str) -> None:
    """Write certificates that this machine trusts and `trusted`, a bundle's text, does not: one a file."""
    directory.mkdir(parents=True)
    bundle = certificate_bundle()
    extra = certificates(bundle.read_text()) - certificates(trusted) if bundle else set()
    for number, certificate in enumerate(sorted(extra)):
        (directory / f"{number:02}.crt").write_text(certificate)


def mmdebstrap_arguments(into: Path) -> list[str]:
    """Return the command that writes a minimal trixie as a tar archive."""
    options = [f"--dpkgopt=path-exclude=/usr/share/{pattern}" for pattern in LEFT_OUT]
    options.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    return ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", *options, "trixie", str(into)]


def _read(root: Path) -> tuple[str, str]:
    """Return the archive's Debian version and its CA bundle."""
    with tarfile.open(root) as archive:
        texts = []
        for name in ("./etc/debian_version", "./etc/ssl/certs/ca-certificates.crt"):
            member = archive.extractfile(name)
            texts.append(member.read().decode() if member else "")
    return texts[0].strip(), texts[1]
