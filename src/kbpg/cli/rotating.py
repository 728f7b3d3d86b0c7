"""`kbpg credentials rotate`: what it refuses, shows and writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kbpg.amid import Amid
from kbpg.cli import closing, texts
from kbpg.cli.limiting import ALL_HOSTS
from kbpg.cli.opening import working
from kbpg.cli.pauses import forget_pauses
from kbpg.cli.progress import Progress
from kbpg.console import Console, Line, Style
from kbpg.context import Context
from kbpg.credentials import Found, all_secrets, complete, load, rotation
from kbpg.credentials.rotation import ALONE, KINDS, RESUME
from kbpg.engine.outcome import Report
from kbpg.engine.run import Run
from kbpg.engine.site import Site
from kbpg.errors import CredentialsError, Exit, KbpgError, Refused, UsageError
from kbpg.model import Step
from kbpg.operations import raft_rotation, rotating
from kbpg.operations.clients_wait import Manner
from kbpg.operations.place import site_of
from kbpg.options import Options
from kbpg.session import Session, read_context
from kbpg.steps.rotating import EVERYTHING


def rotate(options: Options, words: Sequence[str], *, resume: bool, cut: bool) -> int:
    """Rotate the passwords that `words` name, or end a rotation that was broken off; return the exit code."""
    context, found = read_context(options, credentials_exist=True)
    names = _names(options, context, words, resume=resume)
    if resume and context.former is None:
        return _nothing_left(options)
    if context.former is not None and found is not None:
        _require_same(context, found, names)
    with (
        Console(color=options.color, mask=options.masked) as console,
        working(
            options,
            console,
            "credentials rotate",
            lock=True,
            partial=False,
            credentials_exist=True,
            amid=Amid.ROTATE,
            besides=lambda context, hosts, controller: [ALL_HOSTS],
        ) as session,
    ):
        return _Work(session, console).done(options, names, cut=cut)


def _names(options: Options, context: Context, words: Sequence[str], *, resume: bool) -> tuple[str, ...]:
    """Return the names in the file. Raises `UsageError`."""
    if resume and words:
        raise UsageError("--resume ends what was begun, and takes nothing else")
    names = rotation.names_for(words, context.inventory.login_roles)
    if not names and not resume:
        raise UsageError(
            "which passwords are to be rotated?", hint=f"one or more of {', '.join(KINDS)}, role NAME, all"
        )
    return names


def _nothing_left(options: Options) -> int:
    with Console(color=options.color, mask=options.masked) as console:
        if options.json:
            console.data(_document((), resumed=False, proven=()))
        else:
            console.result([Line("no rotation was broken off: nothing to do", Style.GOOD)])
    return int(Exit.OK)


def _require_same(context: Context, found: Found, names: Sequence[str]) -> None:
    """Raise `UsageError` where a rotation was broken off that others than `names` are part of, or not all of them."""
    new = rotation.left(found.path, found.roles)
    begun = rotation.changed(found, new) if new else ()
    later = {ALONE} - set(begun)  # comes after what was broken off, in a rotation of its own
    if more := [name for name in names if name not in begun and name not in later]:
        what = ", ".join(rotation.words_for(begun))
        raise UsageError(
            f"a rotation of {what} was broken off, and {', '.join(rotation.words_for(more))} is not part of it",
            hint=f"first: {RESUME}",
        )


class _Work:
    """The rotations of one command, one after another, on an open session."""

    def __init__(self, session: Session, console: Console) -> None:
        assert session.found is not None  # noqa: S101 (the session was opened with `credentials_exist`)
        self._session, self._console = session, console
        self._old = session.found
        self._progress = Progress(console)
        self._context = session.context
        self._resumed = False

    def done(self, options: Options, names: Sequence[str], *, cut: bool) -> int:
        """Go on with what was broken off, rotate what else is named, show how it ended and return the exit code."""
        new = self._read_again()
        self._resumed = new is not None
        rotated, proven = list[str](), list[str]()
        forget_pauses(self._site(), self._console)
        try:
            if new:
                rotated += rotation.changed(self._old, new)
                proven += self._rotated(new, cut=cut)
            parts = rotation.parts([name for name in names if name not in rotated])
            if any(ALONE in part for part in parts):
                self._refuse(raft_rotation.in_the_way(self._site()), rotated)
            for part in parts:
                proven += self._rotated(self._begin(part, rotated), cut=cut)
                rotated += part
        except rotating.Stopped as stopped:
            self._say_what_is_done(rotated, proven)
            return self._stopped(stopped)
        except KbpgError:
            self._say_what_is_done(rotated, proven)
            raise
        self._console.rest()
        if options.json:
            words = rotation.words_for(rotated)
            self._console.data(_document(words, resumed=self._resumed, proven=proven))
        else:
            self._console.result(self._ended(rotated, proven))
        return int(Exit.OK)

    def _rotated(self, new: Found, *, cut: bool) -> list[str]:
        """Put one new file into force, let it take the old one's place, and return what was proven.

        Raises `rotating.Stopped`, `KbpgError`; both files are kept then.
        """
        held = rotation.hold(new)
        try:
            site = self._site()
            names = rotation.changed(self._old, new)
            try:
                proven = rotating.rotate(site, names, self._apply, Manner(cut=cut))
            except rotating.Stopped:
                raise
            except KbpgError as error:
                error.detail = (*error.detail, f"both files are kept; {RESUME} goes on")
                raise
            self._end(new)
        finally:
            os.close(held)
        return proven

    def _read_again(self) -> Found | None:
        """Return the new file of a rotation that was broken off. Raises `CredentialsError`."""
        path, roles = self._old.path, self._old.roles
        new, old = rotation.left(path, roles), load(path, roles)
        as_read = self._context.former is not None
        if old is None or old.text != self._old.text or (new is not None) != as_read:
            raise CredentialsError(
                f"{path}: was changed while this command began", hint="run the same command again"
            )
        return new

    def _say_what_is_done(self, rotated: Sequence[str], proven: Sequence[str]) -> None:
        """Say which passwords are new already, where what comes after them does not end well."""
        if proven:
            self._console.rest()
            self._console.say(self._ended(rotated, proven))

    def _refuse(self, in_the_way: Sequence[str], rotated: Sequence[str]) -> None:
        """Raise `Refused` with what is in the way of a rotation that has not begun."""
        if not in_the_way:
            return
        context = self._context
        done = f"{', '.join(rotation.words_for(rotated))} {'is' if len(rotated) == 1 else 'are'} done"
        raise Refused(
            f"{f'{done}, no more' if rotated else 'nothing'} was changed: passwords are rotated in a cluster that is "
            "whole and as the inventory wants it",
            detail=list(in_the_way),
            hint=f"{closing.command(context, 'diagnose')}, then {closing.command(context, 'apply-all')}",
        )

    def _begin(self, names: Sequence[str], rotated: Sequence[str]) -> Found:
        """Write the new file, if all is as the old one wants it. Raises `Refused`; nothing more was changed then."""
        context = self._context
        self._console.busy("looking whether the cluster is whole")
        report = Run(context, self._session.hosts, self._session.controller).plan(EVERYTHING)
        self._refuse(rotating.in_the_way(report), rotated)
        new = rotation.begin(self._old, names)
        credentials = complete(new)
        self._session.learn(all_secrets(credentials))
        self._note("written", str(new.path))
        self._context = replace(context, credentials=credentials, former=context.credentials)
        return new

    def _site(self) -> Site:
        return site_of(self._context, self._session.hosts, self._session.controller, self._progress.note)

    def _apply(self, steps: Sequence[Step]) -> Report:
        return Run(self._context, self._session.hosts, self._session.controller, self._progress).apply(steps)

    def _stopped(self, stopped: rotating.Stopped) -> int:
        self._console.rest()
        self._console.say(texts.failures(stopped.report))
        self._console.say([Line(f"{stopped.message}; both files are kept; {RESUME} goes on", Style.BAD)])
        return int(Exit.FAILED)

    def _end(self, new: Found) -> None:
        rotation.end(self._old, new)
        self._note("replaced", str(self._old.path))
        self._context = replace(self._context, former=None)
        self._old = load(self._old.path, self._old.roles) or new

    def _note(self, *words: str) -> None:
        """Write down in the journal what became of the files; the passwords' names are in its first line."""
        self._session.controller.note(("credentials file", *words), status=0, seconds=0.0)

    def _ended(self, names: Sequence[str], proven: Sequence[str]) -> list[Line]:
        context = self._context
        lines = [Line(text, Style.GOOD) for text in proven]
        if self._resumed and ALONE not in names:
            again = closing.command(context, "credentials", "rotate", "raft")
            lines.append(Line(f"Raft's password is the one of before; to rotate it too: {again}"))
        lines.append(Line(f"{self._old.path} has the new passwords; keep a copy of it"))
        if "POSTGRES_APP_PASS" in names:
            lines.append(Line("applications need the new one from now on; it is in:", Style.WARNING))
            lines.append(Line(f"  {closing.command(context, 'uri', '--show-password')}"))
        roles = [r for r in context.inventory.login_roles if f"role {r}" in rotation.words_for(names)]
        for role in roles:
            lines.append(Line(f"role {role} needs the new one from now on; it is in:", Style.WARNING))
            lines.append(Line(f"  {closing.command(context, 'uri', '--role', role, '--show-password')}"))
        return lines


def _document(words: Sequence[str], *, resumed: bool, proven: Sequence[str]) -> dict[str, Any]:
    return {"rotated": list(words), "resumed": resumed, "proven": list(proven)}
