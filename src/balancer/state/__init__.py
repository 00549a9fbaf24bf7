"""What requests share and change: the configuration in force, health, slots, statistics and pins."""
