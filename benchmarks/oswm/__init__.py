"""One-shot world models: a model of a task from a thousand transitions."""
