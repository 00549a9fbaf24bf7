"""What must never be written down or shown, and how it is kept out of texts."""

from balancer.redact.inventory import EMPTY, Inventory, secrets_in, secrets_in_url, secrets_of, shown_url
from balancer.redact.text import LONGEST, anonymous, closed, scrub, without

__all__ = [
    "EMPTY",
    "LONGEST",
    "Inventory",
    "anonymous",
    "closed",
    "scrub",
    "secrets_in",
    "secrets_in_url",
    "secrets_of",
    "shown_url",
    "without",
]
