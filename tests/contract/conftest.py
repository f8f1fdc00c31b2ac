"""One `hookstead dev` and one receiver per worker; each test has names of its own on it.

Modules stay whole on one worker, so that what a module applies is applied once.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import Dev, Receiver, environment
from contract.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
_sites = itertools.count(1)


@pytest.hookimpl(tryfirst=True)  # before xdist looks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A group for xdist per module."""
    for item in items:
        if HERE in item.path.parents and not any(item.iter_markers("xdist_group")):
            item.add_marker(pytest.mark.xdist_group(f"contract-{item.path.stem}"))


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """A receiver; paths are the tests' own."""
    running = Receiver()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def shared_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """An enabled environment that warns, with two retries a second apart."""
    defaults = {"retry": {"scheduleSeconds": [1, 1]}, "timeoutSeconds": 5}
    with Dev(tmp_path_factory.mktemp("dev"), objects=[environment(deliveryDefaults=defaults)]) as dev:
        yield dev


@pytest.fixture
def site(shared_dev: Dev, receiver: Receiver) -> Iterator[Site]:
    """Endpoints of this test alone on the shared process; what it applied is deleted afterwards."""
    own = Site(shared_dev, receiver, f"t{next(_sites)}")
    yield own
    own.clear()


@pytest.fixture(scope="module")
def module_site(shared_dev: Dev, receiver: Receiver) -> Iterator[Site]:
    """As `site`, for a whole module."""
    own = Site(shared_dev, receiver, f"m{next(_sites)}")
    yield own
    own.clear()


@pytest.fixture
def own_dev(tmp_path: Path, receiver: Receiver, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Starts processes for one test: `own_dev(*flags, **spec of the environment)` gives a Site."""
    started: list[Dev] = []

    def start(*flags: str, objects: Any = None, **spec: Any) -> Site:
        found = [environment(**spec)] if objects is None else objects
        dev = Dev(tmp_path / f"dev{len(started)}", *flags, objects=found)
        started.append(dev)
        return Site(dev, receiver, f"o{next(_sites)}")

    yield start
    for dev in started:
        dev.close()
