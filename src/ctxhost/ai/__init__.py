"""`ctx.ai`: what a handler does with AI, paid from its app's account."""
