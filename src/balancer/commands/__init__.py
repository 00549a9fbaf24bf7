"""What `balancer` can be told to do: a file a command, whose `run` returns the exit code, and what they share."""
