"""How true the advisor's words are, and what they cost."""
