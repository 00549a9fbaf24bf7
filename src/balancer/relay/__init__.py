"""The driver: one request, from its arrival to its end."""
