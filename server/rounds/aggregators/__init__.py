"""What the coordinator makes of a round's updates, one file an aggregator; named by `[server]`."""
