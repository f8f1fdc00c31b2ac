"""Several gateway processes on one host: forked before anything runs, stopped together, ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NoReturn

from hookstead.gateway.options import GatewayOptions, OptionsError
from hookstead.gateway.server import Address
from hookstead.store.address import is_postgres

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)
_LEAVES: Final = signal.SIGUSR1
_PASSED_ON: Final = (*_STOPS, _LEAVES)
_AWAITED: Final = (*_PASSED_ON, signal.SIGCHLD)


def numbered(options: GatewayOptions, number: int) -> GatewayOptions:
    """The options of one of several: the public port is shared, the others count up from the first's.

    Raises OptionsError where they cannot be shared.
    """
    if not is_postgres(options.store):
        raise OptionsError("--processes: one process owns an SQLite store; several need --store postgresql://…")
    if options.listen[1] == 0:
        raise OptionsError("--processes: --listen needs a port that all of them can share, found 0")
    internal = options.internal_listen
    return replace(
        options,
        share_port=True,
        admin_listen=_counted(options.admin_listen, number),
        internal_listen=None if internal is None else _counted(internal, number),
    )


def _counted(address: Address, number: int) -> Address:
    host, port = address
    return host, port + number if port else 0


def serve_many(count: int, serve: Callable[[int, int], int]) -> int:
    """Run `serve(number, lifeline)` in `count` processes until a signal, or until one of them ends by itself.

    The lifeline is a file descriptor that becomes readable when this process is gone. Signals are passed on. Returns
    the first exit code that is not 0, or 0.
    """
    lifeline, kept = os.pipe()
    children: dict[int, int] = {}
    # Blocked, and asked for one after the other: a handler runs between two steps of Python only, so what comes right
    # before a call that waits would be heeded when that ends, which may be never.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # to ignore it is inherited, and then nobody is told of an end
    try:
        for number in range(count):
            children[_fork(number, lifeline, kept, serve)] = number
        return _attend(children)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(lifeline)
        os.close(kept)


def _attend(children: dict[int, int]) -> int:
    """Pass signals on until all have ended; the exit code."""
    code = 0
    stopping = False
    while children:
        number = signal.sigwait(_AWAITED)
        if number in _PASSED_ON:
            stopping = stopping or number in _STOPS
            _send(children, number)
            continue
        for ended in _ended(children):
            if not (stopping and -ended in _STOPS):  # asked to stop before it could listen to it
                code = code or abs(ended)
            if not stopping:
                stopping, code = True, code or 1
                _send(children, signal.SIGTERM)
    return code


def _ended(children: dict[int, int]) -> Iterator[int]:
    """The exit codes of those that ended meanwhile, who are children no more: one signal may tell of several."""
    for pid in tuple(children):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            del children[pid]
            yield os.waitstatus_to_exitcode(status)


def _send(children: dict[int, int], number: int) -> None:
    for pid in tuple(children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _fork(number: int, lifeline: int, kept: int, serve: Callable[[int, int], int]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(number, lifeline, kept, serve)
    return pid


def _child(number: int, lifeline: int, kept: int, serve: Callable[[int, int], int]) -> NoReturn:
    """Never returns into the parent's frames."""
    code = 1
    try:
        os.setpgid(0, 0)  # else a terminal's Ctrl-C comes twice, from it and passed on, and twice is to hurry
        for one in _STOPS:
            signal.signal(one, signal.SIG_DFL)
        signal.signal(_LEAVES, signal.SIG_IGN)  # until it listens to it: it has no clients yet
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        os.close(kept)
        code = serve(number, lifeline)
    except BaseException:  # noqa: BLE001 - whatever it is: the frames above are the parent's
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):  # whoever read our output may be gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
