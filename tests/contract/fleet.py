"""Gateways on one PostgreSQL database in the place of `hookstead dev`: the same folder, the same questions, which go
to each gateway in its turn."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.child import Child
from contract.processes import (
    START_SECONDS,
    WAIT_SECONDS,
    Environment,
    Gateway,
    environment_variables,
    prepare,
    until,
)

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable

TESTS: Final = Path(__file__).parents[1]
OPERATOR: Final = "contract.folder_operator"


class Fleet(Environment):
    """`count` gateways on the database at `store`."""

    def __init__(
        self, home: Path, *flags: str, store: str, count: int, objects: Iterable[dict[str, Any]] | None = None
    ) -> None:
        prepare(home, objects)
        self._store: Final = store
        own = ("--auth", "none", "--allow-loopback", "--store", store)
        self._gateways: Final = [Gateway(home, *own, *flags, wait=False) for _ in range(count)]
        self._operator: Child | None = None
        super().__init__(home, *(child for gateway in self._gateways for child in gateway.children))
        try:
            for gateway in self._gateways:
                gateway.find()
            self._addresses = [gateway.address for gateway in self._gateways]
            self._admin_addresses = [gateway.admin_address for gateway in self._gateways]
            self._operator = self._operate()
        except BaseException:
            self.close()
            raise

    def again(self) -> Fleet:
        return Fleet(self.home, store=self._store, count=len(self._gateways))

    def _operate(self) -> Child:
        variables = environment_variables()
        variables["PYTHONPATH"] += f"{os.pathsep}{TESTS}"
        internal = [gateway.internal_address for gateway in self._gateways]
        log = self.home / f"operator-of-{self._gateways[0].children[0].pid}.log"
        words = [sys.executable, "-m", OPERATOR, self.folder, self.state, *internal]
        child = Child([str(word) for word in words], log=log, environment=variables)

        def in_force() -> bool:
            assert child.running, f"the operator's place is empty:\n{child.last_words()}"
            return "in force" in child.last_words(lines=100_000)

        until(in_force, what="the first configuration in force", seconds=START_SECONDS)
        return child

    def _dismiss(self) -> None:
        if self._operator is not None and self._operator.running:
            self._operator.kill()

    @property
    def log(self) -> str:
        told = "" if self._operator is None else self._operator.last_words(lines=100_000)
        return f"{super().log}\n{told}"

    def ask_to_stop(self, number: signal.Signals) -> None:
        self._dismiss()
        super().ask_to_stop(number)

    def ended(self, *, seconds: float = WAIT_SECONDS) -> int:
        self._dismiss()
        return super().ended(seconds=seconds)

    def close(self) -> None:
        self._dismiss()
        super().close()
