"""An answer is the truth: random requests under bad conditions, compared with both databases."""
