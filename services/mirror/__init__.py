"""The mirror: another exchange's live books, followed, and quoted in our markets by an ordinary account."""
