"""What requests used and cost: the ledger of finished requests, and sums over it."""
