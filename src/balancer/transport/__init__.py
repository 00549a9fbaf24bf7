"""The one place that opens connections to upstreams. It knows nothing of providers.

`Transport.exchange` is an async context manager: leaving it returns the connection to the pool if
the answer was read to its clean end, and closes it at once otherwise, cancellation included.
Redirects are never followed.
"""

from balancer.transport.answer import UpstreamResponse
from balancer.transport.errors import TransportError
from balancer.transport.limits import Limits
from balancer.transport.pool import Transport

__all__ = ["Limits", "Transport", "TransportError", "UpstreamResponse"]
