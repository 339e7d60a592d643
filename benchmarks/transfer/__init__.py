"""Transfer: agents and hyperparameters that evolution never saw."""
