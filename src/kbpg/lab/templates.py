"""Where the lab's templates lie: in the wheel beside the package, in a checkout at its top."""

from __future__ import annotations

from pathlib import Path

import kbpg


def lab_templates() -> Path:
    """Return the directory that holds `inventory.yaml.j2`, `host/` and `standin/`."""
    package = Path(kbpg.__file__).parent
    installed = package / "templates" / "lab"
    return installed if installed.is_dir() else package.parents[1] / "templates" / "lab"
