"""Tasks outside JAX, and more than one process."""
