"""What only a person can mend, in plain words: what is wrong with a provider, and what to do about it.

The words go to clients, to `GET /providers` and to the log, so they hold no URL and no key.
"""

from __future__ import annotations

from balancer.model import Trouble

_WORDS: dict[Trouble, tuple[str, str]] = {
    Trouble.KEY: ("its key was refused", "check its auth_value in providers.yaml"),
    Trouble.ACCESS: (
        "it denies access",
        "check that the account is enabled and that its key may use this model, then run balancer wake {name}",
    ),
    Trouble.CREDIT: ("its account has no credit", "top up the account, then run balancer wake {name}"),
    Trouble.SPEND_CAP: (
        "its spending limit is reached",
        "raise the limit, or wait until it is reset, then run balancer wake {name}",
    ),
    Trouble.ADDRESS: ("it has another address", "set its base_url in providers.yaml to the one that it redirects to"),
    Trouble.CLIENT_KEY: (
        "it refused the credential that this client sent",
        "sign in again, or check the key that the client is set to",
    ),
    Trouble.PAUSED: ("it was paused by hand", "run balancer resume {name}"),
    Trouble.DISABLED: ("it is disabled", "set enabled: true in providers.yaml"),
}
"""What is wrong, and the remedy. One entry for each member."""


def sentence(provider: str, trouble: Trouble, reason: str = "") -> str:
    """Return one sentence about a provider: what is wrong, the reason that it gave, and the remedy."""
    return f"{provider}: {in_words(provider, trouble, reason)}"


def in_words(provider: str, trouble: Trouble, reason: str = "") -> str:
    """Return the same without the provider's name in front."""
    wrong, remedy = _WORDS[trouble]
    gave = f" ({reason})" if reason else ""
    return f"{wrong}{gave}: {remedy.format(name=_argument(provider))}"


def _argument(name: str) -> str:
    """Return a provider's name as it is typed in a shell."""
    return f"'{name}'" if " " in name else name
