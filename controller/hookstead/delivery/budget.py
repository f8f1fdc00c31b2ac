"""How much of the backlog may be in memory: the rest stays in the store, however long it grows."""

from __future__ import annotations

from dataclasses import dataclass

from hookstead.delivery.ports import Job


@dataclass(slots=True, kw_only=True)
class MemoryBudget:
    """Claimed jobs by number and payload bytes, over all lanes: one for those that wait, one for those under way."""

    job_limit: int = 4096
    byte_limit: int = 8 * 1024 * 1024
    jobs: int = 0
    bytes: int = 0

    def has_room(self, size: int) -> bool:
        """Whether one more job with a payload of `size` bytes fits."""
        return self.jobs < self.job_limit and self.bytes + size <= self.byte_limit

    @property
    def free_bytes(self) -> int:
        return max(0, self.byte_limit - self.bytes)

    @property
    def free_jobs(self) -> int:
        return max(0, self.job_limit - self.jobs)

    def add(self, job: Job) -> None:
        self.jobs += 1
        self.bytes += len(job.data)

    def remove(self, job: Job) -> None:
        self.jobs -= 1
        self.bytes -= len(job.data)
