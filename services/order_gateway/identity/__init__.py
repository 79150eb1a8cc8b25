"""Who is calling, and what they may do: keys, signatures, sign-in by wallet."""
