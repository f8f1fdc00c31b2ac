"""One environment from a folder: its manifests, what an API server would remember of them, its generated keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from hookstead.cli.assemble import Assembled, assemble, generated_secret
from hookstead.cli.folder import Contents
from hookstead.cli.ledger import Ledger
from hookstead.cli.state_folder import StateFolder
from hookstead.config.compile import Compiled, Inputs, SecretObject, compile_environment
from hookstead.config.lint import lint, missing_environment
from hookstead.config.model import DeliveryConfig, EnvironmentConfig
from hookstead.config.times import format_time
from hookstead.resources.kinds import Kind, Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A look at the folder: the configuration, what changed since the last look, and everything that is wrong now."""

    config: DeliveryConfig
    changes: tuple[str, ...]
    complaints: tuple[str, ...]


class DevEnvironment:
    """Turns the contents of the folder into configuration. Keeps identities and keys in the state folder."""

    def __init__(self, *, namespace: str, state: StateFolder) -> None:
        """Raises CommandError where the state folder is unreadable."""
        self._namespace: Final = namespace
        self._state: Final = state
        self._ledger = state.read_ledger()
        self._last_environment = state.last_environment(namespace)

    def update(self, contents: Contents, *, now_ms: int) -> Outcome:
        """Judge and compile. Raises CommandError where the state folder fails; nothing has changed then."""
        assembled = assemble(enumerate(contents.objects), namespace=self._namespace)
        ledger = self._ledger.observe(assembled.sightings(), now_ms=now_ms)
        changes = tuple(_changes(self._ledger, ledger))
        if ledger != self._ledger:
            self._state.write_ledger(ledger)
        self._ledger = ledger
        metas = _metas(assembled, ledger)
        self._state.keep_signing_keys(self._namespace, [name for kind, name in metas if kind is Kind.ENDPOINT])
        inputs, compiled = self._compile(assembled, metas)
        environment = compiled.config.environment
        if environment is None or environment.verdict.is_accepted:
            self._keep(environment)
        return Outcome(
            config=compiled.config,
            changes=changes,
            complaints=tuple(_complaints(assembled, inputs, compiled)),
        )

    def _keep(self, environment: EnvironmentConfig | None) -> None:
        """In the state folder, too: an edit into something invalid is survived over a restart."""
        if environment != self._last_environment:
            self._state.keep_environment(self._namespace, environment)
            self._last_environment = environment

    def _compile(self, assembled: Assembled, metas: Mapping[tuple[Kind, str], Meta]) -> tuple[Inputs, Compiled]:
        """Compile, generate the keys that this asks for, and compile once more with them."""
        inputs, compiled = self._compile_once(assembled, metas)
        if not compiled.secrets_wanted:
            return inputs, compiled
        for endpoint in compiled.secrets_wanted:
            self._state.generate_signing_key(self._namespace, endpoint.name)
        return self._compile_once(assembled, metas)

    def _compile_once(self, assembled: Assembled, metas: Mapping[tuple[Kind, str], Meta]) -> tuple[Inputs, Compiled]:
        inputs = assembled.inputs(
            metas=metas,
            generated=self._generated(metas),
            allow_loopback=True,
            last_environment=self._last_environment,
        )
        return inputs, compile_environment(inputs)

    def _generated(self, metas: Mapping[tuple[Kind, str], Meta]) -> dict[str, SecretObject]:
        found: dict[str, SecretObject] = {}
        for (kind, name), meta in metas.items():
            key = self._state.signing_key(self._namespace, name) if kind is Kind.ENDPOINT else None
            if key is not None:
                secret = generated_secret(name, uid=meta.uid, key=key)
                found[secret.name] = secret
        return found


def _metas(assembled: Assembled, ledger: Ledger) -> dict[tuple[Kind, str], Meta]:
    """The metadata of each object, with what the ledger remembers in place of what an API server would say."""
    metas: dict[tuple[Kind, str], Meta] = {}
    for sighting, item in zip(assembled.sightings(), assembled.items, strict=True):
        entry = ledger.of(sighting.key)
        if entry is not None:
            metas[sighting.key.kind, sighting.key.name] = msgspec.structs.replace(
                item.meta,
                namespace=sighting.key.namespace,
                uid=entry.uid,
                generation=entry.generation,
                creation_time=format_time(entry.created_ms),
            )
    return metas


def _changes(before: Ledger, after: Ledger) -> Iterator[str]:
    for text in sorted(before.entries.keys() | after.entries.keys()):
        kind, _, name = text.split("/", 2)
        old, new = before.entries.get(text), after.entries.get(text)
        if old is None and new is not None:
            yield f"{kind} {name} added"
        elif new is None:
            yield f"{kind} {name} deleted"
        elif old is not None and old.uid != new.uid:
            yield f"{kind} {name} replaced"
        elif old is not None and old.generation != new.generation:
            yield f"{kind} {name} changed (generation {new.generation})"


def _complaints(assembled: Assembled, inputs: Inputs, compiled: Compiled) -> Iterator[str]:
    """Everything that a person should put right, without repetition."""
    for complaint in assembled.complaints:
        yield f"{complaint.notice.severity.value}: {complaint.notice.problem}"
    if compiled.config.environment is None:
        yield f"warning: {missing_environment(inputs.namespace).problem}"
        return
    for notice in lint(inputs, compiled):
        yield f"{notice.severity.value}: {notice.problem}"
