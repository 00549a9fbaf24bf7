"""What the balancer costs, in ratios to nginx that proxies the same work in the same run. See README.md beside this."""
