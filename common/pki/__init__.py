"""Certificates, TLS and the keys that sign what travels."""
