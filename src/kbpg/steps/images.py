"""The three images: what they are built from, and the digest that identifies them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial

from kbpg.context import Context
from kbpg.inventory import Build, Inventory
from kbpg.render import render
from kbpg.resources.image import ImageSpec

PATRONI_IMAGE = "patroni-pg16-raft:latest"
HAPROXY_IMAGE = "kbpg-haproxy:latest"
PGBOUNCER_IMAGE = "kbpg-pgbouncer:latest"


def patroni_image(context: Context) -> ImageSpec:
    """Return PostgreSQL with pgvector, Python and Patroni."""
    return _spec(context, PATRONI_IMAGE, "patroni/Dockerfile.j2")


def proxy_images(context: Context) -> tuple[ImageSpec, ImageSpec]:
    """Return HAProxy and PgBouncer: one layer below both, so they are built and sent together."""
    haproxy = _spec(context, HAPROXY_IMAGE, "haproxy/Dockerfile.j2")
    return haproxy, _spec(context, PGBOUNCER_IMAGE, "pgbouncer/Dockerfile.j2")


def _spec(context: Context, name: str, template: str) -> ImageSpec:
    inventory = context.inventory
    dockerfile = render(template, inventory=inventory)
    return ImageSpec(
        name, inputs(inventory, template), partial(_files, inventory, dockerfile), _options(inventory)
    )


def inputs(inventory: Inventory, template: str) -> str:
    """Return the digest that identifies an image: what goes into it, not where it was built.

    A builder's certificate bundle, wheel house or network leave no trace in the programs, so two builders
    agree on the digest (docs/adr/0002-image-identity.md). `build.revision` is in it: changing that rebuilds.
    """
    build = inventory.build
    neutral = Build(images=build.images, revision=build.revision, packages=build.packages)
    text = render(template, inventory=inventory.model_copy(update={"build": neutral}))
    return hashlib.sha256(json.dumps([template, text, dict(build.args)]).encode()).hexdigest()


def _files(inventory: Inventory, dockerfile: str) -> Mapping[str, bytes]:
    """Return the build context: the Dockerfile, the builder's certificates, its wheel house."""
    files = {"Dockerfile": dockerfile.encode()}
    if inventory.ca_bundle_path:
        files["ca-bundle.crt"] = inventory.ca_bundle_path.read_bytes()
    if inventory.wheels_path:
        files |= {f"wheels/{w.name}": w.read_bytes() for w in sorted(inventory.wheels_path.glob("*.whl"))}
    return files


def _options(inventory: Inventory) -> tuple[str, ...]:
    build = inventory.build
    network = ("--network", build.network) if build.network else ()
    arguments = [
        word for key, value in sorted(build.args.items()) for word in ("--build-arg", f"{key}={value}")
    ]
    return (*network, *arguments)
