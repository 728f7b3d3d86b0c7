"""Getting the parts of the stand-ins: tools, npm packages, wheels, the machine's certificates."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kbpg.errors import KbpgError

LABEL = "kbpg.stand-in"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
DEFAULT_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def labels(packages: dict[str, str]) -> dict[str, str]:
    """Return a stand-in's image labels: that it is one, and the version of each package in it."""
    return {LABEL: "1", **{f"{LABEL}.{name}": version for name, version in packages.items()}}


def run(command: Sequence[str], *, cwd: Path | None = None, timeout: float = 300) -> str:
    """Run a program and return its standard output; raise KbpgError with its last words when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as exc:
        raise KbpgError(f"`{command[0]}` did not run: {exc}") from exc
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise KbpgError(f"`{' '.join(command[:3])}` ended with exit code {done.returncode}", detail=said[-8:])
    return done.stdout


def require_tools(*names: str) -> None:
    """See that programs are there; as root on a Debian, install each from the package of its name."""
    missing = [name for name in names if not shutil.which(name)]
    if not missing:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        run(["apt-get", "update", "-qq"])
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], timeout=600)
        missing = [name for name in names if not shutil.which(name)]
    if missing:
        raise KbpgError(
            f"stand-ins for the public base images need {', '.join(missing)}",
            hint="install what is missing, or pull the base images on a machine that reaches a registry",
        )


def certificate_bundle() -> Path | None:
    """Return the CA bundle that this machine trusts, if it has one in the usual places."""
    named = os.environ.get("SSL_CERT_FILE")
    for bundle in (Path(named) if named else None, DEFAULT_BUNDLE):
        if bundle and bundle.is_file():
            return bundle
    return None


def certificates(bundle: str) -> set[str]:
    """Return the PEM certificates of a bundle's text, each with one trailing newline."""
    return {found.group().rstrip("\n") + "\n" for found in CERTIFICATE.finditer(bundle)}


def npm_package(name: str, version: str, sha256: str, into: Path) -> Path:
    """Download an npm package with the user's npm and return the archive's path."""
    run(["npm", "pack", "--silent", f"{name}@{version}", "--pack-destination", str(into)])
    return _verified(into, "*.tgz", sha256)


def wheel(name: str, version: str, sha256: str, into: Path, python: str) -> Path:
    """Download a wheel for Python 3.12 on this platform with `python -m pip` and return its path."""
    run([python, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--python-version", "3.12", "--dest", str(into), f"{name}=={version}"])  # fmt: skip
    return _verified(into, "*.whl", sha256)


def _verified(directory: Path, pattern: str, sha256: str) -> Path:
    [archive] = directory.glob(pattern)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise KbpgError(
            f"{archive.name} is not the package that was tested",
            detail=[f"sha256 {found}", f"wanted {sha256}"],
        )
    return archive


def set_rpath(rpath: str, *files: Path) -> None:
    """Make ELF files look for their libraries at `rpath`."""
    run(["patchelf", "--set-rpath", rpath, *map(str, files)])


def strip(*files: Path) -> None:
    """Drop symbols from ELF files where the machine can: size is what distribution time is made of."""
    if files and shutil.which("strip"):
        run(["strip", "--strip-unneeded", *map(str, files)])
