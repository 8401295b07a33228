"""Readers' records: read, checked before joining, without the erased, taken out for good."""
