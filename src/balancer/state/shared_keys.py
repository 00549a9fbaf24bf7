"""What a named key has used, over all workers: its limits hold for the balancer, not for each process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from balancer.policy.grants import KeyUse, Minute
from balancer.sharing.protocol import Sharing, Use


class SharedMinute(Minute):
    """Counts over the last 60 seconds, at all workers."""

    def __init__(self, learn: Callable[[], None], tell: Callable[[int], None]) -> None:
        super().__init__()
        self._learn = learn
        self._tell = tell

    def add(self, count: int, now: float) -> None:
        """Count what happens at `now`, and tell the others."""
        super().add(count, now)
        self._tell(count)

    def learnt(self, count: int, now: float) -> None:
        """Count what happened at another worker."""
        super().add(count, now)

    def wait_s(self, limit: int, now: float) -> int:
        """Return the whole seconds until less than `limit` is counted at all workers; 0: that is so now."""
        self._learn()
        return super().wait_s(limit, now)


class SharedKeyUse(KeyUse):
    """What a named key has used."""

    def __init__(self, name: str, sharing: Sharing, learn: Callable[[], None]) -> None:
        self._place = sharing.place(f"key {name}")
        self._loop = asyncio.get_running_loop()
        self._taken = False
        """A place has been taken for the request that begins next."""
        super().__init__()
        number = sharing.hash_of(f"key {name}")
        self.requests: SharedMinute = SharedMinute(learn, lambda count: sharing.use(number, count, 0))
        self.tokens: SharedMinute = SharedMinute(learn, lambda count: sharing.use(number, 0, count))

    def may_begin(self, limit: int) -> bool:
        """Say whether a request may begin. Its place is taken then, for one that begins before anything is awaited."""
        if not self._taken:
            self._taken = self._place.take(limit)
            if self._taken:
                self._loop.call_soon(self._let_go)
        return self._taken

    def _let_go(self) -> None:
        """Give back a place that was taken, where the request has not begun: its client may have left."""
        if self._taken:
            self._taken = False
            self._place.give_back()

    def began(self) -> None:
        """Note that a request is in flight."""
        if self._taken:
            self._taken = False
        else:
            self._place.take_over()
        super().began()

    def ended(self) -> None:
        """Note that it no longer is."""
        self._place.give_back()
        super().ended()


class KeyUses:
    """What all named keys have used, by name."""

    def __init__(self, sharing: Sharing, learn: Callable[[], None]) -> None:
        self._sharing = sharing
        self._learn = learn
        self._uses: dict[int, SharedKeyUse] = {}
        self._early: list[Use] = []

    def of(self, name: str) -> SharedKeyUse:
        """Return what a key has used so far."""
        number = self._sharing.hash_of(f"key {name}")
        use = self._uses.get(number)
        if use is None:
            use = self._uses[number] = SharedKeyUse(name, self._sharing, self._learn)
            early, self._early = self._early, []
            for known in early:
                self.take(known)
        return use

    def take(self, use: Use) -> None:
        """Learn what was used at another worker."""
        known = self._uses.get(use.name)
        if known is None:
            if len(self._early) < 10_000:
                self._early.append(use)  # its key is not in force here yet
            return
        now = use.at_ns / 1e9
        if use.requests:
            known.requests.learnt(use.requests, now)
        if use.tokens:
            known.tokens.learnt(use.tokens, now)
