"""Measure kbpg on a lab: installing, changing nothing, changing one option, planning. JSON on standard output.

    .venv/bin/python bench/install.py [--runs 5] [--lab .lab] [--images]

Each figure is the wall time of the whole process, Python's start included, in seconds. The lab must be up and its
images present (run apply-all once). The hosts' clusters and data are removed between runs: never point it at
anything but a lab. `--images` also measures the build and the distribution to all five hosts, once, with
the base images present: kbpg's own images are removed for it, on the hosts and here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

KBPG = str(Path(sys.executable).with_name("kbpg"))
HOSTS = ("db-master-01", "db-slave-01", "db-slave-02", "haproxy-01", "haproxy-02")
IMAGES = "patroni-pg16-raft:latest kbpg-haproxy:latest kbpg-pgbouncer:latest"
# As on a user's machine, where kbpg's bytecode is there: without this a measured process may compile all it imports
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
WIPE = "docker ps -aq | xargs -r docker rm -f >/dev/null; rm -rf /opt/keybuzz"


def main() -> int:
    """Run the benchmark; return an exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure")
    parser.add_argument("--lab", type=Path, default=Path(".lab"), help="the lab's directory")
    parser.add_argument("--images", action="store_true", help="measure building and sending the images too")
    options = parser.parse_args()
    bench = Bench(options.lab, options.runs)
    figures = {}
    if options.images:
        bench.everywhere(f"{WIPE}; docker rmi -f {IMAGES} >/dev/null 2>&1; docker image prune -f >/dev/null")
        run("docker", "rmi", "-f", *IMAGES.split())
        figures["build and distribute the images, then install"] = bench.measure(
            bench.apply, bench.wipe, runs=1
        )
    figures |= bench.figures()
    json.dump({"machine": machine(), "unit": "seconds", "figures": figures}, sys.stdout, indent=2)
    print()
    return 0


class Bench:
    """A lab, and what is measured on it."""

    def __init__(self, lab: Path, runs: int) -> None:
        self.lab, self.runs = lab, runs
        self.inventory = lab / "inventory.yaml"
        self.changed = lab / "bench.yaml"

    def figures(self) -> dict[str, dict[str, float]]:
        """Return each figure's minimum, median and maximum."""
        self.apply()  # writes the bytecode of what is measured
        self.kbpg("plan")
        found = {"apply-all, images present, bare hosts": self.measure(self.apply, self.wipe)}
        found["apply-all, nothing to change"] = self.measure(self.apply)
        found["plan, nothing to change"] = self.measure(lambda: self.kbpg("plan"))
        found["apply-all, one HAProxy option changed"] = self.measure(
            lambda: self.kbpg("apply-all", inventory=self.changed), self.change
        )
        self.apply()
        found["kbpg --help"] = self.measure(lambda: must(KBPG, "--help"))
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        found["controller memory, the largest process (MB)"] = {"max": round(used, 1)}
        return found

    def measure(
        self, work: Callable[[], None], prepare: Callable[[], None] = lambda: None, runs: int | None = None
    ) -> dict[str, float]:
        """Return minimum, median and maximum seconds of `work`, `prepare` not counted."""
        taken = []
        for _ in range(runs or self.runs):
            prepare()
            started = time.monotonic()
            work()
            taken.append(time.monotonic() - started)
        return {
            "min": round(min(taken), 2),
            "median": round(statistics.median(taken), 2),
            "max": round(max(taken), 2),
            "runs": len(taken),
        }

    def kbpg(self, *args: str, inventory: Path | None = None) -> None:
        """Run kbpg; anything but success ends the benchmark."""
        done = run(KBPG, "-i", str(inventory or self.inventory), *args)
        if done.returncode:
            raise SystemExit(
                f"kbpg {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )

    def apply(self) -> None:
        """Run apply-all."""
        self.kbpg("apply-all")

    def wipe(self) -> None:
        """Make the hosts bare; images stay."""
        self.everywhere(WIPE)
        shutil.rmtree(self.lab / "credentials", ignore_errors=True)

    def change(self) -> None:
        """Write an inventory whose HAProxy setting is not what is loaded now; the lab's own has no `haproxy`."""
        text = self.changed.read_text() if self.changed.exists() else ""
        timeout = "20m" if "25m" in text else "25m"
        self.changed.write_text(f"{self.inventory.read_text()}\nhaproxy: {{client_timeout: {timeout}}}\n")

    def everywhere(self, script: str) -> None:
        """Run a script on every lab host."""
        with ThreadPoolExecutor(len(HOSTS)) as pool:
            list(pool.map(lambda host: must("docker", "exec", f"kbpg-{host}", "sh", "-c", script), HOSTS))


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def must(*argv: str) -> None:
    """Run a command; anything but success ends the benchmark."""
    done = run(*argv)
    if done.returncode:
        raise SystemExit(f"{argv[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    return {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


if __name__ == "__main__":
    raise SystemExit(main())
