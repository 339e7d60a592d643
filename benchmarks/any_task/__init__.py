"""Any task, any agent: what evolves, and who learns in it, with nothing set for it."""
