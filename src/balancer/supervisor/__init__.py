"""Several processes as one balancer: starts workers, watches them, replaces them, and ends with them."""
