"""Every decision, as pure functions and values: routes, strategies, failover, cooldowns, whose fault an outcome is."""
