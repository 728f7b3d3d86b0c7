"""What is wrong, why, and the command that mends it: one pass that looks, pure checks, findings."""
