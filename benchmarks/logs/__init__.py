"""From a log to an environment: evolution inside a world model."""
