"""Meeting bots: what callers may ask, the life of a bot, and the providers that send it into a call."""
