"""Evidence → Verdict → Decision."""
