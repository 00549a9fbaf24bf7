"""What `balancer` can be told to do, one file a command. Each returns the exit code."""
