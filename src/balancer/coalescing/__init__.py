"""Request coalescing: one upstream request for identical requests in flight."""
