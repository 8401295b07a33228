"""The same routes over gRPC: a mapping of messages onto them, and the port."""
