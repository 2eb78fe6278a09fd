"""Where nodes live: one module per environment, one protocol in ``base``."""
