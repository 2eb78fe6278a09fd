"""What the README's figures are made with, and the demonstration."""
