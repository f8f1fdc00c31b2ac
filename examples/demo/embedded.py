"""`make demo`: one process, a folder of manifests, SQLite. Nothing but loopback is used.

python examples/demo/embedded.py
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from receivers import Receivers
from story import PATHS, Story, free_port, hooks, manifests, ready, run_command, say, stop


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hookstead-demo-") as name:
        folder = Path(name)
        state = folder / "state"

        def key_of(endpoint: str) -> str:
            return (state / "secrets" / "default" / f"{endpoint}-signing" / "key").read_text().strip()

        receivers = Receivers(key_of, PATHS)
        await receivers.start()
        port, admin = free_port(), free_port()
        server = f"http://127.0.0.1:{port}"
        say("$ hookstead dev examples/quickstart")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hookstead.cli.main", "dev", str(manifests(folder, receivers.port))),
            *("--state-dir", str(state), "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"),
        )
        try:
            await ready(f"http://127.0.0.1:{admin}/readyz", process)
            await Story(server, receivers).tell()
            await run_command(*hooks(server, "status"))
            await run_command(*hooks(server, "deliveries"))
            say("")
        finally:
            await stop(process)
            await receivers.stop()
    say("Done: the same YAML runs on Kubernetes: make demo-kubernetes")


if __name__ == "__main__":
    asyncio.run(main())
