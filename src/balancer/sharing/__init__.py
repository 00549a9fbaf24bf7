"""What the workers of a machine know of each other. Knows nothing of providers, health or configuration."""
