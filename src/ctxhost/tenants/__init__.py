"""Tenants: owners, apps, service keys, and the secrets they leave with the host."""
