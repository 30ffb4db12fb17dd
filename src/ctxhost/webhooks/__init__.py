"""Webhooks: signatures, what comes in, what goes out."""
