"""What requests share and change: the present configuration, health, slots, statistics and pins."""
