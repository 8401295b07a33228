"""An outlet's part in sums that the coordinator sees as a whole only."""
