"""What is kept of people, and who must not come back: pure functions."""
