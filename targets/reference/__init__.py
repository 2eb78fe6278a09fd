"""The bundled store. What runs on a node (``server`` and below) needs only the standard library."""
