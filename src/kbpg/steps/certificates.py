"""A host's certificate, its key and the authority's certificate, beside the configuration of each of its programs."""

from __future__ import annotations

from collections.abc import Mapping

from kbpg.context import Context
from kbpg.inventory import Host
from kbpg.layout import OWNER
from kbpg.model import Impact
from kbpg.resources.file import File
from kbpg.tls import BUNDLE, CA_FILE, CERTIFICATE, DIRECTORY, KEY

PUBLIC = frozenset({CA_FILE, CERTIFICATE})
"""Files that hold no key, so that a difference may be shown."""


def certificate_files(context: Context, host: Host, *, bundle: bool = False) -> Mapping[str, bytes]:
    """Return the files by name: apart, or for HAProxy, which reads them so, certificate and key as a `bundle`."""
    leaf = context.pki.hosts[host.name]
    key = leaf.key.reveal().encode()
    if bundle:
        return {CA_FILE: context.pki.ca, BUNDLE: leaf.certificate + key}
    return {CA_FILE: context.pki.ca, CERTIFICATE: leaf.certificate, KEY: key}


def certificates(
    context: Context, host: Host, directory: str, marker: str, *, bundle: bool = False
) -> list[File]:
    """Return them as files below `directory`, whose program notes in `marker` what it has loaded."""
    return [
        File(
            f"{directory}/{DIRECTORY}/{name}",
            content,
            owner=OWNER,
            mode=0o600,
            secret=name not in PUBLIC,
            marker=marker,
            impact=Impact.RELOAD,
        )
        for name, content in certificate_files(context, host, bundle=bundle).items()
    ]
