"""Market data: a projection of the journal, fanned out to every subscriber."""
