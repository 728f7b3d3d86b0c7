"""Parts of the stand-ins that need neither Docker nor packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbpg.errors import KbpgError
from kbpg.lab.images import BASES, DEBIAN, HOST_IMAGE, PGVECTOR
from kbpg.lab.standin import PG16_11
from kbpg.lab.standin.debian import mmdebstrap_arguments, write_certificates
from kbpg.lab.standin.packages import certificates, labels, run
from kbpg.lab.templates import lab_templates

ONE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
TWO = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"


def test_a_bundle_is_split_into_certificates() -> None:
    assert certificates(f"# first\n{ONE}\n{TWO.rstrip()}") == {ONE, TWO}
    assert certificates("nothing") == set()


def test_only_certificates_that_debian_does_not_trust_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(ONE + TWO)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    write_certificates(tmp_path / "added", trusted=ONE)
    assert [file.read_text() for file in (tmp_path / "added").iterdir()] == [TWO]


def test_a_stand_in_says_what_it_is_and_what_is_in_it() -> None:
    assert labels({"postgresql": "16.11"}) == {
        "kbpg.stand-in": "1",
        "kbpg.stand-in.postgresql": "16.11",
    }


def test_debian_comes_without_manuals_and_with_licences(tmp_path: Path) -> None:
    arguments = mmdebstrap_arguments(tmp_path / "root.tar")
    assert arguments[-2:] == ["trixie", str(tmp_path / "root.tar")]
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in arguments
    exclude = arguments.index("--dpkgopt=path-exclude=/usr/share/doc/*")
    assert exclude < arguments.index("--dpkgopt=path-include=/usr/share/doc/*/copyright")


def test_the_server_of_the_recipe_is_of_its_minor_version() -> None:
    assert PG16_11.server_version.startswith(f"{PG16_11.minor}.")


def test_images_are_tagged_as_the_public_ones_and_built_in_order() -> None:
    assert next(iter(BASES)) == DEBIAN
    assert f":{PG16_11.pgvector}-pg16-trixie" in PGVECTOR
    assert HOST_IMAGE not in BASES


def test_templates_are_found() -> None:
    assert {path.name for path in lab_templates().iterdir()} == {"host", "inventory.yaml.j2", "standin"}


def test_a_failing_program_is_named_with_its_last_words() -> None:
    with pytest.raises(
        KbpgError, match="`sh -c echo out; echo why >&2; exit 3` ended with exit code 3"
    ) as caught:
        run(["sh", "-c", "echo out; echo why >&2; exit 3"])
    assert caught.value.detail == ("why",)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(KbpgError, match="`kbpg-no-such-program` did not run"):
        run(["kbpg-no-such-program"])
