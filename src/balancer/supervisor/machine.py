"""What the workers of a machine share, where they share nothing."""

from __future__ import annotations

from typing import Self


class Machine:
    """Stands in for shared memory: every worker is on its own."""

    @classmethod
    def create(cls, workers: int) -> Self:
        """Make what so many workers share."""
        return cls()

    def environment(self, worker: int) -> dict[str, str]:
        """Return the variables by which a worker finds it."""
        return {}

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors that workers inherit."""
        return ()

    async def start(self) -> None:
        """Begin to serve workers."""

    def worker_ended(self, worker: int) -> None:
        """Clear what a worker that is gone had taken."""

    async def close(self) -> None:
        """End."""
